//! Messages to whoever listens: each once, in order, and none missed in silence.
//!
//! A message is a key of its own, so it stays until it is trimmed or its time is over, and whoever
//! comes later can begin with those that are there. A key beside them, the *head*, counts them: each
//! message is put together with the next head, in one transaction that fails if another one was
//! faster. So messages are numbered without a gap, in the order of etcd's revisions, and whoever reads
//! them knows by the numbers what was missed, and what was read before.
//!
//! ```text
//! /switchboard/topics/<topic>/<number, 20 digits>   <epoch> <sender's mark>\n<payload>
//! /switchboard/topics/<topic>/head                  <epoch> <number of the last message>
//! ```
//!
//! The *epoch* is chosen when the head is put first. Another one tells that the topic began anew,
//! since etcd was wiped or the head deleted.

mod order;
mod record;
mod sending;
mod subscription;

use std::{sync::Arc, time::Duration};

use switchboard_registry::{
    NameError, Registry,
    keys::{Keys, Operation, Segment, Transaction},
};
use tokio::sync::Mutex;

use self::{
    record::Names,
    sending::{Head, Retention},
};
pub use self::{
    sending::{SendError, Sent},
    subscription::{Message, Start, SubscribeError, Subscription, TopicError},
};
use crate::Failure;

/// Messages to whoever listens. Cheap to clone.
///
/// - Who [subscribes](Self::subscribe) gets each message once, in the order in which etcd took them,
///   whatever becomes of the connection; or is told which are lost.
/// - A message that [`send`](Self::send) has returned for is in etcd. It stays until it is
///   [trimmed](Self::trim); one that was [sent for a time](Self::send_for), until that is over.
/// - Many senders wait for each other: this is for events that matter, not for a stream of data.
///
/// ```
/// use switchboard_coordination::{Start, Topic};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let etcd = switchboard_embedded::EmbeddedEtcd::start();
/// # let registry = switchboard_registry::Registry::builder("etcd:2379")?.connector(etcd.connector()).connect().await?;
/// let topic = Topic::new(&registry, "prices")?;
/// topic.send("apples: 3").await?;
///
/// let mut subscription = topic.subscribe(Start::Beginning).await?;
/// topic.send("pears: 4").await?;
/// assert_eq!(subscription.next().await?.payload, b"apples: 3");
/// assert_eq!(subscription.next().await?.payload, b"pears: 4");
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Topic {
    keys: Keys,
    names: Arc<Names>,
    /// What is known of the head. Those who send from here wait for each other here, and not at etcd.
    head: Arc<Mutex<Head>>,
}

impl Topic {
    /// Names a topic. Nothing is sent to etcd yet.
    ///
    /// # Errors
    ///
    /// The name is empty, or has a `/` or a control character.
    pub fn new<N>(registry: &Registry, name: N) -> Result<Self, NameError>
    where
        N: TryInto<Segment, Error: Into<NameError>>,
    {
        let name = name.try_into().map_err(Into::into)?;
        Ok(Self {
            keys: registry.keys(),
            names: Arc::new(Names::of(&name)),
            head: Arc::default(),
        })
    }

    /// Sends a message, which stays until it is trimmed. It is in etcd when this returns.
    ///
    /// # Errors
    ///
    /// It is too large: nothing was written. Or etcd refuses; or it did not answer for 10 s, and the
    /// message may have been sent.
    ///
    /// # Cancel safety
    ///
    /// If it is cancelled, the message may or may not have been sent.
    pub async fn send(&self, payload: impl AsRef<[u8]>) -> Result<Sent, SendError> {
        sending::send(self, payload.as_ref(), Retention::UntilTrimmed).await
    }

    /// Sends a message that goes when its time is over, of which etcd needs at least 2 s. It has a
    /// lease of its own, so that it costs one request more.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Cancel safety
    ///
    /// If it is cancelled, the message may or may not have been sent.
    pub async fn send_for(
        &self,
        payload: impl AsRef<[u8]>,
        time: Duration,
    ) -> Result<Sent, SendError> {
        sending::send(self, payload.as_ref(), Retention::For(time)).await
    }

    /// Subscribes. What was sent before this returns, and after `start`, will be told too.
    ///
    /// # Errors
    ///
    /// `start` is a revision that etcd has not reached, or none; or etcd refuses or does not answer.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it changes nothing.
    pub async fn subscribe(&self, start: Start) -> Result<Subscription, SubscribeError> {
        Subscription::begin(self, start).await
    }

    /// Deletes the messages up to this number. Those who are subscribed and connected get them all
    /// the same.
    ///
    /// # Errors
    ///
    /// etcd refuses or does not answer.
    ///
    /// # Cancel safety
    ///
    /// If it is cancelled, they may or may not have been deleted.
    pub async fn trim(&self, sequence: u64) -> Result<(), Failure> {
        let (first, end) = (
            self.names.message(0),
            self.names.message(sequence.saturating_add(1)),
        );
        let delete = Transaction::new().then(Operation::delete_between(&first, &end));
        self.keys.commit(delete).await?;
        Ok(())
    }
}
