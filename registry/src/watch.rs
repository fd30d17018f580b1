//! Decides how a range of keys is followed: listed at a revision, watched from there, resumed, and
//! listed again.
//!
//! ```text
//! Listing    a page, and there are more                -> Listing
//! Listing    the last page                             -> Opening, after the list
//! Listing    compacted in between                      -> Listing, from the first page
//! Opening    opened                                    -> Watching
//! Opening    opened below our revision                 -> Confirming
//! Opening    the token was refused                     -> LoggingIn
//! Watching   the put that it was opened at has come    -> Watching
//! Watching   it answers once without that put          -> Watching, the put overdue
//! Watching   that put is missing: another history      -> Listing
//! Confirming a majority is below us too: wiped         -> Listing
//! Confirming it is not: that member lags               -> Opening at the last put, after a wait
//! LoggingIn  logged in                                 -> Opening at the last put
//! any        compacted                                 -> Listing
//! any        an answer was too large                   -> Listing, after a wait
//! any        failed, broken, silent                    -> Opening at the last put, after a wait
//! any        denied                                    -> the same, after a long wait
//!
//! Where no put is known there is none to open at: the range is listed instead.
//! ```
//!
//! - A watch resumes *at* the last put that is known, which must come again, and with all that is
//!   known of its revision: the revisions of an etcd that was wiped and has grown past ours would
//!   otherwise pass for a continuation. A put is known by what it put ([`fingerprint`]), not by its
//!   key and revision alone: another history may have put something else just there.
//! - After a list the watch begins at its revision, not after: one that has yet to begin gets no
//!   progress (`mvcc/watchable_store.go`, since 3.4.38, 3.5.22 and 3.6.2), and would pass for silent.
//! - It never resumes at the revision in a response's header, which can be ahead of what was
//!   delivered (etcd, `mvcc/watchable_store.go`: a watcher that catches up gets old events under
//!   the current header), nor at that of a progress notice (unsafe before etcd 3.4.25 and 3.5.8).
//! - The entries change only when a whole list has arrived, or with events: nobody sees an empty or
//!   half-read range.
//! - Where etcd was wiped or restored, what it held before goes on being shown, as stale, until it
//!   is there again or a grace is over ([`carried`]). A list is of another history if its revision
//!   is below ours, or if it holds an old put that we do not know. An etcd that was wiped, and
//!   has forgotten all that it did up to our revision, cannot be told from one that compacted it;
//!   nor can one whose first answer since is too large to be read; nor one that has put all that we
//!   look at again, at the same revisions, and differs only in what was before that.
//! - One that begins in the past lists what was then, so that the watch brings all that has come
//!   since; where that is compacted, it begins with what there is now.
//! - One that is to miss nothing ([`Watch::unbroken`]) goes on like that each time: at the last put,
//!   though its key may be gone, or, where that is compacted or there was none, with what the range
//!   held when the last event came.
//! - A value that cannot be decoded never removes the good one it stands in place of.
//! - Silence is not health: who says nothing is asked for progress, and given up without an answer.
//!
//! It holds no clock, no randomness and no connection: [`Watch::next`] says what to do, and the
//! answers come back as method calls.

mod anchor;
mod carried;
mod entries;
mod fingerprint;
mod freshness;
mod resumption;
mod state;
mod step;

