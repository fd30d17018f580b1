//! What a watch asks for, and what it is told.

use std::time::Instant;

use switchboard_resolver::Cause;

use super::{Anchor, Entry, Fingerprint};

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Read a page of the keys after `after` at `revision` (0: the current one); answer with
    /// `page`, `list_compacted`, `too_large`, `denied` or `failed`.
    List {
        after: Option<Vec<u8>>,
        revision: i64,
    },
    /// Open a watch that starts at `from`, in place of the one before; answer with `opened`,
    /// `cancelled`, `denied` or `failed`.
    Open { from: i64 },
    /// Wait until then for what the watch has to say; answer with `events`, `progress`,
    /// `cancelled`, `too_large` or `failed`.
    Receive { until: Instant },
    /// Ask the watch for its progress; answer with `asked` or `failed`.
    AskProgress,
    /// Read the current revision from a majority; answer with `confirmed`, `denied` or
    /// `failed`.
    Confirm,
    /// Get a new token; answer with `logged_in`, `denied` or `failed`.
    LogIn,
    /// Nothing until then, unless etcd can be reached again.
    WaitUntil(Instant),
}

/// A part of a list.
#[derive(Debug)]
pub(crate) struct Page<T> {
    pub(crate) revision: i64,
    pub(crate) entries: Vec<Put<T>>,
    pub(crate) more: bool,
}

/// A key that holds a value; `None` where it cannot be decoded.
#[derive(Debug, Clone)]
pub(crate) struct Put<T> {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<T>,
    pub(crate) revision: i64,
    pub(crate) fingerprint: Fingerprint,
}

impl<T> Put<T> {
    /// Returns the key, and what it holds, where that can be decoded.
    pub(super) fn into_entry(self) -> (Vec<u8>, Option<Entry<T>>) {
        let (revision, fingerprint) = (self.revision, self.fingerprint);
        let entry = self.value.map(|value| Entry {
            value,
            revision,
            fingerprint,
        });
        (self.key, entry)
    }
}

/// One event.
#[derive(Debug, Clone)]
pub(crate) enum Change<T> {
    Put(Put<T>),
    Delete { key: Vec<u8>, revision: i64 },
}

/// Why etcd cancelled a watch.
#[derive(Debug)]
pub(crate) enum Cancel {
    /// What it was to start from is no longer known.
    Compacted,
    /// The token was refused.
    Token,
    /// etcd does not let us.
    Denied(Cause),
    /// Something else.
    Other(Cause),
}

impl<T> Change<T> {
    pub(super) fn key(&self) -> &[u8] {
        match self {
            Self::Put(Put { key, .. }) | Self::Delete { key, .. } => key,
        }
    }

    pub(super) fn revision(&self) -> i64 {
        match self {
            Self::Put(Put { revision, .. }) | Self::Delete { revision, .. } => *revision,
        }
    }

    pub(super) fn is(&self, anchor: &Anchor) -> bool {
        let Self::Put(put) = self else { return false };
        (&put.key, put.revision, put.fingerprint)
            == (&anchor.key, anchor.revision, anchor.fingerprint)
    }
}
