//! Decides how a range of keys is followed: listed at a revision, watched from the next one,
//! resumed, and listed again.
//!
//! ```text
//! Listing     the last page                             -> Opening, after the list
//! Opening     opened                                    -> Watching
//! Opening     opened below our revision                 -> Confirming
//! Confirming  a majority is below it too: wiped         -> Listing
//! Confirming  it is not: that member lags               -> Opening, after a wait
//! Watching    the put that it was opened at is missing  -> Listing
//! any         compacted                                 -> Listing
//! any         the token was refused                     -> LoggingIn
//! any         failed, broken, silent                    -> Opening at the last put, after a wait
//!                                                          (Listing, if none is known)
//! ```
//!
//! - A watch resumes *at* the last put that is known, which must come again: the revisions of an
//!   etcd that was wiped and has grown past ours would otherwise pass for a continuation.
//! - It never resumes at the revision in a response's header, which can be ahead of what was
//!   delivered (etcd, `mvcc/watchable_store.go`: a watcher that catches up gets old events under
//!   the current header), nor at that of a progress notice (unsafe before etcd 3.4.25 and 3.5.8).
//! - The entries change only when a whole list has arrived, or with events: nobody sees an empty or
//!   half-read range.
//! - A value that cannot be decoded never removes the good one it stands in place of.
//! - Silence is not health: a watch that says nothing is asked for its progress, and one that does
//!   not answer is given up.
//!
//! It holds no clock, no randomness and no connection: [`Watch::next`] says what to do, and the
//! answers come back as method calls.

use std::{
    collections::BTreeMap,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use switchboard_resolver::Cause;

use crate::retry::RETRY;

/// How long a watch may be silent before it is asked for its progress, and how long it has to
/// answer. Together with opening another one they stay below 10 s, the time in which a watch leaves
/// a member that was cut off.
const SILENCE: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(3);

/// The keys of one request of a list: larger lists come in pages, so that no answer grows without
/// limit.
pub(crate) const PAGE: usize = 10_000;

/// A range of keys, followed.
#[derive(Debug)]
pub(crate) struct Watch<T> {
    state: State<T>,
    entries: BTreeMap<Vec<u8>, Entry<T>>,
    /// Of the last list or event that `entries` holds; 0 before the first list.
    revision: i64,
    changed: bool,
    freshness: Freshness,
    /// The last sign of life, if there was any.
    heard: Option<Instant>,
    failures: u32,
    not_before: Option<Instant>,
}

#[derive(Debug)]
enum State<T> {
    /// A page is to be read, after those that were; the first one says at which revision.
    Listing {
        revision: i64,
        pages: BTreeMap<Vec<u8>, Option<Entry<T>>>,
    },
    /// A watch is to be opened: at an event that was seen before, or after the list that was just
    /// read.
    Opening { at: Option<Anchor> },
    /// A watch is open; it still owes the event that it was opened at, and was last asked for its
    /// progress then.
    Watching {
        owes: Option<Anchor>,
        asked: Option<Instant>,
    },
    /// The current revision is to be read.
    Confirming,
    /// A new token is to be got.
    LoggingIn,
}

/// A put that was seen, by which a history is known again: no other one has that key under that
/// lease at that revision.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Anchor {
    key: Vec<u8>,
    revision: i64,
    lease: i64,
}

/// A value, the revision that brought it, and its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry<T> {
    pub(crate) value: T,
    pub(crate) revision: i64,
    pub(crate) lease: i64,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Read up to [`PAGE`] keys after `after` at `revision` (0: the current one); answer with
    /// `page` or `failed`.
    List {
        after: Option<Vec<u8>>,
        revision: i64,
    },
    /// Open a watch that starts at `from`, in place of the one before; answer with `opened`,
    /// `cancelled` or `failed`.
    Open { from: i64 },
    /// Wait until then for what the watch has to say; answer with `events`, `progress`, `cancelled`
    /// or `failed`.
    Receive { until: Instant },
    /// Ask the watch for its progress; answer with `asked` or `failed`.
    AskProgress,
    /// Read the current revision from a majority; answer with `confirmed` or `failed`.
    Confirm,
    /// Get a new token; answer with `logged_in` or `failed`.
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
    pub(crate) lease: i64,
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
    /// Something else.
    Other(Cause),
}

/// Whether the entries are known to be what etcd holds.
#[derive(Debug, Clone)]
pub(crate) enum Freshness {
    /// There was no list yet, and this is why.
    Unread { cause: Option<Cause> },
    /// They are, or a watch is about to say how they are not.
    Fresh,
    /// They were, at that time.
    Stale { since: Instant, cause: Cause },
}

