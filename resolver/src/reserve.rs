//! Decides which vanished endpoints are kept, and when they may be called.
//!
//! ```text
//!              vanishes, connected                     settled, limit, connection lost
//!   listed ───────────────────────────> in reserve ───────────────────────────────────> gone
//!     ^                                      │
//!     └── listed again, or nothing is listed ┘
//!
//!   Unused ── fewer than the share are listed and READY ──> Used ── enough are ──> Unused
//!        └──── nothing is listed, KeepLast ──> LastSet ──── something is ──┘
//! ```
//!
//! - One that vanished is let go once the source has been right for a while *since then*: a source
//!   that stumbles starts the time anew.
//! - The last stable set is what is listed and what is in reserve: one server of four that is stopped
//!   leaves three of four, and nothing changes; three that vanish leave one, and the three help.
//! - That nothing is listed is no snapshot like others, for servers do not stop all at once: the last
//!   stable set counts as listed then, so its connections are replaced when they are lost.
//!
//! Reads no clock and holds no connection: `balancer.rs` does.

mod policy;

use std::{collections::BTreeMap, time::Instant};

pub use self::policy::{EmptyPolicy, ReservePolicy};
use crate::{endpoint_set::EndpointKey, state::ReserveUse};

/// The endpoints that have vanished and are kept.
#[derive(Debug)]
pub(crate) struct Reserve {
    policy: ReservePolicy,
    /// Since when the source has been right, if it is.
    right_since: Option<Instant>,
    /// When each vanished.
    vanished: BTreeMap<EndpointKey, Instant>,
    usage: ReserveUse,
    /// What it was when it was last assessed.
    assessed: ReserveUse,
}

/// What to make of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// What it says.
    AsListed,
    /// That the last stable set is still there.
    LastSet,
    /// That nobody is there, nor in reserve.
    Nobody,
}

/// How many endpoints there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) listed: usize,
    /// Of those that are listed.
    pub(crate) ready: usize,
    pub(crate) reserved: usize,
}

impl Reserve {
    pub(crate) fn new(policy: ReservePolicy) -> Self {
        Self {
            policy,
            right_since: None,
            vanished: BTreeMap::new(),
            usage: ReserveUse::Unused,
            assessed: ReserveUse::Unused,
        }
    }

    /// Takes in whether the source is right.
    pub(crate) fn on_source(&mut self, is_right: bool, now: Instant) {
        self.right_since = match is_right {
            true => self.right_since.or(Some(now)),
            false => None,
        };
    }

    /// Takes in whether a snapshot is empty, where `known` endpoints are listed or in reserve, and says
    /// what to make of it.
    pub(crate) fn read(&mut self, is_empty: bool, known: usize) -> Reading {
        let reading = match (is_empty, self.policy.empty) {
            (true, EmptyPolicy::KeepLast) if known > 0 => Reading::LastSet,
            (true, EmptyPolicy::Accept) => Reading::Nobody,
            _ => Reading::AsListed,
        };
        self.usage = match reading {
            Reading::LastSet => ReserveUse::LastSet,
            Reading::AsListed | Reading::Nobody if self.usage == ReserveUse::LastSet => {
                ReserveUse::Unused
            }
            Reading::AsListed | Reading::Nobody => self.usage,
        };
        if reading != Reading::AsListed {
            // Listed from now on, or gone.
            self.vanished.clear();
        }
        reading
    }

    /// Takes in that a connected endpoint is not listed any more, and returns whether it is kept.
    pub(crate) fn vanish(&mut self, key: &EndpointKey, now: Instant) -> bool {
        let is_kept = !self.policy.limit.is_zero();
        if is_kept {
            self.vanished.insert(key.clone(), now);
        }
        is_kept
    }

    /// Takes in that an endpoint is listed again, or has lost its connection.
    pub(crate) fn forget(&mut self, key: &EndpointKey) {
        self.vanished.remove(key);
    }

    /// Returns those that are to be let go now.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<EndpointKey> {
        let vanished = self.vanished.iter();
        let due = vanished.filter(|(_, since)| self.end(**since) <= now);
        let due: Vec<_> = due.map(|(key, _)| key.clone()).collect();
        for key in &due {
            self.forget(key);
        }
        due
    }

    /// Returns when some are to be let go, if nothing happens before.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.vanished.values().map(|since| self.end(*since)).min()
    }

    /// Returns until when one is kept that vanished then.
    fn end(&self, vanished: Instant) -> Instant {
        let limit = vanished + self.policy.limit;
        let settled = self
            .right_since
            .map(|since| since.max(vanished) + self.policy.settled);
        settled.map_or(limit, |settled| settled.min(limit))
    }

    /// Lets all go that are kept.
    pub(crate) fn clear(&mut self) {
        self.vanished.clear();
        // None that is not there is called; the last set is listed, and stays.
        if self.usage == ReserveUse::Used {
            self.usage = ReserveUse::Unused;
        }
    }

    /// Takes in how many endpoints there are, and returns how the reserve was used, and how it is now.
    pub(crate) fn assess(&mut self, counts: Counts) -> (ReserveUse, ReserveUse) {
        if self.usage != ReserveUse::LastSet {
            let stable = (counts.listed + counts.reserved) as f64;
            let are_few = (counts.ready as f64) < self.policy.share * stable;
            self.usage = match are_few && counts.reserved > 0 {
                true => ReserveUse::Used,
                false => ReserveUse::Unused,
            };
        }
        let before = std::mem::replace(&mut self.assessed, self.usage);
        (before, self.usage)
    }

    /// Returns how the reserve is used.
    pub(crate) fn usage(&self) -> ReserveUse {
        self.usage
    }
}

#[cfg(test)]
mod tests;
