//! Deleting keys.

use etcd_client::proto::{PbDeleteRequest, PbRangeRequest};
use tonic::Code;

use crate::{on_both, requests::*, servers::Server};

on_both! {
    a_deletion_tells_how_many_keys_it_had,
    deleting_nothing_is_no_revision,
    a_range_is_deleted_in_one_revision,
    the_former_values_come_back_if_asked_for,
    every_key_from_the_first_can_be_deleted,
    a_range_that_ends_before_it_begins_deletes_nothing,
    an_empty_key_is_refused,
    a_deleted_key_leaves_its_lease,
}

async fn four_keys(etcd: &Server) {
    for key in ["a", "b", "ba", "c"] {
        etcd.put(put(key, &format!("{key}!"))).await.unwrap();
    }
}

async fn left(etcd: &Server) -> String {
    keys(&etcd.range(get_all()).await.unwrap().kvs).join(" ")
}

async fn a_deletion_tells_how_many_keys_it_had(etcd: Server) {
    four_keys(&etcd).await;
    let answer = etcd.delete(delete("b")).await.unwrap();
    assert_eq!((answer.deleted, answer.prev_kvs.len()), (1, 0));
    assert_eq!(revision(&answer.header), etcd.revision(5));
    assert_eq!(left(&etcd).await, "a ba c");
}

async fn deleting_nothing_is_no_revision(etcd: Server) {
    four_keys(&etcd).await;
    let answer = etcd.delete(delete("none")).await.unwrap();
    assert_eq!(answer.deleted, 0);
    assert_eq!(revision(&answer.header), etcd.revision(4));
}

async fn a_range_is_deleted_in_one_revision(etcd: Server) {
    four_keys(&etcd).await;
    let answer = etcd.delete(delete_range("b", "c")).await.unwrap();
    assert_eq!(answer.deleted, 2);
    assert_eq!(revision(&answer.header), etcd.revision(5));
    assert_eq!(left(&etcd).await, "a c");
    let before = PbRangeRequest {
        revision: etcd.revision(4),
        ..get_all()
    };
    assert_eq!(etcd.range(before).await.unwrap().count, 4);
}

async fn the_former_values_come_back_if_asked_for(etcd: Server) {
    four_keys(&etcd).await;
    let request = PbDeleteRequest {
        prev_kv: true,
        ..delete_range("b", "d")
    };
    let answer = etcd.delete(request).await.unwrap();
    let seen: Vec<_> = answer.prev_kvs.iter().map(|kv| text(&kv.value)).collect();
    assert_eq!((answer.deleted, seen), (3, vec!["b!", "ba!", "c!"]));
    assert_eq!(answer.prev_kvs[0].mod_revision, etcd.revision(2));
}

async fn every_key_from_the_first_can_be_deleted(etcd: Server) {
    four_keys(&etcd).await;
    let answer = etcd.delete(delete_range("ba", "\0")).await.unwrap();
    assert_eq!(answer.deleted, 2);
    assert_eq!(left(&etcd).await, "a b");
}

async fn a_range_that_ends_before_it_begins_deletes_nothing(etcd: Server) {
    four_keys(&etcd).await;
    for end in ["a", "b"] {
        let answer = etcd.delete(delete_range("b", end)).await.unwrap();
        assert_eq!(answer.deleted, 0);
        assert_eq!(revision(&answer.header), etcd.revision(4));
    }
}

async fn an_empty_key_is_refused(etcd: Server) {
    let message = "etcdserver: key is not provided";
    refused(
        etcd.delete(delete("")).await,
        Code::InvalidArgument,
        message,
    );
    let answer = etcd.delete(delete_range("", "\0")).await;
    refused(answer, Code::InvalidArgument, message);
}

async fn a_deleted_key_leaves_its_lease(etcd: Server) {
    etcd.grant(lease(7, 1000)).await.unwrap();
    etcd.put(put_under("a", "1", 7)).await.unwrap();
    etcd.delete(delete("a")).await.unwrap();
    let answer = etcd.time_to_live(left_of(7)).await.unwrap();
    assert_eq!(answer.keys.len(), 0);
}
