//! The store against a model that keeps a whole map for each revision, over random histories; and
//! what such a history does not reach.

mod model;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use etcd_client::proto::{
    PbCompactionRequest, PbDeleteRequest, PbLeaseGrantRequest, PbPutRequest, PbRangeRequest,
    PbWatchResponse,
};

use super::*;

const STREAM: StreamId = StreamId(1);

#[allow(clippy::disallowed_methods, reason = "a time to count from")]
fn start() -> Instant {
    Instant::now()
}

fn put(store: &mut Store, key: &str, value: &str, lease: i64) {
    let request = PbPutRequest {
        key: key.into(),
        value: value.into(),
        lease,
        ..PbPutRequest::default()
    };
    store.put(&request).unwrap();
}

fn delete(store: &mut Store, key: &str) {
    let request = PbDeleteRequest {
        key: key.into(),
        ..PbDeleteRequest::default()
    };
    store.delete(&request).unwrap();
}

fn compact(store: &mut Store, revision: i64) {
    let request = PbCompactionRequest {
        revision,
        physical: false,
    };
    store.compact(&request).unwrap();
}

fn grant(store: &mut Store, id: i64, ttl: i64, now: Instant) {
    store
        .grant(&PbLeaseGrantRequest { ttl, id }, 1, now)
        .unwrap();
}

/// A watcher of everything.
fn everything(start: i64) -> WatchRequest {
    WatchRequest {
        span: Span::From(Bytes::from_static(&[0])),
        start,
        id: 0,
        kinds: Kinds {
            puts: true,
            deletions: true,
        },
        previous: false,
        progress: false,
        fragment: false,
    }
}

fn drain(store: &mut Store, stream: StreamId) -> Vec<PbWatchResponse> {
    std::iter::from_fn(|| store.poll_stream(stream)).collect()
}

/// What happened to which key, in words.
fn told(responses: &[PbWatchResponse]) -> Vec<String> {
    let events = responses.iter().flat_map(|response| &response.events);
    let words = events.map(|event| {
        let kv = event.kv.as_ref().unwrap();
        let key = String::from_utf8_lossy(&kv.key);
        match event.r#type {
            0 => format!(
                "{key}={}@{}",
                String::from_utf8_lossy(&kv.value),
                kv.mod_revision
            ),
            _ => format!("{key} deleted@{}", kv.mod_revision),
        }
    });
    words.collect()
}

#[test]
fn an_expired_lease_takes_its_keys_in_one_revision_and_in_order() {
    let (mut store, now) = (Store::new(), start());
    grant(&mut store, 7, 10, now);
    for key in ["b", "a", "c"] {
        put(&mut store, key, "1", 7);
    }
    put(&mut store, "c", "2", 0); // It goes with nothing now.
    store.open_stream(STREAM);
    store.watch(STREAM, everything(0));
    drain(&mut store, STREAM);
    store.expire(now + Duration::from_millis(9_999));
    assert_eq!(store.revision(), 5);
    store.expire(now + Duration::from_secs(10));
    assert_eq!(store.revision(), 6);
    let responses = drain(&mut store, STREAM);
    assert_eq!(responses.len(), 1);
    assert_eq!(told(&responses), ["a deleted@6", "b deleted@6"]);
}

#[test]
fn a_renewed_lease_begins_anew() {
    let (mut store, now) = (Store::new(), start());
    grant(&mut store, 7, 10, now);
    let later = now + Duration::from_secs(9);
    let request = PbLeaseKeepAliveRequest { id: 7 };
    assert_eq!(store.keep_alive(&request, later).ttl, 10);
    assert_eq!(store.next_deadline(), Some(later + Duration::from_secs(10)));
    store.expire(now + Duration::from_secs(18));
    assert_eq!(store.leases().leases.len(), 1);
    store.expire(now + Duration::from_secs(19));
    assert_eq!(store.keep_alive(&request, later).ttl, 0);
    assert_eq!(store.next_deadline(), None);
}

