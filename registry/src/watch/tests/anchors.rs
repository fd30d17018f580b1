//! What a history is known by.

use super::*;

#[test]
fn a_history_that_did_something_else_at_the_revision_of_the_last_event_is_another_one() {
    // `a` and `b` were put by one transaction.
    let together = |a: Change<String>| vec![a, Change::Put(put("b", "1", 12))];
    let resumed = || {
        let mut fixture = Fixture::watching();
        fixture.events(together(Change::Put(put("a", "1", 12))));
        fixture.fail();
        fixture.pass_the_wait();
        assert_eq!(fixture.next(), Step::Open { from: 12 });
        fixture.watch.opened(40, fixture.now);
        fixture
    };
    for other in [Change::Put(put("a", "2", 12)), delete("a", 12)] {
        let mut fixture = resumed();
        fixture.events(together(other));
        assert_eq!(fixture.next(), FIRST_PAGE);
        assert!(fixture.is_stale());
    }
    let mut same = resumed();
    same.events(together(Change::Put(put("a", "1", 12))));
    assert!(!same.is_stale());
}

#[test]
fn a_history_that_took_away_or_replaced_what_is_there_before_all_of_it_was_known_is_another_one() {
    // `b` was taken away after the last put.
    let resumed = || {
        let mut fixture = Fixture::watching();
        fixture.events(vec![
            Change::Put(put("a", "1", 12)),
            Change::Put(put("b", "1", 13)),
        ]);
        fixture.events(vec![Change::Put(put("c", "1", 14))]);
        fixture.events(vec![delete("b", 18)]);
        fixture.fail();
        fixture.pass_the_wait();
        assert_eq!(fixture.next(), Step::Open { from: 14 });
        fixture.watch.opened(40, fixture.now);
        fixture.events(vec![Change::Put(put("c", "1", 14))]);
        assert!(!fixture.is_stale());
        fixture
    };
    for other in [delete("a", 18), Change::Put(put("a", "2", 16))] {
        let mut fixture = resumed();
        fixture.events(vec![other]);
        assert_eq!(fixture.next(), FIRST_PAGE);
        assert!(fixture.is_stale());
    }
    let undecodable = Put {
        value: None,
        ..put("a", "", 16)
    };
    for ours in [delete("b", 18), delete("a", 19), Change::Put(undecodable)] {
        let mut fixture = resumed();
        fixture.events(vec![ours]);
        assert!(!fixture.is_stale());
    }
}

#[test]
fn what_befell_a_key_before_a_list_in_which_it_cannot_be_decoded_is_no_other_history() {
    let mut fixture = Fixture::watching();
    fixture.events(vec![Change::Put(put("b", "1", 12))]);
    fixture.too_large();
    fixture.pass_the_wait();
    assert_eq!(fixture.next(), FIRST_PAGE);
    // `a` was deleted at 14, and is no text since 15.
    let undecodable = || Put {
        value: None,
        ..put("a", "", 15)
    };
    fixture.page(20, vec![undecodable(), put("b", "1", 12)], false);
    assert_eq!(fixture.next(), Step::Open { from: 20 });
    fixture.watch.opened(20, fixture.now);
    fixture.fail();
    fixture.pass_the_wait();
    assert_eq!(fixture.next(), Step::Open { from: 12 });
    fixture.watch.opened(20, fixture.now);
    for change in [
        Change::Put(put("b", "1", 12)),
        delete("a", 14),
        Change::Put(undecodable()),
    ] {
        fixture.events(vec![change]);
        assert!(!fixture.is_stale());
    }
    assert_eq!(fixture.list(), [("a", "1"), ("b", "1")]);
}
