//! What many push and many pop, each item popped at most once.
//!
//! The keys are those of etcd's Go package `recipes`, so that its users push into and pop from the same
//! queue. An item is a key without a lease; popping *is* deleting it.
//!
//! ```text
//! <name>/<nanoseconds since 1970>                         Queue (`queue.go`)
//! <name>/<priority, 5 digits>/<number, 16 digits>         PriorityQueue (`priority_queue.go`)
//! __<name>/<priority, 5 digits>                           changed with each push of that priority
//! ```

mod error;
mod page;
mod place;
mod popping;
mod pushing;
mod sequence;

use std::sync::Arc;

use switchboard_registry::{
    NameError, Registry,
    keys::{KeyPath, Keys},
};

pub use self::error::{PopError, PushError};
pub(crate) use self::{place::is_priority, pushing::push};
use self::{
    place::{Order, Place},
    popping::Popping,
    sequence::Sequences,
};
use crate::failure::patiently;

/// How large a value may be. etcd takes requests of 1.5 MiB unless it is told otherwise.
const LARGEST: usize = 1 << 20;

/// A queue from which the oldest item is popped first, or the newest.
///
/// - An item is popped at most once: whoever is told of it has taken it out of etcd. One who crashes then
///   takes it along.
/// - The order is that in which etcd took the items. Who pops while others pop and push gets what was first
///   when it looked, or what came behind that if others were faster.
/// - If an answer of etcd's is lost, the item may be lost with it. It is told then which one that is:
///   [`PopError::Unknown`].
///
/// A handle pops one item at a time; each [clone](Clone) pops by itself.
///
/// ```
/// use switchboard_coordination::Queue;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let etcd = switchboard_embedded::EmbeddedEtcd::start();
/// # let registry = switchboard_registry::Registry::builder("etcd:2379")?.connector(etcd.connector()).connect().await?;
/// let mut jobs = Queue::fifo(&registry, "/shop/jobs")?;
/// jobs.push("sweep").await?;
/// jobs.push("count").await?;
/// assert_eq!(jobs.pop().await?.value, b"sweep");
/// assert_eq!(jobs.pop().await?.value, b"count");
/// assert!(jobs.try_pop().await?.is_none());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Queue(Handle);

/// A queue from which the item with the smallest priority is popped first; of those with the same, the
/// oldest. As to all else it is as a [`Queue`].
///
/// ```
/// use switchboard_coordination::PriorityQueue;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let etcd = switchboard_embedded::EmbeddedEtcd::start();
/// # let registry = switchboard_registry::Registry::builder("etcd:2379")?.connector(etcd.connector()).connect().await?;
/// let mut jobs = PriorityQueue::new(&registry, "/shop/jobs")?;
/// jobs.push(20, "sweep").await?;
/// jobs.push(10, "put out the fire").await?;
/// assert_eq!(jobs.pop().await?.value, b"put out the fire");
/// assert_eq!(jobs.pop().await?.value, b"sweep");
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct PriorityQueue {
    handle: Handle,
    sequences: Arc<Sequences>,
}

/// An item that was popped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Item {
    /// The key that it had.
    pub key: String,
    /// What was pushed.
    pub value: Vec<u8>,
    /// The revision of etcd that brought it.
    pub revision: i64,
}

/// An item that was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pushed {
    /// The key that it has.
    pub key: String,
    /// The revision of etcd that brought it.
    pub revision: i64,
}

/// What all queues are.
#[derive(Debug)]
struct Handle {
    keys: Keys,
    place: Arc<Place>,
    popping: Popping,
}

impl Queue {
    /// Names a queue from which the oldest item is popped first. Nothing is sent to etcd yet.
    ///
    /// # Errors
    ///
    /// The name is no key, or lies in kratos' namespace.
    pub fn fifo<K>(registry: &Registry, name: K) -> Result<Self, NameError>
    where
        K: TryInto<KeyPath, Error: Into<NameError>>,
    {
        Handle::new(registry, name, Order::Oldest).map(Self)
    }

    /// Names a queue from which the newest item is popped first. The keys are the same: one may pop the
    /// oldest, and another the newest.
    ///
    /// # Errors
    ///
    /// As [`fifo`](Self::fifo).
    pub fn lifo<K>(registry: &Registry, name: K) -> Result<Self, NameError>
    where
        K: TryInto<KeyPath, Error: Into<NameError>>,
    {
        Handle::new(registry, name, Order::Newest).map(Self)
    }