#[derive(Debug, thiserror::Error)]
#[error("etcd has another history than the one that was followed")]
struct OtherHistory;

#[derive(Debug, thiserror::Error)]
#[error("a watch was silent for {} s", (SILENCE + ANSWER).as_secs())]
struct Silent;

impl<T> Watch<T> {
    pub(crate) fn new() -> Self {
        Self {
            state: State::list(),
            entries: BTreeMap::new(),
            revision: 0,
            changed: false,
            freshness: Freshness::Unread { cause: None },
            heard: None,
            failures: 0,
            not_before: None,
        }
    }

    /// Returns the values by key, as of [`Watch::revision`].
    pub(crate) fn entries(&self) -> &BTreeMap<Vec<u8>, Entry<T>> {
        &self.entries
    }

    /// Returns the revision of the entries; 0 before the first list.
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    pub(crate) fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    /// Returns whether the entries have changed since this was last asked.
    pub(crate) fn take_changed(&mut self) -> bool {
        mem::take(&mut self.changed)
    }

    pub(crate) fn next(&mut self, now: Instant, rng: &mut fastrand::Rng) -> Step {
        if let State::Watching {
            asked: Some(at), ..
        } = self.state
            && at + ANSWER <= now
        {
            self.failed(Arc::new(Silent), now, rng);
        }
        if let Some(at) = self.not_before.filter(|at| *at > now) {
            return Step::WaitUntil(at);
        }
        self.not_before = None;
        match &self.state {
            State::Listing { revision, pages } => Step::List {
                after: pages.last_key_value().map(|(key, _)| key.clone()),
                revision: *revision,
            },
            State::Opening { at } => Step::Open {
                from: at
                    .as_ref()
                    .map_or(self.revision.saturating_add(1), |anchor| anchor.revision),
            },
            State::Watching {
                asked: Some(at), ..
            } => Step::Receive {
                until: *at + ANSWER,
            },
            State::Watching { asked: None, .. } => match self.heard.unwrap_or(now) + SILENCE {
                until if until <= now => Step::AskProgress,
                until => Step::Receive { until },
            },
            State::Confirming => Step::Confirm,
            State::LoggingIn => Step::LogIn,
        }
    }

    /// A part of the list has arrived.
    pub(crate) fn page(&mut self, page: Page<T>, now: Instant) {
        let State::Listing { revision, pages } = &mut self.state else {
            return;
        };
        // Further pages are read at the revision of the first.
        if *revision == 0 {
            *revision = page.revision;
        }
        for Put {
            key,
            value,
            revision,
            lease,
        } in page.entries
        {
            pages.insert(
                key,
                value.map(|value| Entry {
                    value,
                    revision,
                    lease,
                }),
            );
        }
        if !page.more {
            let (revision, pages) = (*revision, mem::take(pages));
            self.replace(pages);
            self.revision = revision;
            self.changed = true;
            self.state = State::Opening { at: None };
            // That there is a list is no reason to believe that it can be watched: the waits go on
            // growing.
            self.heard = Some(now);
            self.freshness = Freshness::Fresh;
        }
    }

    /// The watch is open, at a member that is at `revision`.
    pub(crate) fn opened(&mut self, revision: i64, now: Instant) {
        let State::Opening { at } = &mut self.state else {
            return;
        };
        let owes = at.take();
        self.heard = Some(now);
        if revision < self.revision {
            self.state = State::Confirming;
        } else {
            if owes.is_none() {
                self.freshness = Freshness::Fresh;
            }
            self.state = State::Watching { owes, asked: None };
        }
    }

    /// The watch brought these, in the order of their revisions, all of a revision together.
    pub(crate) fn events(&mut self, changes: Vec<Change<T>>, now: Instant) {
        if let State::Watching { owes, .. } = &mut self.state
            && let Some(anchor) = owes.take()
            && !changes.iter().any(|change| change.is(&anchor))
        {
            self.begin_again(now);
            return;
        }
        let known = self.revision;
        for change in changes {
            let revision = change.revision();
            if revision <= known {
                continue;
            }
            self.revision = revision;
            match change {
                Change::Put(Put {
                    key,
                    value: Some(value),
                    revision,
                    lease,
                }) => {
                    self.entries.insert(
                        key,
                        Entry {
                            value,
                            revision,
                            lease,
                        },
                    );
                    self.changed = true;
                }
                Change::Put(Put { value: None, .. }) => {}
                Change::Delete { key, .. } => self.changed |= self.entries.remove(&key).is_some(),
            }
        }
        self.hear(now);
    }