#[test]
fn a_reader_that_is_slow_misses_nothing_and_costs_a_bounded_amount() {
    let mut store = Store::new();
    store.open_stream(STREAM);
    store.watch(STREAM, everything(0));
    for count in 0..5_000 {
        put(&mut store, "a", &count.to_string(), 0);
    }
    // Its reader comes at last.
    let responses = drain(&mut store, STREAM);
    let expected: Vec<_> = (0..5_000).map(|it| format!("a={it}@{}", it + 2)).collect();
    assert_eq!(told(&responses), expected);
    // Fewer answers than revisions: what did not fit was read from the history.
    assert!(responses.len() < 2_000, "{}", responses.len());
    // And it is told at once again.
    put(&mut store, "a", "now", 0);
    assert_eq!(told(&drain(&mut store, STREAM)), ["a=now@5002"]);
}

#[test]
fn a_reader_that_is_slower_than_a_compaction_is_told() {
    let mut store = Store::new();
    store.open_stream(STREAM);
    store.watch(STREAM, everything(0));
    for count in 0..2_000 {
        put(&mut store, "a", &count.to_string(), 0);
    }
    compact(&mut store, 2_000);
    let responses = drain(&mut store, STREAM);
    let last = responses.last().unwrap();
    assert!(last.canceled);
    assert_eq!(last.compact_revision, 2_000);
    assert_eq!(drain(&mut store, STREAM), []);
}

#[test]
fn large_values_that_nobody_reads_are_not_kept() {
    let mut store = Store::new();
    store.open_stream(STREAM);
    store.watch(STREAM, everything(0));
    let value = "x".repeat(1 << 20);
    for _ in 0..100 {
        put(&mut store, "a", &value, 0);
        let revision = store.revision();
        if revision > 2 {
            compact(&mut store, revision);
        }
    }
    let mut bytes = 0;
    for response in drain(&mut store, STREAM) {
        bytes += response.encoded_len();
    }
    assert!(bytes < 32 << 20, "{bytes}");
}

#[test]
fn a_revision_of_very_many_events_is_told_to_all_and_kept_for_few() {
    let mut store = Store::new();
    for count in 0..10_000 {
        put(&mut store, &format!("k{count:05}"), "1", 0);
    }
    store.open_stream(STREAM);
    for _ in 0..20 {
        store.watch(STREAM, everything(0));
    }
    assert_eq!(drain(&mut store, STREAM).len(), 20);
    let request = PbDeleteRequest {
        key: vec![0],
        range_end: vec![0],
        ..PbDeleteRequest::default()
    };
    store.delete(&request).unwrap();
    let waiting = store.watchers.waiting(STREAM);
    assert!(waiting < 2 << 20, "{waiting} bytes");
    let mut told = BTreeMap::new();
    for response in drain(&mut store, STREAM) {
        assert_eq!(response.events.len(), 10_000, "a revision is whole");
        *told.entry(response.watch_id).or_insert(0) += 1;
    }
    assert_eq!(told, (0..20).map(|id| (id, 1)).collect());
}

#[test]
fn a_watch_may_start_at_a_deletion_that_is_the_compacted_revision() {
    let mut store = Store::new();
    put(&mut store, "a", "1", 0);
    delete(&mut store, "a");
    compact(&mut store, 3);
    store.open_stream(STREAM);
    store.watch(STREAM, everything(3));
    assert_eq!(told(&drain(&mut store, STREAM)), ["a deleted@3"]);
}

#[test]
fn what_is_compacted_is_forgotten() {
    let mut store = Store::new();
    let empty = store.size();
    for round in 0..1_000 {
        put(&mut store, "a", "1", 0);
        put(&mut store, &format!("b{round}"), "1", 0);
        delete(&mut store, &format!("b{round}"));
        compact(&mut store, 2 + round * 3);
    }
    put(&mut store, "a", "", 0);
    delete(&mut store, "a");
    put(&mut store, "z", "", 0);
    let revision = store.revision();
    compact(&mut store, revision);
    assert_eq!(store.size(), empty + 1, "the key z");
}

