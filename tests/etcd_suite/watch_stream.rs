//! Several watches on one stream.

use switchboard_test_support::{Change, WatchOf};

use crate::{
    on_both,
    requests::*,
    servers::Server,
    watch::{events, open, tells_progress},
};

on_both! {
    ids_count_from_zero,
    an_id_can_be_given,
    given_ids_are_passed_over,
    an_id_is_given_once,
    each_watch_has_its_own_events,
    a_cancelled_watch_is_told_so_and_gets_nothing_more,
    a_cancelled_id_can_be_given_again,
    cancelling_what_is_unknown_is_not_answered,
    an_empty_range_is_refused,
    a_refused_watch_leaves_the_others,
    progress_is_told_for_the_whole_stream,
    a_stream_without_a_watch_is_told_no_progress,
    a_watch_that_has_yet_to_start_keeps_progress_from_its_stream,
    a_request_without_content_is_not_answered,
    a_client_that_asks_no_more_is_still_told,
    streams_count_their_ids_on_their_own,
}

fn with_id(watch_id: i64, watch: WatchOf) -> WatchOf {
    WatchOf { watch_id, ..watch }
}

async fn ids_count_from_zero(etcd: Server) {
    let mut stream = open(&etcd, watch("a")).await;
    for id in 1..=3 {
        stream.send(watch("a").create());
        assert_eq!(stream.next().await.unwrap().watch_id, id);
    }
}

async fn an_id_can_be_given(etcd: Server) {
    let mut stream = etcd.watch(with_id(42, watch("a")).create()).await.unwrap();
    let answer = stream.next().await.unwrap();
    assert_eq!((answer.watch_id, answer.created), (42, true));
    etcd.put(put("a", "1")).await.unwrap();
    assert_eq!(stream.next().await.unwrap().watch_id, 42);
}

async fn given_ids_are_passed_over(etcd: Server) {
    let mut stream = etcd.watch(with_id(1, watch("a")).create()).await.unwrap();
    let mut ids = vec![stream.next().await.unwrap().watch_id];
    for _ in 0..3 {
        stream.send(watch("a").create());
        ids.push(stream.next().await.unwrap().watch_id);
    }
    assert_eq!(ids, [1, 0, 2, 3]);
}

async fn an_id_is_given_once(etcd: Server) {
    let mut stream = etcd.watch(with_id(7, watch("a")).create()).await.unwrap();
    assert!(stream.next().await.unwrap().created);
    stream.send(with_id(7, watch("b")).create());
    let answer = stream.next().await.unwrap();
    assert!(answer.created && answer.canceled);
    let reason = "mvcc: duplicate watch ID provided on the WatchStream";
    assert_eq!((answer.watch_id, &*answer.cancel_reason), (-1, reason));
    etcd.put(put("b", "1")).await.unwrap();
    etcd.put(put("a", "1")).await.unwrap();
    assert_eq!(events(&etcd, &mut stream, 1).await, ["+a=1@2"]);
}

async fn each_watch_has_its_own_events(etcd: Server) {
    let mut stream = open(&etcd, watch("a")).await;
    stream.send(watch_range("a", "c").create());
    assert!(stream.next().await.unwrap().created);
    etcd.put(put("a", "1")).await.unwrap();
    etcd.put(put("b", "1")).await.unwrap();
    let mut seen = [Vec::new(), Vec::new()];
    while seen.iter().map(Vec::len).sum::<usize>() < 3 {
        let answer = stream.next().await.unwrap();
        let events = written(&answer.events, etcd.revision(0));
        seen[answer.watch_id as usize].extend(events);
    }
    assert_eq!(seen[0], ["+a=1@1"]);
    assert_eq!(seen[1], ["+a=1@1", "+b=1@2"]);
}

async fn a_cancelled_watch_is_told_so_and_gets_nothing_more(etcd: Server) {
    let mut stream = open(&etcd, watch("a")).await;
    stream.send(watch("b").create());
    assert!(stream.next().await.unwrap().created);
    stream.send(WatchOf::cancel(0));
    let answer = stream.next().await.unwrap();
    assert!(answer.canceled && !answer.created);
    assert_eq!((answer.watch_id, answer.compact_revision), (0, 0));
    assert_eq!(answer.cancel_reason, "");
    assert_eq!(revision(&answer.header), etcd.revision(0));
    etcd.put(put("a", "1")).await.unwrap();
    etcd.put(put("b", "1")).await.unwrap();
    assert_eq!(events(&etcd, &mut stream, 1).await, ["+b=1@2"]);
}

