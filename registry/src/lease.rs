//! Decides when a lease is granted, renewed, given up and revoked.
//!
//! ```text
//! Absent              granted                          -> Held
//! Absent              exists, and an answer was lost   -> Expired: its renewal tells the TTL
//! Held, Expired       renewed                          -> Held
//! Held                the deadline passes              -> Expired
//! Held, Expired       gone: etcd has no such lease     -> Absent
//! Held                etcd has gone back to a backup    -> Absent
//! any with a lease    released                         -> Releasing
//! Absent              released                         -> Released
//! Releasing           revoked                          -> Released
//! ```
//!
//! - The deadline is the *send* time of the last answered renewal plus the TTL that etcd granted,
//!   so it never lies after etcd's own.
//! - A lease that expired here may still live in etcd (a new leader gives every lease its full TTL
//!   again): it is renewed first, and only etcd saying that it is gone makes a new one.
//! - What etcd refuses is tried again slowly, unless a lease is at stake: until the deadline of one
//!   that is held, a refusal is tried again as quickly as any failure.
//! - Where etcd was restored from a backup, a lease may live on and hold what was written before and
//!   taken away since. Such a lease is left to its end, and another one granted. A member that lags
//!   looks like that as well, so what is suspected is first agreed upon by a majority.
//! - The id is chosen here, so that a grant whose answer was lost can be sent again without leaving
//!   a second lease behind.
//!
//! It holds no clock, no randomness and no connection: [`Lease::next`] says what to do, and the
//! answers come back as method calls.

mod former;
mod position;

use std::time::{Duration, Instant};

use switchboard_resolver::Backoff;

pub(crate) use self::{former::Former, position::Position};
use crate::retry::{RETRY, SLOW_RETRY};

/// A lease's id, positive as etcd's own choices are.
pub(crate) type LeaseId = i64;

/// Between renewals that failed: it must fit into what is left of the shortest TTL (2 s) after the
/// renewal at a third.
const RENEWAL: Backoff = Backoff {
    cap: Duration::from_millis(500),
    ..RETRY
};

/// How long a renewal has to be answered, with all that it takes, at most: longer, and one silent member
/// costs a short lease.
const LONGEST_PATIENCE: Duration = Duration::from_secs(2);
/// At least: shorter, and an etcd that is merely far away never renews.
const SHORTEST_PATIENCE: Duration = Duration::from_millis(250);

/// The lease of one session.
#[derive(Debug)]
pub(crate) struct Lease {
    ttl: Duration,
    state: State,
    former: Former,
    /// What etcd had told of, where it may be before that now.
    ahead: Option<Position>,
    /// Whether the last renewal was sent to be told that.
    is_asked: bool,
    /// Failures in a row, and until when the last one keeps us waiting.
    failures: u32,
    not_before: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No lease. `asked` is the id of a grant whose outcome is unknown.
    Absent { asked: Option<LeaseId> },
    /// A lease that etcd holds for us until `deadline`.
    Held {
        id: LeaseId,
        renew_at: Instant,
        deadline: Instant,
    },
    /// A lease whose deadline has passed with no renewal answered.
    Expired { id: LeaseId },
    /// To be revoked.
    Releasing { id: LeaseId },
    /// Gone for good.
    Released,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Grant the lease `id`; answer with `granted`, `exists`, `denied` or `failed`.
    Grant { id: LeaseId, ttl: Duration },
    /// Renew the lease `id`; answer with `renewed`, `gone`, `denied` or `failed`.
    Renew { id: LeaseId },
    /// Find out where a majority is in its history; answer with `confirmed` or `unconfirmed`.
    Confirm,
    /// Revoke the lease `id`; answer with `revoked` or `failed`.
    Revoke { id: LeaseId },
    /// Nothing until then, unless something happens.
    WaitUntil(Instant),
    /// Nothing, ever.
    Done,
}

