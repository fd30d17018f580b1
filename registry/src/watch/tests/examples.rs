//! What a watch does, case by case.

use super::*;

#[test]
fn a_range_is_listed_and_then_watched_from_the_next_revision() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.next(), FIRST_PAGE);
    assert!(!fixture.watch.take_changed());
    fixture.page(10, vec![put("a", "1", 4)], false);
    assert!(fixture.watch.take_changed());
    assert_eq!(fixture.list(), [("a", "1")]);
    assert_eq!(fixture.next(), Step::Open { from: 10 });
}

#[test]
fn a_long_list_comes_in_pages_of_one_revision_and_shows_when_it_is_whole() {
    let mut fixture = Fixture::new();
    fixture.next();
    fixture.page(10, vec![put("a", "1", 4)], true);
    assert_eq!(
        fixture.next(),
        Step::List {
            after: Some(b"a".to_vec()),
            revision: 10
        }
    );
    assert!(!fixture.watch.take_changed() && fixture.list().is_empty());
    fixture.page(12, vec![put("b", "1", 5)], false);
    assert_eq!(fixture.list(), [("a", "1"), ("b", "1")]);
    assert_eq!(
        fixture.next(),
        Step::Open { from: 10 },
        "what came after the first page is still to be seen"
    );
}

#[test]
fn a_page_whose_revision_was_compacted_starts_the_list_again() {
    let mut fixture = Fixture::new();
    fixture.next();
    fixture.page(10, vec![put("a", "1", 4)], true);
    fixture.watch.list_compacted();
    assert_eq!(fixture.next(), FIRST_PAGE);
}

#[test]
fn a_broken_watch_resumes_at_the_last_event_and_never_at_a_header_or_a_progress() {
    let mut fixture = Fixture::watching();
    let last = Change::Put(put("b", "1", 15));
    fixture.events(vec![last.clone()]);
    fixture.watch.progress(fixture.now);
    fixture.fail();
    assert!(fixture.is_stale());
    assert_eq!(
        fixture.list(),
        [("a", "1"), ("b", "1")],
        "the last snapshot stays"
    );
    fixture.pass_the_wait();
    assert_eq!(fixture.next(), Step::Open { from: 15 });
    fixture.watch.opened(40, fixture.now);
    assert!(fixture.is_stale(), "the history may be another one");
    fixture.events(vec![last, Change::Put(put("c", "1", 16))]);
    assert!(!fixture.is_stale());
    fixture.fail();
    fixture.pass_the_wait();
    assert_eq!(fixture.next(), Step::Open { from: 16 });
}

#[test]
fn a_history_without_the_last_event_is_another_one_and_listed() {
    let resumed = || {
        let mut fixture = Fixture::watching();
        fixture.fail();
        fixture.pass_the_wait();
        assert_eq!(fixture.next(), Step::Open { from: 4 });
        fixture.watch.opened(40, fixture.now);
        fixture
    };
    let mut later = resumed();
    later.events(vec![Change::Put(put("a", "1", 20))]);
    assert_eq!(later.next(), FIRST_PAGE);
    let mut other_lease = resumed();
    other_lease.events(vec![Change::Put(under(8, "a", "1", 4))]);
    assert_eq!(other_lease.next(), FIRST_PAGE);
    let mut other_value = resumed();
    other_value.events(vec![Change::Put(put("a", "2", 4))]);
    assert_eq!(other_value.next(), FIRST_PAGE);
    assert!(other_value.is_stale());
    let mut silent = resumed();
    answer_without_events(&mut silent);
    answer_without_events(&mut silent);
    assert_eq!(silent.next(), FIRST_PAGE);
}

/// Nothing comes, and the watch answers when it is asked.
fn answer_without_events(fixture: &mut Fixture) {
    fixture.now += SILENCE;
    assert_eq!(fixture.next(), Step::AskProgress);
    fixture.watch.asked(fixture.now);
    fixture.watch.progress(fixture.now);
}

#[test]
fn a_watch_that_still_catches_up_when_it_is_asked_is_not_of_another_history() {
    let mut fixture = Fixture::watching();
    fixture.fail();
    fixture.pass_the_wait();
    assert_eq!(fixture.next(), Step::Open { from: 4 });
    fixture.watch.opened(40, fixture.now);
    answer_without_events(&mut fixture);
    assert!(fixture.is_stale());
    let until = fixture.now + SILENCE;
    assert_eq!(fixture.next(), Step::Receive { until });
    fixture.events(vec![Change::Put(put("a", "1", 4))]);
    assert!(!fixture.is_stale());
    answer_without_events(&mut fixture);
    answer_without_events(&mut fixture);
    assert!(!fixture.is_stale());
}

