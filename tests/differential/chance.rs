//! Which operations come, and how often. Keys and ids are few, so that they meet.

use etcd_client::proto::{
    PbCompactionRequest, PbCompare, PbDeleteRequest, PbLeaseGrantRequest, PbLeaseTimeToLiveRequest,
    PbPutRequest, PbRangeRequest, PbTargetUnion, PbTxnOpRequest, PbTxnRequest, PbTxnRequestOp,
};
use proptest::{collection::vec, prelude::*, sample::select, strategy::Union};
use switchboard_test_support::{Change, Version, WatchOf};

use crate::operation::{AHEAD, Operation};

/// How often operations of a kind come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mix {
    pub(crate) keys: u32,
    pub(crate) transactions: u32,
    pub(crate) leases: u32,
    pub(crate) watches: u32,
    pub(crate) compactions: u32,
}

/// Returns sequences of operations of that mix, of which a real server of that version does what
/// the embedded one does.
pub(crate) fn sequences(mix: Mix, real: Version) -> impl Strategy<Value = Vec<Operation>> {
    let kinds = [
        (mix.keys, keys(real)),
        (mix.transactions, txn(real).prop_map(Operation::Txn).boxed()),
        (mix.leases, leases()),
        (mix.watches, watches(real)),
        (mix.compactions, compactions()),
    ];
    let kinds = kinds.into_iter().filter(|(weight, _)| *weight > 0);
    vec(Union::new_weighted(kinds.collect()), 1..100)
}

fn keys(real: Version) -> BoxedStrategy<Operation> {
    prop_oneof![
        4 => range(real).prop_map(Operation::Range),
        4 => put().prop_map(Operation::Put),
        2 => delete().prop_map(Operation::Delete),
    ]
    .boxed()
}

fn leases() -> BoxedStrategy<Operation> {
    let grant = (
        lease(),
        prop_oneof![9 => 100i64..1000, 1 => Just(9_000_000_001)],
    )
        .prop_map(|(id, ttl)| PbLeaseGrantRequest { id, ttl });
    let left =
        (lease(), any::<bool>()).prop_map(|(id, keys)| PbLeaseTimeToLiveRequest { id, keys });
    prop_oneof![
        4 => grant.prop_map(Operation::Grant),
        2 => lease().prop_map(Operation::Revoke),
        1 => vec(lease(), 1..4).prop_map(Operation::KeepAlive),
        2 => left.prop_map(Operation::TimeToLive),
        1 => Just(Operation::Leases),
    ]
    .boxed()
}

fn watches(real: Version) -> BoxedStrategy<Operation> {
    let stream = || 0usize..2;
    prop_oneof![
        4 => (stream(), watch(real)).prop_map(|(stream, watch)| Operation::Watch(stream, watch)),
        2 => (stream(), watch_id()).prop_map(|(stream, id)| Operation::Cancel(stream, id)),
        1 => stream().prop_map(Operation::Progress),
    ]
    .boxed()
}

fn compactions() -> BoxedStrategy<Operation> {
    (revision(), any::<bool>())
        .prop_map(|(revision, physical)| PbCompactionRequest { revision, physical })
        .prop_map(Operation::Compact)
        .boxed()
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        40 => select(&["a", "ab", "b", "c", "d"][..]),
        2 => Just("\0"),
        1 => Just(""),
    ]
    .prop_map(|key| key.as_bytes().to_vec())
}

fn range_end() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => Just(""),
        3 => select(&["\0", "c", "z"][..]),
        1 => select(&["a", "b"][..]),
    ]
    .prop_map(|end| end.as_bytes().to_vec())
}

/// More than a lease that exists, fewer than the tests would ever grant.
fn lease() -> impl Strategy<Value = i64> {
    prop_oneof![12 => 1i64..4, 1 => Just(-5)]
}

/// No lease, mostly.
fn lease_of_a_key() -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(0), 2 => lease()]
}

