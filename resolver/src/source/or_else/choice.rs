//! Decides which of two sources is used, and what is told of it.
//!
//! | the first has | the second has | used |
//! |---|---|---|
//! | endpoints, be they stale | | the first |
//! | an empty set | endpoints | the second |
//! | an empty set | said nothing yet | undecided |
//! | an empty set | else | the first |
//! | said nothing yet | | undecided |
//! | failed without a set | a set | the second |
//! | failed without a set | said nothing yet | undecided |
//! | failed without a set | failed without a set | neither: both causes are told |
//!
//! Undecided leaves what was told in use. It ends with the patience: who has said nothing by then
//! counts as failed without a set.
//!
//! A set is replaced by its own source alone, and never lost. So the choice follows from what both
//! have and from whether the patience is over, and not from what was chosen before: it cannot flap
//! unless the first's own endpoints come and go.
//!
//! Reads no clock.

use std::{collections::VecDeque, fmt, io, sync::Arc, time::Instant};

use crate::{Cause, Endpoint, Update, error::chain};

/// Decides which of two sources is used.
#[derive(Debug, Default)]
pub(super) struct Choice {
    first: Side,
    second: Side,
    /// Whether who has said nothing is waited for no longer.
    is_patience_over: bool,
    /// `None` before anything was told.
    told: Option<Told>,
    owed: VecDeque<Update>,
}

/// One of two sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    First,
    Second,
}

/// What is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Undecided,
    Neither,
    One(Which),
}

/// What was told: of whom, the how manieth of their snapshots, and the how manieth of all they said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Neither(u64, u64),
    One(Which, u64, u64),
}

/// What one of them has said.
#[derive(Debug, Default)]
struct Side {
    /// The last snapshot.
    endpoints: Option<Vec<Endpoint>>,
    status: Status,
    snapshots: u64,
    updates: u64,
}

/// What its last word is worth.
#[derive(Debug, Default)]
enum Status {
    #[default]
    Silent,
    Fresh,
    Stale {
        since: Instant,
        cause: Cause,
    },
    Failed {
        cause: Cause,
    },
}

/// Which of two sources fails, and why.
#[derive(Debug, thiserror::Error)]
#[error("the {which} source")]
struct OfOne {
    which: Which,
    source: Cause,
}

/// Why both fail.
#[derive(Debug, thiserror::Error)]
#[error("the first source: {}; the second source: {}", chain(&**.0), chain(&**.1))]
struct OfBoth(Cause, Cause);

impl Choice {
    /// Takes in what one of them says.
    pub(super) fn said(&mut self, which: Which, update: Update) {
        self.side_mut(which).take_in(update);
        self.tell();
    }

    /// Takes in that one of them has ended. What it said last stays, and nobody knows any more
    /// whether it is right.
    pub(super) fn ended(&mut self, which: Which, now: Instant) {
        let cause: Cause = Arc::new(io::Error::new(io::ErrorKind::UnexpectedEof, "it has ended"));
        match self.side(which).status {
            Status::Silent => self.said(which, Update::Failed { cause }),
            Status::Fresh => self.said(which, Update::Stale { since: now, cause }),
            // What stood in the way will now stay there, and says more.
            Status::Stale { .. } | Status::Failed { .. } => {}
        }
    }

    /// Takes in that who has said nothing is waited for no longer.
    pub(super) fn patience_is_over(&mut self) {
        self.is_patience_over = true;
        self.tell();
    }

    /// Returns what is to be told next.
    pub(super) fn next(&mut self) -> Option<Update> {
        self.owed.pop_front()
    }

    /// Returns whose endpoints were told last, if anybody's.
    pub(super) fn used(&self) -> Option<Which> {
        match self.told {
            Some(Told::One(which, ..)) => Some(which),
            Some(Told::Neither(..)) | None => None,
        }
    }

    /// Returns what keeps the first from being used.
    pub(super) fn trouble_of_the_first(&self) -> String {
        match (self.first.cause(), &self.first.endpoints) {
            (_, Some(_)) => "it has no endpoints".to_owned(),
            (Some(cause), None) => chain(&**cause),
            (None, None) => "it has said nothing".to_owned(),
        }
    }

