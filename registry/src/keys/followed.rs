//! A range of keys, followed and shown as it is.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::DropGuard;

use super::{Freshness, KeyRange, KeyValue, KeysError};
use crate::{
    Registry,
    follower::Reader,
    watcher::{Listing, View, Watcher},
};

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

impl Followed {
    pub(super) fn new(registry: &Registry, range: KeyRange) -> Self {
        let (watcher, view) = Watcher::new(registry.shared.etcd.clone(), range, Whole);
        let stop = registry.keys().spawn(|stop| watcher.run(stop));
        Self {
            view,
            _stop: stop,
            _registry: registry.clone(),
        }
    }

    /// Returns what the range held last, once it has been read.
    pub fn snapshot(&self) -> Option<KeySnapshot> {
        self.view.borrow().listing.clone().map(KeySnapshot)
    }

    /// Returns whether that is what it holds now.
    pub fn freshness(&self) -> Freshness {
        self.view.borrow().freshness.clone()
    }

    /// Returns both, as they were at one moment.
    pub fn state(&self) -> (Option<KeySnapshot>, Freshness) {
        let view = self.view.borrow();
        (
            view.listing.clone().map(KeySnapshot),
            view.freshness.clone(),
        )
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
