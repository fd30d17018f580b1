//! Examples, and a model of etcd under which random histories are played.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const OURS: LeaseId = 7;
const THEIRS: LeaseId = 99;

fn record(key: &str, value: &str) -> Record {
    Record {
        key: key.to_owned(),
        value: value.into(),
    }
}

fn held(id: LeaseId, now: Instant) -> lease::Standing {
    lease::Standing::Held {
        id,
        until: now + Duration::from_secs(10),
    }
}

fn cause() -> Cause {
    Cause::from(Box::<dyn std::error::Error + Send + Sync>::from(
        "etcd is away",
    ))
}

#[allow(
    clippy::disallowed_methods,
    reason = "a decider's test needs some instant to count from"
)]
fn an_instant() -> Instant {
    Instant::now()
}

/// A publication and a small etcd that answers it.
struct Fixture {
    publication: Publication,
    now: Instant,
    rng: fastrand::Rng,
    revision: i64,
    keys: BTreeMap<String, Found>,
    leases: Vec<LeaseId>,
}

impl Fixture {
    fn new(id: IdKind) -> Self {
        let mut fixture = Self {
            publication: Publication::new(record("a", "1"), id),
            now: an_instant(),
            rng: fastrand::Rng::with_seed(3),
            revision: 1,
            keys: BTreeMap::new(),
            leases: vec![OURS, THEIRS],
        };
        fixture.publication.session(held(OURS, fixture.now), None);
        fixture
    }

    fn published() -> Self {
        let mut fixture = Self::new(IdKind::Derived);
        fixture.settle();
        assert!(matches!(
            fixture.publication.status(),
            Status::Published { lease: OURS }
        ));
        fixture
    }

    fn next(&mut self) -> Step {
        self.publication.next(self.now)
    }

    /// Someone else writes.
    fn put(&mut self, key: &str, value: &str, lease: LeaseId, same_server: bool) {
        self.revision += 1;
        let found = Found {
            value: value.into(),
            lease,
            revision: self.revision,
            same_server,
        };
        self.keys.insert(key.to_owned(), found);
    }

    fn delete(&mut self, key: &str) {
        self.revision += 1;
        self.keys.remove(key);
    }

    fn lose_lease(&mut self, lease: LeaseId) {
        self.revision += 1;
        self.leases.retain(|id| *id != lease);
        self.keys.retain(|_, found| found.lease != lease);
    }

    fn see(&mut self, key: &str) {
        let revision = self
            .keys
            .get(key)
            .map_or(self.revision, |found| found.revision);
        self.publication.seen(
            key.to_owned(),
            self.keys.get(key).cloned(),
            revision,
            self.now,
        );
    }

    fn look(&self, keys: &[String]) -> Vec<(String, Option<Found>)> {
        keys.iter()
            .map(|key| (key.clone(), self.keys.get(key).cloned()))
            .collect()
    }

    /// What etcd makes of a write: whether it was applied.
    fn apply(&mut self, write: &Write) -> bool {
        let unchanged = write.put.as_ref().is_none_or(|put| {
            self.keys
                .get(&put.record.key)
                .map_or(0, |found| found.revision)
                == put.if_revision
        });
        let ours = write.delete.iter().all(|key| {
            self.keys
                .get(key)
                .is_some_and(|found| found.lease == write.lease)
        });
        if !unchanged || !ours {
            return false;
        }
        self.revision += 1;
        for key in &write.delete {
            self.keys.remove(key);
        }
        if let Some(put) = &write.put {
            let found = Found {
                value: put.record.value.clone(),
                lease: write.lease,
                revision: self.revision,
                same_server: true,
            };
            self.keys.insert(put.record.key.clone(), found);
        }
        true
    }

