//! What is put in a range of keys, one put after another: for one who must miss none.
//!
//! It has no task: whoever asks for the next put drives it, and one who does not ask is not sent any
//! more than fits into a stream's window. A page of a list is held until it was asked for.

use std::collections::VecDeque;

use crate::{
    Registry,
    etcd::{KeyRange, KeyValue},
    follower::{Follower, Reader},
    keys::KeysError,
    watch::Watch,
};

/// What is put under a prefix, from a revision on.
///
/// - Each put is told, in the order of revisions, as long as etcd keeps the history that is needed.
///   Where it does not, after a compaction or a wipe, what is there is told, in the order of keys.
/// - After a reconnect, some may be told again.
///
/// So keys that are counted show whether anything was missed.
pub struct Tail {
    follower: Follower<Puts>,
    registry: Registry,
}

/// The puts that were not handed on yet.
#[derive(Default)]
struct Puts(VecDeque<KeyValue>);

impl Reader for Puts {
    type Value = ();

    fn read(&mut self, kv: &KeyValue) -> Result<Option<()>, Box<dyn std::error::Error>> {
        self.0.push_back(kv.clone());
        Ok(Some(()))
    }
}

impl Tail {
    pub(crate) fn new(
        registry: &Registry,
        range: KeyRange,
        after: Option<Vec<u8>>,
        revision: i64,
    ) -> Self {
        let etcd = registry.shared.etcd.clone();
        let watch = Watch::at(revision);
        let mut follower = Follower::new(etcd, range, Puts::default(), watch);
        follower.set_floor(after);
        Self {
            follower,
            registry: registry.clone(),
        }
    }

    /// Waits for the next put, for as long as etcd is away.
    ///
    /// # Errors
    ///
    /// The registry was closed.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it loses nothing.
    pub async fn next(&mut self) -> Result<KeyValue, KeysError> {
        let closing = self.registry.shared.ending.asked.clone();
        loop {
            if self.follower.reader().0.is_empty() {
                // Nobody may have asked for long, which says nothing of etcd.
                self.follower.take_what_is_there();
            }
            if let Some(put) = self.follower.reader().0.pop_front() {
                return Ok(put);
            }
            let step = self.follower.next();
            let (_, watch) = self.follower.known();
            watch.keep_newest();
            tokio::select! {
                biased;
                () = closing.cancelled() => return Err(KeysError::Closed),
                () = self.follower.perform(step) => {}
            }
        }
    }

    /// Leaves keys up to this one out, should the range have to be read anew.
    pub fn pass_over(&mut self, key: impl Into<Vec<u8>>) {
        self.follower.set_floor(Some(key.into()));
    }

    /// Begins anew, with all that is there now.
    pub fn restart(&mut self) {
        self.follower.set_floor(None);
        self.follower.restart(Watch::new());
        self.follower.reader().0.clear();
    }
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tail").finish_non_exhaustive()
    }
}
