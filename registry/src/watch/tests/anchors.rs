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
