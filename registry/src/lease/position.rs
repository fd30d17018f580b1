//! Where in its history an etcd is.

/// Where in the history of a cluster its member was when it answered.
///
/// A cluster counts its revisions and its leaders' terms up, and keeps its number: what a majority agrees on is never
/// before what any member has told. A member that lags may be; and an etcd that was restored from a backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) cluster: u64,
    pub(crate) term: u64,
    pub(crate) revision: i64,
}

impl Position {
    /// Returns whether this is another cluster than the one that was at `seen`, or that one at an earlier revision.
    pub(crate) fn is_another_or_earlier(self, seen: Self) -> bool {
        self.cluster != seen.cluster || self.revision < seen.revision
    }

    /// Returns whether a history that was at `seen` has not come to this: it lags there, or has gone back.
    pub(crate) fn is_before(self, seen: Self) -> bool {
        self.is_another_or_earlier(seen) || self.term < seen.term
    }
}
