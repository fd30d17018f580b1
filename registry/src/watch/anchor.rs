//! The put that a watch is resumed at.

use super::{Entry, Fingerprint};

/// A put that was seen, by which a history is known again: no other one has put the same under that
/// key at that revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Anchor {
    pub(super) key: Vec<u8>,
    pub(super) revision: i64,
    pub(super) fingerprint: Fingerprint,
}

impl Anchor {
    pub(super) fn of<T>(key: &[u8], entry: &Entry<T>) -> Self {
        Self {
            key: key.to_vec(),
            revision: entry.revision,
            fingerprint: entry.fingerprint,
        }
    }
}

/// The put that an open watch was opened at, and has not brought yet.
#[derive(Debug)]
pub(super) enum Owed {
    Due(Anchor),
    /// The watch has answered since, and not with that put. Before etcd 3.4.25 and 3.5.8 one that
    /// still catches up answers as well (etcd, `api/v3rpc/watch.go`).
    Overdue(Anchor),
}
