//! Queues whose items are done at least once.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use futures::future::join_all;
use switchboard::{
    Registry,
    coordination::{AckError, Claim, ClaimError, Failure, PushError, WorkQueue},
    keys::{KeyRange, KeyValue, Selection},
};
use switchboard_test_support::{RawEtcd, eventually};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    deaf::Deaf,
    on_both,
    server::{SOON, Server, TTL, is_closed, items_or, put, soon},
};

on_both! {
    an_item_is_claimed_once_and_gone_when_it_is_done,
    the_smallest_priority_is_claimed_first_and_of_one_the_oldest,
    what_is_given_back_is_another_one_s,
    those_of_one_process_never_have_the_same,
    items_behind_many_that_others_work_on_are_found,
    items_behind_many_whose_claims_are_lost_are_found,
    a_lost_claim_that_is_dropped_is_another_one_s_at_once,
    what_others_put_there_is_no_item,
    a_claim_whose_lease_is_lost_is_given_to_somebody_else,
    who_waits_goes_on_whatever_becomes_of_etcd,
    an_ack_whose_answer_was_lost_is_done,
    a_claim_whose_answer_was_lost_is_had,
    waiting_ends_with_the_registry,
    work_queues_whose_names_begin_alike_are_apart,
    what_is_no_name_is_refused,
    all_is_done_whoever_is_cancelled_or_closed,
}

fn queue(registry: &Registry) -> WorkQueue {
    WorkQueue::new(registry, "orders").unwrap()
}

async fn push(queue: &WorkQueue, priority: u16, value: &str) {
    soon(queue.push(priority, value)).await.unwrap();
}

async fn claim(queue: &WorkQueue) -> Claim {
    soon(queue.claim()).await.unwrap()
}

async fn is_empty(queue: &WorkQueue) -> bool {
    soon(queue.try_claim()).await.unwrap().is_none()
}

/// Returns what is in etcd of all queues.
async fn keys(etcd: &Server) -> Vec<KeyValue> {
    let all = Selection::of(KeyRange::Under("/switchboard/queues/".to_owned()));
    let registry = etcd.registry().await;
    soon(registry.keys().select(&all)).await.unwrap().keys
}

async fn nothing_is_left(etcd: &Server) {
    let left = async || match &keys(etcd).await[..] {
        [] => Ok(()),
        left => Err(format!("{left:?}")),
    };
    eventually(SOON, "no key is left", left).await;
}

async fn an_item_is_claimed_once_and_gone_when_it_is_done(etcd: &mut Server) {
    let (here, there) = (queue(&etcd.registry().await), queue(&etcd.registry().await));
    push(&here, 7, "apples").await;
    let order = claim(&here).await;
    assert_eq!(order.value(), b"apples");
    let time = order
        .key()
        .strip_prefix("/switchboard/queues/orders/items/00007/");
    assert_eq!(time.unwrap().len(), 19);
    let keys = keys(etcd).await;
    assert_eq!(keys.len(), 2);
    let claimed = order.key().replace("/items/", "/claims/");
    assert!(keys[0].key == claimed.as_bytes() && keys[0].lease != 0);
    assert!(keys[1].key == order.key().as_bytes() && keys[1].lease == 0);
    assert!(is_empty(&there).await && is_empty(&here).await);
    soon(order.ack()).await.unwrap();
    assert!(is_empty(&there).await && is_empty(&here).await);
    nothing_is_left(etcd).await;
}

async fn the_smallest_priority_is_claimed_first_and_of_one_the_oldest(etcd: &mut Server) {
    let queue = queue(&etcd.registry().await);
    for (priority, value) in [(9, "d"), (2, "b"), (65535, "e"), (2, "c"), (0, "a")] {
        push(&queue, priority, value).await;
    }
    let mut claims = Vec::new();
    for value in ["a", "b", "c", "d", "e"] {
        claims.push(claim(&queue).await);
        assert_eq!(claims.last().unwrap().value(), value.as_bytes());
    }
    for claim in claims {
        soon(claim.ack()).await.unwrap();
    }
    nothing_is_left(etcd).await;
}

async fn what_is_given_back_is_another_one_s(etcd: &mut Server) {
    let (here, there) = (queue(&etcd.registry().await), queue(&etcd.registry().await));
    push(&here, 1, "apples").await;
    soon(claim(&here).await.release()).await.unwrap();
    let order = claim(&there).await;
    let mut waiting = JoinSet::from_iter([async move { claim(&here).await }]);
    assert!(
        timeout(Duration::from_millis(200), waiting.join_next())
            .await
            .is_err()
    );
    drop(order);
    let order = soon(waiting.join_next()).await.unwrap().unwrap();
    assert_eq!(order.value(), b"apples");
    soon(order.ack()).await.unwrap();
    nothing_is_left(etcd).await;
}

