//! Transactions.

use etcd_client::proto::{
    PbDeleteRequest, PbPutRequest, PbRangeRequest, PbResponseOp, PbTargetUnion, PbTxnOpResponse,
    PbTxnResponse,
};

use switchboard_test_support::WatchOf;

use crate::{
    on_both,
    requests::{Is::*, *},
    servers::Server,
};

on_both! {
    every_target_is_compared_in_every_way,
    a_missing_key_compares_as_zeros,
    a_missing_key_has_no_value_that_compares,
    all_comparisons_must_hold,
    a_comparison_over_a_range_must_hold_for_every_key,
    a_comparison_over_an_empty_range_holds_unless_it_is_of_values,
    what_is_compared_is_what_target_says,
    all_writes_are_one_revision,
    a_transaction_that_writes_nothing_is_no_revision,
    later_operations_see_earlier_writes,
    answers_come_in_the_order_of_operations,
    a_nested_path_is_chosen_by_what_stood_before,
    nested_answers_are_nested,
    a_deletion_and_a_put_of_one_transaction_are_events_in_its_order,
    a_key_that_is_written_twice_in_one_revision_is_told_twice,
}

fn value(value: &str) -> PbTargetUnion {
    PbTargetUnion::Value(value.into())
}

async fn holds(etcd: &Server, key: &str, is: Is, with: PbTargetUnion) -> bool {
    let request = txn([compare(key, is, with)], [], []);
    etcd.txn(request).await.unwrap().succeeded
}

fn as_range(answer: &PbResponseOp) -> Vec<&str> {
    match answer.response.as_ref().unwrap() {
        PbTxnOpResponse::ResponseRange(answer) => keys(&answer.kvs),
        other => panic!("{other:?}"),
    }
}

fn as_txn(answer: &PbResponseOp) -> &PbTxnResponse {
    match answer.response.as_ref().unwrap() {
        PbTxnOpResponse::ResponseTxn(answer) => answer,
        other => panic!("{other:?}"),
    }
}

async fn every_target_is_compared_in_every_way(etcd: Server) {
    etcd.grant(lease(50, 1000)).await.unwrap();
    etcd.put(put("before", "")).await.unwrap();
    etcd.put(put("a", "0")).await.unwrap();
    etcd.put(put("a", "5")).await.unwrap();
    etcd.put(put_under("a", "50", 50)).await.unwrap();
    let at = |n| etcd.revision(n);
    use PbTargetUnion::{CreateRevision, Lease, ModRevision, Version};
    for (smaller, same, greater) in [
        (Version(2), Version(3), Version(4)),
        (
            CreateRevision(at(1)),
            CreateRevision(at(2)),
            CreateRevision(at(3)),
        ),
        (ModRevision(at(3)), ModRevision(at(4)), ModRevision(at(5))),
        (value("5"), value("50"), value("6")),
        (Lease(49), Lease(50), Lease(51)),
    ] {
        for (with, is) in [
            (smaller, [Greater, NotEqual]),
            (same, [Equal, Equal]),
            (greater, [Less, NotEqual]),
        ] {
            for how in [Equal, Greater, Less, NotEqual] {
                let expected = is.contains(&how);
                let held = holds(&etcd, "a", how, with.clone()).await;
                assert_eq!(held, expected, "{how:?} {with:?}");
            }
        }
    }
}

async fn a_missing_key_compares_as_zeros(etcd: Server) {
    use PbTargetUnion::{CreateRevision, Lease, ModRevision, Version};
    for (zero, one) in [
        (Version(0), Version(1)),
        (CreateRevision(0), CreateRevision(1)),
        (ModRevision(0), ModRevision(1)),
        (Lease(0), Lease(1)),
    ] {
        assert!(holds(&etcd, "a", Equal, zero.clone()).await, "{zero:?}");
        assert!(!holds(&etcd, "a", NotEqual, zero.clone()).await, "{zero:?}");
        assert!(holds(&etcd, "a", Less, one.clone()).await, "{one:?}");
        assert!(!holds(&etcd, "a", Greater, zero).await);
    }
}

