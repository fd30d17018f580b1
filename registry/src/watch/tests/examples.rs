//! What a watch does, case by case.

use super::*;

#[test]
fn a_range_is_listed_and_then_watched_from_the_next_revision() {
    let mut fixture = Fixture::new();
    assert_eq!(
        fixture.next(),
        Step::List {
            after: None,
            revision: 0
        }
    );
    assert!(!fixture.watch.take_changed());
    fixture.page(10, vec![put("a", "1", 4)], false);
    assert!(fixture.watch.take_changed());
    assert_eq!(fixture.list(), [("a", "1")]);
    assert_eq!(fixture.next(), Step::Open { from: 11 });
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
        Step::Open { from: 11 },
        "what came after the first page is still to be seen"
    );
}

#[test]
fn a_page_whose_revision_was_compacted_starts_the_list_again() {
    let mut fixture = Fixture::new();
    fixture.next();
    fixture.page(10, vec![put("a", "1", 4)], true);
    fixture.watch.list_compacted();
    assert_eq!(
        fixture.next(),
        Step::List {
            after: None,
            revision: 0
        }
    );
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
    let list = Step::List {
        after: None,
        revision: 0,
    };
    let mut later = resumed();
    later.events(vec![Change::Put(put("a", "1", 20))]);
    assert_eq!(later.next(), list);
    let mut other_lease = resumed();
    other_lease.events(vec![Change::Put(Put {
        lease: 8,
        ..put("a", "1", 4)
    })]);
    assert_eq!(other_lease.next(), list);
    let mut silent = resumed();
    silent.now += SILENCE;
    assert_eq!(silent.next(), Step::AskProgress);
    silent.watch.asked(silent.now);
    silent.watch.progress(silent.now);
    assert_eq!(silent.next(), list);
}

#[test]
fn an_empty_range_is_listed_again_after_a_break() {
    let mut fixture = Fixture::watching();
    fixture.events(vec![delete("a", 11)]);
    fixture.fail();
    fixture.pass_the_wait();
    assert_eq!(
        fixture.next(),
        Step::List {
            after: None,
            revision: 0
        }
    );
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
                fixture.watch.cancelled(why, fixture.now, &mut fixture.rng);
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
    fixture
        .watch
        .cancelled(Cancel::Compacted, fixture.now, &mut fixture.rng);
    assert_eq!(
        fixture.next(),
        Step::List {
            after: None,
            revision: 0
        }
    );
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
    fixture
        .watch
        .cancelled(Cancel::Compacted, fixture.now, &mut fixture.rng);
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
    fixture
        .watch
        .cancelled(Cancel::Token, fixture.now, &mut fixture.rng);
    assert_eq!(fixture.next(), Step::LogIn);
    fixture.watch.logged_in();
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
    assert_eq!(
        fixture.next(),
        Step::List {
            after: None,
            revision: 0
        }
    );
    fixture.page(3, vec![], false);
    assert_eq!(fixture.next(), Step::Open { from: 4 });
    assert!(fixture.list().is_empty());
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
    assert_eq!(
        fixture.next(),
        Step::List {
            after: None,
            revision: 0
        }
    );
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