async fn those_of_one_process_never_have_the_same(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let mut working = JoinSet::new();
    for _ in 0..8 {
        let queue = queue(&registry);
        working.spawn(async move { claim(&queue).await });
    }
    for number in 0..8 {
        push(&queue(&registry), 1, &number.to_string()).await;
    }
    let claims = soon(working.join_all()).await;
    let mut values: Vec<_> = claims.iter().map(|it| it.value().to_vec()).collect();
    values.sort();
    values.dedup();
    assert_eq!(values.len(), 8);
    assert!(is_empty(&queue(&registry)).await);
    for claim in claims {
        soon(claim.ack()).await.unwrap();
    }
    nothing_is_left(etcd).await;
}

async fn items_behind_many_that_others_work_on_are_found(etcd: &mut Server) {
    let queue = queue(&etcd.registry().await);
    let mut claims = Vec::new();
    for number in 0..70 {
        push(&queue, 1, &number.to_string()).await;
        claims.push(claim(&queue).await);
    }
    assert!(is_empty(&queue).await);
    push(&queue, 2, "last").await;
    let last = soon(queue.try_claim()).await.unwrap().expect("it is free");
    assert_eq!(last.value(), b"last");
}

/// Ends the lease of a registry that has claimed something.
async fn revoke(etcd: &Server, claims: &[Claim]) {
    let lease = keys(etcd).await[0].lease;
    let etcd = RawEtcd::connect(etcd.endpoint());
    etcd.revoke(lease).await.unwrap();
    for claim in claims {
        soon(claim.lost()).await;
    }
}

async fn items_behind_many_whose_claims_are_lost_are_found(etcd: &mut Server) {
    let queue = queue(&etcd.registry().await);
    let mut lost = Vec::new();
    for number in 0..64 {
        push(&queue, 1, &number.to_string()).await;
        lost.push(claim(&queue).await);
    }
    revoke(etcd, &lost).await;
    // Nobody else has them, but those who have lost them are not done.
    push(&queue, 2, "last").await;
    let last = soon(queue.try_claim()).await.unwrap().expect("it is free");
    assert_eq!(last.value(), b"last");
}

async fn a_lost_claim_that_is_dropped_is_another_one_s_at_once(etcd: &mut Server) {
    let queue = queue(&etcd.registry().await);
    push(&queue, 1, "apples").await;
    let lost = [claim(&queue).await];
    revoke(etcd, &lost).await;
    let waits = queue.clone();
    let mut waiting = JoinSet::from_iter([async move { claim(&waits).await }]);
    let waited = timeout(Duration::from_secs(1), waiting.join_next()).await;
    assert!(waited.is_err(), "who has lost it is not done");
    drop(lost);
    // Its key is gone already, so that no watch tells of it.
    let waited = timeout(Duration::from_secs(4), waiting.join_next()).await;
    let order = waited.expect("at once").unwrap().unwrap();
    soon(order.ack()).await.unwrap();
    nothing_is_left(etcd).await;
}

async fn what_others_put_there_is_no_item(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let queue = queue(&registry);
    for key in [
        "00001/a",
        "00001",
        "a/1764339190000000000",
        "70000/1764339190000000000",
    ] {
        put(
            &registry,
            &format!("/switchboard/queues/orders/items/{key}"),
            "stray",
        )
        .await;
    }
    assert!(is_empty(&queue).await);
    push(&queue, 1, "apples").await;
    assert_eq!(claim(&queue).await.value(), b"apples");
}

async fn a_claim_whose_lease_is_lost_is_given_to_somebody_else(etcd: &mut Server) {
    let (here, there) = (queue(&etcd.registry().await), queue(&etcd.registry().await));
    push(&here, 1, "apples").await;
    let order = claim(&here).await;
    let lease = keys(etcd).await[0].lease;
    RawEtcd::connect(etcd.endpoint())
        .revoke(lease)
        .await
        .unwrap();
    let theirs = claim(&there).await;
    assert_eq!(theirs.value(), b"apples");
    soon(order.lost()).await;
    let error = soon(order.ack()).await.unwrap_err();
    assert!(matches!(error, AckError::Lost { .. }), "{error}");
    soon(theirs.ack()).await.unwrap();
    nothing_is_left(etcd).await;
}

async fn who_waits_goes_on_whatever_becomes_of_etcd(etcd: &mut Server) {
    let (here, there) = (etcd.registry().await, etcd.registry().await);
    for fault in 0..3 {
        let waits = queue(&here);
        let mut waiting = JoinSet::from_iter([async move { claim(&waits).await }]);
        sleep(Duration::from_millis(100)).await;
        match fault {
            0 => etcd.restart().await,
            1 => {
                etcd.compact().await;
                etcd.restart().await;
            }
            _ => etcd.wipe().await,
        }
        crate::server::put(&there, "/other", "1").await;
        push(&queue(&there), 1, "apples").await;
        let order = soon(waiting.join_next()).await.unwrap().unwrap();
        soon(order.ack()).await.unwrap();
    }
}

async fn an_ack_whose_answer_was_lost_is_done(etcd: &mut Server) {
    let deaf = Deaf::to(etcd).await;
    let queue = queue(&deaf.registry().await);
    push(&queue, 1, "apples").await;
    let order = claim(&queue).await;
    let done = async || keys(etcd).await.is_empty();
    deaf.unheard(order.ack(), done).await.unwrap();
    nothing_is_left(etcd).await;
}