async fn a_missing_key_has_no_value_that_compares(etcd: Server) {
    for how in [Equal, Greater, Less, NotEqual] {
        for with in ["", "1"] {
            assert!(
                !holds(&etcd, "a", how, value(with)).await,
                "{how:?} {with:?}"
            );
        }
    }
}

async fn all_comparisons_must_hold(etcd: Server) {
    etcd.put(put("a", "1")).await.unwrap();
    let is = |key, number| compare(key, Equal, PbTargetUnion::Version(number));
    for (compares, expected) in [
        (vec![], true),
        (vec![is("a", 1), is("b", 0)], true),
        (vec![is("a", 1), is("b", 1)], false),
        (vec![is("a", 0), is("b", 0)], false),
    ] {
        let answer = etcd.txn(txn(compares.clone(), [], [])).await.unwrap();
        assert_eq!(answer.succeeded, expected, "{compares:?}");
    }
}

async fn a_comparison_over_a_range_must_hold_for_every_key(etcd: Server) {
    etcd.put(put("a", "1")).await.unwrap();
    etcd.put(put("b", "1")).await.unwrap();
    etcd.put(put("c", "2")).await.unwrap();
    for (key, end, expected) in [
        ("a", "c", true),
        ("a", "d", false),
        ("a", "\0", false),
        ("c", "\0", false),
    ] {
        let request = txn([compare_range(key, end, Equal, value("1"))], [], []);
        let answer = etcd.txn(request).await.unwrap();
        assert_eq!(answer.succeeded, expected, "{key:?} to {end:?}");
    }
}

async fn a_comparison_over_an_empty_range_holds_unless_it_is_of_values(etcd: Server) {
    for (with, is, expected) in [
        (PbTargetUnion::Version(0), Equal, true),
        (PbTargetUnion::Version(0), Greater, false),
        (value(""), Equal, false),
        (value(""), NotEqual, false),
    ] {
        let request = txn([compare_range("x", "z", is, with.clone())], [], []);
        let answer = etcd.txn(request).await.unwrap();
        assert_eq!(answer.succeeded, expected, "{is:?} {with:?}");
    }
}

async fn what_is_compared_is_what_target_says(etcd: Server) {
    etcd.put(put("a", "1")).await.unwrap();
    // The version, with a number that is given as a lease's: that counts as 0.
    let mut mixed = compare("a", Greater, PbTargetUnion::Lease(5));
    mixed.target = 0;
    assert!(etcd.txn(txn([mixed], [], [])).await.unwrap().succeeded);
    let mut bare = compare("a", Greater, PbTargetUnion::Version(5));
    bare.target_union = None;
    assert!(etcd.txn(txn([bare], [], [])).await.unwrap().succeeded);
}

async fn all_writes_are_one_revision(etcd: Server) {
    let writes = [put("a", "1").op(), put("b", "1").op(), put("c", "1").op()];
    let answer = etcd.txn(all_of(writes)).await.unwrap();
    assert_eq!(revision(&answer.header), etcd.revision(1));
    let kvs = etcd.range(get_all()).await.unwrap().kvs;
    let changed: Vec<_> = kvs.iter().map(|kv| kv.mod_revision).collect();
    assert_eq!(changed, [etcd.revision(1); 3]);
}

async fn a_transaction_that_writes_nothing_is_no_revision(etcd: Server) {
    let operations = [get_all().op(), delete("none").op()];
    let answer = etcd.txn(all_of(operations)).await.unwrap();
    assert_eq!(revision(&answer.header), etcd.revision(0));
    let answer = etcd.txn(all_of([])).await.unwrap();
    assert_eq!(revision(&answer.header), etcd.revision(0));
    assert!(answer.succeeded);
}

async fn later_operations_see_earlier_writes(etcd: Server) {
    etcd.put(put("b", "1")).await.unwrap();
    let operations = [
        get_all().op(),
        put("a", "1").op(),
        get_all().op(),
        delete("b").op(),
        get_all().op(),
    ];
    let answer = etcd.txn(all_of(operations)).await.unwrap();
    assert_eq!(as_range(&answer.responses[0]), ["b"]);
    assert_eq!(as_range(&answer.responses[2]), ["a", "b"]);
    assert_eq!(as_range(&answer.responses[4]), ["a"]);
}

