//! Watching what changes.

use etcd_client::proto::PbKeyValue;
use switchboard_test_support::{RawWatch, WatchOf};

use crate::{on_both, requests::*, servers::Server};

on_both! {
    a_watch_is_told_that_it_was_made_before_anything_else,
    puts_and_deletions_come_in_their_order,
    a_key_is_watched_alone,
    a_range_is_watched_without_its_end,
    a_range_without_end_is_watched_from_its_first_key,
    an_empty_key_is_the_first_key,
    the_events_of_a_revision_come_together,
    an_event_tells_all_that_is_known_of_the_key,
    puts_can_be_left_out,
    deletions_can_be_left_out,
    with_both_left_out_nothing_comes,
    a_filter_that_does_not_exist_is_none,
    the_former_value_comes_if_asked_for,
    a_future_start_is_waited_for,
    what_is_large_comes_in_one_piece,
    what_is_large_comes_in_fragments_if_asked_for,
}

/// Opens a stream with that watch.
pub(crate) async fn open(etcd: &Server, watch: WatchOf) -> RawWatch {
    let mut stream = etcd.watch(watch.create()).await.unwrap();
    let answer = stream.next().await.unwrap();
    assert!(answer.created && !answer.canceled, "{answer:?}");
    assert_eq!((answer.watch_id, answer.events.len()), (0, 0));
    stream
}

/// Waits until so many events have come, whatever they are divided into, and writes them.
pub(crate) async fn events(etcd: &Server, stream: &mut RawWatch, number: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < number {
        let answer = stream.next().await.unwrap();
        assert!(!answer.created && !answer.canceled, "{answer:?}");
        assert!(!answer.events.is_empty(), "{answer:?}");
        let last = answer.events.last().unwrap().kv.as_ref().unwrap();
        assert!(revision(&answer.header) >= last.mod_revision);
        seen.extend(written(&answer.events, etcd.revision(0)));
    }
    seen
}

/// Asks a stream on which nothing is under way for its progress, and returns whether it is told.
/// It costs a revision.
pub(crate) async fn tells_progress(etcd: &Server, stream: &mut RawWatch) -> bool {
    stream.send(WatchOf::progress());
    // What is told of a watch made afterwards comes after it; that it was made, in any order.
    stream.send(watch("marker").create());
    let (mut marker, mut is_told) = (None, false);
    loop {
        let answer = stream.next().await.unwrap();
        assert!(!answer.canceled, "{answer:?}");
        if answer.created {
            marker = Some(answer.watch_id);
            etcd.put(put("marker", "1")).await.unwrap();
        } else if answer.events.is_empty() {
            assert_eq!(answer.watch_id, -1);
            is_told = true;
        } else {
            assert_eq!(Some(answer.watch_id), marker);
            stream.send(WatchOf::cancel(answer.watch_id));
            assert!(stream.next().await.unwrap().canceled);
            return is_told;
        }
    }
}

async fn a_watch_is_told_that_it_was_made_before_anything_else(etcd: Server) {
    etcd.put(put("a", "1")).await.unwrap();
    let mut stream = etcd.watch(watch("a").create()).await.unwrap();
    let answer = stream.next().await.unwrap();
    assert!(answer.created && !answer.canceled && answer.events.is_empty());
    assert_eq!((answer.watch_id, &*answer.cancel_reason), (0, ""));
    assert_eq!(answer.compact_revision, 0);
    assert_eq!(revision(&answer.header), etcd.revision(1));
    etcd.put(put("a", "2")).await.unwrap();
    assert_eq!(events(&etcd, &mut stream, 1).await, ["+a=2@2"]);
}

async fn puts_and_deletions_come_in_their_order(etcd: Server) {
    let mut stream = open(&etcd, watch("a")).await;
    etcd.put(put("a", "1")).await.unwrap();
    etcd.delete(delete("a")).await.unwrap();
    etcd.delete(delete("a")).await.unwrap();
    etcd.put(put("a", "2")).await.unwrap();
    let expected = ["+a=1@1", "-a@2", "+a=2@3"];
    assert_eq!(events(&etcd, &mut stream, 3).await, expected);
}

