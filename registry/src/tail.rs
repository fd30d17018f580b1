//! What is put in a range of keys, one put after another: for one who must miss none.
//!
//! It has no task: whoever asks for the next put drives it, and one who does not ask is not sent any
//! more than fits into a stream's window. A page of a list is held until it was asked for.
//!
//! What it is doing at etcd outlives a call that is cancelled: one who gives up again and again would
//! begin it anew each time, and never come to its end.

use std::{collections::VecDeque, future::ready};

use futures::{FutureExt, future::BoxFuture};

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
    registry: Registry,
    range: KeyRange,
    /// Keys up to this one are to be left out from the next step on.
    floor: Option<Vec<u8>>,
    /// What is being done; it hands back who does it.
    step: BoxFuture<'static, Follower<Puts>>,
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
        Self {
            step: begin(registry, &range, Watch::at(revision)),
            registry: registry.clone(),
            range,
            floor: after,
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
            let mut follower = tokio::select! {
                biased;
                follower = &mut self.step => follower,
                () = closing.cancelled() => return Err(KeysError::Closed),
            };
            if follower.reader().0.is_empty() {
                // Nobody may have asked for long, which says nothing of etcd.
                follower.take_what_is_there();
            }
            if let Some(put) = follower.reader().0.pop_front() {
                self.step = ready(follower).boxed();
                return Ok(put);
            }
            if let Some(floor) = self.floor.take() {
                follower.set_floor(floor);
            }
            let step = follower.next();
            let (_, watch) = follower.known();
            watch.keep_newest();
            self.step = async move {
                follower.perform(step).await;
                follower
            }
            .boxed();
        }
    }

    /// Leaves keys up to this one out, should the range have to be read anew.
    pub fn pass_over(&mut self, key: impl Into<Vec<u8>>) {
        self.floor = Some(key.into());
    }

    /// Begins anew, with all that is there now.
    pub fn restart(&mut self) {
        self.floor = None;
        self.step = begin(&self.registry, &self.range, Watch::new());
    }
}

fn begin(
    registry: &Registry,
    range: &KeyRange,
    watch: Watch<Option<()>>,
) -> BoxFuture<'static, Follower<Puts>> {
    let etcd = registry.shared.etcd.clone();
    let follower = Follower::new(etcd, range.clone(), Puts::default(), watch);
    ready(follower).boxed()
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tail").finish_non_exhaustive()
    }
}
