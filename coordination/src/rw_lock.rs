//! Many at a time who read, or one who writes, over all processes.
//!
//! The layout is that of etcd's Go package `recipes` (`rwmutex.go`), so that its users wait for ours, and ours
//! for them: `<name>/read/<nanoseconds since 1970>` for each reader and `<name>/write/<nanoseconds>` for
//! each writer, empty, under the lease.

use std::{sync::Arc, time::Duration};

use switchboard_registry::{
    NameError, Registry,
    keys::{KeyPath, Keys},
};
use tokio::time::timeout;

use crate::{
    LockError, entry::Entry, failure::patiently, guard::lock_guard, line::Line, moment::is_moment,
};

/// A lock that many may have who read, or one who writes, over all processes. Cheap to clone.
///
/// - Who reads waits for those who wanted to write before it; who writes waits for all who came before it.
///   The order is that in which etcd heard of them, so that readers who keep coming never keep a writer
///   out, and writers no reader.
/// - Those of one registry are as many as they are, each with a key of its own. Who has the lock and wants
///   it once more waits for itself, unless both read and nobody wants to write in between.
/// - Who ends or is cut off is passed over after one TTL of its registry. Who loses its key or its lease
///   while it waits begins anew, at the end; a key that somebody deletes is missed within 10 s.
/// - A lock that was had may be lost: when the lease was not renewed in time, or somebody has deleted the
///   key. The guard knows *before* others can have it, as far as this machine's clock runs evenly.
///   A process that stands still knows nothing: whatever the lock protects has to refuse a
///   [token](RwLockWriteGuard::token) that is smaller than one it has seen.
/// - Go's `RWMutex` does not look after its own key: one of those who has lost it while it waited believes
///   that it has the lock ([etcd#16221](https://github.com/etcd-io/etcd/issues/16221)).
///
/// A [`Lock`](crate::Lock) of the same name is another lock. One that is named `<name>/read` or
/// `<name>/write` has keys where those of this one are: do not.
///
/// ```
/// use switchboard_coordination::RwLock;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let etcd = switchboard_embedded::EmbeddedEtcd::start();
/// # let registry = switchboard_registry::Registry::builder("etcd:2379")?.connector(etcd.connector()).connect().await?;
/// let prices = RwLock::new(&registry, "/shop/prices")?;
/// let (one, other) = (prices.read().await?, prices.read().await?);
/// assert!(prices.try_write().await?.is_none());
/// one.unlock().await?;
/// other.unlock().await?;
/// let writer = prices.write().await?;
/// // Ends when the lock is lost, wherever it is.
/// let written = writer.hold(async { 42 }).await?;
/// assert!(prices.try_read().await?.is_none());
/// writer.unlock().await?;
/// # assert_eq!(written, 42);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct RwLock(Arc<Lines>);

/// The two lines that one stands in: who is in it by a key of its own, and who is waited for.
#[derive(Debug)]
struct Lines {
    readers: Line,
    writers: Line,
}

/// A lock that is had together with others who read, until this is dropped.
#[derive(Debug)]
#[must_use = "a guard that is dropped gives the lock back"]
pub struct RwLockReadGuard(Entry);

/// A lock that is had by one who writes, until this is dropped.
#[derive(Debug)]
#[must_use = "a guard that is dropped gives the lock back"]
pub struct RwLockWriteGuard(Entry);

impl RwLock {
    /// Names a lock. Nothing is sent to etcd yet.
    ///
    /// # Errors
    ///
    /// The name is no key, or lies in `/microservices`, which is kratos'.
    pub fn new<K>(registry: &Registry, name: K) -> Result<Self, NameError>
    where
        K: TryInto<KeyPath, Error: Into<NameError>>,
    {
        let name = name.try_into().map_err(Into::into)?.outside_kratos()?;
        let keys = registry.keys();
        Ok(Self(Arc::new(Lines::of(&keys, &name))))
    }

    /// Waits until the lock is had to read, while etcd is away too.
    ///
    /// # Errors
    ///
    /// etcd refuses, or the registry was closed.
    ///
    /// # Cancel safety
    ///
    /// Who gives up leaves the line, in the background.
    pub async fn read(&self) -> Result<RwLockReadGuard, LockError> {
        Ok(RwLockReadGuard(self.0.readers.acquire(b"").await?))
    }

