//! Examples, and random histories against a model of etcd's leases.

mod restored;

use std::collections::btree_map::Entry;

use proptest::{prelude::*, test_runner::TestRunner};

use super::*;
use crate::transitions::Transitions;

const TTL: Duration = Duration::from_secs(9);

/// How far etcd has told of.
const HERE: Position = Position {
    cluster: 1,
    term: 5,
    revision: 100,
};

struct Fixture {
    lease: Lease,
    now: Instant,
    /// Where whoever answers is, and where a majority.
    place: Place,
    majority: Position,
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
            place: Place::Reached,
            majority: HERE,
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

    /// The lease is renewed, by a member that is there.
    fn renew(&mut self, id: LeaseId, place: Place) {
        self.lease.renewed(id, TTL, place, self.now);
    }

    fn next(&mut self) -> Step {
        self.lease.next(self.now, &mut self.rng)
    }

    fn fail(&mut self) {
        self.lease.failed(self.now, &mut self.rng);
    }

    fn deny(&mut self) {
        self.lease.denied(self.now, &mut self.rng);
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
    fixture.renew(id, Place::Reached);
    assert_eq!(fixture.next(), Step::WaitUntil(fixture.now + TTL / 3));
}

#[test]
fn the_ttl_counts_from_when_the_renewal_was_sent() {
    let (mut fixture, id) = Fixture::held();
    let sent = fixture.now;
    fixture.pass(2);
    fixture.lease.renewed(id, TTL, Place::Reached, sent);
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
fn the_leases_that_were_had_last_are_remembered() {
    let (mut fixture, first) = Fixture::held();
    assert!(!fixture.lease.former().contains(first));
    fixture.lease.gone(first);
    assert!(fixture.lease.former().contains(first));
    for _ in 0..1_000 {
        let Step::Grant { id, ttl } = fixture.next() else {
            panic!("no grant")
        };
        fixture.lease.granted(id, ttl, fixture.now);
        fixture.lease.gone(id);
        assert!(fixture.lease.former().contains(id));
    }
    assert!(!fixture.lease.former().contains(first), "not for ever");
}

#[test]
fn renewals_that_fail_are_tried_several_times_before_the_shortest_lease_expires() {
    let (mut fixture, id) = Fixture::held();
    fixture
        .lease
        .renewed(id, Duration::from_secs(2), Place::Reached, fixture.now);
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
fn a_refused_grant_is_asked_for_again_slowly() {
    let mut fixture = Fixture::new();
    let Step::Grant { id, ttl } = fixture.next() else {
        panic!("no grant")
    };
    fixture.deny();
    assert_eq!(fixture.next(), Step::WaitUntil(fixture.now + SLOW_RETRY));
    fixture.now += SLOW_RETRY;
    assert_eq!(fixture.next(), Step::Grant { id, ttl });
}

#[test]
fn a_refused_renewal_is_tried_again_quickly_while_there_is_a_lease_to_lose_and_slowly_after() {
    let (mut fixture, id) = Fixture::held();
    let deadline = fixture.now + TTL;
    fixture.pass(3);
    assert_eq!(fixture.next(), Step::Renew { id });
    fixture.deny();
    let Step::WaitUntil(soon) = fixture.next() else {
        panic!("no wait")
    };
    assert!(soon < fixture.now + Duration::from_secs(1));
    fixture.now = deadline;
    assert_eq!(fixture.next(), Step::Renew { id });
    fixture.deny();
    assert_eq!(fixture.next(), Step::WaitUntil(deadline + SLOW_RETRY));
    assert_eq!(fixture.lease.standing(), Standing::Expired { id });
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
fn renewals_that_nobody_answers_leave_time_for_others_before_the_lease_ends() {
    for ttl in [2, 5, 10].map(Duration::from_secs) {
        let mut fixture = Fixture::new();
        let Step::Grant { id, .. } = fixture.next() else {
            panic!("no grant")
        };
        fixture.lease.granted(id, ttl, fixture.now);
        let mut unanswered = 0;
        while let Standing::Held { .. } = fixture.lease.standing() {
            match fixture.next() {
                Step::WaitUntil(at) => fixture.now = at,
                Step::Renew { .. } => {
                    unanswered += 1;
                    fixture.now += fixture.lease.patience(fixture.now);
                    fixture.fail();
                    fixture.lease.pass(fixture.now);
                }
                step => panic!("{step:?}"),
            }
        }
        assert!(unanswered >= 3, "of {ttl:?}: {unanswered}");
    }
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
    Deny,
    /// Somebody revokes it.
    Revoke,
    Wait(u64),
    /// Answered so much later.
    Late(u64),
    Doubt,
    Reachable,
    /// Where whoever answers is from then on.
    Place(Place),
    /// A majority goes back.
    Restore,
    Release,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        8 => Just(Event::Answer),
        4 => Just(Event::Fail),
        2 => Just(Event::Deny),
        2 => Just(Event::Revoke),
        4 => (1u64..20_000).prop_map(Event::Wait),
        2 => (1u64..5_000).prop_map(Event::Late),
        1 => Just(Event::Doubt),
        1 => Just(Event::Reachable),
        1 => Just(Event::Place(Place::Untold)),
        1 => Just(Event::Place(Place::Reached)),
        1 => Just(Event::Place(Place::Behind(HERE))),
        1 => Just(Event::Restore),
        1 => Just(Event::Release),
    ];
    proptest::collection::vec(event, 1..60)
}

/// The leases that etcd holds in our name, each until when.
type Etcd = std::collections::BTreeMap<LeaseId, Instant>;

impl Fixture {
    /// Performs a step on a model of etcd; `lost` is its answer, or comes `late`.
    fn perform(&mut self, etcd: &mut Etcd, lost: bool, late: Duration) {
        let sent = self.now;
        let step = self.next();
        self.now += late;
        match step {
            Step::Grant { id, ttl } => match (etcd.entry(id), lost) {
                (Entry::Vacant(entry), false) => {
                    entry.insert(sent + TTL);
                    self.lease.granted(id, ttl, sent);
                }
                (Entry::Vacant(entry), true) => {
                    entry.insert(sent + TTL);
                    self.fail();
                }
                (Entry::Occupied(_), false) => self.lease.exists(id),
                (Entry::Occupied(_), true) => self.fail(),
            },
            Step::Renew { id } => {
                let renewed = etcd.get_mut(&id).map(|deadline| *deadline = sent + TTL);
                match renewed {
                    _ if lost => self.fail(),
                    Some(()) => self.lease.renewed(id, TTL, self.place, sent),
                    None => self.lease.gone(id),
                }
            }
            Step::Confirm if lost => self.lease.unconfirmed(),
            Step::Confirm => {
                if let Some(left) = self.lease.confirmed(self.majority) {
                    etcd.remove(&left);
                }
            }
            Step::Revoke { id } => {
                etcd.remove(&id);
                if lost {
                    self.fail()
                } else {
                    self.lease.revoked(id)
                }
            }
            Step::WaitUntil(_) | Step::Done => {}
        }
    }

    fn state(&self) -> &'static str {
        match self.lease.state {
            State::Absent { .. } => "Absent",
            State::Held { .. } => "Held",
            State::Expired { .. } => "Expired",
            State::Releasing { .. } => "Releasing",
            State::Released => "Released",
        }
    }
}

/// How a lease's state changes, as the module's own diagram has it.
const TRANSITIONS: &str = "
    Absent    -> Held Expired Releasing Released
    Held      -> Expired Absent Releasing
    Expired   -> Held Absent Releasing
    Releasing -> Released
    Released  ->
";

/// Whatever happens: at most one lease is alive in etcd in our name, none is believed in that a
/// model of etcd has let expire, and there is something to do next until it was released, when
/// none is left.
#[test]
fn never_two_leases_and_never_a_belief_beyond_the_deadline() {
    let reached = Transitions::default();
    let mut runner = TestRunner::new(ProptestConfig::with_cases(10_000));
    let run = runner.run(&events(), |events| {
        let mut fixture = Fixture::new();
        let mut etcd = Etcd::new();
        let mut revoked_outside = false;
        for event in events {
            let before = fixture.state();
            let now = fixture.now;
            etcd.retain(|_, deadline| *deadline > now);
            match event {
                Event::Answer => fixture.perform(&mut etcd, false, Duration::ZERO),
                Event::Fail => fixture.perform(&mut etcd, true, Duration::ZERO),
                Event::Deny => {
                    if matches!(fixture.next(), Step::Grant { .. } | Step::Renew { .. }) {
                        fixture.deny();
                    }
                }
                Event::Late(millis) => {
                    fixture.perform(&mut etcd, false, Duration::from_millis(millis))
                }
                Event::Revoke => {
                    revoked_outside |= !etcd.is_empty();
                    etcd.clear();
                }
                Event::Wait(millis) => fixture.now += Duration::from_millis(millis),
                Event::Doubt => {
                    if let Standing::Held { id, .. } = fixture.lease.standing() {
                        fixture.lease.doubt(id, now);
                    }
                }
                Event::Reachable => fixture.lease.reachable(now),
                Event::Place(place) => fixture.place = place,
                Event::Restore => fixture.majority.revision -= 1,
                Event::Release => fixture.lease.release(),
            }
            if let Step::WaitUntil(at) = fixture.next() {
                prop_assert!(at > fixture.now, "a wait that is over");
            }
            reached.record(before, fixture.state());
            prop_assert!(etcd.len() <= 1, "{:?}", etcd);
            if let Standing::Held { id, until } = fixture.lease.standing()
                && !revoked_outside
            {
                prop_assert!(until <= etcd[&id]);
            }
            revoked_outside &= !etcd.is_empty() || fixture.state() == "Held";
            if fixture.state() == "Released" {
                prop_assert!(etcd.is_empty(), "left behind: {:?}", etcd);
            }
        }
        Ok(())
    });
    if let Err(error) = run {
        panic!("{error}");
    }
    reached.assert_reached(TRANSITIONS);
}
