//! Watching from a revision of the past.

use etcd_client::proto::{PbCompactionRequest, PbWatchResponse};
use switchboard_test_support::{Change, RawWatch, WatchOf};

use crate::{
    on_both,
    requests::*,
    servers::Server,
    watch::{events, open, tells_progress},
};

on_both! {
    what_has_happened_since_the_start_comes_first,
    nothing_is_lost_between_the_past_and_now,
    a_past_revision_comes_together,
    filters_hold_for_the_past,
    former_values_come_with_the_past,
    a_former_value_that_is_compacted_does_not_come,
    a_compacted_start_is_made_and_cancelled,
    the_id_of_a_compacted_watch_is_taken_until_it_is_cancelled,
    the_compacted_revision_itself_is_no_compacted_start,
    a_compaction_does_not_disturb_who_is_up_to_date,
    a_start_below_zero_is_refused_as_compacted,
    a_deletion_at_the_compacted_revision_is_told,
    a_compacted_watch_keeps_progress_from_its_stream_until_it_is_cancelled,
}

fn since(start_revision: i64, watch: WatchOf) -> WatchOf {
    WatchOf {
        start_revision,
        ..watch
    }
}

async fn changes(etcd: &Server) {
    etcd.put(put("a", "1")).await.unwrap();
    etcd.put(put("a", "2")).await.unwrap();
    etcd.delete(delete("a")).await.unwrap();
    etcd.put(put("b", "4")).await.unwrap();
    etcd.put(put("a", "5")).await.unwrap();
}

async fn what_has_happened_since_the_start_comes_first(etcd: Server) {
    changes(&etcd).await;
    let mut stream = open(&etcd, since(etcd.revision(2), watch("a"))).await;
    let expected = ["+a=2@2", "-a@3", "+a=5@5"];
    assert_eq!(events(&etcd, &mut stream, 3).await, expected);
    etcd.put(put("a", "6")).await.unwrap();
    assert_eq!(events(&etcd, &mut stream, 1).await, ["+a=6@6"]);
}

async fn nothing_is_lost_between_the_past_and_now(etcd: Server) {
    for _ in 0..20 {
        etcd.put(put("a", "1")).await.unwrap();
    }
    let mut stream = open(&etcd, since(etcd.revision(1), watch("a"))).await;
    for _ in 0..20 {
        etcd.put(put("a", "1")).await.unwrap();
    }
    let expected: Vec<_> = (1..=40).map(|n| format!("+a=1@{n}")).collect();
    assert_eq!(events(&etcd, &mut stream, 40).await, expected);
}

async fn a_past_revision_comes_together(etcd: Server) {
    let writes = ["c", "a", "b"].map(|key| put(key, "1").op());
    etcd.txn(all_of(writes)).await.unwrap();
    let mut stream = open(&etcd, since(etcd.revision(1), watch_range("a", "z"))).await;
    let answer = stream.next().await.unwrap();
    let expected = ["+c=1@1", "+a=1@1", "+b=1@1"];
    assert_eq!(written(&answer.events, etcd.revision(0)), expected);
}

async fn filters_hold_for_the_past(etcd: Server) {
    changes(&etcd).await;
    let request = WatchOf {
        filters: vec![1],
        ..watch_range("a", "z")
    };
    let mut stream = open(&etcd, since(etcd.revision(2), request)).await;
    let expected = ["+a=2@2", "+b=4@4", "+a=5@5"];
    assert_eq!(events(&etcd, &mut stream, 3).await, expected);
}

/// Returns what stood before each of the next events.
async fn former(stream: &mut RawWatch, number: usize) -> Vec<Option<String>> {
    let mut former = Vec::new();
    while former.len() < number {
        let answer = stream.next().await.unwrap();
        former.extend(answer.events.into_iter().map(|event| {
            let kv = event.prev_kv?;
            Some(text(&kv.value).to_owned())
        }));
    }
    former
}

fn former_too(watch: WatchOf) -> WatchOf {
    WatchOf {
        prev_kv: true,
        ..watch
    }
}

async fn former_values_come_with_the_past(etcd: Server) {
    changes(&etcd).await;
    let request = since(etcd.revision(1), former_too(watch("a")));
    let mut stream = open(&etcd, request).await;
    let expected = [None, Some("1".to_owned()), Some("2".to_owned()), None];
    assert_eq!(former(&mut stream, 4).await, expected);
}

async fn a_former_value_that_is_compacted_does_not_come(etcd: Server) {
    for value in ["1", "2", "3"] {
        etcd.put(put("a", value)).await.unwrap();
    }
    etcd.compact(compact(etcd.revision(2))).await.unwrap();
    let request = since(etcd.revision(2), former_too(watch("a")));
    let mut stream = open(&etcd, request).await;
    assert_eq!(former(&mut stream, 2).await, [None, Some("2".to_owned())]);
}