    /// Performs a step as etcd would.
    fn answer(&mut self, step: Step) {
        match step {
            Step::Read { keys } => {
                self.publication
                    .found(self.look(&keys), self.revision, self.now)
            }
            Step::Write(write) if write.put.is_some() && !self.leases.contains(&write.lease) => {
                self.publication
                    .lease_gone(write.lease, cause(), self.now, &mut self.rng);
            }
            Step::Write(write) => {
                if self.apply(&write) {
                    self.publication.written(write, self.revision);
                } else {
                    let put = write.put.iter().map(|put| put.record.key.clone());
                    let keys: Vec<_> = put.chain(write.delete.clone()).collect();
                    self.publication
                        .found(self.look(&keys), self.revision, self.now);
                }
            }
            Step::WaitUntil(at) => self.now = at,
            Step::Wait | Step::Done => {}
        }
    }

    /// Performs steps until there is nothing to do but wait.
    fn settle(&mut self) {
        for _ in 0..20 {
            match self.next() {
                Step::Wait | Step::Done | Step::WaitUntil(_) => return,
                step => self.answer(step),
            }
        }
        panic!("no end: {:?}", self.publication);
    }

    fn values(&self) -> Vec<(&str, &str, LeaseId)> {
        let text =
            |found: &Found| std::str::from_utf8(&found.value).unwrap().to_owned().leak() as &str;
        self.keys
            .iter()
            .map(|(key, found)| (key.as_str(), text(found), found.lease))
            .collect()
    }
}

#[test]
fn publishing_is_one_guarded_transaction() {
    let mut fixture = Fixture::new(IdKind::Derived);
    let step = fixture.next();
    let put = Put {
        record: record("a", "1"),
        if_revision: 0,
    };
    assert_eq!(
        step,
        Step::Write(Write {
            put: Some(put),
            delete: vec![],
            lease: OURS
        })
    );
    fixture.answer(step);
    assert_eq!(fixture.next(), Step::Wait);
    assert!(fixture.publication.is_settled());
}

#[test]
fn nothing_is_put_without_a_lease_that_is_held() {
    let mut publication = Publication::new(record("a", "1"), IdKind::Derived);
    let now = an_instant();
    assert_eq!(publication.next(now), Step::Wait);
    publication.session(lease::Standing::Expired { id: OURS }, Some(cause()));
    assert_eq!(publication.next(now), Step::Wait);
    assert!(matches!(publication.status(), Status::Retrying { .. }));
    publication.session(held(OURS, now), None);
    assert!(matches!(publication.next(now), Step::Write(_)));
}

#[test]
fn a_newcomer_takes_over_the_key_of_its_crashed_predecessor() {
    let mut fixture = Fixture::new(IdKind::Derived);
    fixture.put("a", "0", THEIRS, true);
    fixture.settle();
    assert_eq!(fixture.values(), [("a", "1", OURS)]);
}

#[test]
fn the_older_one_gives_way_to_a_newcomer_until_the_key_is_deleted() {
    let mut fixture = Fixture::published();
    fixture.put("a", "2", THEIRS, true);
    fixture.see("a");
    fixture.settle();
    assert!(matches!(fixture.publication.status(), Status::Superseded));
    assert_eq!(fixture.values(), [("a", "2", THEIRS)], "no ping-pong");
    fixture.delete("a");
    fixture.see("a");
    let Step::WaitUntil(at) = fixture.next() else {
        panic!("no pause before it is put back")
    };
    fixture.now = at;
    fixture.settle();
    assert_eq!(fixture.values(), [("a", "1", OURS)]);
}

#[test]
fn a_superseded_publication_that_missed_the_deletion_looks_again() {
    let mut fixture = Fixture::published();
    fixture.put("a", "2", THEIRS, true);
    fixture.see("a");
    fixture.delete("a");
    let Step::WaitUntil(at) = fixture.next() else {
        panic!("it does not wait")
    };
    fixture.now = at;
    fixture.settle();
    assert_eq!(fixture.values(), [("a", "1", OURS)]);
}

