//! Asking for keys.

use etcd_client::proto::{PbKeyValue, PbRangeRequest};
use tonic::Code;

use crate::{on_both, requests::*, servers::Server};

on_both! {
    a_missing_key_is_an_empty_answer,
    an_empty_key_is_refused,
    a_key_comes_with_all_that_is_known_of_it,
    a_range_begins_with_its_first_key_and_ends_before_its_end,
    a_range_without_end_has_every_key_from_its_first,
    a_range_that_ends_before_it_begins_is_empty,
    a_limit_cuts_the_keys_and_not_the_count,
    only_the_keys_come_without_values,
    only_the_count_comes_without_keys,
    revisions_that_are_filtered_out_are_counted,
    filters_come_before_the_limit,
    an_old_revision_shows_what_stood_then,
    an_old_revision_comes_with_the_header_of_today,
    a_future_revision_is_refused,
    a_compacted_revision_is_refused_and_the_one_compacted_at_is_not,
    a_revision_below_zero_is_today,
    a_serializable_answer_is_the_same,
    reading_changes_no_revision,
}

async fn four_keys(etcd: &Server) {
    for key in ["a", "b", "ba", "c"] {
        etcd.put(put(key, &format!("{key}!"))).await.unwrap();
    }
}

async fn a_missing_key_is_an_empty_answer(etcd: Server) {
    let answer = etcd.range(get("a")).await.unwrap();
    assert_eq!(revision(&answer.header), etcd.revision(0));
    assert_eq!((answer.kvs.len(), answer.count, answer.more), (0, 0, false));
}

async fn an_empty_key_is_refused(etcd: Server) {
    let message = "etcdserver: key is not provided";
    refused(etcd.range(get("")).await, Code::InvalidArgument, message);
    let answer = etcd.range(get_range("", "\0")).await;
    refused(answer, Code::InvalidArgument, message);
}

async fn a_key_comes_with_all_that_is_known_of_it(etcd: Server) {
    etcd.grant(lease(7, 1000)).await.unwrap();
    etcd.put(put("a", "1")).await.unwrap();
    etcd.put(put("other", "")).await.unwrap();
    etcd.put(put_under("a", "2", 7)).await.unwrap();
    let answer = etcd.range(get("a")).await.unwrap();
    let expected = PbKeyValue {
        key: "a".into(),
        value: "2".into(),
        create_revision: etcd.revision(1),
        mod_revision: etcd.revision(3),
        version: 2,
        lease: 7,
    };
    assert_eq!(answer.kvs, [expected]);
    assert_eq!((answer.count, answer.more), (1, false));
    let header = answer.header.unwrap();
    assert_eq!(header.revision, etcd.revision(3));
    assert!(header.cluster_id != 0 && header.member_id != 0 && header.raft_term > 0);
}

async fn a_range_begins_with_its_first_key_and_ends_before_its_end(etcd: Server) {
    four_keys(&etcd).await;
    let answer = etcd.range(get_range("b", "c")).await.unwrap();
    assert_eq!(keys(&answer.kvs), ["b", "ba"]);
    assert_eq!((answer.count, answer.more), (2, false));
}

async fn a_range_without_end_has_every_key_from_its_first(etcd: Server) {
    four_keys(&etcd).await;
    let answer = etcd.range(get_range("b", "\0")).await.unwrap();
    assert_eq!(keys(&answer.kvs), ["b", "ba", "c"]);
    let answer = etcd.range(get_all()).await.unwrap();
    assert_eq!(keys(&answer.kvs), ["a", "b", "ba", "c"]);
}

async fn a_range_that_ends_before_it_begins_is_empty(etcd: Server) {
    four_keys(&etcd).await;
    for end in ["a", "b"] {
        let answer = etcd.range(get_range("b", end)).await.unwrap();
        assert_eq!((answer.kvs.len(), answer.count), (0, 0));
    }
}

async fn a_limit_cuts_the_keys_and_not_the_count(etcd: Server) {
    four_keys(&etcd).await;
    for (limit, expected, more) in [
        (3, &["a", "b", "ba"][..], true),
        (4, &["a", "b", "ba", "c"], false),
        (9, &["a", "b", "ba", "c"], false),
        (0, &["a", "b", "ba", "c"], false),
        (-1, &["a", "b", "ba", "c"], false),
    ] {
        let request = PbRangeRequest { limit, ..get_all() };
        let answer = etcd.range(request).await.unwrap();
        assert_eq!(keys(&answer.kvs), expected, "limit {limit}");
        assert_eq!((answer.count, answer.more), (4, more), "limit {limit}");
    }
}

async fn only_the_keys_come_without_values(etcd: Server) {
    four_keys(&etcd).await;
    let request = PbRangeRequest {
        keys_only: true,
        ..get("b")
    };
    let answer = etcd.range(request).await.unwrap();
    let expected = PbKeyValue {
        key: "b".into(),
        create_revision: etcd.revision(2),
        mod_revision: etcd.revision(2),
        version: 1,
        ..Default::default()
    };
    assert_eq!((answer.kvs, answer.count), (vec![expected], 1));
}

