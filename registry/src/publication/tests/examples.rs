//! What a publication does, case by case.

use super::*;
use crate::etcd::MOST_KEYS;

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
    publication.turn(Turn::Ours);
    let now = an_instant();
    assert_eq!(publication.next(now), Step::Wait);
    publication.session(
        lease::Standing::Expired { id: OURS },
        Some(Trouble::Passing(cause())),
    );
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
    fixture.pass_the_wait();
    fixture.settle();
    assert_eq!(fixture.values(), [("a", "1", OURS)]);
}

#[test]
fn a_superseded_publication_that_missed_the_deletion_looks_again() {
    let mut fixture = Fixture::published();
    fixture.put("a", "2", THEIRS, true);
    fixture.see("a");
    fixture.delete("a");
    fixture.pass_the_wait();
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
    fixture.pass_the_wait();
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
    fixture
        .publication
        .session(expired, Some(Trouble::Passing(cause())));
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
    fixture.fail(&step);
    assert!(matches!(
        fixture.publication.status(),
        Status::Retrying { .. }
    ));
    fixture.pass_the_wait();
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
                fixture.fail(&step);
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
                fixture.fail(&step);
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
    fixture.fail(&step);
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
    fixture.fail(&step);
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
    fixture.fail(&step);
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
fn a_lease_that_is_refused_is_a_refusal_of_what_is_to_be_under_it() {
    let mut publication = Publication::new(record("a", "1"), IdKind::Derived);
    publication.turn(Turn::Ours);
    let now = an_instant();
    let denied = Some(Trouble::Denied(cause()));
    publication.session(lease::Standing::Absent, denied);
    assert!(matches!(publication.status(), Status::Denied { .. }));
    let passing = Some(Trouble::Passing(cause()));
    publication.session(lease::Standing::Absent, passing);
    assert!(matches!(publication.status(), Status::Retrying { .. }));
    publication.session(held(OURS, now), None);
    assert!(matches!(publication.next(now), Step::Write(_)));
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

#[test]
fn no_transaction_is_larger_than_etcd_takes() {
    let mut fixture = Fixture::published();
    // etcd can be read and not written to, while the record moves on and on.
    for step in 0..200 {
        let record = record(&format!("k{step}"), "1");
        fixture.publication.update(record, IdKind::Derived);
        while let step @ (Step::Read { .. } | Step::Write(_)) = fixture.next() {
            match step {
                Step::Write(_) => fixture.fail(&step),
                step => fixture.answer(step),
            }
        }
        fixture.now += Duration::from_millis(1);
    }
    // What each may have left behind is looked for, all at a time.
    fixture.now += Duration::from_secs(30);
    let mut largest = 0;
    while let step @ (Step::Read { .. } | Step::Write(_)) = fixture.next() {
        if let Step::Read { keys } = &step {
            largest = largest.max(keys.len());
        }
        fixture.answer(step);
    }
    assert_eq!(largest, MOST_KEYS);
    assert_eq!(fixture.values(), [("k199", "1", OURS)]);
}

#[test]
fn what_stands_under_a_lease_that_was_ours_is_put_under_the_new_one() {
    for id in [IdKind::Derived, IdKind::Given] {
        let mut fixture = Fixture::new(id);
        fixture.settle();
        // etcd holds it yet, and the key under it.
        fixture.replace_lease();
        fixture.settle();
        let status = fixture.publication.status();
        assert!(
            matches!(status, Status::Published { lease: NEW }),
            "{status:?}"
        );
        assert_eq!(fixture.values(), [("a", "1", NEW)]);
    }
}

#[test]
fn what_another_server_put_under_a_lease_that_was_ours_is_left_to_it() {
    let mut fixture = Fixture::new(IdKind::Given);
    fixture.put("a", "0", OURS, false);
    fixture.replace_lease();
    fixture.settle();
    let status = fixture.publication.status();
    assert!(matches!(status, Status::IdTaken { .. }), "{status:?}");
    assert_eq!(fixture.values(), [("a", "0", OURS)]);
}