async fn a_key_is_watched_alone(etcd: Server) {
    let mut stream = open(&etcd, watch("b")).await;
    for key in ["a", "ba", "c", "b"] {
        etcd.put(put(key, "1")).await.unwrap();
    }
    assert_eq!(events(&etcd, &mut stream, 1).await, ["+b=1@4"]);
}

async fn a_range_is_watched_without_its_end(etcd: Server) {
    let mut stream = open(&etcd, watch_range("b", "c")).await;
    for key in ["a", "c", "b", "ba"] {
        etcd.put(put(key, "1")).await.unwrap();
    }
    let expected = ["+b=1@3", "+ba=1@4"];
    assert_eq!(events(&etcd, &mut stream, 2).await, expected);
}

async fn a_range_without_end_is_watched_from_its_first_key(etcd: Server) {
    let mut stream = open(&etcd, watch_range("b", "\0")).await;
    for key in ["a", "b", "z"] {
        etcd.put(put(key, "1")).await.unwrap();
    }
    let expected = ["+b=1@2", "+z=1@3"];
    assert_eq!(events(&etcd, &mut stream, 2).await, expected);
}

async fn an_empty_key_is_the_first_key(etcd: Server) {
    let mut all = open(&etcd, watch_range("", "\0")).await;
    let mut first = open(&etcd, watch("")).await;
    etcd.put(put("a", "1")).await.unwrap();
    etcd.put(put("\0", "1")).await.unwrap();
    assert_eq!(events(&etcd, &mut all, 2).await, ["+a=1@1", "+\0=1@2"]);
    assert_eq!(events(&etcd, &mut first, 1).await, ["+\0=1@2"]);
}

async fn the_events_of_a_revision_come_together(etcd: Server) {
    etcd.put(put("d", "1")).await.unwrap();
    let mut stream = open(&etcd, watch_range("a", "\0")).await;
    let operations = [
        put("c", "1").op(),
        put("a", "1").op(),
        delete("d").op(),
        all_of([put("b", "1").op()]).op(),
    ];
    etcd.txn(all_of(operations)).await.unwrap();
    let answer = stream.next().await.unwrap();
    let expected = ["+c=1@2", "+a=1@2", "-d@2", "+b=1@2"];
    assert_eq!(written(&answer.events, etcd.revision(0)), expected);
    assert_eq!(revision(&answer.header), etcd.revision(2));
}

async fn an_event_tells_all_that_is_known_of_the_key(etcd: Server) {
    etcd.grant(lease(7, 1000)).await.unwrap();
    etcd.put(put("a", "1")).await.unwrap();
    let mut stream = open(&etcd, watch("a")).await;
    etcd.put(put_under("a", "2", 7)).await.unwrap();
    let answer = stream.next().await.unwrap();
    let expected = PbKeyValue {
        key: "a".into(),
        value: "2".into(),
        create_revision: etcd.revision(1),
        mod_revision: etcd.revision(2),
        version: 2,
        lease: 7,
    };
    assert_eq!(answer.events[0].kv, Some(expected));
    assert_eq!(answer.events[0].prev_kv, None);
}

/// Watches with those filters what is a put, a deletion and a put.
async fn filtered(etcd: &Server, filters: &[i32], expected: &[&str]) {
    let request = WatchOf {
        filters: filters.to_vec(),
        ..watch("a")
    };
    let mut stream = open(etcd, request).await;
    etcd.put(put("a", "1")).await.unwrap();
    etcd.delete(delete("a")).await.unwrap();
    etcd.put(put("a", "2")).await.unwrap();
    etcd.delete(delete("a")).await.unwrap();
    assert_eq!(events(etcd, &mut stream, expected.len()).await, expected);
}

async fn puts_can_be_left_out(etcd: Server) {
    filtered(&etcd, &[0], &["-a@2", "-a@4"]).await;
}

async fn deletions_can_be_left_out(etcd: Server) {
    filtered(&etcd, &[1], &["+a=1@1", "+a=2@3"]).await;
}