async fn a_cancelled_id_can_be_given_again(etcd: Server) {
    let mut stream = etcd.watch(with_id(7, watch("a")).create()).await.unwrap();
    assert!(stream.next().await.unwrap().created);
    stream.send(WatchOf::cancel(7));
    assert!(stream.next().await.unwrap().canceled);
    stream.send(with_id(7, watch("b")).create());
    let answer = stream.next().await.unwrap();
    assert!(answer.created && !answer.canceled);
    assert_eq!(answer.watch_id, 7);
}

async fn cancelling_what_is_unknown_is_not_answered(etcd: Server) {
    let mut stream = open(&etcd, watch("a")).await;
    stream.send(WatchOf::cancel(9));
    stream.send(watch("b").create());
    let answer = stream.next().await.unwrap();
    assert!(answer.created, "{answer:?}");
}

async fn an_empty_range_is_refused(etcd: Server) {
    for (key, end) in [("b", "a"), ("b", "b")] {
        let request = watch_range(key, end).create();
        let mut stream = etcd.watch(request).await.unwrap();
        let answer = stream.next().await.unwrap();
        assert!(answer.created && answer.canceled);
        let reason = "mvcc: watcher range is empty";
        assert_eq!((answer.watch_id, &*answer.cancel_reason), (-1, reason));
        assert_eq!(revision(&answer.header), etcd.revision(0));
    }
}

async fn a_refused_watch_leaves_the_others(etcd: Server) {
    let mut stream = open(&etcd, watch("a")).await;
    stream.send(watch_range("b", "a").create());
    assert!(stream.next().await.unwrap().canceled);
    stream.send(watch("b").create());
    assert_eq!(stream.next().await.unwrap().watch_id, 1);
    etcd.put(put("a", "1")).await.unwrap();
    assert_eq!(events(&etcd, &mut stream, 1).await, ["+a=1@1"]);
}

async fn progress_is_told_for_the_whole_stream(etcd: Server) {
    let mut stream = open(&etcd, watch("a")).await;
    etcd.put(put("b", "1")).await.unwrap();
    etcd.put(put("b", "2")).await.unwrap();
    stream.send(WatchOf::progress());
    let answer = stream.next().await.unwrap();
    assert!(answer.events.is_empty() && !answer.created && !answer.canceled);
    assert_eq!(answer.watch_id, -1);
    assert_eq!(revision(&answer.header), etcd.revision(2));
}

async fn a_stream_without_a_watch_is_told_no_progress(etcd: Server) {
    let mut stream = open(&etcd, watch("a")).await;
    stream.send(WatchOf::cancel(0));
    assert!(stream.next().await.unwrap().canceled);
    let is_told = !etcd.has(Change::ProgressInTurn).await;
    assert_eq!(tells_progress(&etcd, &mut stream).await, is_told);
}

async fn a_watch_that_has_yet_to_start_keeps_progress_from_its_stream(etcd: Server) {
    let request = WatchOf {
        start_revision: etcd.revision(1),
        ..watch("a")
    };
    let mut stream = open(&etcd, request).await;
    let is_told = !etcd.has(Change::NoProgressBeforeTheStart).await;
    assert_eq!(tells_progress(&etcd, &mut stream).await, is_told);
    // Asking took the revision that it starts at.
    assert!(tells_progress(&etcd, &mut stream).await);
}

async fn a_request_without_content_is_not_answered(etcd: Server) {
    let mut stream = open(&etcd, watch("a")).await;
    stream.send(Default::default());
    stream.send(watch("b").create());
    assert_eq!(stream.next().await.unwrap().watch_id, 1);
}

async fn a_client_that_asks_no_more_is_still_told(etcd: Server) {
    let mut stream = open(&etcd, watch("a")).await;
    stream.ask_no_more();
    etcd.put(put("a", "1")).await.unwrap();
    assert_eq!(events(&etcd, &mut stream, 1).await, ["+a=1@1"]);
}

async fn streams_count_their_ids_on_their_own(etcd: Server) {
    let mut one = open(&etcd, watch("a")).await;
    let mut two = open(&etcd, watch("a")).await;
    two.send(WatchOf::cancel(0));
    assert!(two.next().await.unwrap().canceled);
    etcd.put(put("a", "1")).await.unwrap();
    assert_eq!(events(&etcd, &mut one, 1).await, ["+a=1@1"]);
}