#[test]
fn a_given_id_of_another_server_is_refused_and_taken_when_it_is_free() {
    let mut fixture = Fixture::new(IdKind::Given);
    fixture.put("a", "0", THEIRS, false);
    fixture.settle();
    assert!(matches!(
        fixture.publication.status(),
        Status::IdTaken { .. }
    ));
    assert_eq!(fixture.values(), [("a", "0", THEIRS)]);
    fixture.lose_lease(THEIRS);
    let Step::WaitUntil(at) = fixture.next() else {
        panic!("it does not wait")
    };
    fixture.now = at;
    fixture.settle();
    assert_eq!(fixture.values(), [("a", "1", OURS)]);
}

#[test]
fn a_given_id_of_the_same_server_is_taken_over() {
    let mut fixture = Fixture::new(IdKind::Given);
    fixture.put("a", "0", THEIRS, true);
    fixture.settle();
    assert_eq!(fixture.values(), [("a", "1", OURS)]);
}

#[test]
fn what_others_delete_or_spoil_is_put_back() {
    let mut fixture = Fixture::published();
    fixture.delete("a");
    fixture.see("a");
    fixture.now += PUT_BACK;
    fixture.settle();
    assert_eq!(fixture.values(), [("a", "1", OURS)]);
    fixture.put("a", "garbage", 0, false);
    fixture.see("a");
    assert!(
        matches!(fixture.next(), Step::WaitUntil(_)),
        "two who disagree do not spin"
    );
    fixture.now += PUT_BACK;
    fixture.settle();
    assert_eq!(fixture.values(), [("a", "1", OURS)]);
}

#[test]
fn events_up_to_our_own_last_write_are_no_news() {
    let mut fixture = Fixture::published();
    let revision = fixture.revision;
    fixture
        .publication
        .seen("a".to_owned(), None, revision, fixture.now);
    assert_eq!(fixture.next(), Step::Wait);
}

#[test]
fn the_key_is_watched_from_the_last_look_and_not_from_a_change_long_compacted() {
    let mut fixture = Fixture::published();
    fixture.revision += 1_000;
    fixture.publication.lost_sight("a");
    fixture.settle();
    let watches = fixture.publication.watches();
    assert_eq!(watches, Some(("a", fixture.revision + 1)));
}

#[test]
fn an_update_that_changes_the_key_moves_it_in_one_transaction() {
    let mut fixture = Fixture::published();
    fixture
        .publication
        .update(record("b", "2"), IdKind::Derived);
    let put = Put {
        record: record("b", "2"),
        if_revision: 0,
    };
    let step = fixture.next();
    assert_eq!(
        step,
        Step::Write(Write {
            put: Some(put),
            delete: vec!["a".to_owned()],
            lease: OURS
        })
    );
    fixture.answer(step);
    assert_eq!(fixture.values(), [("b", "2", OURS)]);
}

#[test]
fn an_update_under_a_lease_that_may_have_expired_leaves_the_old_key_until_the_new_one_comes() {
    let mut fixture = Fixture::published();
    let expired = lease::Standing::Expired { id: OURS };
    fixture.publication.session(expired, Some(cause()));
    fixture
        .publication
        .update(record("b", "2"), IdKind::Derived);
    fixture.settle();
    assert_eq!(fixture.values(), [("a", "1", OURS)]);
    let held = held(OURS, fixture.now);
    fixture.publication.session(held, None);
    let revision = fixture.revision;
    fixture.settle();
    assert_eq!(fixture.values(), [("b", "2", OURS)]);
    assert_eq!(fixture.revision, revision + 1, "one transaction");
}

