//! What a publication knows of the keys that it is concerned with.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{Found, Write};
use crate::{etcd::MOST_KEYS, lease::LeaseId};

/// How long a put of unknown outcome is waited for after etcd has answered a later read: it was sent
/// before, and needs but a round of its members. One that lands later still, from a member that was
/// frozen or cut off, is found by [`strays`](crate::strays).
const LATE: Duration = Duration::from_millis(500);

/// All keys that may hold something of ours, and the one that is wanted.
#[derive(Debug, Default)]
pub(super) struct Keys {
    known: BTreeMap<String, Known>,
    /// The keys of puts of unknown outcome, and until when those may land; `None` until etcd
    /// answers.
    late: BTreeMap<String, Option<Instant>>,
}

/// What is known of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    /// To be read.
    Unknown,
    /// Not there, as of that revision.
    Absent { as_of: i64 },
    /// There, as of that revision, which can be later than that of its last change.
    Found { found: Found, as_of: i64 },
}

impl Keys {
    /// Returns what a key holds, if that is known.
    pub(super) fn found(&self, key: &str) -> Option<&Found> {
        match self.known.get(key)? {
            Known::Found { found, .. } => Some(found),
            Known::Absent { .. } | Known::Unknown => None,
        }
    }

    /// Returns the revision at which a key was last looked at, if what it held then is known.
    pub(super) fn as_of(&self, key: &str) -> Option<i64> {
        match self.known.get(key)? {
            Known::Absent { as_of } | Known::Found { as_of, .. } => Some(*as_of),
            Known::Unknown => None,
        }
    }

    /// Returns whether a key is to be read before anything else.
    pub(super) fn is_unknown(&self, key: &str) -> bool {
        self.known.get(key) == Some(&Known::Unknown)
    }

    /// Returns whether all keys were read after the last write of unknown outcome.
    pub(super) fn are_known(&self) -> bool {
        !self.known.values().any(|known| *known == Known::Unknown)
    }

    /// Returns whether a put of unknown outcome may yet land.
    pub(super) fn may_change(&self) -> bool {
        !self.late.is_empty()
    }

    /// Returns whether nobody knows what a key holds, or will hold once a put of unknown outcome has
    /// landed.
    pub(super) fn is_in_doubt(&self, key: &str) -> bool {
        self.is_unknown(key) || self.late.contains_key(key)
    }

    /// Returns whether a key holds something under our lease, or may.
    pub(super) fn concern(&self, key: &str, lease: Option<LeaseId>) -> bool {
        let may_be_ours = match self.known.get(key) {
            None | Some(Known::Absent { .. }) => false,
            Some(Known::Unknown) => true,
            Some(Known::Found { found, .. }) => Some(found.lease) == lease,
        };
        may_be_ours || self.late.contains_key(key)
    }

    /// A key is left to somebody else.
    pub(super) fn leave(&mut self, key: &str) {
        self.known.remove(key);
    }

    /// Returns the keys to read: those that are unknown, and those that are not `wanted` once a put of
    /// unknown outcome must have landed there or never will.
    pub(super) fn to_read(&self, wanted: Option<&str>, now: Instant) -> Vec<String> {
        let is_due = |key: &String| {
            let until = self.late.get(key).copied().flatten();
            Some(key.as_str()) != wanted && until.is_some_and(|until| until <= now)
        };
        let is_to_be_read = |key: &String| self.is_unknown(key) || is_due(key);
        self.known
            .keys()
            .filter(|key| is_to_be_read(key))
            .take(MOST_KEYS)
            .cloned()
            .collect()
    }

    /// Returns when `to_read` has more to say.
    pub(super) fn next_look(&self, wanted: Option<&str>) -> Option<Instant> {
        let unwanted = self
            .late
            .iter()
            .filter(|(key, _)| Some(key.as_str()) != wanted);
        unwanted.filter_map(|(_, until)| *until).min()
    }

    /// Returns the keys under our lease other than the one that is `claimed`.
    pub(super) fn strays(&self, lease: LeaseId, claimed: Option<&str>) -> Vec<String> {
        let is_stray = |(key, known): &(&String, &Known)| {
            let is_ours = matches!(known, Known::Found { found, .. } if found.lease == lease);
            is_ours && Some(key.as_str()) != claimed
        };
        self.known
            .iter()
            .filter(is_stray)
            .take(MOST_KEYS)
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// A key holds this, as of a revision.
    pub(super) fn know(&mut self, key: String, found: Option<Found>, as_of: i64) {
        let known = match found {
            Some(found) => Known::Found { found, as_of },
            None => Known::Absent { as_of },
        };
        self.known.insert(key, known);
    }

    /// etcd was read, and answered for this key.
    pub(super) fn read(&mut self, key: &str, now: Instant) {
        match self.late.get_mut(key) {
            Some(Some(until)) if *until <= now => drop(self.late.remove(key)),
            Some(until @ None) => *until = Some(now + LATE),
            Some(Some(_)) | None => {}
        }
    }

    /// A key is to be read again.
    pub(super) fn forget(&mut self, key: &str) {
        if let Some(known) = self.known.get_mut(key) {
            *known = Known::Unknown;
        }
    }

    /// Nobody knows what came of a write.
    pub(super) fn doubt(&mut self, write: &Write) {
        let put = write.put.iter().map(|put| put.record.key.clone());
        self.late.extend(put.clone().map(|key| (key, None)));
        let keys = put.chain(write.delete.iter().cloned());
        self.known.extend(keys.map(|key| (key, Known::Unknown)));
    }

    /// A lease is gone: it took its keys with it, and no put under it lands any more.
    pub(super) fn lose_lease(&mut self, lease: LeaseId) {
        self.late.clear();
        for known in self.known.values_mut() {
            if let Known::Found { found, as_of } = known
                && found.lease == lease
            {
                *known = Known::Absent { as_of: *as_of };
            }
        }
    }

    /// Forgets the keys that are of no use any more.
    pub(super) fn prune(&mut self, wanted: &str) {
        let late = &self.late;
        self.known.retain(|key, known| {
            key == wanted || late.contains_key(key) || !matches!(known, Known::Absent { .. })
        });
    }
}
