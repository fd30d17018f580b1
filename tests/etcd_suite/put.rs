//! Writing a key.

use etcd_client::proto::{PbKeyValue, PbPutRequest};
use tonic::Code;

use crate::{on_both, requests::*, servers::Server};

on_both! {
    each_put_is_a_revision,
    versions_count_from_one_since_the_key_was_made,
    the_former_value_comes_back_if_asked_for,
    an_empty_key_is_refused,
    the_value_can_stay,
    the_lease_can_stay,
    what_is_to_stay_must_be_there,
    what_is_to_stay_must_not_be_given,
    a_lease_must_exist,
    a_lease_is_looked_for_before_what_is_to_stay,
    a_put_without_a_lease_takes_the_key_from_its_lease,
    a_put_under_another_lease_moves_the_key,
    a_refused_put_is_no_revision,
}

async fn the_key(etcd: &Server, key: &str) -> PbKeyValue {
    let answer = etcd.range(get(key)).await.unwrap();
    answer.kvs.into_iter().next().unwrap()
}

/// The keys that a lease has, in their order.
async fn keys_of(etcd: &Server, lease: i64) -> Vec<String> {
    let answer = etcd.time_to_live(left_of(lease)).await.unwrap();
    let mut keys: Vec<_> = answer.keys.iter().map(|key| text(key).to_owned()).collect();
    keys.sort();
    keys
}

async fn each_put_is_a_revision(etcd: Server) {
    for n in 1..=3 {
        let answer = etcd.put(put("a", "same")).await.unwrap();
        assert_eq!(revision(&answer.header), etcd.revision(n));
        assert_eq!(answer.prev_kv, None);
    }
}

async fn versions_count_from_one_since_the_key_was_made(etcd: Server) {
    let mut seen = Vec::new();
    for step in ["put", "put", "delete", "put"] {
        match step {
            "put" => drop(etcd.put(put("a", "")).await.unwrap()),
            _ => drop(etcd.delete(delete("a")).await.unwrap()),
        }
        let answer = etcd.range(get("a")).await.unwrap();
        seen.push(answer.kvs.first().map(|kv| {
            let counted = |revision| revision - etcd.revision(0);
            (
                kv.version,
                counted(kv.create_revision),
                counted(kv.mod_revision),
            )
        }));
    }
    assert_eq!(
        seen,
        [Some((1, 1, 1)), Some((2, 1, 2)), None, Some((1, 4, 4))]
    );
}

async fn the_former_value_comes_back_if_asked_for(etcd: Server) {
    let request = |value| PbPutRequest {
        prev_kv: true,
        ..put("a", value)
    };
    assert_eq!(etcd.put(request("1")).await.unwrap().prev_kv, None);
    let former = etcd.put(request("2")).await.unwrap().prev_kv.unwrap();
    let expected = PbKeyValue {
        key: "a".into(),
        value: "1".into(),
        create_revision: etcd.revision(1),
        mod_revision: etcd.revision(1),
        version: 1,
        lease: 0,
    };
    assert_eq!(former, expected);
}

async fn an_empty_key_is_refused(etcd: Server) {
    let message = "etcdserver: key is not provided";
    refused(etcd.put(put("", "1")).await, Code::InvalidArgument, message);
}

async fn the_value_can_stay(etcd: Server) {
    etcd.grant(lease(7, 1000)).await.unwrap();
    etcd.put(put("a", "1")).await.unwrap();
    let request = PbPutRequest {
        ignore_value: true,
        ..put_under("a", "", 7)
    };
    etcd.put(request).await.unwrap();
    let kv = the_key(&etcd, "a").await;
    assert_eq!((text(&kv.value), kv.lease, kv.version), ("1", 7, 2));
}

async fn the_lease_can_stay(etcd: Server) {
    etcd.grant(lease(7, 1000)).await.unwrap();
    etcd.put(put_under("a", "1", 7)).await.unwrap();
    let request = PbPutRequest {
        ignore_lease: true,
        ..put("a", "2")
    };
    etcd.put(request).await.unwrap();
    let kv = the_key(&etcd, "a").await;
    assert_eq!((text(&kv.value), kv.lease, kv.version), ("2", 7, 2));
    assert_eq!(keys_of(&etcd, 7).await, ["a"]);
}

async fn what_is_to_stay_must_be_there(etcd: Server) {
    let message = "etcdserver: key not found";
    let value = PbPutRequest {
        ignore_value: true,
        ..put("a", "")
    };
    refused(etcd.put(value).await, Code::InvalidArgument, message);
    let lease = PbPutRequest {
        ignore_lease: true,
        ..put("a", "1")
    };
    refused(etcd.put(lease).await, Code::InvalidArgument, message);
}

async fn what_is_to_stay_must_not_be_given(etcd: Server) {
    let value = PbPutRequest {
        ignore_value: true,
        ..put("a", "1")
    };
    let message = "etcdserver: value is provided";
    refused(etcd.put(value).await, Code::InvalidArgument, message);
    let lease = PbPutRequest {
        ignore_lease: true,
        ..put_under("a", "1", 7)
    };
    let message = "etcdserver: lease is provided";
    refused(etcd.put(lease).await, Code::InvalidArgument, message);
}

async fn a_lease_must_exist(etcd: Server) {
    let message = "etcdserver: requested lease not found";
    for id in [7, -7] {
        refused(
            etcd.put(put_under("a", "1", id)).await,
            Code::NotFound,
            message,
        );
    }
}

async fn a_lease_is_looked_for_before_what_is_to_stay(etcd: Server) {
    let kept = PbPutRequest {
        ignore_value: true,
        ..put_under("a", "", 7)
    };
    let message = "etcdserver: requested lease not found";
    refused(etcd.put(kept.clone()).await, Code::NotFound, message);
    // In a transaction it is the other way round.
    let answer = etcd.txn(all_of([kept.op()])).await;
    refused(answer, Code::InvalidArgument, "etcdserver: key not found");
}

async fn a_put_without_a_lease_takes_the_key_from_its_lease(etcd: Server) {
    etcd.grant(lease(7, 1000)).await.unwrap();
    etcd.put(put_under("a", "1", 7)).await.unwrap();
    etcd.put(put_under("b", "1", 7)).await.unwrap();
    etcd.put(put("a", "2")).await.unwrap();
    assert_eq!(keys_of(&etcd, 7).await, ["b"]);
    etcd.revoke(7).await.unwrap();
    let left = etcd.range(get_all()).await.unwrap();
    assert_eq!(keys(&left.kvs), ["a"]);
}

async fn a_put_under_another_lease_moves_the_key(etcd: Server) {
    etcd.grant(lease(7, 1000)).await.unwrap();
    etcd.grant(lease(8, 1000)).await.unwrap();
    etcd.put(put_under("a", "1", 7)).await.unwrap();
    etcd.put(put_under("a", "2", 8)).await.unwrap();
    assert_eq!(keys_of(&etcd, 7).await, [""; 0]);
    assert_eq!(keys_of(&etcd, 8).await, ["a"]);
    etcd.revoke(7).await.unwrap();
    assert_eq!(the_key(&etcd, "a").await.lease, 8);
}

async fn a_refused_put_is_no_revision(etcd: Server) {
    etcd.put(put_under("a", "1", 7)).await.unwrap_err();
    etcd.put(put("", "")).await.unwrap_err();
    let answer = etcd.put(put("a", "1")).await.unwrap();
    assert_eq!(revision(&answer.header), etcd.revision(1));
}