#[test]
fn a_write_of_unknown_outcome_is_read_back_first() {
    let mut fixture = Fixture::new(IdKind::Derived);
    let step = fixture.next();
    fixture
        .publication
        .failed(&step, cause(), fixture.now, &mut fixture.rng);
    assert!(matches!(
        fixture.publication.status(),
        Status::Retrying { .. }
    ));
    let Step::WaitUntil(at) = fixture.next() else {
        panic!("no backoff")
    };
    fixture.now = at;
    assert_eq!(
        fixture.next(),
        Step::Read {
            keys: vec!["a".to_owned()]
        }
    );
}

#[test]
fn while_etcd_can_be_read_and_not_written_the_waits_grow() {
    let mut fixture = Fixture::new(IdKind::Derived);
    let end = fixture.now + Duration::from_secs(60);
    let mut writes = 0;
    while fixture.now < end {
        match fixture.next() {
            step @ Step::Write(_) => {
                writes += 1;
                fixture
                    .publication
                    .failed(&step, cause(), fixture.now, &mut fixture.rng);
            }
            step => {
                fixture.answer(step);
                assert!(matches!(
                    fixture.publication.status(),
                    Status::Retrying { .. }
                ));
            }
        }
    }
    assert!(writes < 30, "{writes} writes in a minute");
    fixture.settle();
    assert!(matches!(
        fixture.publication.status(),
        Status::Published { .. }
    ));
}

#[test]
fn while_the_key_can_be_read_and_not_watched_the_waits_grow() {
    let mut fixture = Fixture::published();
    let end = fixture.now + Duration::from_secs(60);
    let mut watches = 0;
    while fixture.now < end {
        match fixture.next() {
            Step::Wait => {
                assert!(fixture.publication.watches().is_some());
                watches += 1;
                fixture.publication.lost_sight("a");
                let step = Step::Read {
                    keys: vec!["a".to_owned()],
                };
                fixture
                    .publication
                    .failed(&step, cause(), fixture.now, &mut fixture.rng);
            }
            step => fixture.answer(step),
        }
    }
    assert!(watches < 30, "{watches} watches in a minute");
}

#[test]
fn a_put_that_lands_after_it_was_read_back_does_not_outlive_a_stop() {
    let mut fixture = Fixture::new(IdKind::Derived);
    let step = fixture.next();
    let Step::Write(late) = step.clone() else {
        panic!("{step:?}")
    };
    fixture
        .publication
        .failed(&step, cause(), fixture.now, &mut fixture.rng);
    fixture.publication.stop();
    let step = fixture.next();
    assert!(matches!(step, Step::Read { .. }), "{step:?}");
    fixture.answer(step);
    assert!(!fixture.publication.is_done(), "it may yet land");
    assert!(fixture.apply(&late));
    while !fixture.publication.is_done() {
        let step = fixture.next();
        fixture.answer(step);
    }
    assert_eq!(fixture.values(), []);
}

#[test]
fn a_put_that_lands_after_the_record_has_moved_is_deleted() {
    let mut fixture = Fixture::new(IdKind::Derived);
    let step = fixture.next();
    let Step::Write(late) = step.clone() else {
        panic!("{step:?}")
    };
    fixture
        .publication
        .failed(&step, cause(), fixture.now, &mut fixture.rng);
    fixture
        .publication
        .update(record("b", "2"), IdKind::Derived);
    fixture.settle();
    assert!(fixture.apply(&late));
    while fixture.next() != Step::Wait {
        let step = fixture.next();
        fixture.answer(step);
    }
    assert_eq!(fixture.values(), [("b", "2", OURS)]);
}

#[test]
fn etcd_coming_back_ends_the_wait() {
    let mut fixture = Fixture::new(IdKind::Derived);
    let step = fixture.next();
    fixture
        .publication
        .failed(&step, cause(), fixture.now, &mut fixture.rng);
    fixture.publication.reachable();
    assert!(matches!(fixture.next(), Step::Read { .. }));
}

