//! Transactions that etcd refuses, of which nothing is done.

use etcd_client::proto::{
    PbDeleteRequest, PbPutRequest, PbRangeRequest, PbTargetUnion, PbTxnRequest, PbTxnRequestOp,
};
use switchboard_test_support::Change;
use tonic::Code;

use crate::{
    on_both,
    requests::{Is::*, *},
    servers::Server,
};

on_both! {
    a_key_is_put_once,
    a_key_is_put_once_wherever_it_is_nested,
    the_two_paths_may_put_the_same_key,
    the_two_paths_of_a_nested_one_may_put_the_same_key,
    what_is_put_is_not_deleted,
    a_deletion_of_all_keys_from_the_first_is_let_through,
    what_is_deleted_may_be_deleted_again,
    at_most_128_operations_and_comparisons,
    nested_operations_count_with_those_around_them,
    an_operation_without_content_is_refused,
    a_key_is_given_in_every_part,
    a_lease_must_exist_in_the_path_that_is_taken,
    the_path_that_is_not_taken_is_looked_at_for_its_form_only,
    what_is_to_stay_must_be_there_before_the_transaction,
    what_is_to_stay_must_not_be_given,
    a_revision_to_read_must_be_there,
    the_first_operation_that_cannot_be_done_is_the_reason,
    a_refused_transaction_leaves_nothing,
}

const KEY: &str = "etcdserver: key is not provided";
const DUPLICATE: &str = "etcdserver: duplicate key given in txn request";
const TOO_MANY: &str = "etcdserver: too many operations in txn request";

async fn is_refused(etcd: &Server, request: PbTxnRequest, message: &str) {
    refused(etcd.txn(request).await, Code::InvalidArgument, message);
}

/// A comparison that holds where `key` was never put.
fn missing(key: &str) -> etcd_client::proto::PbCompare {
    compare(key, Equal, PbTargetUnion::Version(0))
}

async fn a_key_is_put_once(etcd: Server) {
    let twice = || [put("a", "1").op(), put("b", "1").op(), put("a", "2").op()];
    is_refused(&etcd, all_of(twice()), DUPLICATE).await;
    // Even where it is not the path that is taken.
    is_refused(&etcd, txn([], [], twice()), DUPLICATE).await;
}

async fn a_key_is_put_once_wherever_it_is_nested(etcd: Server) {
    let inner = all_of([put("a", "2").op()]);
    let operations = [put("a", "1").op(), inner.clone().op()];
    is_refused(&etcd, all_of(operations), DUPLICATE).await;
    let operations = [inner.clone().op(), all_of([inner.op()]).op()];
    is_refused(&etcd, all_of(operations), DUPLICATE).await;
}

async fn the_two_paths_may_put_the_same_key(etcd: Server) {
    let request = txn([missing("a")], [put("a", "1").op()], [put("a", "2").op()]);
    assert!(etcd.txn(request).await.unwrap().succeeded);
}

async fn the_two_paths_of_a_nested_one_may_put_the_same_key(etcd: Server) {
    let inner = txn([missing("a")], [put("a", "1").op()], [put("a", "2").op()]);
    etcd.txn(all_of([inner.op(), put("b", "1").op()]))
        .await
        .unwrap();
    assert_eq!(etcd.range(get_all()).await.unwrap().count, 2);
}

async fn what_is_put_is_not_deleted(etcd: Server) {
    for operations in [
        [put("b", "1").op(), delete("b").op()],
        [delete("b").op(), put("b", "1").op()],
        [delete_range("a", "c").op(), put("b", "1").op()],
        [
            put("b", "1").op(),
            all_of([delete_range("a", "c").op()]).op(),
        ],
        [all_of([put("b", "1").op()]).op(), delete("b").op()],
    ] {
        is_refused(&etcd, all_of(operations), DUPLICATE).await;
    }
    let beside = [delete_range("a", "b").op(), put("b", "1").op()];
    etcd.txn(all_of(beside)).await.unwrap();
}

async fn a_deletion_of_all_keys_from_the_first_is_let_through(etcd: Server) {
    // etcd looks for the key in a range that ends at "\0", where there is none.
    let operations = [put("b", "1").op(), delete_range("a", "\0").op()];
    let answer = etcd.txn(all_of(operations)).await.unwrap();
    assert_eq!(revision(&answer.header), etcd.revision(1));
    assert_eq!(etcd.range(get_all()).await.unwrap().count, 0);
}

async fn what_is_deleted_may_be_deleted_again(etcd: Server) {
    etcd.put(put("a", "1")).await.unwrap();
    let operations = [delete("a").op(), delete_range("a", "c").op()];
    let answer = etcd.txn(all_of(operations)).await.unwrap();
    assert_eq!(revision(&answer.header), etcd.revision(2));
}

fn reads(number: usize) -> Vec<PbTxnRequestOp> {
    vec![get("a").op(); number]
}

async fn at_most_128_operations_and_comparisons(etcd: Server) {
    etcd.txn(txn(vec![missing("a"); 128], reads(128), reads(128)))
        .await
        .unwrap();
    for request in [
        txn(vec![missing("a"); 129], [], []),
        txn([], reads(129), []),
        txn([], [], reads(129)),
    ] {
        is_refused(&etcd, request, TOO_MANY).await;
    }
}