#[test]
fn what_is_too_large_for_a_watch_is_listed_and_what_is_for_a_list_listed_again() {
    let mut fixture = Fixture::watching();
    fixture.too_large();
    assert!(fixture.is_stale());
    assert!(matches!(fixture.next(), Step::WaitUntil(_)));
    fixture.pass_the_wait();
    assert_eq!(fixture.next(), FIRST_PAGE);
    fixture.page(10, vec![put("a", "1", 4)], true);
    fixture.next();
    fixture.too_large();
    fixture.pass_the_wait();
    assert_eq!(fixture.next(), FIRST_PAGE);
    fixture.page(50, vec![put("b", "1", 12)], false);
    assert_eq!(fixture.list(), [("b", "1")]);
}

#[test]
fn an_empty_range_is_listed_again_after_a_break() {
    let mut fixture = Fixture::watching();
    fixture.events(vec![delete("a", 11)]);
    fixture.fail();
    fixture.pass_the_wait();
    assert_eq!(fixture.next(), FIRST_PAGE);
}

#[test]
fn while_an_empty_range_can_be_listed_and_not_watched_the_waits_grow() {
    let mut fixture = Fixture::new();
    let end = fixture.now + Duration::from_secs(60);
    let mut lists = 0;
    while fixture.now < end {
        match fixture.next() {
            Step::List { .. } => {
                lists += 1;
                fixture.page(10, vec![], false);
            }
            Step::Open { .. } => {
                let why = Cancel::Other(cause());
                fixture.cancel(why);
            }
            Step::WaitUntil(at) => fixture.now = at,
            step => panic!("{step:?}"),
        }
    }
    assert!(lists < 30, "{lists} lists in a minute");
}

#[test]
fn events_that_were_seen_already_are_no_news() {
    let mut fixture = Fixture::watching();
    fixture.watch.take_changed();
    fixture.events(vec![delete("a", 10)]);
    assert!(!fixture.watch.take_changed());
    assert_eq!(fixture.list(), [("a", "1")]);
}

#[test]
fn compacted_history_is_listed_again_with_its_deletions_and_never_empty_in_between() {
    let mut fixture = Fixture::watching();
    fixture.events(vec![Change::Put(put("b", "1", 12))]);
    fixture.cancel(Cancel::Compacted);
    assert_eq!(fixture.next(), FIRST_PAGE);
    assert_eq!(fixture.list(), [("a", "1"), ("b", "1")]);
    fixture.page(50, vec![put("b", "2", 30)], false);
    assert_eq!(fixture.list(), [("b", "2")]);
}

#[test]
fn a_value_that_cannot_be_decoded_leaves_the_good_one() {
    let mut fixture = Fixture::watching();
    fixture.watch.take_changed();
    fixture.events(vec![
        Change::Put(put("a", "garbage", 12)),
        Change::Put(put("b", "garbage", 13)),
    ]);
    assert!(!fixture.watch.take_changed());
    fixture.cancel(Cancel::Compacted);
    fixture.page(
        50,
        vec![put("a", "garbage", 12), put("b", "garbage", 13)],
        false,
    );
    assert_eq!(fixture.list(), [("a", "1")]);
}

#[test]
fn a_silent_watch_is_asked_and_then_given_up() {
    let mut fixture = Fixture::watching();
    assert_eq!(
        fixture.next(),
        Step::Receive {
            until: fixture.now + SILENCE
        }
    );
    fixture.now += SILENCE;
    assert_eq!(fixture.next(), Step::AskProgress);
    fixture.watch.asked(fixture.now);
    assert_eq!(
        fixture.next(),
        Step::Receive {
            until: fixture.now + ANSWER
        }
    );
    fixture.now += ANSWER;
    assert!(matches!(fixture.next(), Step::WaitUntil(_)));
    assert!(fixture.is_stale());
    fixture.pass_the_wait();
    assert_eq!(fixture.next(), Step::Open { from: 4 });
}

#[test]
fn an_answer_proves_life() {
    let mut fixture = Fixture::watching();
    fixture.now += SILENCE;
    fixture.watch.asked(fixture.now);
    fixture.watch.progress(fixture.now);
    assert_eq!(
        fixture.next(),
        Step::Receive {
            until: fixture.now + SILENCE
        }
    );
}