fn revision() -> impl Strategy<Value = i64> {
    prop_oneof![10 => AHEAD..AHEAD + 25, 2 => 1i64..8, 1 => Just(-1), 1 => Just(0)]
}

/// Zero, mostly.
fn seldom<T: Strategy<Value = i64> + 'static>(revision: T) -> impl Strategy<Value = i64> {
    prop_oneof![4 => Just(0), 1 => revision]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    select(&["", "x", "y", "z"][..]).prop_map(|value| value.as_bytes().to_vec())
}

/// None, one of those that exist, or, where that does not end the server, one that does not.
fn sorted(by: i32, real: Version) -> impl Strategy<Value = i32> {
    let unknown = if real.has(Change::OrdersLookedAt) {
        by
    } else {
        0
    };
    prop_oneof![10 => Just(0), 10 => 0..by, 1 => Just(unknown)]
}

fn range(real: Version) -> impl Strategy<Value = PbRangeRequest> {
    let order = (
        sorted(5, real),
        sorted(3, real),
        prop_oneof![3 => Just(0i64), 2 => 1i64..4, 1 => Just(-1)],
    );
    let bounds = (
        seldom(revision()),
        seldom(revision()),
        seldom(revision()),
        seldom(revision()),
        seldom(revision()),
    );
    let how = (
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
    );
    (key(), range_end(), order, bounds, how).prop_map(
        |(key, range_end, (sort_target, sort_order, limit), bounds, how)| PbRangeRequest {
            key,
            range_end,
            limit,
            revision: bounds.0,
            sort_order,
            sort_target,
            serializable: how.0,
            keys_only: how.1,
            count_only: how.2,
            min_mod_revision: bounds.1,
            max_mod_revision: bounds.2,
            min_create_revision: bounds.3,
            max_create_revision: bounds.4,
        },
    )
}

fn put() -> impl Strategy<Value = PbPutRequest> {
    let kept = || prop::bool::weighted(0.1);
    (
        key(),
        value(),
        lease_of_a_key(),
        any::<bool>(),
        kept(),
        kept(),
        any::<bool>(),
    )
        .prop_map(
            |(key, value, lease, prev_kv, ignore_value, ignore_lease, form)| PbPutRequest {
                key,
                // What is to stay is given as well, now and then, which is refused.
                value: if ignore_value && form {
                    Vec::new()
                } else {
                    value
                },
                lease: if ignore_lease && form { 0 } else { lease },
                prev_kv,
                ignore_value,
                ignore_lease,
            },
        )
}

fn delete() -> impl Strategy<Value = PbDeleteRequest> {
    (key(), range_end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| PbDeleteRequest {
        key,
        range_end,
        prev_kv,
    })
}

fn compare() -> impl Strategy<Value = PbCompare> {
    let with = prop_oneof![
        3 => (0i64..4).prop_map(PbTargetUnion::Version),
        2 => revision().prop_map(PbTargetUnion::CreateRevision),
        2 => revision().prop_map(PbTargetUnion::ModRevision),
        3 => value().prop_map(PbTargetUnion::Value),
        2 => lease_of_a_key().prop_map(PbTargetUnion::Lease),
    ];
    let with = prop_oneof![30 => with.prop_map(Some), 1 => Just(None)];
    // That of the value it is compared with, but for a few.
    let other = prop_oneof![20 => Just(None), 1 => (-1i32..6).prop_map(Some)];
    let result = prop_oneof![40 => 0i32..4, 1 => select(&[4, -1][..])];
    (key(), range_end(), result, with, other).prop_map(
        |(key, range_end, result, target_union, other)| {
            let target = match &target_union {
                None | Some(PbTargetUnion::Version(_)) => 0,
                Some(PbTargetUnion::CreateRevision(_)) => 1,
                Some(PbTargetUnion::ModRevision(_)) => 2,
                Some(PbTargetUnion::Value(_)) => 3,
                Some(PbTargetUnion::Lease(_)) => 4,
            };
            PbCompare {
                result,
                target: other.unwrap_or(target),
                key,
                range_end,
                target_union,
            }
        },
    )
}