#[test]
fn a_refusal_is_told_and_tried_again_slowly() {
    let mut fixture = Fixture::new(IdKind::Derived);
    fixture.next();
    fixture.publication.denied(cause(), fixture.now);
    assert!(matches!(
        fixture.publication.status(),
        Status::Denied { .. }
    ));
    assert_eq!(fixture.next(), Step::WaitUntil(fixture.now + SLOW_RETRY));
    fixture.now += SLOW_RETRY;
    fixture.settle();
    assert!(matches!(
        fixture.publication.status(),
        Status::Published { .. }
    ));
}

#[test]
fn a_lost_lease_puts_the_key_again_under_the_next_one() {
    let mut fixture = Fixture::published();
    fixture.lose_lease(OURS);
    fixture.publication.session(lease::Standing::Absent, None);
    assert_eq!(fixture.next(), Step::Wait);
    assert!(!fixture.publication.is_settled());
    fixture.leases.push(8);
    fixture.publication.session(held(8, fixture.now), None);
    fixture.settle();
    assert_eq!(fixture.values(), [("a", "1", 8)]);
}

#[test]
fn paused_takes_the_key_away_and_resumed_puts_it_back_even_over_a_newer_one() {
    let mut fixture = Fixture::published();
    fixture.publication.pause();
    fixture.settle();
    assert!(matches!(fixture.publication.status(), Status::Paused));
    assert_eq!(fixture.values(), []);
    fixture.put("a", "2", THEIRS, true);
    fixture.see("a");
    assert_eq!(
        fixture.next(),
        Step::Wait,
        "the other's key is none of our business"
    );
    fixture.publication.resume();
    fixture.settle();
    assert_eq!(fixture.values(), [("a", "1", OURS)]);
}

#[test]
fn a_late_write_that_lands_while_paused_is_deleted() {
    let mut fixture = Fixture::published();
    fixture.publication.pause();
    fixture.settle();
    fixture.put("a", "1", OURS, true);
    fixture.see("a");
    fixture.settle();
    assert_eq!(fixture.values(), []);
}

#[test]
fn stopped_is_for_good_and_leaves_the_keys_of_others() {
    let mut fixture = Fixture::published();
    fixture.put("a", "2", THEIRS, true);
    fixture.publication.stop();
    fixture.settle();
    assert_eq!(fixture.next(), Step::Done);
    assert_eq!(fixture.values(), [("a", "2", THEIRS)]);
    fixture.publication.resume();
    fixture.publication.pause();
    assert_eq!(fixture.next(), Step::Done);
}

#[test]
fn a_command_after_a_refusal_is_tried_before_it_is_answered() {
    let mut fixture = Fixture::published();
    fixture
        .publication
        .update(record("a", "2"), IdKind::Derived);
    fixture.next();
    fixture.publication.denied(cause(), fixture.now);
    fixture
        .publication
        .update(record("a", "3"), IdKind::Derived);
    assert!(matches!(fixture.publication.status(), Status::Registering));
    assert!(matches!(fixture.next(), Step::Write(_)));
}

#[derive(Debug, Clone)]
enum Event {
    Answer,
    LoseAnswer { applied: bool },
    Deny,
    LoseLease,
    Expire,
    Newcomer,
    Delete,
    Spoil,
    See,
    Reachable,
    Update(usize),
    Pause,
    Resume,
    Pass(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        12 => Just(Event::Answer),
        3 => any::<bool>().prop_map(|applied| Event::LoseAnswer { applied }),
        1 => Just(Event::Deny),
        1 => Just(Event::LoseLease),
        1 => Just(Event::Expire),
        1 => Just(Event::Newcomer),
        1 => Just(Event::Delete),
        1 => Just(Event::Spoil),
        3 => Just(Event::See),
        1 => Just(Event::Reachable),
        2 => (0usize..3).prop_map(Event::Update),
        1 => Just(Event::Pause),
        2 => Just(Event::Resume),
        3 => (1u64..12_000).prop_map(Event::Pass),
    ];
    proptest::collection::vec(event, 1..80)
}

