//! Examples, and random histories against a model of etcd's leases.

use std::collections::btree_map::Entry;

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
                    match etcd.entry(id) {
                        Entry::Occupied(_) => fixture.lease.exists(id),
                        Entry::Vacant(entry) => {
                            entry.insert(sent + TTL);
                            fixture.lease.granted(id, ttl, sent);
                        }
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
