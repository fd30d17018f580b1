//! What puts are guarded by whose outcome may never be known.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicI64, Ordering},
};

/// A key per lease that is hardly ever written. Each put is guarded by its revision as it is known
/// here; to write it once more, to *raise* it, is to keep all earlier puts from landing later. Those
/// that others have under way are refused too, and sent again.
#[derive(Debug)]
pub(super) struct Fence {
    key: String,
    revision: AtomicI64,
}

impl Fence {
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Returns the revision at which it was raised last, as far as is known; 0 for never.
    pub(super) fn revision(&self) -> i64 {
        self.revision.load(Ordering::Relaxed)
    }

    /// Notes at which revision it was raised, as etcd says. What an answer says that was overtaken
    /// is put right by the next one; where etcd was restored, the later revision is the smaller one.
    pub(super) fn raised(&self, revision: i64) {
        self.revision.store(revision, Ordering::Relaxed);
    }
}

/// The fence of the lease that a registry has now.
#[derive(Default)]
pub(super) struct Fences(Mutex<Option<(i64, Arc<Fence>)>>);

impl Fences {
    pub(super) fn of(&self, lease: i64) -> Arc<Fence> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some((of, fence)) if *of == lease => fence.clone(),
            _ => {
                let fence = Arc::new(Fence {
                    key: format!("/switchboard/fences/{lease:x}"),
                    revision: AtomicI64::new(0),
                });
                *current = Some((lease, fence.clone()));
                fence
            }
        }
    }
}