#[test]
fn a_refused_token_is_renewed_before_the_watch_is_opened_again() {
    let mut fixture = Fixture::watching();
    fixture.cancel(Cancel::Token);
    assert_eq!(fixture.next(), Step::LogIn);
    fixture.watch.logged_in();
    assert_eq!(fixture.next(), Step::Open { from: 4 });
}

#[test]
fn a_new_token_that_is_refused_as_well_is_no_reason_to_spin() {
    let mut fixture = Fixture::watching();
    let end = fixture.now + Duration::from_secs(60);
    let mut logins = 0;
    while fixture.now < end {
        match fixture.next() {
            Step::LogIn => {
                logins += 1;
                fixture.watch.logged_in();
            }
            Step::WaitUntil(at) => fixture.now = at,
            _ => fixture.cancel(Cancel::Token),
        }
    }
    assert!((2..30).contains(&logins), "{logins} logins in a minute");
}

#[test]
fn a_first_list_that_is_refused_says_so_and_is_tried_again_slowly() {
    let mut fixture = Fixture::new();
    fixture.next();
    fixture.watch.denied(cause(), fixture.now);
    assert!(matches!(
        fixture.watch.freshness(),
        Freshness::Denied { .. }
    ));
    assert_eq!(fixture.next(), Step::WaitUntil(fixture.now + SLOW_RETRY));
    fixture.pass_the_wait();
    assert_eq!(fixture.next(), FIRST_PAGE);
    fixture.fail();
    assert!(matches!(
        fixture.watch.freshness(),
        Freshness::Unread { cause: Some(_) }
    ));
    fixture.pass_the_wait();
    fixture.page(10, vec![put("a", "1", 4)], false);
    assert!(!fixture.is_stale());
}

#[test]
fn a_watch_that_is_refused_leaves_the_list_stale_and_is_tried_again_slowly() {
    let mut fixture = Fixture::watching();
    let why = Cancel::Denied(cause());
    fixture.cancel(why);
    assert!(matches!(fixture.watch.freshness(), Freshness::Stale { .. }));
    assert_eq!(fixture.list(), [("a", "1")]);
    assert_eq!(fixture.next(), Step::WaitUntil(fixture.now + SLOW_RETRY));
    fixture.pass_the_wait();
    assert_eq!(fixture.next(), Step::Open { from: 4 });
}

#[test]
fn history_that_went_back_is_listed_again_only_when_a_majority_says_so() {
    let mut fixture = Fixture::watching();
    fixture.fail();
    fixture.pass_the_wait();
    fixture.watch.opened(3, fixture.now);
    assert_eq!(fixture.next(), Step::Confirm);
    assert!(fixture.is_stale());
    fixture.watch.confirmed(10, fixture.now, &mut fixture.rng);
    fixture.pass_the_wait();
    assert_eq!(fixture.next(), Step::Open { from: 4 }, "a member that lags");
    fixture.watch.opened(3, fixture.now);
    fixture.watch.confirmed(3, fixture.now, &mut fixture.rng);
    assert_eq!(fixture.next(), FIRST_PAGE);
    fixture.page(3, vec![], false);
    assert_eq!(fixture.next(), Step::Open { from: 3 });
    assert_eq!(fixture.list(), [("a", "1")], "it is carried over");
}

/// A watch of `a` and `b` that has listed another history, in which there is nothing yet, and is
/// open.
fn wiped() -> Fixture {
    let mut fixture = Fixture::watching();
    fixture.events(vec![Change::Put(put("b", "1", 12))]);
    fixture.fail();
    fixture.pass_the_wait();
    fixture.watch.opened(1, fixture.now);
    fixture.watch.confirmed(1, fixture.now, &mut fixture.rng);
    fixture.page(1, vec![], false);
    fixture.watch.opened(1, fixture.now);
    fixture
}

fn is_of_another_history(fixture: &Fixture) -> bool {
    let freshness = fixture.watch.freshness();
    matches!(freshness, Freshness::Stale { cause, .. } if cause.is::<OtherHistory>())
}

#[test]
fn what_a_wiped_etcd_held_is_carried_over_as_stale_until_it_is_put_again() {
    let mut fixture = wiped();
    assert_eq!(fixture.list(), [("a", "1"), ("b", "1")]);
    assert!(is_of_another_history(&fixture));
    fixture.events(vec![Change::Put(put("b", "2", 2))]);
    assert_eq!(fixture.list(), [("a", "1"), ("b", "2")]);
    assert!(is_of_another_history(&fixture));
    fixture.events(vec![Change::Put(put("a", "2", 3))]);
    assert_eq!(fixture.list(), [("a", "2"), ("b", "2")]);
    assert!(!fixture.is_stale());
}