use std::{
    collections::BTreeMap,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use switchboard_resolver::Cause;

pub use self::freshness::Freshness;
pub(crate) use self::step::{Cancel, Change, Page, Put, Step};
use self::{
    anchor::{Anchor, Owed},
    carried::Carried,
    entries::{Entries, agree, go_on, newest},
    resumption::Resumption,
    state::{Listed, State},
};
pub(crate) use self::{entries::Entry, fingerprint::Fingerprint};
use crate::retry::{RETRY, SLOW_RETRY};

/// How long a watch may be silent before it is asked for its progress, and how long it has to
/// answer. Together with opening another one, which may meet the silent member once more, they stay
/// below 10 s, the time in which a watch leaves a member that was cut off.
const SILENCE: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(2);

/// A range of keys, followed.
#[derive(Debug)]
pub(crate) struct Watch<T> {
    state: State<T>,
    /// At which revision a list is read, if nobody knows better; 0 stands for the current one.
    begin: i64,
    resumption: Resumption,
    /// What the range held at `revision`.
    entries: Entries<T>,
    /// Of the last list or event that `entries` holds; 0 before the first list of a history.
    revision: i64,
    /// Of the last list.
    listed: i64,
    carried: Carried<T>,
    changed: bool,
    freshness: Freshness,
    /// The last sign of life, if there was any.
    heard: Option<Instant>,
    failures: u32,
    not_before: Option<Instant>,
}

#[derive(Debug, thiserror::Error)]
#[error("etcd has another history than the one that was followed")]
struct OtherHistory;

#[derive(Debug, thiserror::Error)]
#[error("a watch was silent for {} s", (SILENCE + ANSWER).as_secs())]
struct Silent;

impl<T> Watch<T> {
    /// Follows the range from now on.
    pub(crate) fn new() -> Self {
        Self::at(0)
    }

    /// Follows the range from now on, and misses nothing for as long as etcd knows what it did.
    pub(crate) fn unbroken() -> Self {
        Self {
            resumption: Resumption::Unbroken { last_put: None },
            ..Self::new()
        }
    }

    /// Follows the range from that revision on, as long as etcd knows what it held then.
    pub(crate) fn at(begin: i64) -> Self {
        Self {
            state: State::list(begin),
            begin,
            resumption: Resumption::WithWhatIsThere,
            entries: BTreeMap::new(),
            revision: 0,
            listed: 0,
            carried: Carried::nothing(),
            changed: false,
            freshness: Freshness::Unread { cause: None },
            heard: None,
            failures: 0,
            not_before: None,
        }
    }

    /// Returns what is to be shown, in the order of keys: what the range held at
    /// [`Watch::revision`], and what is carried over.
    pub(crate) fn entries(&self) -> Vec<(&[u8], &Entry<T>)> {
        let held = self.entries.iter().chain(self.carried.entries());
        let mut shown: Vec<_> = held.map(|(key, entry)| (key.as_slice(), entry)).collect();
        if !self.carried.is_nothing() {
            shown.sort_by_key(|(key, _)| *key);
        }
        shown
    }

    /// Returns the revision of the entries; 0 before the first list of a history.
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    pub(crate) fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    /// Returns whether a watch is open that goes on from what is known.
    pub(crate) fn is_watching(&self) -> bool {
        matches!(self.state, State::Watching { .. })
    }

    /// Returns whether the entries have changed since this was last asked.
    pub(crate) fn take_changed(&mut self) -> bool {
        mem::take(&mut self.changed)
    }

    /// Forgets all entries but those of the last change, which is enough to go on from, for whoever
    /// has seen the others and has no use for them.
    pub(crate) fn keep_newest(&mut self) {
        let newest = self.entries.values().map(|entry| entry.revision).max();
        self.entries
            .retain(|_, entry| Some(entry.revision) == newest);
    }

    pub(crate) fn next(&mut self, now: Instant, rng: &mut fastrand::Rng) -> Step {
        if let State::Watching {
            asked: Some(at), ..
        } = self.state
            && at + ANSWER <= now
        {
            self.failed(Arc::new(Silent), now, rng);
        }
        if self.carried.expire(now) {
            self.changed = true;
            if matches!(self.state, State::Watching { owes: None, .. }) {
                self.freshness = Freshness::Fresh;
            }
        }
        if let Some(at) = self.not_before.filter(|at| *at > now) {
            return Step::WaitUntil(at);
        }
        self.not_before = None;
        match &self.state {
            State::Listing { revision, pages } => Step::List {
                after: pages.last().map(|(key, _)| key.clone()),
                revision: *revision,
            },
            State::Opening { at } => Step::Open {
                from: at
                    .as_ref()
                    .map_or(self.revision.max(1), |anchor| anchor.revision),
            },
            State::Watching {
                asked: Some(at), ..
            } => self.receive(*at + ANSWER),
            State::Watching { asked: None, .. } => match self.heard.unwrap_or(now) + SILENCE {
                until if until <= now => Step::AskProgress,
                until => self.receive(until),
            },
            State::Confirming => Step::Confirm,
            State::LoggingIn => Step::LogIn,
        }
    }

    /// To receive until then, or until there is something else to do.
    fn receive(&self, until: Instant) -> Step {
        let until = self.carried.until().map_or(until, |at| at.min(until));
        Step::Receive { until }
    }

    /// A part of the list has arrived. Returns whether it completes a list of what was known already:
    /// of the history that is followed, at the very revision that is known.
    pub(crate) fn page(&mut self, page: Page<T>, now: Instant) -> bool {
        let State::Listing { revision, pages } = &mut self.state else {
            return false;
        };
        // Further pages are read at the revision of the first.
        if *revision == 0 {
            *revision = page.revision;
        }
        pages.extend(page.entries.into_iter().map(Put::into_entry));
        let mut is_known = false;
        if !page.more {
            let (revision, pages) = (*revision, mem::take(pages));
            if revision < self.revision || !go_on(&self.entries, self.revision, &pages) {
                self.leave_history(now);
            }
            // In one of another history nothing may be there that is not known; nor what is.
            is_known = revision == self.revision && pages.len() == self.entries.len();
            self.replace(pages);
            (self.revision, self.listed) = (revision, revision);
            self.begin = self.resumption.begin(revision);
            self.resumption.seen(|| newest(&self.entries));
            self.changed = true;
            self.state = State::Opening { at: None };
            // That there is a list is no reason to believe that it can be watched: the waits go on
            // growing.
            self.heard = Some(now);
            self.trust(now);
        }
        is_known
    }

    /// The watch is open, at a member that is at `revision`.
    pub(crate) fn opened(&mut self, revision: i64, now: Instant) {
        let State::Opening { at } = &mut self.state else {
            return;
        };
        let owes = at.take().map(Owed::Due);
        self.heard = Some(now);
        if revision < self.revision {
            self.state = State::Confirming;
        } else {
            if owes.is_none() {
                self.trust(now);
            }
            self.state = State::Watching { owes, asked: None };
        }
    }

    /// The watch brought these, in the order of their revisions, all of a revision together. Returns
    /// whether they are of the history that is followed.
    pub(crate) fn events(&mut self, changes: Vec<Change<T>>, now: Instant) -> bool {
        if let State::Watching { owes, .. } = &mut self.state {
            let is_there = match owes.take() {
                Some(Owed::Due(anchor) | Owed::Overdue(anchor)) => {
                    changes.iter().any(|change| change.is(&anchor))
                }
                None => true,
            };
            if !is_there
                || !changes
                    .iter()
                    .all(|it| agree(&self.entries, self.listed..=self.revision, it))
            {
                self.begin_again(now);
                return false;
            }
        }
        let known = self.revision;
        for change in changes {
            let revision = change.revision();
            if revision <= known {
                continue;
            }
            self.revision = revision;
            self.begin = self.resumption.begin(revision);
            match change {
                Change::Put(put) => {
                    let (key, Some(entry)) = put.into_entry() else {
                        continue;
                    };
                    self.carried.held_again(&key);
                    self.resumption.seen(|| Some(Anchor::of(&key, &entry)));
                    self.entries.insert(key, entry);
                    self.changed = true;
                }
                Change::Delete { key, .. } => self.changed |= self.entries.remove(&key).is_some(),
            }
        }
        self.hear(now);
        true
    }

    /// The watch says that it lives, and, mostly, that it has delivered all there is.
    pub(crate) fn progress(&mut self, now: Instant) {
        let State::Watching { owes, asked } = &mut self.state else {
            return;
        };
        match owes.take() {
            None => self.hear(now),
            Some(Owed::Due(anchor)) => {
                (*owes, *asked) = (Some(Owed::Overdue(anchor)), None);
                self.heard = Some(now);
            }
            Some(Owed::Overdue(_)) => self.begin_again(now),
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
            Cancel::Compacted => self.state = State::list(self.begin),
            Cancel::Token => {
                self.state = State::LoggingIn;
                // Where a new token is refused as well, there is no hurry.
                if self.failures > 0 {
                    self.wait(now, rng);
                }
                self.failures = self.failures.max(1);
            }
            Cancel::Denied(cause) => self.denied(cause, now),
            Cancel::Other(cause) => self.failed(cause, now, rng),
        }
    }

    /// What a page was to be read at is no longer known.
    pub(crate) fn list_compacted(&mut self) {
        self.begin = 0;
        self.state = State::list(0);
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
    pub(crate) fn logged_in(&mut self) {
        self.state = self.resume();
    }

    /// The step failed, or the watch broke.
    pub(crate) fn failed(&mut self, cause: Cause, now: Instant, rng: &mut fastrand::Rng) {
        // The pages of a list that failed are left: those of two histories do not make one.
        self.state = self.resume();
        self.interrupted(cause, now);
        self.wait(now, rng);
    }

    /// An answer was larger than is read. A watch that resumed would be sent the same again.
    pub(crate) fn too_large(&mut self, cause: Cause, now: Instant, rng: &mut fastrand::Rng) {
        self.failed(cause, now, rng);
        self.state = State::list(0);
    }

    /// etcd does not let us.
    pub(crate) fn denied(&mut self, cause: Cause, now: Instant) {
        self.state = self.resume();
        self.interrupted(cause.clone(), now);
        if let Freshness::Unread { .. } = self.freshness {
            self.freshness = Freshness::Denied { cause };
        }
        self.not_before = Some(now + SLOW_RETRY);
    }

    /// etcd can be reached again: waiting longer would be for nothing.
    pub(crate) fn reachable(&mut self) {
        self.not_before = None;
    }

    /// Nothing is heard of etcd for now.
    fn interrupted(&mut self, cause: Cause, now: Instant) {
        self.carried.doubted();
        self.doubt(cause, now);
    }

    /// The entries may not be what etcd holds.
    fn doubt(&mut self, cause: Cause, now: Instant) {
        self.freshness.doubt(cause, self.heard.unwrap_or(now));
    }

    /// The entries are what etcd holds, as far as they are not carried over.
    fn trust(&mut self, now: Instant) {
        self.carried.heard(now);
        if self.carried.is_nothing() {
            self.freshness = Freshness::Fresh;
        } else {
            self.doubt(Arc::new(OtherHistory), now);
        }
    }

    /// This is not the history that was followed.
    fn begin_again(&mut self, now: Instant) {
        self.leave_history(now);
        self.state = State::list(0);
    }

    /// What is known is of another history than what comes.
    fn leave_history(&mut self, now: Instant) {
        self.doubt(Arc::new(OtherHistory), now);
        self.carried.take_over(mem::take(&mut self.entries));
        self.resumption.forget();
        (self.revision, self.begin) = (0, 0);
    }

    /// What is to be done to go on: to open a watch at the last put that is known, or, if there is
    /// none, to list again.
    fn resume(&self) -> State<T> {
        let at = match &self.resumption {
            Resumption::WithWhatIsThere => newest(&self.entries),
            Resumption::Unbroken { last_put } => last_put.clone(),
        };
        match at {
            Some(anchor) => State::Opening { at: Some(anchor) },
            None => State::list(self.begin),
        }
    }

    fn replace(&mut self, pages: Vec<Listed<T>>) {
        let mut old = mem::take(&mut self.entries);
        let kept = pages.into_iter().filter_map(|(key, entry)| {
            let entry = entry.or_else(|| old.remove(&key))?;
            self.carried.held_again(&key);
            Some((key, entry))
        });
        self.entries = kept.collect();
    }

    fn hear(&mut self, now: Instant) {
        self.heard = Some(now);
        self.failures = 0;
        if let State::Watching { asked, .. } = &mut self.state {
            *asked = None;
        }
        self.trust(now);
    }

    fn wait(&mut self, now: Instant, rng: &mut fastrand::Rng) {
        self.failures += 1;
        self.not_before = Some(now + RETRY.delay(self.failures, rng.f64()));
    }
}

#[cfg(test)]
mod tests;