async fn a_claim_whose_answer_was_lost_is_had(etcd: &mut Server) {
    let deaf = Deaf::to(etcd).await;
    let queue = queue(&deaf.registry().await);
    push(&queue, 1, "apples").await;
    // Its lease is there.
    drop(claim(&queue).await);
    let free = async || (keys(etcd).await.len() == 1).then_some(()).ok_or("claimed");
    eventually(SOON, "it is given back", free).await;
    deaf.hold();
    let cutting = async {
        // The list is held back too, so that the claim comes after it.
        sleep(Duration::from_millis(100)).await;
        deaf.release();
    };
    let (order, ()) = tokio::join!(claim(&queue), cutting);
    assert_eq!(order.value(), b"apples");
    soon(order.ack()).await.unwrap();
    nothing_is_left(etcd).await;
}

async fn waiting_ends_with_the_registry(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let held = queue(&registry);
    push(&held, 1, "apples").await;
    let order = claim(&held).await;
    let waits = queue(&registry);
    let mut waiting = JoinSet::from_iter([async move { waits.claim().await }]);
    sleep(Duration::from_millis(100)).await;
    soon(registry.close()).await;
    let ended = soon(waiting.join_next()).await.unwrap().unwrap();
    for ended in [ended, soon(held.claim()).await] {
        match ended.unwrap_err() {
            ClaimError::Etcd { cause, .. } => assert!(is_closed(&cause), "{cause}"),
            error => panic!("{error}"),
        }
    }
    soon(order.ack()).await.unwrap_err();
    // It is another one's at once.
    let other = queue(&etcd.registry().await);
    soon(claim(&other).await.ack()).await.unwrap();
    nothing_is_left(etcd).await;
}

async fn work_queues_whose_names_begin_alike_are_apart(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let of = |name: &str| WorkQueue::new(&registry, name).unwrap();
    for name in ["a", "ab", "a-b", "items"] {
        push(&of(name), 1, name).await;
    }
    for name in ["a", "ab", "a-b", "items"] {
        let order = claim(&of(name)).await;
        assert_eq!(order.value(), name.as_bytes());
        assert!(is_empty(&of(name)).await);
        soon(order.ack()).await.unwrap();
    }
    nothing_is_left(etcd).await;
}

async fn what_is_no_name_is_refused(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let before = etcd.revision().await;
    for name in ["", "/", "a/b", "a\n"] {
        WorkQueue::new(&registry, name).unwrap_err();
    }
    let large = vec![b'x'; (1 << 20) + 1];
    let error = queue(&registry).push(1, &large).await.unwrap_err();
    assert!(matches!(error, PushError::TooLarge { .. }), "{error}");
    assert_eq!(etcd.revision().await, before);
}

fn items() -> usize {
    items_or(400)
}

async fn all_is_done_whoever_is_cancelled_or_closed(etcd: &mut Server) {
    let done: RefCell<BTreeMap<Vec<u8>, usize>> = RefCell::default();
    let registry = etcd.registry().await;
    for number in 0..items() {
        push(&queue(&registry), fastrand::u16(0..3), &number.to_string()).await;
    }
    let endpoint = etcd.endpoint().to_owned();
    let working = (0..8).map(|_| work(&endpoint, &done));
    let faults = async {
        for _ in 0..4 {
            sleep(Duration::from_millis(300)).await;
            etcd.restart().await;
        }
    };
    let all = async { tokio::join!(join_all(working), faults) };
    timeout(Duration::from_secs(120 + items() as u64 / 50), all)
        .await
        .expect("in time");
    assert_eq!(done.borrow().len(), items());
    // What was done, but of which etcd has not heard, is done again.
    let rest = queue(&registry);
    let left = async || {
        while let Some(order) = soon(rest.try_claim()).await.unwrap() {
            soon(order.ack()).await.unwrap();
        }
        match keys(etcd).await.len() {
            0 => Ok(()),
            left => Err(left),
        }
    };
    eventually(SOON, "no key is left", left).await;
}

/// Does items until there are none; gives some back, and is closed at times.
async fn work(endpoint: &str, done: &RefCell<BTreeMap<Vec<u8>, usize>>) {
    let connect = || {
        let registry = Registry::builder(endpoint).unwrap().ttl(TTL);
        registry.connect_lazy().unwrap()
    };
    let mut registry = connect();
    while done.borrow().len() < items() {
        let limit = Duration::from_micros(fastrand::u64(0..30_000));
        let work = queue(&registry);
        let order = match timeout(limit, work.claim()).await {
            Err(_) => continue,
            Ok(Ok(order)) => order,
            Ok(Err(ClaimError::Etcd {
                cause: Failure::Unavailable(_),
                ..
            })) => continue,
            Ok(Err(error)) => panic!("{error:?}"),
        };
        match fastrand::u8(0..40) {
            0 => {
                registry.close().await;
                registry = connect();
            }
            1..8 => drop(order),
            _ => {
                let value = order.value().to_vec();
                // It is done; whether etcd hears of it is another thing.
                *done.borrow_mut().entry(value).or_default() += 1;
                let _ = order.ack().await;
            }
        }
    }
    registry.close().await;
}