proptest! {
    /// Whatever happens: never two keys of one publication at any revision, never a put without a live lease; and when it
    /// ends, what is wanted stands, or a newer one of the same server does.
    #[test]
    fn never_two_keys_and_in_the_end_what_is_wanted(events in events()) {
        let mut fixture = Fixture::new(IdKind::Derived);
        let mut lease = OURS;
        let mut kept = "a";
        let mut wanted = Some(kept);
        for event in events {
            match event {
                Event::Answer => {
                    let step = fixture.next();
                    fixture.answer(step);
                }
                Event::LoseAnswer { applied } => {
                    let step = fixture.next();
                    if let (true, Step::Write(write)) = (applied, &step)
                        && fixture.leases.contains(&write.lease)
                    {
                        fixture.apply(write);
                    }
                    if matches!(step, Step::Read { .. } | Step::Write(_)) {
                        fixture.publication.failed(&step, cause(), fixture.now, &mut fixture.rng);
                    }
                }
                Event::Deny => {
                    if matches!(fixture.next(), Step::Write(_)) {
                        fixture.publication.denied(cause(), fixture.now);
                    }
                }
                Event::LoseLease => {
                    fixture.lose_lease(lease);
                    lease += 1;
                    fixture.leases.push(lease);
                    fixture.publication.session(held(lease, fixture.now), None);
                }
                Event::Expire => {
                    fixture.publication.session(lease::Standing::Expired { id: lease }, Some(cause()));
                    let step = fixture.next();
                    let puts = matches!(&step, Step::Write(Write { put: Some(_), .. }));
                    prop_assert!(!puts, "a put under a lease that may have expired");
                    fixture.publication.session(held(lease, fixture.now), None);
                }
                Event::Newcomer => fixture.put("a", "new", THEIRS, true),
                Event::Delete => fixture.delete("a"),
                Event::Spoil => fixture.put("a", "garbage", 0, false),
                Event::See => fixture.see("a"),
                Event::Reachable => fixture.publication.reachable(),
                Event::Update(which) => {
                    let key = ["a", "b", "c"][which];
                    kept = key;
                    wanted = wanted.map(|_| key);
                    fixture.publication.update(record(key, "1"), IdKind::Derived);
                }
                Event::Pause => {
                    wanted = None;
                    fixture.publication.pause();
                }
                Event::Resume => {
                    wanted = Some(kept);
                    fixture.publication.resume();
                }
                Event::Pass(millis) => fixture.now += Duration::from_millis(millis),
            }
            let ours: Vec<_> = fixture.keys.iter().filter(|(_, found)| found.lease == lease).collect();
            prop_assert!(ours.len() <= 1, "two keys: {ours:?}");
            prop_assert!(fixture.keys.values().all(|found| found.lease == 0 || fixture.leases.contains(&found.lease)));
        }
        // All faults end, every change is seen.
        for _ in 0..20 {
            for key in ["a", "b", "c"] {
                fixture.see(key);
            }
            let step = fixture.next();
            fixture.answer(step);
        }
        let ours: Vec<_> = fixture.keys.iter().filter(|(_, found)| found.lease == lease).map(|(key, _)| key.as_str()).collect();
        match fixture.publication.status() {
            Status::Published { .. } | Status::Paused => prop_assert_eq!(ours, Vec::from_iter(wanted)),
            Status::Superseded => prop_assert_eq!(fixture.keys["a"].lease, THEIRS),
            status => prop_assert!(false, "{status:?}"),
        }
    }
}

#[test]
fn an_update_while_paused_waits_for_resume() {
    let mut fixture = Fixture::published();
    fixture.publication.pause();
    fixture
        .publication
        .update(record("b", "2"), IdKind::Derived);
    fixture.settle();
    assert_eq!(fixture.values(), []);
    fixture.publication.resume();
    fixture.settle();
    assert_eq!(fixture.values(), [("b", "2", OURS)]);
}