async fn only_the_count_comes_without_keys(etcd: Server) {
    four_keys(&etcd).await;
    for limit in [0, 2] {
        let request = PbRangeRequest {
            count_only: true,
            limit,
            ..get_range("b", "\0")
        };
        let answer = etcd.range(request).await.unwrap();
        assert_eq!((answer.kvs.len(), answer.count, answer.more), (0, 3, false));
    }
}

async fn revisions_that_are_filtered_out_are_counted(etcd: Server) {
    four_keys(&etcd).await;
    // Created at 1, changed at 5.
    etcd.put(put("a", "again")).await.unwrap();
    let at = |n| etcd.revision(n);
    for (request, expected) in [
        (
            PbRangeRequest {
                min_mod_revision: at(4),
                ..get_all()
            },
            &["a", "c"][..],
        ),
        (
            PbRangeRequest {
                max_mod_revision: at(3),
                ..get_all()
            },
            &["b", "ba"],
        ),
        (
            PbRangeRequest {
                min_create_revision: at(3),
                ..get_all()
            },
            &["ba", "c"],
        ),
        (
            PbRangeRequest {
                max_create_revision: at(2),
                ..get_all()
            },
            &["a", "b"],
        ),
        (
            PbRangeRequest {
                max_create_revision: at(2),
                max_mod_revision: at(4),
                ..get_all()
            },
            &["b"],
        ),
        (
            PbRangeRequest {
                min_mod_revision: at(9),
                ..get_all()
            },
            &[],
        ),
    ] {
        let answer = etcd.range(request.clone()).await.unwrap();
        assert_eq!(keys(&answer.kvs), expected, "{request:?}");
        assert_eq!((answer.count, answer.more), (4, false), "{request:?}");
    }
}

async fn filters_come_before_the_limit(etcd: Server) {
    four_keys(&etcd).await;
    let request = PbRangeRequest {
        min_mod_revision: etcd.revision(2),
        limit: 2,
        ..get_all()
    };
    let answer = etcd.range(request).await.unwrap();
    assert_eq!(keys(&answer.kvs), ["b", "ba"]);
    assert_eq!((answer.count, answer.more), (4, true));
}

async fn an_old_revision_shows_what_stood_then(etcd: Server) {
    etcd.put(put("a", "1")).await.unwrap();
    etcd.put(put("a", "2")).await.unwrap();
    etcd.delete(delete("a")).await.unwrap();
    etcd.put(put("a", "4")).await.unwrap();
    let mut seen = Vec::new();
    for n in 0..=4 {
        let request = PbRangeRequest {
            revision: etcd.revision(n),
            ..get("a")
        };
        let answer = etcd.range(request).await.unwrap();
        assert_eq!(answer.count, answer.kvs.len() as i64);
        seen.push(answer.kvs.first().map(|kv| {
            let created = kv.create_revision - etcd.revision(0);
            (text(&kv.value).to_owned(), created, kv.version)
        }));
    }
    let was = |value: &str, created, version| Some((value.to_owned(), created, version));
    let expected = [None, was("1", 1, 1), was("2", 1, 2), None, was("4", 4, 1)];
    assert_eq!(seen, expected);
}

async fn an_old_revision_comes_with_the_header_of_today(etcd: Server) {
    four_keys(&etcd).await;
    let request = PbRangeRequest {
        revision: etcd.revision(1),
        ..get_all()
    };
    let answer = etcd.range(request).await.unwrap();
    assert_eq!(keys(&answer.kvs), ["a"]);
    assert_eq!(revision(&answer.header), etcd.revision(4));
}

async fn a_future_revision_is_refused(etcd: Server) {
    four_keys(&etcd).await;
    let request = PbRangeRequest {
        revision: etcd.revision(5),
        ..get("a")
    };
    let message = "etcdserver: mvcc: required revision is a future revision";
    refused(etcd.range(request).await, Code::OutOfRange, message);
}

async fn a_compacted_revision_is_refused_and_the_one_compacted_at_is_not(etcd: Server) {
    four_keys(&etcd).await;
    etcd.compact(compact(etcd.revision(3))).await.unwrap();
    let at = |n| PbRangeRequest {
        revision: etcd.revision(n),
        ..get_all()
    };
    let message = "etcdserver: mvcc: required revision has been compacted";
    refused(etcd.range(at(2)).await, Code::OutOfRange, message);
    let answer = etcd.range(at(3)).await.unwrap();
    assert_eq!(keys(&answer.kvs), ["a", "b", "ba"]);
}

async fn a_revision_below_zero_is_today(etcd: Server) {
    four_keys(&etcd).await;
    let request = PbRangeRequest {
        revision: -1,
        ..get_all()
    };
    assert_eq!(etcd.range(request).await.unwrap().count, 4);
}

async fn a_serializable_answer_is_the_same(etcd: Server) {
    four_keys(&etcd).await;
    let request = PbRangeRequest {
        serializable: true,
        ..get_all()
    };
    let answer = etcd.range(request).await.unwrap();
    assert_eq!(keys(&answer.kvs), ["a", "b", "ba", "c"]);
}

async fn reading_changes_no_revision(etcd: Server) {
    for _ in 0..3 {
        let answer = etcd.range(get_all()).await.unwrap();
        assert_eq!(revision(&answer.header), etcd.revision(0));
    }
}