async fn answers_come_in_the_order_of_operations(etcd: Server) {
    etcd.put(put("a", "1")).await.unwrap();
    let write = PbPutRequest {
        prev_kv: true,
        ..put("a", "2")
    };
    let erase = PbDeleteRequest {
        prev_kv: true,
        ..delete("b")
    };
    let read = PbRangeRequest {
        count_only: true,
        ..get_all()
    };
    let operations = [write.op(), erase.op(), read.op()];
    let answer = etcd.txn(all_of(operations)).await.unwrap();
    let answers: Vec<_> = answer
        .responses
        .into_iter()
        .map(|answer| answer.response.unwrap())
        .collect();
    match &answers[..] {
        [
            PbTxnOpResponse::ResponsePut(write),
            PbTxnOpResponse::ResponseDeleteRange(erase),
            PbTxnOpResponse::ResponseRange(read),
        ] => {
            assert_eq!(text(&write.prev_kv.as_ref().unwrap().value), "1");
            assert_eq!(erase.deleted, 0);
            assert_eq!((read.count, read.kvs.len()), (1, 0));
            // Within a transaction, an answer tells the revision that it makes.
            assert_eq!(revision(&write.header), etcd.revision(2));
        }
        other => panic!("{other:?}"),
    }
}

async fn a_nested_path_is_chosen_by_what_stood_before(etcd: Server) {
    let made = compare("a", Greater, PbTargetUnion::Version(0));
    let inner = txn([made], [put("seen", "").op()], [put("unseen", "").op()]);
    let answer = etcd
        .txn(all_of([put("a", "1").op(), inner.op()]))
        .await
        .unwrap();
    assert!(!as_txn(&answer.responses[1]).succeeded);
    let left = etcd.range(get_all()).await.unwrap();
    assert_eq!(keys(&left.kvs), ["a", "unseen"]);
}

async fn nested_answers_are_nested(etcd: Server) {
    let innermost = all_of([put("c", "3").op(), get_all().op()]);
    let inner = all_of([put("b", "2").op(), innermost.op()]);
    let outer = txn(
        [compare("a", Equal, PbTargetUnion::Version(9))],
        [],
        [put("a", "1").op(), inner.op(), get_all().op()],
    );
    let answer = etcd.txn(outer).await.unwrap();
    assert_eq!((answer.succeeded, answer.responses.len()), (false, 3));
    let inner = as_txn(&answer.responses[1]);
    assert_eq!((inner.succeeded, inner.responses.len()), (true, 2));
    let innermost = as_txn(&inner.responses[1]);
    assert_eq!(as_range(&innermost.responses[1]), ["a", "b", "c"]);
    assert_eq!(revision(&answer.header), etcd.revision(1));
}

async fn a_deletion_and_a_put_of_one_transaction_are_events_in_its_order(etcd: Server) {
    etcd.put(put("b", "1")).await.unwrap();
    let mut stream = etcd.watch(watch_range("a", "c").create()).await.unwrap();
    assert!(stream.next().await.unwrap().created);
    let operations = [delete("b").op(), put("a", "1").op()];
    etcd.txn(all_of(operations)).await.unwrap();
    let answer = stream.next().await.unwrap();
    assert_eq!(
        written(&answer.events, etcd.revision(0)),
        ["-b@2", "+a=1@2"]
    );
}

async fn a_key_that_is_written_twice_in_one_revision_is_told_twice(etcd: Server) {
    etcd.put(put("b", "1")).await.unwrap();
    let request = WatchOf {
        prev_kv: true,
        ..watch("b")
    };
    let mut stream = etcd.watch(request.create()).await.unwrap();
    assert!(stream.next().await.unwrap().created);
    // The one way that etcd lets through: it takes a deletion without end for one of nothing.
    let operations = [put("b", "2").op(), delete_range("a", "\0").op()];
    etcd.txn(all_of(operations)).await.unwrap();
    let answer = stream.next().await.unwrap();
    assert_eq!(
        written(&answer.events, etcd.revision(0)),
        ["+b=2@2", "-b@2"]
    );
    let former = answer
        .events
        .iter()
        .map(|event| &event.prev_kv.as_ref().unwrap().value);
    assert_eq!(former.collect::<Vec<_>>(), [b"1", b"1"]);
}
