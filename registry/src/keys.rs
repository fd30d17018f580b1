//! etcd's keys, over a registry's connection: what recipes are made of.
//!
//! Services need none of this. It is for what etcd is used for beside them, such as the recipes of
//! `switchboard-coordination`: keys that are read and written in transactions, ranges of them that
//! are followed, and puts of which none may be missed.

use std::{sync::Arc, time::Duration};

use switchboard_resolver::Cause;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    Registry,
    etcd::{Etcd, EtcdError, Kind},
    follower::Reader,
    watcher::{Listing, View, Watcher},
};
pub use crate::{
    etcd::{Guard, KeyRange, KeyValue, Operation, Outcome, Transaction},
    name::{KeyPath, Segment},
    tail::Tail,
    watch::Freshness,
};

/// How long it may take to find out what a range holds, before whoever waits is told that it cannot
/// be found out. As for a service's first snapshot.
pub const FIRST_READING: Duration = Duration::from_secs(10);

/// etcd's keys, over a registry's connection.
#[derive(Debug, Clone)]
pub struct Keys(Registry);

/// Why keys cannot be read or written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// etcd does not let us, until somebody changes that. Nothing was read or written.
    #[error("etcd refuses")]
    Denied(#[source] Cause),
    /// etcd has no such lease. Nothing was written.
    #[error("etcd has no such lease")]
    LeaseNotFound(#[source] Cause),
    /// The revision is no longer known.
    #[error("etcd has compacted that revision")]
    Compacted(#[source] Cause),
    /// etcd cannot be reached, or cannot answer. A write may have gone through.
    #[error("etcd does not answer")]
    Unavailable(#[source] Cause),
    /// The registry was closed.
    #[error("the registry is closed")]
    Closed,
}

/// What a key held at a revision.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Reading {
    /// The revision that etcd is at now.
    pub revision: i64,
    /// What the key held.
    pub held: Option<KeyValue>,
}

/// What a range held at a revision.
#[derive(Debug, Clone)]
pub struct KeySnapshot(Arc<Listing<Arc<KeyValue>>>);

/// A range of keys, followed until this is dropped.
pub struct Followed {
    view: watch::Receiver<View<Arc<KeyValue>>>,
    _stop: DropGuard,
    /// Following goes on while this lives, whatever becomes of the other handles.
    _registry: Registry,
}

struct Whole;

impl Reader for Whole {
    type Value = Arc<KeyValue>;

    fn read(&mut self, kv: &KeyValue) -> Result<Option<Self::Value>, Box<dyn std::error::Error>> {
        Ok(Some(Arc::new(kv.clone())))
    }
}

impl Keys {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self(registry.clone())
    }

    /// Runs a task for which the registry waits when it closes. It is to end when `stop`, which it is
    /// handed, is cancelled: when the registry closes, or what this returns is dropped.
    pub fn spawn<F>(&self, task: impl FnOnce(CancellationToken) -> F) -> DropGuard
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let shared = &self.0.shared;
        let stop = shared.ending.asked.child_token();
        shared.tasks.spawn_on(task(stop.clone()), &shared.runtime);
        stop.drop_guard()
    }

    /// Reads a key, linearizably, as it was at `revision`; 0 stands for the current one.
    ///
    /// # Errors
    ///
    /// etcd refuses or does not answer, or does not know that revision; or the registry was closed.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it changes nothing.
    pub async fn read(&self, key: &str, revision: i64) -> Result<Reading, KeysError> {
        let page = self.etcd()?.read_at(key, revision).await?;
        Ok(Reading {
            revision: page.revision,
            held: page.keys.into_iter().next(),
        })
    }

    /// Commits a transaction.
    ///
    /// # Errors
    ///
    /// etcd refuses; or it does not answer, and nobody knows whether the transaction has gone
    /// through; or the registry was closed before.
    ///
    /// # Cancel safety
    ///
    /// If it is cancelled, nobody knows whether the transaction has gone through.
    pub async fn commit(&self, transaction: Transaction) -> Result<Outcome, KeysError> {
        Ok(self.etcd()?.commit(transaction).await?)
    }

    /// Grants a lease that nobody renews, in whole seconds; returns its id.
    ///
    /// # Errors
    ///
    /// etcd refuses or does not answer; or the registry was closed.
    ///
    /// # Cancel safety
    ///
    /// If it is cancelled, a lease may be left, which ends by itself.
    pub async fn grant(&self, ttl: Duration) -> Result<i64, KeysError> {
        let id = fastrand::i64(1..=i64::MAX);
        self.etcd()?.grant(id, ttl).await?;
        Ok(id)
    }

    /// Returns the connection, unless it is closed: then an answer is not to be waited for.
    fn etcd(&self) -> Result<&Etcd, KeysError> {
        let shared = &self.0.shared;
        match shared.ending.asked.is_cancelled() {
            true => Err(KeysError::Closed),
            false => Ok(&shared.etcd),
        }
    }

    /// Follows a range of keys.
    pub fn follow(&self, range: KeyRange) -> Followed {
        let (watcher, view) = Watcher::new(self.0.shared.etcd.clone(), range, Whole);
        let stop = self.spawn(|stop| watcher.run(stop));
        Followed {
            view,
            _stop: stop,
            _registry: self.0.clone(),
        }
    }

    /// Follows what is put under `prefix`, behind the key `after`, from `revision` on; 0 stands for
    /// what is there now.
    pub fn tail(&self, prefix: String, after: Option<Vec<u8>>, revision: i64) -> Tail {
        Tail::new(&self.0, KeyRange::Under(prefix), after, revision)
    }
}

impl Followed {
    /// Returns what the range held last, once it has been read.
    pub fn snapshot(&self) -> Option<KeySnapshot> {
        self.view.borrow().listing.clone().map(KeySnapshot)
    }

    /// Returns whether that is what it holds now.
    pub fn freshness(&self) -> Freshness {
        self.view.borrow().freshness.clone()
    }

    /// Waits until the snapshot or its freshness has changed since this last returned.
    ///
    /// # Errors
    ///
    /// The registry was closed.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it misses nothing: the next call returns at once.
    pub async fn changed(&mut self) -> Result<(), KeysError> {
        self.view.changed().await.map_err(|_| KeysError::Closed)
    }
}

impl KeySnapshot {
    /// Returns the revision at which this was so.
    pub fn revision(&self) -> i64 {
        self.0.revision
    }

    /// Returns the keys, in order, and what they hold.
    pub fn keys(&self) -> &[Arc<KeyValue>] {
        &self.0.values
    }
}

impl std::fmt::Debug for Followed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Followed")
            .field("view", &*self.view.borrow())
            .finish_non_exhaustive()
    }
}

impl From<EtcdError> for KeysError {
    fn from(error: EtcdError) -> Self {
        match error.kind {
            Kind::Denied => Self::Denied(error.into_cause()),
            Kind::LeaseNotFound => Self::LeaseNotFound(error.into_cause()),
            Kind::Compacted => Self::Compacted(error.into_cause()),
            _ => Self::Unavailable(error.into_cause()),
        }
    }
}
