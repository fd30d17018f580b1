//! What becomes of a lease where etcd tells of less than before.

use super::*;

/// A backup that was restored: fewer revisions, an earlier term, or another cluster's number.
#[test]
fn a_lease_is_left_where_etcd_has_gone_back_to_a_backup() {
    let restored = [
        Position {
            revision: 99,
            ..HERE
        },
        Position {
            term: 2,
            revision: 200,
            ..HERE
        },
        Position {
            cluster: 2,
            term: 9,
            revision: 200,
        },
    ];
    for restored in restored {
        let (mut fixture, id) = Fixture::held();
        fixture.renew(id, Place::Behind(HERE));
        assert_eq!(fixture.next(), Step::Confirm);
        assert_eq!(fixture.lease.confirmed(restored), Some(id));
        assert_eq!(fixture.lease.standing(), Standing::Absent);
        assert!(fixture.lease.former().contains(id));
        let Step::Grant { id: other, ttl } = fixture.next() else {
            panic!("no grant")
        };
        assert_ne!(other, id);
        fixture.lease.granted(other, ttl, fixture.now);
        assert!(matches!(fixture.next(), Step::WaitUntil(_)));
    }
}

#[test]
fn a_member_that_lags_costs_no_lease() {
    let (mut fixture, id) = Fixture::held();
    for majority in [
        HERE,
        Position {
            term: 6,
            revision: 110,
            ..HERE
        },
    ] {
        fixture.renew(id, Place::Behind(HERE));
        assert_eq!(fixture.next(), Step::Confirm);
        assert_eq!(fixture.lease.confirmed(majority), None);
        let until = fixture.now + TTL;
        assert_eq!(fixture.lease.standing(), Standing::Held { id, until });
        assert!(matches!(fixture.next(), Step::WaitUntil(_)));
    }
}

#[test]
fn where_no_majority_tells_where_it_is_the_next_renewal_asks_again() {
    let (mut fixture, id) = Fixture::held();
    for _ in 0..2 {
        fixture.renew(id, Place::Behind(HERE));
        assert_eq!(fixture.next(), Step::Confirm);
        fixture.lease.unconfirmed();
        assert!(matches!(fixture.next(), Step::WaitUntil(_)));
    }
}

#[test]
fn a_renewal_that_does_not_tell_where_etcd_is_counts_and_is_sent_once_more() {
    let (mut fixture, id) = Fixture::held();
    fixture.pass(3);
    fixture.renew(id, Place::Untold);
    let until = fixture.now + TTL;
    assert_eq!(fixture.lease.standing(), Standing::Held { id, until });
    assert_eq!(fixture.next(), Step::Renew { id });
    fixture.renew(id, Place::Untold);
    assert!(
        matches!(fixture.next(), Step::WaitUntil(_)),
        "who never says is not asked in a hurry"
    );
}
