//! Who has led an election, by the store's own history, and what observers are told of that.

use std::collections::BTreeSet;

use switchboard::coordination::Leader;
use switchboard_embedded::EmbeddedEtcd;

use crate::ledger::{ELECTION, LINES, first};

/// Who leads and what was proclaimed, or that nobody does.
type Reign = Option<(i64, i64, Vec<u8>)>;

#[derive(Debug, Default)]
pub(super) struct Reigns {
    /// Up to which revision all was seen.
    seen: i64,
    /// All there were, in order, in all lives of the store.
    all: Vec<Reign>,
    /// How often history was lost.
    gaps: usize,
}

/// What an observer knows.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Which reigns it may have been told last; there may be several in which nobody led.
    last: BTreeSet<usize>,
    /// Whether it may have missed some.
    is_behind_gap: bool,
    /// How many gaps it may have been told.
    gaps: usize,
}

impl Reigns {
    /// Takes in all revisions that are new.
    pub(super) fn audit(&mut self, etcd: &EmbeddedEtcd) {
        for revision in self.seen + 1..=etcd.revision() {
            self.seen = revision;
            let Some(keys) = etcd.keys_at(revision) else {
                continue;
            };
            let leader = first(&keys, LINES[ELECTION]);
            let reign = leader.map(|kv| (kv.create_revision, kv.mod_revision, kv.value.clone()));
            if self.all.last() != Some(&reign) {
                self.all.push(reign);
            }
        }
    }

    /// The store is empty, and counts from 1 again.
    pub(super) fn wiped(&mut self) {
        self.seen = 0;
        self.gaps += 1;
    }

    /// History before this is forgotten.
    pub(super) fn compacted(&mut self) {
        self.gaps += 1;
    }

    /// Returns whether this was proclaimed.
    pub(super) fn was_proclaimed(&self, revision: i64, value: &str) -> bool {
        let is_it =
            |reign: &(i64, i64, Vec<u8>)| reign.1 == revision && reign.2 == value.as_bytes();
        self.all.iter().flatten().any(is_it)
    }

    /// Returns what is wrong with what an observer is told.
    pub(super) fn tell(&self, seen: &mut Seen, leader: Option<&Leader>) -> Option<String> {
        let told = leader.map(|it| (it.token, it.revision, it.value.clone()));
        let is_told = |at: &usize| self.all.get(*at) == Some(&told);
        let earliest = seen.last.first().copied().unwrap_or(0);
        let next: BTreeSet<_> = match seen.last.is_empty() || seen.is_behind_gap {
            true => (earliest..self.all.len()).filter(is_told).collect(),
            false => seen.last.iter().map(|at| at + 1).filter(is_told).collect(),
        };
        if next.is_empty() {
            let expected = self.all.iter().skip(earliest).take(3).collect::<Vec<_>>();
            return Some(format!("is told {told:?}, and there were {expected:?}"));
        }
        seen.is_behind_gap = false;
        seen.last = next;
        None
    }

    /// Returns what is wrong with its being told that it has missed some.
    pub(super) fn tell_gap(&self, seen: &mut Seen) -> Option<String> {
        seen.is_behind_gap = true;
        let had = std::mem::replace(&mut seen.gaps, self.gaps);
        (had == self.gaps).then(|| "has missed leaders, and no history was lost".to_owned())
    }

    /// Returns whether the last reign was told.
    pub(super) fn is_last(&self, seen: &Seen) -> bool {
        seen.last.last().is_some_and(|at| at + 1 == self.all.len())
    }

    pub(super) fn count(&self) -> u64 {
        self.all.iter().flatten().count() as u64
    }
}
