//! A watch that is to miss nothing: what it goes on with when it has broken.

use super::*;

/// What a watch was told, one revision after another, as whoever listens hears it.
fn listening() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.watch = Watch::unbroken();
    fixture
}

/// One that is open on a range that held `a` at revision 10, and then nothing, at 12.
fn emptied() -> Fixture {
    let mut fixture = listening();
    assert_eq!(fixture.next(), FIRST_PAGE);
    fixture.page(10, vec![put("a", "1", 4)], false);
    assert_eq!(fixture.next(), Step::Open { from: 10 });
    fixture.watch.opened(10, fixture.now);
    fixture.events(vec![delete("a", 12)]);
    fixture
}

fn list_at(revision: i64) -> Step {
    Step::List {
        after: None,
        revision,
    }
}

#[test]
fn it_goes_on_at_a_put_that_is_gone() {
    let mut fixture = emptied();
    fixture.fail();
    fixture.pass_the_wait();
    assert_eq!(fixture.next(), Step::Open { from: 4 });
    fixture.watch.opened(14, fixture.now);
    let missed = vec![
        Change::Put(put("a", "1", 4)),
        delete("a", 12),
        Change::Put(put("b", "1", 13)),
    ];
    assert!(fixture.watch.events(missed, fixture.now));
    assert_eq!(fixture.list(), [("b", "1")]);
}

#[test]
fn without_that_put_it_is_another_history() {
    let mut fixture = emptied();
    fixture.fail();
    fixture.pass_the_wait();
    fixture.next();
    fixture.watch.opened(14, fixture.now);
    let others = vec![Change::Put(put("b", "1", 13))];
    assert!(!fixture.watch.events(others, fixture.now));
    assert_eq!(fixture.next(), FIRST_PAGE);
    // Nothing of the other one is known, whatever its revision is.
    let page = Page {
        revision: 12,
        entries: vec![],
        more: false,
    };
    assert!(!fixture.watch.page(page, fixture.now));
}

#[test]
fn where_that_put_is_compacted_it_goes_on_with_what_was_known_last() {
    let mut fixture = emptied();
    fixture.fail();
    fixture.pass_the_wait();
    fixture.next();
    fixture.watch.opened(14, fixture.now);
    fixture.cancel(Cancel::Compacted);
    assert_eq!(fixture.next(), list_at(12));
    let page = Page {
        revision: 14,
        entries: vec![],
        more: false,
    };
    assert!(fixture.watch.page(page, fixture.now));
    assert_eq!(fixture.next(), Step::Open { from: 12 });
}

#[test]
fn where_that_is_compacted_too_it_begins_with_what_is_there() {
    let mut fixture = emptied();
    fixture.cancel(Cancel::Compacted);
    assert_eq!(fixture.next(), list_at(12));
    fixture.watch.list_compacted();
    assert_eq!(fixture.next(), FIRST_PAGE);
    let page = Page {
        revision: 15,
        entries: vec![],
        more: false,
    };
    assert!(!fixture.watch.page(page, fixture.now));
    assert_eq!(fixture.next(), Step::Open { from: 15 });
}

#[test]
fn where_no_put_was_ever_seen_it_goes_on_with_nothing_at_that_revision() {
    let mut fixture = listening();
    fixture.next();
    fixture.page(10, vec![], false);
    fixture.next();
    fixture.watch.opened(10, fixture.now);
    fixture.fail();
    fixture.pass_the_wait();
    assert_eq!(fixture.next(), list_at(10));
    // What is there at that revision and was not known is of another history.
    let page = Page {
        revision: 12,
        entries: vec![put("a", "1", 7)],
        more: false,
    };
    assert!(!fixture.watch.page(page, fixture.now));
}

#[test]
fn a_list_of_that_revision_that_lacks_what_was_known_is_of_another_history() {
    let mut fixture = listening();
    fixture.next();
    fixture.page(10, vec![put("a", "1", 4)], false);
    fixture.next();
    fixture.watch.opened(10, fixture.now);
    fixture.too_large();
    fixture.pass_the_wait();
    assert_eq!(fixture.next(), FIRST_PAGE);
    let page = Page {
        revision: 10,
        entries: vec![],
        more: false,
    };
    assert!(!fixture.watch.page(page, fixture.now));
}