    /// Waits until the lock is had to write, while etcd is away too.
    ///
    /// # Errors
    ///
    /// etcd refuses, or the registry was closed.
    ///
    /// # Cancel safety
    ///
    /// Who gives up leaves the line, in the background.
    pub async fn write(&self) -> Result<RwLockWriteGuard, LockError> {
        Ok(RwLockWriteGuard(self.0.writers.acquire(b"").await?))
    }

    /// Waits until the lock is had to read, for as long as `limit`.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); or the time is over.
    ///
    /// # Cancel safety
    ///
    /// Who gives up leaves the line, in the background.
    pub async fn read_within(&self, limit: Duration) -> Result<RwLockReadGuard, LockError> {
        let locked = timeout(limit, self.read()).await;
        locked.unwrap_or(Err(LockError::TimedOut(limit)))
    }

    /// Waits until the lock is had to write, for as long as `limit`.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write); or the time is over.
    ///
    /// # Cancel safety
    ///
    /// Who gives up leaves the line, in the background.
    pub async fn write_within(&self, limit: Duration) -> Result<RwLockWriteGuard, LockError> {
        let locked = timeout(limit, self.write()).await;
        locked.unwrap_or(Err(LockError::TimedOut(limit)))
    }

    /// Takes the lock to read if nobody has it to write, or waits for that; writes nothing otherwise.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); or etcd did not answer for 10 s.
    ///
    /// # Cancel safety
    ///
    /// If it is cancelled, what it has taken is given back in the background.
    pub async fn try_read(&self) -> Result<Option<RwLockReadGuard>, LockError> {
        let taken = patiently(self.0.readers.try_acquire(b"")).await?;
        Ok(taken.map(RwLockReadGuard))
    }

    /// Takes the lock to write if nobody has it or waits for it; writes nothing otherwise.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write); or etcd did not answer for 10 s.
    ///
    /// # Cancel safety
    ///
    /// If it is cancelled, what it has taken is given back in the background.
    pub async fn try_write(&self) -> Result<Option<RwLockWriteGuard>, LockError> {
        let taken = patiently(self.0.writers.try_acquire(b"")).await?;
        Ok(taken.map(RwLockWriteGuard))
    }
}

impl Lines {
    fn of(keys: &Keys, name: &KeyPath) -> Self {
        let (all, read, write) = (
            format!("{name}/"),
            format!("{name}/{READ}"),
            format!("{name}/{WRITE}"),
        );
        Self {
            readers: Line::new(keys.clone(), write.clone(), is_moment).named_by_moment(read),
            writers: Line::new(keys.clone(), all, is_of_either).named_by_moment(write),
        }
    }
}

const READ: &str = "read/";
const WRITE: &str = "write/";

/// Tells that a key, without the lock's name, is one of a reader or of a writer.
fn is_of_either(rest: &[u8]) -> bool {
    let moment = rest.strip_prefix(READ.as_bytes());
    let moment = moment.or_else(|| rest.strip_prefix(WRITE.as_bytes()));
    moment.is_some_and(is_moment)
}

impl RwLockReadGuard {
    /// Returns the fencing token: larger than those of all who had the lock before to write, as long as
    /// etcd keeps its data, and smaller than those of all who write after it.
    pub fn token(&self) -> i64 {
        self.0.created()
    }
}

impl RwLockWriteGuard {
    /// Returns the fencing token: larger than those of all who had the lock before, as long as etcd
    /// keeps its data. A resource that refuses a token smaller than the largest it has seen cannot be
    /// harmed by one who does not know yet that it has lost the lock.
    pub fn token(&self) -> i64 {
        self.0.created()
    }
}

lock_guard!(RwLockReadGuard);
lock_guard!(RwLockWriteGuard);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_the_name_and_is_not_of_the_lock_is_let_be() {
        for rest in ["read/1764339676000000000", "write/1"] {
            assert!(is_of_either(rest.as_bytes()), "{rest}");
        }
        for rest in [
            "694d8a2c", "1", "read", "read/", "read/a/1", "b/read/1", "ready/1",
        ] {
            assert!(!is_of_either(rest.as_bytes()), "{rest}");
        }
    }
}