    fn rule(&self) -> Rule {
        let is_awaited = |side: &Side| !self.is_patience_over && side.is_silent();
        match (self.first.count(), self.second.count()) {
            (Some(1..), _) => Rule::One(Which::First),
            (Some(0), Some(1..)) => Rule::One(Which::Second),
            (Some(0), None) if is_awaited(&self.second) => Rule::Undecided,
            (Some(0), _) => Rule::One(Which::First),
            (None, _) if is_awaited(&self.first) => Rule::Undecided,
            (None, Some(_)) => Rule::One(Which::Second),
            (None, None) if is_awaited(&self.second) => Rule::Undecided,
            (None, None) => Rule::Neither,
        }
    }

    /// Owes how what is so now differs from what was told.
    fn tell(&mut self) {
        let (first, second) = (&self.first, &self.second);
        let (now, side) = match self.rule() {
            Rule::Undecided => return,
            Rule::Neither => {
                let now = Told::Neither(first.updates, second.updates);
                if self.told.replace(now) != Some(now) {
                    let cause = cause_of_both(first.cause(), second.cause());
                    self.owed
                        .extend(cause.map(|cause| Update::Failed { cause }));
                }
                return;
            }
            Rule::One(which) => {
                let side = self.side(which);
                (Told::One(which, side.snapshots, side.updates), side)
            }
        };
        let Told::One(which, snapshots, _) = now else {
            return;
        };
        if self.told == Some(now) {
            return;
        }
        let has_told = match self.told {
            Some(Told::One(whose, count, _)) => (whose, count) == (which, snapshots),
            Some(Told::Neither(..)) | None => false,
        };
        let snapshot = side.endpoints.clone().filter(|_| !has_told);
        let status = side.status.update(which);
        // A snapshot says that it is right.
        let status = status.filter(|it| has_told || !matches!(it, Update::Fresh));
        self.owed.extend(snapshot.map(Update::Snapshot));
        self.owed.extend(status);
        self.told = Some(now);
    }

    fn side(&self, which: Which) -> &Side {
        match which {
            Which::First => &self.first,
            Which::Second => &self.second,
        }
    }

    fn side_mut(&mut self, which: Which) -> &mut Side {
        match which {
            Which::First => &mut self.first,
            Which::Second => &mut self.second,
        }
    }
}

impl Side {
    fn take_in(&mut self, update: Update) {
        if matches!(update, Update::Fresh) && self.endpoints.is_none() {
            // It says that nothing is right.
            return;
        }
        self.updates += 1;
        self.status = match update {
            Update::Snapshot(endpoints) => {
                self.snapshots += 1;
                self.endpoints = Some(endpoints);
                Status::Fresh
            }
            Update::Fresh => Status::Fresh,
            Update::Stale { since, cause } => Status::Stale { since, cause },
            Update::Failed { cause } => Status::Failed { cause },
        };
    }

    /// Returns how many endpoints it has; `None` before its first snapshot.
    fn count(&self) -> Option<usize> {
        self.endpoints.as_ref().map(Vec::len)
    }

    fn is_silent(&self) -> bool {
        matches!(self.status, Status::Silent)
    }

    fn cause(&self) -> Option<&Cause> {
        match &self.status {
            Status::Silent | Status::Fresh => None,
            Status::Stale { cause, .. } | Status::Failed { cause } => Some(cause),
        }
    }
}

impl Status {
    fn update(&self, which: Which) -> Option<Update> {
        match self {
            Self::Silent => None,
            Self::Fresh => Some(Update::Fresh),
            Self::Stale { since, cause } => Some(Update::Stale {
                since: *since,
                cause: of(which, cause),
            }),
            Self::Failed { cause } => Some(Update::Failed {
                cause: of(which, cause),
            }),
        }
    }
}

fn of(which: Which, cause: &Cause) -> Cause {
    let source = cause.clone();
    Arc::new(OfOne { which, source })
}

fn cause_of_both(first: Option<&Cause>, second: Option<&Cause>) -> Option<Cause> {
    match (first, second) {
        (Some(first), Some(second)) => Some(Arc::new(OfBoth(first.clone(), second.clone()))),
        (Some(first), None) => Some(of(Which::First, first)),
        (None, Some(second)) => Some(of(Which::Second, second)),
        (None, None) => None,
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "first",
            Self::Second => "second",
        })
    }
}

#[cfg(test)]
mod tests;