async fn with_both_left_out_nothing_comes(etcd: Server) {
    let request = WatchOf {
        filters: vec![0, 1],
        ..watch("a")
    };
    let mut stream = open(&etcd, request).await;
    // Of the same stream, and told of what came later.
    stream.send(watch("b").create());
    assert!(stream.next().await.unwrap().created);
    etcd.put(put("a", "1")).await.unwrap();
    etcd.delete(delete("a")).await.unwrap();
    etcd.put(put("b", "1")).await.unwrap();
    let answer = stream.next().await.unwrap();
    assert_eq!(written(&answer.events, etcd.revision(0)), ["+b=1@3"]);
    assert_eq!(answer.watch_id, 1);
}

async fn a_filter_that_does_not_exist_is_none(etcd: Server) {
    filtered(&etcd, &[2], &["+a=1@1", "-a@2", "+a=2@3", "-a@4"]).await;
}

async fn the_former_value_comes_if_asked_for(etcd: Server) {
    let request = WatchOf {
        prev_kv: true,
        ..watch("a")
    };
    let mut stream = open(&etcd, request).await;
    etcd.put(put("a", "1")).await.unwrap();
    etcd.put(put("a", "2")).await.unwrap();
    etcd.delete(delete("a")).await.unwrap();
    etcd.put(put("a", "3")).await.unwrap();
    let mut former = Vec::new();
    while former.len() < 4 {
        let answer = stream.next().await.unwrap();
        former.extend(answer.events.into_iter().map(|event| {
            event.prev_kv.map(|kv| {
                let changed = kv.mod_revision - etcd.revision(0);
                (text(&kv.value).to_owned(), kv.version, changed)
            })
        }));
    }
    let was = |value: &str, version, changed| Some((value.to_owned(), version, changed));
    assert_eq!(former, [None, was("1", 1, 1), was("2", 2, 2), None]);
}

async fn a_future_start_is_waited_for(etcd: Server) {
    let request = WatchOf {
        start_revision: etcd.revision(3),
        ..watch("a")
    };
    let mut stream = open(&etcd, request).await;
    for value in ["1", "2", "3", "4"] {
        etcd.put(put("a", value)).await.unwrap();
    }
    let expected = ["+a=3@3", "+a=4@4"];
    assert_eq!(events(&etcd, &mut stream, 2).await, expected);
}

/// Makes four keys of a MiB each, whose deletion with its former values is one revision.
async fn large(etcd: &Server) {
    for key in ["a", "b", "c", "d"] {
        etcd.put(put(key, &"x".repeat(1 << 20))).await.unwrap();
    }
}

async fn what_is_large_comes_in_one_piece(etcd: Server) {
    large(&etcd).await;
    let request = WatchOf {
        prev_kv: true,
        ..watch_range("a", "z")
    };
    let mut stream = open(&etcd, request).await;
    etcd.delete(delete_range("a", "z")).await.unwrap();
    let answer = stream.next().await.unwrap();
    assert_eq!((answer.events.len(), answer.fragment), (4, false));
}

async fn what_is_large_comes_in_fragments_if_asked_for(etcd: Server) {
    large(&etcd).await;
    let request = WatchOf {
        prev_kv: true,
        fragment: true,
        ..watch_range("a", "z")
    };
    let mut stream = open(&etcd, request).await;
    etcd.delete(delete_range("a", "z")).await.unwrap();
    let mut seen = Vec::new();
    let mut fragments = Vec::new();
    while seen.len() < 4 {
        let answer = stream.next().await.unwrap();
        seen.extend(written(&answer.events, etcd.revision(0)));
        fragments.push(answer.fragment);
        assert_eq!(revision(&answer.header), etcd.revision(5));
    }
    assert_eq!(seen, ["-a@5", "-b@5", "-c@5", "-d@5"]);
    assert_eq!(fragments.pop(), Some(false));
    assert!(
        !fragments.is_empty() && fragments.iter().all(|more| *more),
        "{fragments:?}"
    );
}
