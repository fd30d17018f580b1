//! What a watch is about.

use std::time::Instant;

use super::{
    Entry,
    anchor::{Anchor, Owed},
};

#[derive(Debug)]
pub(super) enum State<T> {
    /// A page is to be read, after those that were; the first one says at which revision.
    Listing {
        revision: i64,
        pages: Vec<Listed<T>>,
    },
    /// A watch is to be opened: at an event that was seen before, or after the list that was just
    /// read.
    Opening { at: Option<Anchor> },
    /// A watch is open; it still owes the event that it was opened at, and was last asked for its
    /// progress then.
    Watching {
        owes: Option<Owed>,
        asked: Option<Instant>,
    },
    /// The current revision is to be read.
    Confirming,
    /// A new token is to be got.
    LoggingIn,
}

/// A key of a list, and its value where it can be decoded.
pub(super) type Listed<T> = (Vec<u8>, Option<Entry<T>>);

impl<T> State<T> {
    /// To list at `revision`; 0 stands for the current one.
    pub(super) fn list(revision: i64) -> Self {
        Self::Listing {
            revision,
            pages: Vec::new(),
        }
    }
}