async fn nested_operations_count_with_those_around_them(etcd: Server) {
    let around = |outer: usize, inner| {
        let mut operations = reads(outer - 1);
        operations.push(all_of(reads(inner)).op());
        all_of(operations)
    };
    etcd.txn(around(28, 100)).await.unwrap();
    is_refused(&etcd, around(29, 100), TOO_MANY).await;
}

async fn an_operation_without_content_is_refused(etcd: Server) {
    let empty = PbTxnRequestOp { request: None };
    let message = "etcdserver: key not found";
    is_refused(&etcd, all_of([empty.clone()]), message).await;
    is_refused(&etcd, txn([], [], [all_of([empty]).op()]), message).await;
}

async fn a_key_is_given_in_every_part(etcd: Server) {
    for operation in [
        get("").op(),
        put("", "1").op(),
        delete("").op(),
        txn([missing("")], [], []).op(),
        all_of([put("", "1").op()]).op(),
    ] {
        is_refused(&etcd, all_of([operation.clone()]), KEY).await;
        is_refused(&etcd, txn([], [], [operation]), KEY).await;
    }
    is_refused(&etcd, txn([missing("")], [], []), KEY).await;
}

async fn a_lease_must_exist_in_the_path_that_is_taken(etcd: Server) {
    let request = all_of([put("a", "1").op(), put_under("b", "1", 7).op()]);
    let message = "etcdserver: requested lease not found";
    refused(etcd.txn(request).await, Code::NotFound, message);
    let nested = all_of([all_of([put_under("b", "1", 7).op()]).op()]);
    refused(etcd.txn(nested).await, Code::NotFound, message);
    let elsewhere = txn([], [put("a", "1").op()], [put_under("b", "1", 7).op()]);
    etcd.txn(elsewhere).await.unwrap();
}

async fn the_path_that_is_not_taken_is_looked_at_for_its_form_only(etcd: Server) {
    let kept = PbPutRequest {
        ignore_value: true,
        ..put("a", "")
    };
    let future = PbRangeRequest {
        revision: etcd.revision(100),
        ..get("a")
    };
    let request = txn([], [put("b", "1").op()], [kept.op(), future.op()]);
    assert!(etcd.txn(request).await.unwrap().succeeded);
}

async fn what_is_to_stay_must_be_there_before_the_transaction(etcd: Server) {
    let kept = |key| PbPutRequest {
        ignore_value: true,
        ..put(key, "")
    };
    let message = "etcdserver: key not found";
    is_refused(&etcd, all_of([put("b", "1").op(), kept("a").op()]), message).await;
    etcd.put(put("a", "1")).await.unwrap();
    etcd.txn(all_of([kept("a").op()])).await.unwrap();
}

async fn what_is_to_stay_must_not_be_given(etcd: Server) {
    let value = PbPutRequest {
        ignore_value: true,
        ..put("a", "1")
    };
    is_refused(&etcd, all_of([value.op()]), "etcdserver: value is provided").await;
    let lease = PbPutRequest {
        ignore_lease: true,
        ..put_under("a", "1", 7)
    };
    is_refused(&etcd, all_of([lease.op()]), "etcdserver: lease is provided").await;
}

async fn a_revision_to_read_must_be_there(etcd: Server) {
    for _ in 0..3 {
        etcd.put(put("a", "1")).await.unwrap();
    }
    etcd.compact(compact(etcd.revision(2))).await.unwrap();
    let at = |n| {
        let read = PbRangeRequest {
            revision: etcd.revision(n),
            ..get("a")
        };
        all_of([put("b", "1").op(), read.op()])
    };
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    refused(etcd.txn(at(1)).await, Code::OutOfRange, compacted);
    let future = "etcdserver: mvcc: required revision is a future revision";
    refused(etcd.txn(at(5)).await, Code::OutOfRange, future);
    etcd.txn(at(2)).await.unwrap();
}

async fn the_first_operation_that_cannot_be_done_is_the_reason(etcd: Server) {
    let future = PbRangeRequest {
        revision: etcd.revision(5),
        ..get("a")
    };
    let unreadable = "etcdserver: mvcc: required revision is a future revision";
    let leaseless = "etcdserver: requested lease not found";
    let read = || future.clone().op();
    let put = || put_under("a", "1", 7).op();

    let answer = etcd.txn(all_of([put(), read()])).await;
    refused(answer, Code::NotFound, leaseless);
    let read_first = [
        all_of([read(), put()]),
        all_of([all_of([read()]).op(), put()]),
        all_of([all_of([read(), put()]).op()]),
    ];
    for request in read_first {
        let answer = etcd.txn(request).await;
        match etcd.has(Change::OperationsInOrder).await {
            true => refused(answer, Code::OutOfRange, unreadable),
            false => refused(answer, Code::NotFound, leaseless),
        }
    }
}

async fn a_refused_transaction_leaves_nothing(etcd: Server) {
    etcd.put(put("z", "1")).await.unwrap();
    let erase = PbDeleteRequest {
        prev_kv: true,
        ..delete("z")
    };
    let request = all_of([put("a", "1").op(), erase.op(), put_under("b", "1", 7).op()]);
    etcd.txn(request).await.unwrap_err();
    let left = etcd.range(get_all()).await.unwrap();
    assert_eq!(keys(&left.kvs), ["z"]);
    assert_eq!(revision(&left.header), etcd.revision(1));
}
