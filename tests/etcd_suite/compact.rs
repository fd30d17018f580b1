//! Forgetting history.

use etcd_client::proto::{PbCompactionRequest, PbRangeRequest};
use tonic::Code;

use crate::{on_both, requests::*, servers::Server};

on_both! {
    a_compaction_is_no_revision,
    what_is_compacted_already_is_refused,
    a_future_revision_is_refused,
    what_stands_survives_a_compaction,
    a_deleted_key_is_gone_after_a_compaction_at_its_deletion,
    a_physical_compaction_answers_the_same,
}

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";

async fn a_compaction_is_no_revision(etcd: Server) {
    for _ in 0..3 {
        etcd.put(put("a", "1")).await.unwrap();
    }
    let answer = etcd.compact(compact(etcd.revision(2))).await.unwrap();
    assert_eq!(revision(&answer.header), etcd.revision(3));
    let answer = etcd.put(put("a", "1")).await.unwrap();
    assert_eq!(revision(&answer.header), etcd.revision(4));
}

async fn what_is_compacted_already_is_refused(etcd: Server) {
    for _ in 0..3 {
        etcd.put(put("a", "1")).await.unwrap();
    }
    etcd.compact(compact(etcd.revision(2))).await.unwrap();
    for revision in [etcd.revision(2), etcd.revision(1), 0, -1] {
        let answer = etcd.compact(compact(revision)).await;
        refused(answer, Code::OutOfRange, COMPACTED);
    }
    etcd.compact(compact(etcd.revision(3))).await.unwrap();
}

async fn a_future_revision_is_refused(etcd: Server) {
    etcd.put(put("a", "1")).await.unwrap();
    let answer = etcd.compact(compact(etcd.revision(2))).await;
    refused(answer, Code::OutOfRange, FUTURE);
    etcd.compact(compact(etcd.revision(1))).await.unwrap();
}

async fn what_stands_survives_a_compaction(etcd: Server) {
    etcd.put(put("a", "1")).await.unwrap();
    etcd.put(put("a", "2")).await.unwrap();
    etcd.put(put("b", "1")).await.unwrap();
    etcd.compact(compact(etcd.revision(3))).await.unwrap();
    let kvs = etcd.range(get_all()).await.unwrap().kvs;
    let seen: Vec<_> = kvs.iter().map(|kv| (text(&kv.value), kv.version)).collect();
    assert_eq!(seen, [("2", 2), ("1", 1)]);
    assert_eq!(kvs[0].create_revision, etcd.revision(1));
    etcd.put(put("a", "3")).await.unwrap();
    assert_eq!(etcd.range(get("a")).await.unwrap().kvs[0].version, 3);
}

async fn a_deleted_key_is_gone_after_a_compaction_at_its_deletion(etcd: Server) {
    etcd.put(put("a", "1")).await.unwrap();
    etcd.delete(delete("a")).await.unwrap();
    etcd.put(put("b", "1")).await.unwrap();
    etcd.compact(compact(etcd.revision(2))).await.unwrap();
    let request = PbRangeRequest {
        revision: etcd.revision(2),
        ..get_all()
    };
    assert_eq!(etcd.range(request).await.unwrap().count, 0);
    etcd.put(put("a", "2")).await.unwrap();
    let kv = &etcd.range(get("a")).await.unwrap().kvs[0];
    assert_eq!((kv.version, kv.create_revision), (1, etcd.revision(4)));
}

async fn a_physical_compaction_answers_the_same(etcd: Server) {
    for _ in 0..3 {
        etcd.put(put("a", "1")).await.unwrap();
    }
    let request = PbCompactionRequest {
        revision: etcd.revision(2),
        physical: true,
    };
    let answer = etcd.compact(request).await.unwrap();
    assert_eq!(revision(&answer.header), etcd.revision(3));
    refused(etcd.compact(request).await, Code::OutOfRange, COMPACTED);
}