    /// The watch says that it lives, and that it has delivered all there is.
    pub(crate) fn progress(&mut self, now: Instant) {
        if matches!(self.state, State::Watching { owes: Some(_), .. }) {
            // It does not know the event that it was opened at.
            self.begin_again(now);
        } else {
            self.hear(now);
        }
    }

    /// The watch was asked for its progress.
    pub(crate) fn asked(&mut self, now: Instant) {
        if let State::Watching { asked, .. } = &mut self.state {
            *asked = Some(now);
        }
    }

    /// etcd has ended the watch, or never began it.
    pub(crate) fn cancelled(&mut self, why: Cancel, now: Instant, rng: &mut fastrand::Rng) {
        match why {
            Cancel::Compacted => self.state = State::list(),
            Cancel::Token => self.state = State::LoggingIn,
            Cancel::Other(cause) => self.failed(cause, now, rng),
        }
    }

    /// What a page was to be read at is no longer known.
    pub(crate) fn list_compacted(&mut self) {
        self.state = State::list();
    }

    /// A majority is at `revision`.
    pub(crate) fn confirmed(&mut self, revision: i64, now: Instant, rng: &mut fastrand::Rng) {
        if revision < self.revision {
            // etcd was wiped or restored: our revisions mean nothing there.
            self.begin_again(now);
        } else {
            // The member that we asked lags behind.
            self.state = self.resume();
            self.wait(now, rng);
        }
    }

    /// There is a new token.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "as yet there is nobody to log in as")
    )]
    pub(crate) fn logged_in(&mut self) {
        self.state = self.resume();
    }

    /// The step failed, or the watch broke.
    pub(crate) fn failed(&mut self, cause: Cause, now: Instant, rng: &mut fastrand::Rng) {
        if !matches!(self.state, State::Listing { .. }) {
            self.state = self.resume();
        }
        self.doubt(cause, now);
        self.wait(now, rng);
    }

    /// etcd can be reached again: waiting longer would be for nothing.
    pub(crate) fn reachable(&mut self) {
        self.not_before = None;
    }

    /// The entries may not be what etcd holds.
    fn doubt(&mut self, cause: Cause, now: Instant) {
        self.freshness = match &self.freshness {
            Freshness::Unread { .. } => Freshness::Unread { cause: Some(cause) },
            Freshness::Fresh => Freshness::Stale {
                since: self.heard.unwrap_or(now),
                cause,
            },
            Freshness::Stale { since, .. } => Freshness::Stale {
                since: *since,
                cause,
            },
        };
    }

    /// This is not the history that was followed: what is known of it is worth nothing.
    fn begin_again(&mut self, now: Instant) {
        self.doubt(Arc::new(OtherHistory), now);
        self.state = State::list();
    }

    /// What is to be done to go on: to open a watch at the last put that is known, or, if there is
    /// none, to list again.
    fn resume(&self) -> State<T> {
        match self.entries.iter().max_by_key(|(_, entry)| entry.revision) {
            Some((key, entry)) => State::Opening {
                at: Some(Anchor {
                    key: key.clone(),
                    revision: entry.revision,
                    lease: entry.lease,
                }),
            },
            None => State::list(),
        }
    }

    fn replace(&mut self, pages: BTreeMap<Vec<u8>, Option<Entry<T>>>) {
        let mut old = mem::take(&mut self.entries);
        for (key, entry) in pages {
            if let Some(entry) = entry.or_else(|| old.remove(&key)) {
                self.entries.insert(key, entry);
            }
        }
    }

    fn hear(&mut self, now: Instant) {
        self.heard = Some(now);
        self.failures = 0;
        if let State::Watching { asked, .. } = &mut self.state {
            *asked = None;
        }
        self.freshness = Freshness::Fresh;
    }

    fn wait(&mut self, now: Instant, rng: &mut fastrand::Rng) {
        self.failures += 1;
        self.not_before = Some(now + RETRY.delay(self.failures, rng.f64()));
    }
}

impl<T> Change<T> {
    fn revision(&self) -> i64 {
        match self {
            Self::Put(Put { revision, .. }) | Self::Delete { revision, .. } => *revision,
        }
    }

    fn is(&self, anchor: &Anchor) -> bool {
        let Self::Put(put) = self else { return false };
        (&put.key, put.revision, put.lease) == (&anchor.key, anchor.revision, anchor.lease)
    }
}

impl<T> State<T> {
    fn list() -> Self {
        Self::Listing {
            revision: 0,
            pages: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests;