    /// Pushes a value. It is in etcd when this returns, or was popped already.
    ///
    /// # Errors
    ///
    /// It is too large: nothing was written. etcd refuses, or cannot be reached for 10 s: it was not pushed.
    /// Or etcd's answer was lost, and the item is not found: [`PushError::Unknown`].
    ///
    /// # Cancel safety
    ///
    /// If it is cancelled, the value may or may not be pushed.
    pub async fn push(&self, value: impl AsRef<[u8]>) -> Result<Pushed, PushError> {
        let Handle { keys, place, .. } = &self.0;
        pushing::push(keys, place.name(), &place.prefix(), value.as_ref()).await
    }

    /// Waits for an item, and takes it out of etcd; while etcd is away, too.
    ///
    /// # Errors
    ///
    /// etcd refuses, or the registry was closed. Or the answer was lost that would have told who has
    /// an item: [`PopError::Unknown`]; the next call goes on with the next one.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it loses nothing: an item that is being taken is what the next call returns. If the
    /// *handle* is dropped then, that item may be lost.
    pub async fn pop(&mut self) -> Result<Item, PopError> {
        self.0.popping.pop().await
    }

    /// Takes an item out of etcd, or returns `None` where there is none.
    ///
    /// # Errors
    ///
    /// As [`pop`](Self::pop); or etcd did not answer for 10 s.
    ///
    /// # Cancel safety
    ///
    /// As [`pop`](Self::pop).
    pub async fn try_pop(&mut self) -> Result<Option<Item>, PopError> {
        self.0.try_pop().await
    }
}

impl PriorityQueue {
    /// Names a queue. Nothing is sent to etcd yet.
    ///
    /// # Errors
    ///
    /// The name is no key, or lies in kratos' namespace.
    pub fn new<K>(registry: &Registry, name: K) -> Result<Self, NameError>
    where
        K: TryInto<KeyPath, Error: Into<NameError>>,
    {
        Ok(Self {
            handle: Handle::new(registry, name, Order::Smallest)?,
            sequences: Arc::default(),
        })
    }

    /// Pushes a value; the smaller its priority, the earlier it is popped. It is in etcd when this returns,
    /// or was popped already. Those who push from this handle and its clones take turns.
    ///
    /// # Errors
    ///
    /// As [`Queue::push`]. The answer of a push that was lost is found out where that is possible.
    ///
    /// # Cancel safety
    ///
    /// If it is cancelled, the value may or may not be pushed.
    pub async fn push(&self, priority: u16, value: impl AsRef<[u8]>) -> Result<Pushed, PushError> {
        let Handle { keys, place, .. } = &self.handle;
        let value = value.as_ref();
        self.sequences.push(keys, place, priority, value).await
    }

    /// Waits for an item, and takes it out of etcd; while etcd is away, too.
    ///
    /// # Errors
    ///
    /// As [`Queue::pop`].
    ///
    /// # Cancel safety
    ///
    /// As [`Queue::pop`].
    pub async fn pop(&mut self) -> Result<Item, PopError> {
        self.handle.popping.pop().await
    }

    /// Takes an item out of etcd, or returns `None` where there is none.
    ///
    /// # Errors
    ///
    /// As [`Queue::try_pop`].
    ///
    /// # Cancel safety
    ///
    /// As [`Queue::pop`].
    pub async fn try_pop(&mut self) -> Result<Option<Item>, PopError> {
        self.handle.try_pop().await
    }
}

impl Handle {
    fn new<K>(registry: &Registry, name: K, order: Order) -> Result<Self, NameError>
    where
        K: TryInto<KeyPath, Error: Into<NameError>>,
    {
        let name = name.try_into().map_err(Into::into)?;
        let place = Arc::new(Place::new(name, order)?);
        Ok(Self::at(registry.keys(), place))
    }

    fn at(keys: Keys, place: Arc<Place>) -> Self {
        Self {
            popping: Popping::new(keys.clone(), place.clone()),
            keys,
            place,
        }
    }

    async fn try_pop(&mut self) -> Result<Option<Item>, PopError> {
        let Self { popping, place, .. } = self;
        let popped = patiently(async {
            let popped = popping.try_pop().await;
            Ok(popped.map(Result::ok))
        });
        popped
            .await
            .unwrap_or_else(|cause| Err(popping::failed(place, cause)))
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        Self::at(self.keys.clone(), self.place.clone())
    }
}

impl Clone for Queue {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl Clone for PriorityQueue {
    fn clone(&self) -> Self {
        Self {
            handle: self.handle.clone(),
            sequences: self.sequences.clone(),
        }
    }
}
