//! Decides when a lease is granted, renewed, given up and revoked.
//!
//! ```text
//!           granted                 deadline passes
//! Absent ------------> Held ------------------------> Expired
//!   ^                   | ^                             | |
//!   |  gone (TTL <= 0)  | |  renewed                    | |
//!   +-------------------+ +-----------------------------+ |
//!   +-----------------------------------------------------+   release: any -> Releasing -> Released
//! ```
//!
//! - The deadline is the *send* time of the last answered renewal plus the TTL that etcd granted, so it never lies after
//!   etcd's own.
//! - A lease that expired here may still live in etcd (a new leader gives every lease its full TTL again): it is renewed
//!   first, and only etcd saying that it is gone makes a new one.
//! - The id is chosen here, so that a grant whose answer was lost can be sent again without leaving a second lease behind.
//!
//! It holds no clock, no randomness and no connection: [`Lease::next`] says what to do, and the answers come back as
//! method calls.

use std::time::{Duration, Instant};

use switchboard_resolver::Backoff;

/// A lease's id, positive as etcd's own choices are.
pub(crate) type LeaseId = i64;

/// Between attempts while no lease is held: from 100 ms, so that one lost answer costs little, to 5 s, so that a thousand
/// servers do not keep an etcd down that is trying to come up.
const AWAY: Backoff = Backoff {
    base: Duration::from_millis(100),
    factor: 1.6,
    cap: Duration::from_secs(5),
    jitter: 0.2,
};

/// Between renewals that failed: it must fit into what is left of the shortest TTL (2 s) after the renewal at a third.
const RENEWAL: Backoff = Backoff {
    cap: Duration::from_millis(500),
    ..AWAY
};

/// The lease of one session.
#[derive(Debug)]
pub(crate) struct Lease {
    ttl: Duration,
    state: State,
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
    /// Grant the lease `id`; answer with `granted`, `exists` or `failed`.
    Grant { id: LeaseId, ttl: Duration },
    /// Renew the lease `id`; answer with `renewed`, `gone` or `failed`.
    Renew { id: LeaseId },
    /// Revoke the lease `id`; answer with `revoked` or `failed`.
    Revoke { id: LeaseId },
    /// Nothing until then, unless something happens.
    WaitUntil(Instant),
    /// Nothing, ever.
    Done,
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