fn txn(real: Version) -> impl Strategy<Value = PbTxnRequest> {
    let operation = prop_oneof![
        8 => range(real).prop_map(PbTxnOpRequest::RequestRange),
        12 => put().prop_map(PbTxnOpRequest::RequestPut),
        6 => delete().prop_map(PbTxnOpRequest::RequestDeleteRange),
    ];
    let operation = prop_oneof![80 => operation.prop_map(Some), 1 => Just(None)]
        .prop_map(|request| PbTxnRequestOp { request });
    let nested = operation.prop_recursive(3, 12, 3, |inner| {
        txn_of(inner).prop_map(|request| PbTxnRequestOp {
            request: Some(PbTxnOpRequest::RequestTxn(request)),
        })
    });
    txn_of(nested.boxed()).prop_map(|mut txn| {
        // etcd sees most that write a key twice, and not all; where it applies one, a put that keeps
        // what was deleted ends it: "unexpected error during txn: etcdserver: key not found".
        if operations(&txn).any(deletes) {
            operations_mut(&mut txn).for_each(keep_nothing);
        }
        txn
    })
}

fn operations(txn: &PbTxnRequest) -> impl Iterator<Item = &PbTxnRequestOp> {
    txn.success.iter().chain(&txn.failure)
}

fn operations_mut(txn: &mut PbTxnRequest) -> impl Iterator<Item = &mut PbTxnRequestOp> {
    txn.success.iter_mut().chain(&mut txn.failure)
}

fn deletes(operation: &PbTxnRequestOp) -> bool {
    match &operation.request {
        Some(PbTxnOpRequest::RequestDeleteRange(_)) => true,
        Some(PbTxnOpRequest::RequestTxn(txn)) => operations(txn).any(deletes),
        _ => false,
    }
}

fn keep_nothing(operation: &mut PbTxnRequestOp) {
    match &mut operation.request {
        Some(PbTxnOpRequest::RequestPut(put)) => {
            (put.ignore_value, put.ignore_lease) = (false, false);
        }
        Some(PbTxnOpRequest::RequestTxn(txn)) => operations_mut(txn).for_each(keep_nothing),
        _ => {}
    }
}

fn txn_of(operation: BoxedStrategy<PbTxnRequestOp>) -> impl Strategy<Value = PbTxnRequest> {
    let compares = prop_oneof![3 => vec(compare(), 0..3), 1 => Just(Vec::new())];
    (compares, vec(operation.clone(), 0..4), vec(operation, 0..4)).prop_map(
        |(compare, success, failure)| PbTxnRequest {
            compare,
            success,
            failure,
        },
    )
}

/// 0 leaves it to the server.
fn watch_id() -> impl Strategy<Value = i64> {
    prop_oneof![4 => 0i64..6, 1 => Just(-1), 1 => Just(99)]
}

fn watch(real: Version) -> impl Strategy<Value = WatchOf> {
    let filters = prop_oneof![3 => Just(Vec::new()), 2 => vec(0i32..3, 1..3)];
    let id = prop_oneof![3 => Just(0), 1 => 0i64..6];
    let first = if real.has(Change::StartsLookedAt) {
        -1
    } else {
        0
    };
    let start = prop_oneof![2 => Just(0), 2 => revision().prop_map(move |it| it.max(first))];
    let how = (any::<bool>(), any::<bool>(), any::<bool>());
    (key(), range_end(), start, filters, id, how).prop_map(
        |(key, range_end, start, filters, watch_id, how)| WatchOf {
            key,
            range_end,
            // One that is told of nothing cannot be waited for until it has read its past.
            start_revision: if filters.contains(&0) && filters.contains(&1) {
                0
            } else {
                start
            },
            progress_notify: how.0,
            filters,
            prev_kv: how.1,
            watch_id,
            fragment: how.2,
        },
    )
}