#[test]
fn progress_is_told_after_the_events_before_it() {
    let mut store = Store::new();
    store.open_stream(STREAM);
    store.watch(STREAM, everything(0));
    put(&mut store, "a", "1", 0);
    store.request_progress(STREAM);
    put(&mut store, "a", "2", 0);
    let responses = drain(&mut store, STREAM);
    assert_eq!(told(&responses), ["a=1@2", "a=2@3"]);
    let progress = &responses[2];
    assert_eq!((progress.watch_id, progress.events.len()), (-1, 0));
    assert_eq!(progress.header.as_ref().unwrap().revision, 2);
}

#[test]
fn progress_is_told_only_where_all_have_come_that_far() {
    let mut store = Store::new();
    store.open_stream(STREAM);
    put(&mut store, "a", "1", 0);
    let asked = |store: &mut Store| {
        store.request_progress(STREAM);
        drain(store, STREAM).len()
    };
    assert_eq!(asked(&mut store), 0, "of nobody");

    store.watch(STREAM, everything(2));
    store.request_progress(STREAM);
    let responses = drain(&mut store, STREAM);
    assert_eq!(told(&responses), ["a=1@2"]);
    assert_eq!(responses.len(), 2, "it was made, and read the past");
    assert_eq!(asked(&mut store), 1);

    store.watch(STREAM, everything(3));
    drain(&mut store, STREAM);
    assert_eq!(asked(&mut store), 0, "one waits for the next revision");
    put(&mut store, "a", "2", 0);
    drain(&mut store, STREAM);
    assert_eq!(asked(&mut store), 1);

    compact(&mut store, 3);
    store.watch(STREAM, everything(2));
    let ended = drain(&mut store, STREAM).pop().unwrap();
    assert!(ended.canceled, "{ended:?}");
    assert_eq!(asked(&mut store), 0, "a compaction ended one");
    store.cancel_watch(STREAM, ended.watch_id);
    drain(&mut store, STREAM);
    assert_eq!(asked(&mut store), 1, "its client has cancelled it");
}

#[test]
fn only_those_who_asked_hear_from_time_to_time_how_far_they_are() {
    let mut store = Store::new();
    store.open_stream(STREAM);
    store.watch(STREAM, everything(0));
    store.watch(
        STREAM,
        WatchRequest {
            progress: true,
            ..everything(0)
        },
    );
    drain(&mut store, STREAM);
    store.report_progress(STREAM);
    let reports = drain(&mut store, STREAM);
    assert_eq!(
        reports.iter().map(|it| it.watch_id).collect::<Vec<_>>(),
        [1]
    );
    // An event says as much, once.
    put(&mut store, "a", "1", 0);
    drain(&mut store, STREAM);
    store.report_progress(STREAM);
    assert_eq!(drain(&mut store, STREAM), []);
    store.report_progress(STREAM);
    assert_eq!(drain(&mut store, STREAM).len(), 1);
}

#[test]
fn a_stream_that_is_closed_leaves_nothing() {
    let mut store = Store::new();
    store.open_stream(STREAM);
    store.watch(STREAM, everything(0));
    store.close_stream(STREAM);
    store.take_woken();
    put(&mut store, "a", "1", 0);
    assert!(store.take_woken().is_empty());
    assert_eq!(store.poll_stream(STREAM), None);
}

#[test]
fn a_limit_does_not_change_the_count() {
    let mut store = Store::new();
    for key in ["a", "b", "c"] {
        put(&mut store, key, "1", 0);
    }
    let all = PbRangeRequest {
        key: vec![0],
        range_end: vec![0],
        ..PbRangeRequest::default()
    };
    for (limit, expected) in [
        (0, (3, false)),
        (2, (2, true)),
        (3, (3, false)),
        (9, (3, false)),
    ] {
        let limited = PbRangeRequest {
            limit,
            ..all.clone()
        };
        let response = store.range(&limited).unwrap();
        assert_eq!((response.kvs.len(), response.more), expected);
        assert_eq!(response.count, 3);
    }
}