/// Where in its history a member of etcd was when it answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The answer does not say: the first one of a stream.
    Untold,
    /// As far as etcd had told of before, or further.
    Reached,
    /// Before that: it lags, or etcd has gone back.
    Behind(Position),
}

/// What others may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// There is no lease yet, or not any more.
    Absent,
    /// The lease lives in etcd until `until` at least.
    Held { id: LeaseId, until: Instant },
    /// The lease may have expired; whoever needs certainty, as a lock does, has lost it.
    Expired { id: LeaseId },
    /// The session has ended.
    Released,
}

impl Lease {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            state: State::Absent { asked: None },
            former: Former::default(),
            ahead: None,
            is_asked: false,
            failures: 0,
            not_before: None,
        }
    }

    pub(crate) fn standing(&self) -> Standing {
        match self.state {
            State::Absent { .. } => Standing::Absent,
            State::Held { id, deadline, .. } => Standing::Held {
                id,
                until: deadline,
            },
            State::Expired { id } => Standing::Expired { id },
            State::Releasing { .. } | State::Released => Standing::Released,
        }
    }

    /// Returns the leases that there were before.
    pub(crate) fn former(&self) -> &Former {
        &self.former
    }

    /// Gives up what is held, if its deadline has passed.
    pub(crate) fn pass(&mut self, now: Instant) {
        if let State::Held { id, deadline, .. } = self.state
            && deadline <= now
        {
            self.state = State::Expired { id };
        }
    }

    pub(crate) fn next(&mut self, now: Instant, rng: &mut fastrand::Rng) -> Step {
        self.pass(now);
        match (self.state, self.not_before.filter(|at| *at > now)) {
            (State::Released, _) => Step::Done,
            (State::Held { deadline, .. }, Some(at)) => Step::WaitUntil(at.min(deadline)),
            (_, Some(at)) => Step::WaitUntil(at),
            (State::Absent { asked }, None) => {
                let id = asked.unwrap_or_else(|| rng.i64(1..=i64::MAX));
                self.state = State::Absent { asked: Some(id) };
                Step::Grant { id, ttl: self.ttl }
            }
            (State::Held { .. }, None) if self.ahead.is_some() => Step::Confirm,
            (State::Held { id, renew_at, .. }, None) if renew_at <= now => Step::Renew { id },
            (
                State::Held {
                    renew_at, deadline, ..
                },
                None,
            ) => Step::WaitUntil(renew_at.min(deadline)),
            (State::Expired { id }, None) => Step::Renew { id },
            (State::Releasing { id }, None) => Step::Revoke { id },
        }
    }

    /// Returns how long a renewal that is sent now has to be answered: half of what is left of the lease,
    /// so that there is time for others, which find a member that answers where one has fallen silent.
    pub(crate) fn patience(&self, now: Instant) -> Duration {
        match self.state {
            State::Held { deadline, .. } => {
                let left = deadline.saturating_duration_since(now);
                (left / 2).clamp(SHORTEST_PATIENCE, LONGEST_PATIENCE)
            }
            _ => LONGEST_PATIENCE,
        }
    }

    /// The lease was granted with `ttl`, which is not nothing, by a request sent at `sent`.
    pub(crate) fn granted(&mut self, id: LeaseId, ttl: Duration, sent: Instant) {
        if self.state == (State::Absent { asked: Some(id) }) {
            self.hold(id, ttl, sent);
        }
    }

    /// There is a lease of that id already: ours if an earlier request asked for it and its answer
    /// was lost.
    pub(crate) fn exists(&mut self, id: LeaseId) {
        if self.state == (State::Absent { asked: Some(id) }) {
            // Only a failed attempt can have left it behind; otherwise the id is somebody else's.
            self.state = if self.failures > 0 {
                State::Expired { id }
            } else {
                State::Absent { asked: None }
            };
            self.not_before = None;
        }
    }

    /// The lease was renewed with `ttl`, by a request sent at `sent`; `place` tells where in its history
    /// the member was that answered.
    pub(crate) fn renewed(&mut self, id: LeaseId, ttl: Duration, place: Place, sent: Instant) {
        if !self.is(id) {
            return;
        }
        self.hold(id, ttl, sent);
        match place {
            // Once: where streams open and say nothing more, renewals go on as they would.
            Place::Untold if !self.is_asked => {
                self.is_asked = true;
                return self.renew_at(sent);
            }
            Place::Untold | Place::Reached => {}
            Place::Behind(ahead) => self.ahead = Some(ahead),
        }
        self.is_asked = false;
    }

    /// A majority is at `at`. Returns the lease that is left to its end, if etcd has gone back.
    pub(crate) fn confirmed(&mut self, at: Position) -> Option<LeaseId> {
        let ahead = self.ahead.take()?;
        match self.state {
            State::Held { id, .. } if at.is_before(ahead) => {
                self.gone(id);
                Some(id)
            }
            _ => None,
        }
    }

    /// Nobody told where a majority is: the next renewal asks again.
    pub(crate) fn unconfirmed(&mut self) {
        self.ahead = None;
    }

    /// etcd has no such lease, and so no key under it either.
    pub(crate) fn gone(&mut self, id: LeaseId) {
        if self.is(id) {
            self.former.add(id);
            self.state = State::Absent { asked: None };
            self.succeed();
        }
    }

    /// Somebody found the lease gone: find out at once.
    pub(crate) fn doubt(&mut self, id: LeaseId, now: Instant) {
        if matches!(self.state, State::Held { id: held, .. } if held == id) {
            self.renew_at(now);
            self.not_before = None;
        }
    }

    /// Ends the session: what is held is to be revoked.
    pub(crate) fn release(&mut self) {
        self.state = match self.state {
            State::Held { id, .. } | State::Expired { id } | State::Absent { asked: Some(id) } => {
                State::Releasing { id }
            }
            State::Absent { asked: None } => State::Released,
            ended => ended,
        };
        self.succeed();
    }

    /// The lease was revoked, or was not there.
    pub(crate) fn revoked(&mut self, id: LeaseId) {
        if self.state == (State::Releasing { id }) {
            self.state = State::Released;
        }
    }

    /// The step failed, or its outcome is unknown.
    pub(crate) fn failed(&mut self, now: Instant, rng: &mut fastrand::Rng) {
        self.failures += 1;
        let backoff = if matches!(self.state, State::Held { .. }) {
            RENEWAL
        } else {
            RETRY
        };
        self.not_before = Some(now + backoff.delay(self.failures, rng.f64()));
    }

    /// etcd does not let us.
    pub(crate) fn denied(&mut self, now: Instant, rng: &mut fastrand::Rng) {
        self.failed(now, rng);
        if !matches!(self.state, State::Held { .. }) {
            self.not_before = Some(now + SLOW_RETRY);
        }
    }

    /// etcd can be reached again: waiting longer would be for nothing, and it may have lost the
    /// lease meanwhile.
    pub(crate) fn reachable(&mut self, now: Instant) {
        self.not_before = None;
        self.renew_at(now);
    }

    fn is(&self, id: LeaseId) -> bool {
        matches!(self.state, State::Held { id: ours, .. } | State::Expired { id: ours } if ours == id)
    }

    fn hold(&mut self, id: LeaseId, ttl: Duration, sent: Instant) {
        self.state = State::Held {
            id,
            renew_at: sent + ttl / 3,
            deadline: sent + ttl,
        };
        self.ahead = None;
        self.succeed();
    }

    fn renew_at(&mut self, at: Instant) {
        if let State::Held { renew_at, .. } = &mut self.state {
            *renew_at = at;
        }
    }

    fn succeed(&mut self) {
        self.failures = 0;
        self.not_before = None;
    }
}

#[cfg(test)]
mod tests;
