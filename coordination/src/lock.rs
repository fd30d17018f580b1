//! One at a time, over all processes.
//!
//! The layout is that of etcd's Go package `concurrency` (`mutex.go`), so that its users and those of
//! `etcdctl lock` stand in the same line: a key `<name>/<lease, in hex>` for each, empty, under the lease.

use std::{sync::Arc, time::Duration};

use switchboard_registry::{NameError, Registry, keys::KeyPath};
use tokio::time::timeout;

use crate::{
    Failure,
    entry::Entry,
    failure::patiently,
    guard::lock_guard,
    line::{Line, LineError, is_segment},
};

/// A lock that one has at a time, over all processes. Cheap to clone.
///
/// - Who waits is served in the order in which etcd heard of it; who ends or is cut off is passed over
///   after one TTL of its registry.
/// - Those of one registry wait for each other in their process, and get in line one after another.
/// - A lock that was had may be lost: when the lease was not renewed in time, or somebody has deleted the
///   key. The guard knows *before* others can have it, as far as this machine's clock runs evenly.
///   A process that stands still knows nothing: whatever the lock protects has to
///   refuse a [token](LockGuard::token) that is smaller than one it has seen.
///
/// ```
/// use switchboard_coordination::Lock;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let etcd = switchboard_embedded::EmbeddedEtcd::start();
/// # let registry = switchboard_registry::Registry::builder("etcd:2379")?.connector(etcd.connector()).connect().await?;
/// let lock = Lock::new(&registry, "/shop/stocktaking")?;
/// let guard = lock.lock().await?;
/// // Ends when the lock is lost, wherever it is.
/// let counted = guard.hold(async { 42 }).await?;
/// assert!(lock.try_lock().await?.is_none());
/// guard.unlock().await?;
/// # assert_eq!(counted, 42);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Lock(Arc<Line>);

/// A lock that is had, until this is dropped.
#[derive(Debug)]
#[must_use = "a guard that is dropped gives the lock back"]
pub struct LockGuard(Entry);

/// Why a lock was not had.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Others had it all the time.
    #[error("the lock was not had within {0:?}")]
    TimedOut(Duration),
    /// The key of our own is there, under a lease that is not ours: somebody else has put it. Not with
    /// an [`RwLock`](crate::RwLock), which takes another key then.
    #[error("{0} is under a lease that is not ours")]
    Foreign(String),
    /// etcd did not do what it was asked for.
    #[error("cannot lock")]
    Etcd(#[source] Failure),
}

impl Lock {
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
        let line = Line::new(registry.keys(), format!("{name}/"), is_segment);
        Ok(Self(Arc::new(line)))
    }

    /// Waits until the lock is had, while etcd is away too.
    ///
    /// # Errors
    ///
    /// etcd refuses, or the registry was closed.
    ///
    /// # Cancel safety
    ///
    /// Who gives up leaves the line, in the background.
    pub async fn lock(&self) -> Result<LockGuard, LockError> {
        Ok(LockGuard(self.0.acquire(b"").await?))
    }

    /// Waits until the lock is had, for as long as `limit`.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock); or the time is over.
    ///
    /// # Cancel safety
    ///
    /// Who gives up leaves the line, in the background.
    pub async fn lock_within(&self, limit: Duration) -> Result<LockGuard, LockError> {
        let locked = timeout(limit, self.lock()).await;
        locked.unwrap_or(Err(LockError::TimedOut(limit)))
    }

    /// Takes the lock if nobody has it or waits for it; writes nothing otherwise.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock); or etcd did not answer for 10 s.
    ///
    /// # Cancel safety
    ///
    /// If it is cancelled, what it has taken is given back in the background.
    pub async fn try_lock(&self) -> Result<Option<LockGuard>, LockError> {
        let taken = patiently(self.0.try_acquire(b"")).await?;
        Ok(taken.map(LockGuard))
    }
}

impl LockGuard {
    /// Returns the fencing token: larger than those of all who had the lock before, as long as etcd
    /// keeps its data. A resource that refuses a token smaller than the largest it has seen cannot be
    /// harmed by one who does not know yet that it has lost the lock.
    pub fn token(&self) -> i64 {
        self.0.created()
    }
}

lock_guard!(LockGuard);

impl From<LineError> for LockError {
    fn from(error: LineError) -> Self {
        match error {
            LineError::Foreign(key) => Self::Foreign(key),
            LineError::Failed(failure) => Self::Etcd(failure),
        }
    }
}