async fn a_compacted_start_is_made_and_cancelled(etcd: Server) {
    changes(&etcd).await;
    etcd.compact(compact(etcd.revision(4))).await.unwrap();
    let mut stream = open(&etcd, since(etcd.revision(3), watch("a"))).await;
    is_compacted(&stream.next().await.unwrap(), etcd.revision(4));

    // The stream stands, and the next watch is another one.
    stream.send(since(etcd.revision(4), watch("b")).create());
    let answer = stream.next().await.unwrap();
    assert!(answer.created && !answer.canceled);
    assert_eq!(answer.watch_id, 1);
    assert_eq!(events(&etcd, &mut stream, 1).await, ["+b=4@4"]);
}

async fn the_id_of_a_compacted_watch_is_taken_until_it_is_cancelled(etcd: Server) {
    changes(&etcd).await;
    etcd.compact(compact(etcd.revision(4))).await.unwrap();
    let request = WatchOf {
        watch_id: 7,
        ..since(etcd.revision(3), watch("a"))
    };
    let mut stream = etcd.watch(request.clone().create()).await.unwrap();
    assert!(stream.next().await.unwrap().created);
    assert!(stream.next().await.unwrap().canceled);

    stream.send(request.clone().create());
    let answer = stream.next().await.unwrap();
    assert_eq!((answer.watch_id, answer.canceled), (-1, true));
    stream.send(WatchOf::cancel(7));
    let answer = stream.next().await.unwrap();
    assert_eq!((answer.watch_id, answer.canceled), (7, true));
    stream.send(request.create());
    let answer = stream.next().await.unwrap();
    assert_eq!((answer.watch_id, answer.canceled), (7, false));
}

/// Asserts that a watch was cancelled for a compaction, as etcd does it: without a reason.
fn is_compacted(answer: &PbWatchResponse, compacted: i64) {
    assert!(answer.canceled && !answer.created, "{answer:?}");
    assert_eq!((answer.watch_id, answer.compact_revision), (0, compacted));
    assert_eq!((revision(&answer.header), &*answer.cancel_reason), (0, ""));
}

async fn the_compacted_revision_itself_is_no_compacted_start(etcd: Server) {
    changes(&etcd).await;
    etcd.compact(compact(etcd.revision(2))).await.unwrap();
    let mut stream = open(&etcd, since(etcd.revision(2), watch("a"))).await;
    let expected = ["+a=2@2", "-a@3", "+a=5@5"];
    assert_eq!(events(&etcd, &mut stream, 3).await, expected);
}

async fn a_compaction_does_not_disturb_who_is_up_to_date(etcd: Server) {
    let mut stream = open(&etcd, watch("a")).await;
    changes(&etcd).await;
    assert_eq!(events(&etcd, &mut stream, 4).await.len(), 4);
    etcd.compact(compact(etcd.revision(5))).await.unwrap();
    etcd.put(put("a", "6")).await.unwrap();
    assert_eq!(events(&etcd, &mut stream, 1).await, ["+a=6@6"]);
}

async fn a_start_below_zero_is_refused_as_compacted(etcd: Server) {
    changes(&etcd).await;
    let request = since(-1, watch("a"));
    if !etcd.has(Change::StartsLookedAt).await {
        let mut stream = open(&etcd, request).await;
        is_compacted(&stream.next().await.unwrap(), etcd.revision(0));
        return;
    }
    let mut stream = etcd.watch(request.create()).await.unwrap();
    let answer = stream.next().await.unwrap();
    assert!(answer.created && answer.canceled, "{answer:?}");
    let reason = "etcdserver: mvcc: required revision has been compacted";
    assert_eq!((answer.watch_id, &*answer.cancel_reason), (-1, reason));
}

async fn a_deletion_at_the_compacted_revision_is_told(etcd: Server) {
    changes(&etcd).await;
    let request = PbCompactionRequest {
        // So that what is taken along has gone when the watch begins.
        physical: true,
        ..compact(etcd.revision(3))
    };
    etcd.compact(request).await.unwrap();
    let mut stream = open(&etcd, since(etcd.revision(3), watch("a"))).await;
    let expected: &[_] = match etcd.has(Change::DeletionsKept).await {
        true => &["-a@3", "+a=5@5"],
        false => &["+a=5@5"],
    };
    assert_eq!(events(&etcd, &mut stream, expected.len()).await, expected);
}

async fn a_compacted_watch_keeps_progress_from_its_stream_until_it_is_cancelled(etcd: Server) {
    changes(&etcd).await;
    etcd.compact(compact(etcd.revision(4))).await.unwrap();
    let mut stream = open(&etcd, since(etcd.revision(3), watch("a"))).await;
    is_compacted(&stream.next().await.unwrap(), etcd.revision(4));
    stream.send(watch("b").create());
    assert!(stream.next().await.unwrap().created);

    let is_told = !etcd.has(Change::ProgressInTurn).await;
    assert_eq!(tells_progress(&etcd, &mut stream).await, is_told);
    stream.send(WatchOf::cancel(0));
    assert!(stream.next().await.unwrap().canceled);
    assert!(tells_progress(&etcd, &mut stream).await);
}
