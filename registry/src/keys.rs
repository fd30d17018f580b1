//! etcd's keys, over a registry's connection: what recipes are made of.
//!
//! Services need none of this. It is for what etcd is used for beside them, such as the recipes of
//! `switchboard-coordination`: keys that are read and written in transactions, ranges of them that
//! are followed, and puts of which none may be missed.

mod changes;
mod followed;
mod tenure;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use switchboard_resolver::Cause;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::AbortOnDropHandle,
};

pub use self::{
    changes::Changes,
    followed::{Followed, KeySnapshot},
    tenure::Tenure,
};
use crate::{
    Registry,
    etcd::{EtcdError, Kind},
    layout::Place,
    registry::Shared,
};
pub use crate::{
    etcd::{By, Guard, KeyEvent, KeyRange, KeyValue, Operation, Outcome, Selection, Transaction},
    journal::{Journal, Noted},
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

/// etcd's keys, as long as the registry has other handles: what goes on in the background with this
/// keeps no registry from ending.
#[derive(Debug, Clone)]
pub struct WeakKeys {
    shared: Weak<Shared>,
    place: Arc<Place>,
}

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
    /// etcd cannot be reached. Nothing was read or written.
    #[error("etcd cannot be reached")]
    Unreachable(#[source] Cause),
    /// etcd does not answer, or cannot do what it is asked for now. A write may have gone through.
    #[error("etcd does not answer")]
    Unavailable(#[source] Cause),
    /// The registry was closed. Nothing was sent.
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

/// Some keys of a range, as they were at a revision.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Selected {
    /// The revision that etcd is at now.
    pub revision: i64,
    /// The keys, in the order that was asked for.
    pub keys: Vec<KeyValue>,
    /// Whether there are more than were asked for.
    pub more: bool,
}

impl Keys {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self(registry.clone())
    }

    /// Returns a handle that does not count as one.
    pub fn downgrade(&self) -> WeakKeys {
        WeakKeys {
            shared: Arc::downgrade(&self.0.shared),
            place: self.0.place.clone(),
        }
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

    /// Does something on the registry's runtime, on whichever it is waited for, until what this returns is
    /// dropped.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> AbortOnDropHandle<T> {
        self.0.shared.etcd.run(work)
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
        let page = self.ask(self.0.shared.etcd.read_at(key, revision)).await?;
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
        self.ask(self.0.shared.etcd.commit(transaction)).await
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
        self.ask(self.0.shared.etcd.grant(id, ttl)).await?;
        Ok(id)
    }

    /// Reads some keys of a range, linearizably.
    ///
    /// # Errors
    ///
    /// etcd refuses or does not answer, or does not know the revision.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it changes nothing.
    pub async fn select(&self, selection: &Selection) -> Result<Selected, KeysError> {
        let page = self.ask(self.0.shared.etcd.select(selection)).await?;
        Ok(Selected {
            revision: page.revision,
            keys: page.keys,
            more: page.more,
        })
    }

    /// Follows a range of keys.
    pub fn follow(&self, range: KeyRange) -> Followed {
        Followed::new(&self.0, range)
    }

    /// Waits until a range has changed after `revision`, and returns how. Where that is nothing, it
    /// may have changed unnoticed: a watch broke, or was silent for 10 s. So whoever waits for
    /// something looks again.
    ///
    /// # Errors
    ///
    /// etcd refuses or cannot be reached, or the registry was closed.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it changes nothing.
    pub async fn changed(
        &self,
        range: &KeyRange,
        revision: i64,
        changes: Changes,
    ) -> Result<Vec<KeyEvent>, KeysError> {
        changes::wait(&self.0, range, revision, changes).await
    }

    /// Waits until the registry holds a lease to write under.
    ///
    /// # Errors
    ///
    /// etcd refuses it, or the registry was closed.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it changes nothing.
    pub async fn tenure(&self) -> Result<Tenure, KeysError> {
        Tenure::begin(&self.0).await
    }

    /// Returns what all who use `T` on this registry share.
    pub fn shared<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        self.0.shared.commons.get()
    }

    /// Follows what is put under `prefix`, behind the key `after`, from `revision` on; 0 stands for
    /// what is there now.
    pub fn tail(&self, prefix: String, after: Option<Vec<u8>>, revision: i64) -> Tail {
        Tail::new(&self.0, KeyRange::Under(prefix), after, revision)
    }

    /// Follows all that happens to a range of keys, from now on.
    pub fn journal(&self, range: KeyRange) -> Journal {
        Journal::new(&self.0, range)
    }

    /// Does what etcd is asked for, unless the registry is closed: then nothing is sent any more.
    async fn ask<T>(
        &self,
        asked: impl Future<Output = Result<T, EtcdError>>,
    ) -> Result<T, KeysError> {
        if self.is_closed() {
            return Err(KeysError::Closed);
        }
        asked.await.map_err(|error| match error.kind {
            Kind::Unsent if self.is_closed() => KeysError::Closed,
            _ => error.into(),
        })
    }

    /// Returns whether the registry was closed.
    fn is_closed(&self) -> bool {
        self.0.shared.ending.asked.is_cancelled()
    }
}

impl WeakKeys {
    /// Returns a handle that counts, if there is another one yet.
    pub fn upgrade(&self) -> Option<Keys> {
        let (shared, place) = (self.shared.upgrade()?, self.place.clone());
        Some(Keys(Registry { shared, place }))
    }
}

impl From<EtcdError> for KeysError {
    fn from(error: EtcdError) -> Self {
        match error.kind {
            Kind::Denied => Self::Denied(error.into_cause()),
            Kind::LeaseNotFound => Self::LeaseNotFound(error.into_cause()),
            Kind::Compacted => Self::Compacted(error.into_cause()),
            Kind::Unsent => Self::Unreachable(error.into_cause()),
            _ => Self::Unavailable(error.into_cause()),
        }
    }
}
