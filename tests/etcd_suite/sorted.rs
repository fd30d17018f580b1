//! The order of keys.

use etcd_client::proto::PbRangeRequest;
use tonic::Code;

use crate::{
    on_both,
    requests::*,
    servers::{Server, embedded},
};

on_both! {
    keys_are_sorted_by_every_target_in_both_orders,
    a_target_other_than_the_key_without_an_order_ascends,
    the_limit_comes_after_the_order,
    the_limit_comes_first_where_no_order_is_given,
}

const ASCENDING: i32 = 1;
const DESCENDING: i32 = 2;

const KEY: i32 = 0;
const VERSION: i32 = 1;
const CREATED: i32 = 2;
const CHANGED: i32 = 3;
const VALUE: i32 = 4;

/// Makes three keys whose order is another one by each target.
async fn three_keys(etcd: &Server) {
    for (key, value) in [
        ("c", "m"),
        ("b", "x"),
        ("a", "x"),
        ("b", "x"),
        ("b", "a"),
        ("c", "m"),
        ("a", "z"),
        ("c", "m"),
        ("c", "m"),
        ("a", "z"),
        ("a", "z"),
        ("c", "m"),
    ] {
        etcd.put(put(key, value)).await.unwrap();
    }
}

async fn in_order(etcd: &Server, target: i32, order: i32) -> String {
    let request = PbRangeRequest {
        sort_target: target,
        sort_order: order,
        ..get_all()
    };
    keys(&etcd.range(request).await.unwrap().kvs).concat()
}

async fn keys_are_sorted_by_every_target_in_both_orders(etcd: Server) {
    three_keys(&etcd).await;
    for (target, ascending, descending) in [
        (KEY, "abc", "cba"),
        (VERSION, "bac", "cab"),
        (CREATED, "cba", "abc"),
        (CHANGED, "bac", "cab"),
        (VALUE, "bca", "acb"),
    ] {
        assert_eq!(
            in_order(&etcd, target, ASCENDING).await,
            ascending,
            "by {target}"
        );
        assert_eq!(
            in_order(&etcd, target, DESCENDING).await,
            descending,
            "by {target}"
        );
    }
}

async fn a_target_other_than_the_key_without_an_order_ascends(etcd: Server) {
    three_keys(&etcd).await;
    assert_eq!(in_order(&etcd, CREATED, 0).await, "cba");
    assert_eq!(in_order(&etcd, KEY, 0).await, "abc");
}

async fn the_limit_comes_after_the_order(etcd: Server) {
    three_keys(&etcd).await;
    let request = PbRangeRequest {
        sort_target: VERSION,
        sort_order: DESCENDING,
        limit: 1,
        ..get_all()
    };
    let answer = etcd.range(request).await.unwrap();
    assert_eq!(
        (keys(&answer.kvs), answer.count, answer.more),
        (vec!["c"], 3, true)
    );
}

async fn the_limit_comes_first_where_no_order_is_given(etcd: Server) {
    three_keys(&etcd).await;
    let request = PbRangeRequest {
        sort_target: CREATED,
        limit: 1,
        ..get_all()
    };
    // Of the first two by key, the one that was made first; "c" is older than both.
    let answer = etcd.range(request).await.unwrap();
    assert_eq!(
        (keys(&answer.kvs), answer.count, answer.more),
        (vec!["b"], 3, true)
    );
}

/// Of the embedded etcd only: before 3.6.0 a real one is gone. Of later ones `tests/differential`
/// asks it too.
#[tokio::test]
async fn an_order_that_does_not_exist_is_refused() {
    let etcd = embedded().await;
    let message = "etcdserver: invalid sort option";
    for (sort_target, sort_order) in [(5, ASCENDING), (KEY, 3), (-1, 0)] {
        let request = PbRangeRequest {
            sort_target,
            sort_order,
            ..get_all()
        };
        refused(etcd.range(request).await, Code::InvalidArgument, message);
    }
}