    pub(crate) fn next(&mut self, now: Instant, rng: &mut fastrand::Rng) -> Step {
        if let State::Held { id, deadline, .. } = self.state
            && deadline <= now
        {
            self.state = State::Expired { id };
        }
        match (self.state, self.not_before.filter(|at| *at > now)) {
            (State::Released, _) => Step::Done,
            (State::Held { deadline, .. }, Some(at)) => Step::WaitUntil(at.min(deadline)),
            (_, Some(at)) => Step::WaitUntil(at),
            (State::Absent { asked }, None) => {
                let id = asked.unwrap_or_else(|| rng.i64(1..=i64::MAX));
                self.state = State::Absent { asked: Some(id) };
                Step::Grant { id, ttl: self.ttl }
            }
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

    /// The lease was granted with `ttl`, by a request sent at `sent`.
    pub(crate) fn granted(&mut self, id: LeaseId, ttl: Duration, sent: Instant) {
        if self.state == (State::Absent { asked: Some(id) }) {
            self.hold(id, ttl, sent);
        }
    }

    /// There is a lease of that id already: ours if an earlier request asked for it and its answer was lost.
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

    /// The lease was renewed with `ttl`, by a request sent at `sent`.
    pub(crate) fn renewed(&mut self, id: LeaseId, ttl: Duration, sent: Instant) {
        if self.is(id) {
            self.hold(id, ttl, sent);
        }
    }

    /// etcd has no such lease, and so no key under it either.
    pub(crate) fn gone(&mut self, id: LeaseId) {
        if self.is(id) {
            self.state = State::Absent { asked: None };
            self.succeed();
        }
    }

    /// Somebody found the lease gone: find out at once.
    pub(crate) fn doubt(&mut self, id: LeaseId, now: Instant) {
        if let State::Held {
            id: held, deadline, ..
        } = self.state
            && held == id
        {
            self.state = State::Held {
                id,
                renew_at: now,
                deadline,
            };
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
            AWAY
        };
        self.not_before = Some(now + backoff.delay(self.failures, rng));
    }

    /// etcd can be reached again: waiting longer would be for nothing, and it may have lost the lease meanwhile.
    pub(crate) fn reachable(&mut self, now: Instant) {
        self.not_before = None;
        if let State::Held { id, deadline, .. } = self.state {
            self.state = State::Held {
                id,
                renew_at: now,
                deadline,
            };
        }
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
        self.succeed();
    }

    fn succeed(&mut self) {
        self.failures = 0;
        self.not_before = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TTL: Duration = Duration::from_secs(9);

    struct Fixture {
        lease: Lease,
        now: Instant,
        rng: fastrand::Rng,
    }

    impl Fixture {
        #[allow(
            clippy::disallowed_methods,
            reason = "a decider's test needs some instant to count from"
        )]
        fn new() -> Self {
            Self {
                lease: Lease::new(TTL),
                now: Instant::now(),
                rng: fastrand::Rng::with_seed(1),
            }
        }

        fn held() -> (Self, LeaseId) {
            let mut fixture = Self::new();
            let Step::Grant { id, ttl } = fixture.next() else {
                panic!("no grant")
            };
            fixture.lease.granted(id, ttl, fixture.now);
            (fixture, id)
        }

        fn next(&mut self) -> Step {
            self.lease.next(self.now, &mut self.rng)
        }

        fn fail(&mut self) {
            self.lease.failed(self.now, &mut self.rng);
        }

        fn pass(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }
    }

    #[test]
    fn a_lease_is_granted_and_renewed_at_a_third_of_its_ttl() {
        let (mut fixture, id) = Fixture::held();
        assert_eq!(fixture.next(), Step::WaitUntil(fixture.now + TTL / 3));
        fixture.pass(3);
        assert_eq!(fixture.next(), Step::Renew { id });
        fixture.lease.renewed(id, TTL, fixture.now);
        assert_eq!(fixture.next(), Step::WaitUntil(fixture.now + TTL / 3));
    }

    #[test]
    fn the_ttl_counts_from_when_the_renewal_was_sent() {
        let (mut fixture, id) = Fixture::held();
        let sent = fixture.now;
        fixture.pass(2);
        fixture.lease.renewed(id, TTL, sent);
        assert_eq!(
            fixture.lease.standing(),
            Standing::Held {
                id,
                until: sent + TTL
            }
        );
    }

    #[test]
    fn the_ttl_that_counts_is_the_granted_one() {
        let mut fixture = Fixture::new();
        let Step::Grant { id, .. } = fixture.next() else {
            panic!("no grant")
        };
        fixture
            .lease
            .granted(id, Duration::from_secs(60), fixture.now);
        assert_eq!(
            fixture.next(),
            Step::WaitUntil(fixture.now + Duration::from_secs(20))
        );
    }

    #[test]
    fn a_lost_answer_to_a_grant_asks_for_the_same_lease_again() {
        let mut fixture = Fixture::new();
        let Step::Grant { id, .. } = fixture.next() else {
            panic!("no grant")
        };
        fixture.fail();
        assert!(matches!(fixture.next(), Step::WaitUntil(_)));
        fixture.pass(1);
        assert_eq!(fixture.next(), Step::Grant { id, ttl: TTL });
        fixture.lease.exists(id);
        assert_eq!(
            fixture.next(),
            Step::Renew { id },
            "the renewal tells the TTL"
        );
    }

    #[test]
    fn a_lease_of_that_id_which_was_never_asked_for_is_not_taken() {
        let mut fixture = Fixture::new();
        let Step::Grant { id: taken, .. } = fixture.next() else {
            panic!("no grant")
        };
        fixture.lease.exists(taken);
        assert!(matches!(fixture.next(), Step::Grant { id, .. } if id != taken));
    }

    #[test]
    fn a_lease_that_expired_here_is_renewed_first_and_replaced_only_when_etcd_has_none() {
        let (mut fixture, id) = Fixture::held();
        fixture.pass(60);
        assert_eq!(fixture.next(), Step::Renew { id });
        assert_eq!(fixture.lease.standing(), Standing::Expired { id });
        fixture.fail();
        fixture.pass(60);
        assert_eq!(fixture.next(), Step::Renew { id });
        fixture.lease.gone(id);
        assert_eq!(fixture.lease.standing(), Standing::Absent);
        assert!(matches!(fixture.next(), Step::Grant { id: new, .. } if new != id));
    }

    #[test]
    fn renewals_that_fail_are_tried_several_times_before_the_shortest_lease_expires() {
        let (mut fixture, id) = Fixture::held();
        fixture
            .lease
            .renewed(id, Duration::from_secs(2), fixture.now);
        let deadline = fixture.now + Duration::from_secs(2);
        let mut attempts = 0;
        while fixture.now < deadline {
            match fixture.next() {
                Step::Renew { .. } => {
                    attempts += 1;
                    fixture.fail();
                }
                Step::WaitUntil(at) => fixture.now = at,
                step => panic!("{step:?}"),
            }
        }
        assert!(attempts >= 3, "{attempts}");
    }

    #[test]
    fn a_doubt_is_settled_at_once() {
        let (mut fixture, id) = Fixture::held();
        fixture.lease.doubt(id + 1, fixture.now);
        assert!(
            matches!(fixture.next(), Step::WaitUntil(_)),
            "not about our lease"
        );
        fixture.lease.doubt(id, fixture.now);
        assert_eq!(fixture.next(), Step::Renew { id });
    }

    #[test]
    fn etcd_coming_back_ends_the_wait() {
        let (mut fixture, id) = Fixture::held();
        fixture.pass(3);
        fixture.fail();
        assert!(matches!(fixture.next(), Step::WaitUntil(_)));
        fixture.lease.reachable(fixture.now);
        assert_eq!(fixture.next(), Step::Renew { id });
    }

    #[test]
    fn a_released_lease_is_revoked_even_if_its_grant_was_never_answered() {
        let mut fixture = Fixture::new();
        let Step::Grant { id, .. } = fixture.next() else {
            panic!("no grant")
        };
        fixture.fail();
        fixture.lease.release();
        assert_eq!(fixture.next(), Step::Revoke { id });
        fixture.lease.revoked(id);
        assert_eq!(fixture.next(), Step::Done);
    }

    #[test]
    fn what_was_never_granted_needs_no_revoking() {
        let mut fixture = Fixture::new();
        fixture.lease.release();
        assert_eq!(fixture.next(), Step::Done);
    }

    #[derive(Debug, Clone)]
    enum Event {
        Answer,
        Fail,
        Gone,
        Wait(u64),
        Late(u64),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            4 => Just(Event::Answer),
            2 => Just(Event::Fail),
            1 => Just(Event::Gone),
            2 => (1u64..20_000).prop_map(Event::Wait),
            1 => (1u64..5_000).prop_map(Event::Late),
        ];
        proptest::collection::vec(event, 1..60)
    }

