//! How far in its history etcd has told that it is, and whether it has gone back since: a backup was restored.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use etcd_client::ResponseHeader;

use crate::lease::Position;

/// What etcd's answers have told; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Told(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    furthest: Option<Position>,
    has_gone_back: bool,
}

impl Told {
    /// Returns the furthest that was told.
    pub(super) fn furthest(&self) -> Option<Position> {
        self.lock().furthest
    }

    /// Returns whether a majority has told less than was told before.
    pub(super) fn has_gone_back(&self) -> bool {
        self.lock().has_gone_back
    }

    /// Notes where the member was that answered, and returns that. One that lags changes nothing.
    pub(super) fn note(&self, header: Option<&ResponseHeader>) -> Option<Position> {
        let at = position(header)?;
        let mut state = self.lock();
        let is_behind = state.furthest.is_some_and(|it| at.is_before(it));
        // What grows after it has gone back is another history.
        if !is_behind && !state.has_gone_back {
            state.furthest = Some(at);
        }
        Some(at)
    }

    /// Notes where a majority was that agreed on an answer, to a request before which `seen` was told.
    pub(super) fn note_agreed(&self, seen: Option<Position>, header: Option<&ResponseHeader>) {
        if let (Some(at), Some(seen)) = (position(header), seen)
            && at.is_another_or_earlier(seen)
        {
            let mut state = self.lock();
            // Unless that was forgotten meanwhile.
            state.has_gone_back |= state.furthest.is_some_and(|it| !it.is_before(seen));
        }
        self.note(header);
    }

    /// Begins anew, with what is told from now on.
    pub(super) fn forget(&self) {
        *self.lock() = State::default();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a member was; what is no etcd's own, such as a proxy, may not say so.
fn position(header: Option<&ResponseHeader>) -> Option<Position> {
    let header = header.filter(|it| it.revision() > 0 && it.raft_term() > 0)?;
    Some(Position {
        cluster: header.cluster_id(),
        term: header.raft_term(),
        revision: header.revision(),
    })
}

#[cfg(test)]
mod tests {
    use etcd_client::proto::PbResponseHeader;

    use super::*;

    /// A header of etcd's, at this term and revision.
    fn header(raft_term: u64, revision: i64) -> PbResponseHeader {
        PbResponseHeader {
            cluster_id: 1,
            member_id: 1,
            revision,
            raft_term,
        }
    }

    fn furthest(told: &Told) -> (u64, i64) {
        let furthest = told.furthest().unwrap();
        (furthest.term, furthest.revision)
    }

    #[test]
    fn the_furthest_of_all_counts_and_who_lags_changes_nothing() {
        let told = Told::default();
        told.note(Some((&header(2, 10)).into()));
        told.note(Some((&header(3, 12)).into()));
        for behind in [header(3, 11), header(2, 13)] {
            told.note(Some((&behind).into()));
            assert_eq!(furthest(&told), (3, 12));
        }
        told.note(None);
        told.note(Some((&header(0, 0)).into()));
        assert_eq!(furthest(&told), (3, 12));
        assert!(!told.has_gone_back());
    }

    #[test]
    fn a_majority_that_is_behind_has_gone_back_however_far_it_comes_then() {
        let told = Told::default();
        told.note(Some((&header(2, 10)).into()));
        let seen = told.furthest();
        told.note_agreed(seen, Some((&header(2, 9)).into()));
        told.note_agreed(seen, Some((&header(2, 20)).into()));
        assert!(told.has_gone_back());
        assert_eq!(furthest(&told), (2, 10));
        told.forget();
        // Of a request from before that.
        told.note_agreed(seen, Some((&header(2, 9)).into()));
        assert!(!told.has_gone_back());
        assert_eq!(furthest(&told), (2, 9));
    }

    /// A member that has just started may tell an earlier term for a moment, also with what a majority agreed on.
    #[test]
    fn an_earlier_term_alone_is_no_history_that_has_gone_back() {
        let told = Told::default();
        told.note(Some((&header(3, 10)).into()));
        told.note_agreed(told.furthest(), Some((&header(2, 11)).into()));
        assert!(!told.has_gone_back());
    }
}