#[test]
fn what_is_not_put_again_goes_when_the_grace_is_over() {
    let mut fixture = wiped();
    fixture.events(vec![Change::Put(put("b", "2", 2))]);
    fixture.watch.take_changed();
    let end = fixture.now + carried::GRACE;
    while fixture.now < end {
        assert_eq!(fixture.list(), [("a", "1"), ("b", "2")]);
        match fixture.next() {
            Step::Receive { until } => fixture.now = until,
            Step::AskProgress => {
                fixture.watch.asked(fixture.now);
                fixture.watch.progress(fixture.now);
            }
            step => panic!("{step:?}"),
        }
    }
    assert_eq!(fixture.now, end, "it wakes in time");
    fixture.next();
    assert_eq!(fixture.list(), [("b", "2")]);
    assert!(fixture.watch.take_changed() && !fixture.is_stale());
}

#[test]
fn while_etcd_is_away_the_grace_does_not_count() {
    let mut fixture = wiped();
    fixture.fail();
    fixture.now += 10 * carried::GRACE;
    fixture.next();
    assert_eq!(fixture.list(), [("a", "1"), ("b", "1")]);
    fixture.page(1, vec![], false);
    fixture.next();
    assert_eq!(fixture.list(), [("a", "1"), ("b", "1")]);
    fixture.now += carried::GRACE;
    fixture.next();
    assert!(fixture.list().is_empty());
}

#[test]
fn while_etcd_refuses_the_grace_does_not_count() {
    let mut fixture = wiped();
    fixture.cancel(Cancel::Denied(cause()));
    fixture.now += 10 * carried::GRACE;
    assert_eq!(fixture.next(), FIRST_PAGE);
    assert_eq!(fixture.list(), [("a", "1"), ("b", "1")]);
    assert!(fixture.is_stale());
}

#[test]
fn that_the_grace_is_over_makes_nothing_fresh_that_is_not_watched() {
    let mut fixture = wiped();
    fixture.cancel(Cancel::Token);
    fixture.now += carried::GRACE;
    assert_eq!(fixture.next(), Step::LogIn);
    assert!(fixture.list().is_empty() && fixture.is_stale());
}

#[test]
fn a_list_that_is_refused_between_two_pages_starts_again_from_the_first() {
    let mut fixture = Fixture::new();
    fixture.next();
    fixture.page(10, vec![put("a", "1", 4)], true);
    fixture.watch.denied(cause(), fixture.now);
    fixture.pass_the_wait();
    assert_eq!(fixture.next(), FIRST_PAGE);
}

#[test]
fn a_list_that_went_back_or_holds_an_old_put_that_is_unknown_is_of_another_history() {
    let relisted = |revision, listed: Put<String>| {
        let mut fixture = Fixture::watching();
        fixture.cancel(Cancel::Compacted);
        fixture.page(revision, vec![listed], false);
        fixture
    };
    assert!(is_of_another_history(&relisted(9, put("b", "1", 9))));
    assert!(is_of_another_history(&relisted(50, put("b", "1", 9))));
    for other in [under(8, "a", "1", 4), put("a", "2", 4)] {
        let other = relisted(50, other);
        assert!(!other.is_stale(), "what is carried over is there again");
    }
    assert!(!relisted(50, put("b", "1", 11)).is_stale());
    assert!(!relisted(50, put("a", "1", 4)).is_stale());
}

#[test]
fn a_list_that_fails_between_two_pages_starts_again_from_the_first() {
    let mut fixture = Fixture::new();
    fixture.next();
    fixture.page(10, vec![put("a", "1", 4)], true);
    fixture.fail();
    fixture.pass_the_wait();
    assert_eq!(fixture.next(), FIRST_PAGE);
}

#[test]
fn a_first_list_that_fails_says_why_and_is_tried_again() {
    let mut fixture = Fixture::new();
    fixture.next();
    fixture.fail();
    assert!(matches!(
        fixture.watch.freshness(),
        Freshness::Unread { cause: Some(_) }
    ));
    assert!(matches!(fixture.next(), Step::WaitUntil(_)));
    fixture.watch.reachable();
    assert_eq!(fixture.next(), FIRST_PAGE);
}

#[test]
fn it_is_stale_since_it_was_last_heard_of() {
    let mut fixture = Fixture::watching();
    let heard = fixture.now;
    fixture.now += Duration::from_secs(2);
    fixture.fail();
    fixture.now += Duration::from_secs(2);
    fixture.fail();
    assert!(matches!(fixture.watch.freshness(), Freshness::Stale { since, .. } if *since == heard));
}