    proptest! {
        /// Whatever happens: at most one lease is alive in etcd in our name, we never believe in a lease that a model of
        /// etcd has let expire, and there is always something to do next.
        #[test]
        fn never_two_leases_and_never_a_belief_beyond_the_deadline(events in events()) {
            let mut fixture = Fixture::new();
            let mut etcd: std::collections::BTreeMap<LeaseId, Instant> = Default::default();
            for event in events {
                if let Event::Wait(millis) = event {
                    fixture.now += Duration::from_millis(millis);
                }
                let sent = fixture.now;
                etcd.retain(|_, deadline| *deadline > sent);
                let step = fixture.next();
                if let Event::Late(millis) = event {
                    fixture.now += Duration::from_millis(millis);
                }
                match (step, &event) {
                    (Step::Done, _) => prop_assert!(false, "nobody released it"),
                    (Step::Grant { id, .. }, Event::Fail | Event::Gone) => {
                        // The answer is lost, the lease is not.
                        etcd.entry(id).or_insert(sent + TTL);
                        fixture.fail();
                    }
                    (Step::Grant { id, ttl }, _) => {
                        if etcd.contains_key(&id) {
                            fixture.lease.exists(id);
                        } else {
                            etcd.insert(id, sent + TTL);
                            fixture.lease.granted(id, ttl, sent);
                        }
                    }
                    (Step::Renew { .. }, Event::Fail) => fixture.fail(),
                    (Step::Renew { id }, Event::Gone) => {
                        etcd.remove(&id);
                        fixture.lease.gone(id);
                    }
                    (Step::Renew { id }, _) => match etcd.get_mut(&id) {
                        Some(deadline) => {
                            *deadline = fixture.now + TTL;
                            fixture.lease.renewed(id, TTL, sent);
                        }
                        None => fixture.lease.gone(id),
                    },
                    (Step::Revoke { .. }, _) => prop_assert!(false, "nobody released it"),
                    (Step::WaitUntil(at), _) => prop_assert!(at > sent),
                }
                prop_assert!(etcd.len() <= 1, "{etcd:?}");
                if let Standing::Held { id, until } = fixture.lease.standing()
                    && let Some(deadline) = etcd.get(&id)
                {
                    prop_assert!(until <= *deadline);
                }
            }
        }
    }
}
