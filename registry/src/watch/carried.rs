//! What another history held, carried over until this one holds it again or a grace is over.
//!
//! ```text
//! Nothing   another history is found                       -> Waiting
//! Waiting   etcd is heard, with a list of this history     -> Counting
//! Counting  etcd is doubted: nobody can put anything there -> Waiting
//! Counting  the grace is over                              -> Nothing
//! any       the last of it is put again                    -> Nothing
//! any       yet another history is found                   -> Waiting
//! ```
//!
//! An etcd that was wiped is empty until the servers have published themselves again. They live all
//! the while, and whoever calls them is better served by an old list than by none.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::Entry;

/// How long servers have to publish themselves again. They need 3 s of a healthy etcd; where this
/// is shorter than that a wipe empties lists, where it is long servers that are gone are called.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// What was known of another history, and is not known of this one.
#[derive(Debug)]
pub(super) struct Carried<T> {
    entries: BTreeMap<Vec<u8>, Entry<T>>,
    /// `None` while the grace does not count.
    until: Option<Instant>,
}

impl<T> Carried<T> {
    pub(super) fn nothing() -> Self {
        Self {
            entries: BTreeMap::new(),
            until: None,
        }
    }

    pub(super) fn entries(&self) -> &BTreeMap<Vec<u8>, Entry<T>> {
        &self.entries
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns when the grace is over, if it counts and there is something that it counts for.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until.filter(|_| !self.is_nothing())
    }

    /// What was known is of another history.
    pub(super) fn take_over(&mut self, known: BTreeMap<Vec<u8>, Entry<T>>) {
        self.entries.extend(known);
        self.until = None;
    }

    /// This history holds the key.
    pub(super) fn held_again(&mut self, key: &[u8]) {
        self.entries.remove(key);
    }

    /// etcd is there, and has been listed.
    pub(super) fn heard(&mut self, now: Instant) {
        self.until.get_or_insert(now + GRACE);
    }

    /// etcd may be away.
    pub(super) fn doubted(&mut self) {
        self.until = None;
    }

    /// Lets go of everything once the grace is over; returns whether there was anything.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let is_over = self.until().is_some_and(|until| until <= now);
        if is_over {
            *self = Self::nothing();
        }
        is_over
    }
}
