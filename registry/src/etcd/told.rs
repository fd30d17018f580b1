//! How far in its history etcd has told that it is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use etcd_client::ResponseHeader;

use crate::lease::Position;

/// The furthest of all that etcd's answers have told; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Told(Arc<Mutex<Option<Position>>>);

impl Told {
    /// Returns the furthest that was told.
    pub(super) fn furthest(&self) -> Option<Position> {
        *self.lock()
    }

    /// Notes where the member was that answered, and returns that. One that lags changes nothing.
    pub(super) fn note(&self, header: Option<&ResponseHeader>) -> Option<Position> {
        let at = header.map(|header| Position {
            cluster: header.cluster_id(),
            term: header.raft_term(),
            revision: header.revision(),
        })?;
        let mut furthest = self.lock();
        if furthest.is_none_or(|furthest| !at.is_before(furthest)) {
            *furthest = Some(at);
        }
        Some(at)
    }

    /// Begins anew, with the history that a majority has agreed on.
    pub(super) fn begin(&self, at: Position) {
        *self.lock() = Some(at);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Position>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
