//! Queues whose pops are cancelled, and answers of which are lost: what is lost with them is told.

use std::{collections::BTreeSet, future::poll_fn, pin::pin, task::Poll, time::Duration};

use switchboard::{
    Registry,
    coordination::{Item, PopError, PriorityQueue, PushError, Pushed, Queue},
};
use tokio::{sync::Mutex, time::timeout};

use crate::{
    deaf::{Deaf, wait},
    on_both,
    server::{Server, begin_elsewhere, soon},
};

on_both! {
    pops_that_are_cancelled_anywhere_lose_nothing,
    who_was_cancelled_gets_what_it_had_taken,
    what_was_begun_on_a_runtime_that_has_ended_is_finished_on_another,
    an_item_whose_answer_was_lost_is_told_of,
    an_item_that_is_there_still_is_taken,
    a_doubt_stays_when_the_pop_is_cancelled,
    a_push_whose_answer_was_lost_is_found,
    a_push_that_is_not_found_is_not_made_again,
    a_push_by_priority_whose_answer_was_lost_is_found_out,
    a_push_by_priority_that_was_not_heard_is_made_again,
    a_push_by_priority_that_nobody_can_know_of_is_told_of,
    a_push_by_priority_that_lands_late_is_refused,
    a_pop_that_lands_late_takes_nothing,
}

const NAME: &str = "/shop/jobs";

fn fifo(registry: &Registry) -> Queue {
    Queue::fifo(registry, NAME).unwrap()
}

fn by_priority(registry: &Registry) -> PriorityQueue {
    PriorityQueue::new(registry, NAME).unwrap()
}

async fn push(queue: &Queue, value: impl ToString) -> Pushed {
    soon(queue.push(value.to_string())).await.unwrap()
}

async fn push_first(queue: &PriorityQueue, value: &str) -> Pushed {
    soon(queue.push(1, value)).await.unwrap()
}

async fn pop(queue: &mut Queue) -> Vec<u8> {
    soon(queue.pop()).await.unwrap().value
}

async fn pop_first(queue: &mut PriorityQueue) -> Vec<u8> {
    soon(queue.pop()).await.unwrap().value
}

async fn is_gone(etcd: &Server, pushed: &Pushed) -> bool {
    etcd.value(&pushed.key).await.is_none()
}

/// Makes a queue that has read what there is, so that all it does next is to take the first.
async fn ahead(etcd: &Server, registry: &Registry) -> (Queue, [Pushed; 2]) {
    let pushing = fifo(&etcd.registry().await);
    push(&pushing, "read").await;
    let pushed = [push(&pushing, "first").await, push(&pushing, "next").await];
    let mut queue = fifo(registry);
    assert_eq!(pop(&mut queue).await, b"read");
    (queue, pushed)
}

async fn pops_that_are_cancelled_anywhere_lose_nothing(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let pushing = fifo(&registry);
    let mut popped = BTreeSet::new();
    let mut is_new = |item: Item| assert!(popped.insert(item.value), "twice");
    let mut pushed = 0;
    let mut handles = [fifo(&registry), Queue::lifo(&registry, NAME).unwrap()];
    for polls in 0..60 {
        for queue in &mut handles {
            push(&pushing, pushed).await;
            pushed += 1;
            let mut left = polls % 20;
            let mut popping = pin!(queue.pop());
            let cancelled = poll_fn(|cx| match popping.as_mut().poll(cx) {
                Poll::Ready(item) => Poll::Ready(Some(item.unwrap())),
                Poll::Pending if left == 0 => Poll::Ready(None),
                Poll::Pending => {
                    left -= 1;
                    Poll::Pending
                }
            });
            let cancelled = timeout(Duration::from_millis(20), cancelled).await;
            cancelled.ok().flatten().into_iter().for_each(&mut is_new);
        }
    }
    for queue in &mut handles {
        while let Some(item) = soon(queue.try_pop()).await.unwrap() {
            is_new(item);
        }
    }
    assert_eq!(popped.len(), pushed);
}

async fn who_was_cancelled_gets_what_it_had_taken(etcd: &mut Server) {
    let deaf = Deaf::to(etcd).await;
    let (mut queue, [first, _]) = ahead(etcd, &deaf.registry().await).await;
    deaf.hold();
    {
        let mut popping = pin!(queue.pop());
        let taken = wait(async || is_gone(etcd, &first).await);
        tokio::select! {
            _ = &mut popping => panic!("no answer has come"),
            () = taken => {}
        }
    }
    assert!(
        timeout(Duration::from_millis(1), queue.try_pop())
            .await
            .is_err()
    );
    deaf.release();
    let item = soon(queue.pop()).await.unwrap();
    assert_eq!((item.key, &*item.value), (first.key, &b"first"[..]));
    assert_eq!(pop(&mut queue).await, b"next");
}

async fn what_was_begun_on_a_runtime_that_has_ended_is_finished_on_another(etcd: &mut Server) {
    let deaf = Deaf::to(etcd).await;
    let (queue, [first, _]) = ahead(etcd, &deaf.registry().await).await;
    deaf.hold();
    let begin = async |queue: &mut Queue| drop(queue.pop().await);
    let mut queue = begin_elsewhere(queue, begin).await;
    deaf.release();
    let item = soon(queue.pop()).await.unwrap();
    assert_eq!((item.key, &*item.value), (first.key, &b"first"[..]));
    assert_eq!(pop(&mut queue).await, b"next");
}

async fn an_item_whose_answer_was_lost_is_told_of(etcd: &mut Server) {
    let deaf = Deaf::to(etcd).await;
    let here = etcd.registry().await;
    let (mut queue, [first, _]) = ahead(etcd, &deaf.registry().await).await;
    let done = async || is_gone(etcd, &first).await;
    match deaf.unheard(queue.pop(), done).await {
        Err(PopError::Unknown { key, revision, .. }) => {
            assert_eq!((&key, revision), (&first.key, first.revision));
            let read = here.keys().read(&key, revision).await.unwrap();
            assert_eq!(read.held.unwrap().value, b"first", "as the docs say");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(pop(&mut queue).await, b"next", "it goes on");
    assert!(soon(queue.try_pop()).await.unwrap().is_none());
}

async fn an_item_that_is_there_still_is_taken(etcd: &mut Server) {
    let deaf = Deaf::to(etcd).await;
    let (mut queue, _) = ahead(etcd, &deaf.registry().await).await;
    let item = deaf.unsaid(queue.pop(), async {}).await.unwrap();
    assert_eq!(item.value, b"first");
    // What another one takes meanwhile may have been taken by the first attempt.
    let mut other = fifo(&etcd.registry().await);
    push(&other, "last").await;
    let theirs = async { assert_eq!(pop(&mut other).await, b"next") };
    let error = deaf.unsaid(queue.pop(), theirs).await.unwrap_err();
    assert!(matches!(error, PopError::Unknown { .. }), "{error}");
    assert_eq!(pop(&mut queue).await, b"last");
}

async fn a_doubt_stays_when_the_pop_is_cancelled(etcd: &mut Server) {
    let deaf = Deaf::to(etcd).await;
    let (mut queue, [first, _]) = ahead(etcd, &deaf.registry().await).await;
    let popping = async {
        loop {
            if let Ok(popped) = timeout(Duration::from_millis(1), queue.pop()).await {
                return popped;
            }
        }
    };
    let done = async || is_gone(etcd, &first).await;
    match deaf.unheard(popping, done).await {
        Err(PopError::Unknown { key, .. }) => assert_eq!(key, first.key),
        other => panic!("{other:?}"),
    }
    assert_eq!(pop(&mut queue).await, b"next");
}

async fn a_push_whose_answer_was_lost_is_found(etcd: &mut Server) {
    let deaf = Deaf::to(etcd).await;
    let mut there = fifo(&etcd.registry().await);
    let queue = fifo(&deaf.registry().await);
    push(&queue, "1").await;
    let before = etcd.revision().await;
    let done = async || etcd.revision().await > before;
    let pushed = deaf.unheard(queue.push("2"), done).await.unwrap();
    assert_eq!(etcd.value(&pushed.key).await.unwrap(), b"2");
    for number in [&b"1"[..], b"2"] {
        assert_eq!(pop(&mut there).await, number);
    }
    assert!(soon(there.try_pop()).await.unwrap().is_none(), "once");
}

async fn a_push_that_is_not_found_is_not_made_again(etcd: &mut Server) {
    let deaf = Deaf::to(etcd).await;
    let mut there = fifo(&etcd.registry().await);
    let queue = fifo(&deaf.registry().await);
    push(&queue, "1").await;
    assert_eq!(pop(&mut there).await, b"1");
    let (there, popped) = (Mutex::new(there), Mutex::new(None));
    let done = async || {
        let item = soon(there.lock().await.pop()).await.unwrap();
        *popped.lock().await = Some(item);
        true
    };
    let error = deaf.unheard(queue.push("2"), done).await.unwrap_err();
    let item = popped.into_inner().unwrap();
    assert_eq!(item.value, b"2");
    match error {
        PushError::Unknown { key, .. } => assert_eq!(key, item.key),
        error => panic!("{error}"),
    }
    let mut there = there.into_inner();
    assert!(soon(there.try_pop()).await.unwrap().is_none(), "once");
}

/// What others do while an answer is lost.
#[derive(Clone, Copy)]
enum Meanwhile {
    Nothing,
    Popped,
    PushedBehind,
    PoppedAndPushed,
}

/// Pushes after another one, and loses the answer.
async fn push_unheard(etcd: &Server, meanwhile: Meanwhile) -> Result<Pushed, PushError> {
    let deaf = Deaf::to(etcd).await;
    let there = etcd.registry().await;
    let queue = by_priority(&deaf.registry().await);
    let before = push_first(&queue, "before").await;
    assert_eq!(before.key, format!("{NAME}/00001/{:016}", 0));
    let key = format!("{NAME}/00001/{:016}", 1);
    let done = async || {
        if etcd.value(&key).await.is_none() {
            return false;
        }
        let mut other = by_priority(&there);
        if let Meanwhile::Popped | Meanwhile::PoppedAndPushed = meanwhile {
            assert_eq!(pop_first(&mut other).await, b"before");
            assert_eq!(pop_first(&mut other).await, b"ours");
        }
        if let Meanwhile::PushedBehind | Meanwhile::PoppedAndPushed = meanwhile {
            push_first(&other, "theirs").await;
        }
        true
    };
    let pushed = deaf.unheard(queue.push(1, "ours"), done).await;
    let told = match &pushed {
        Ok(pushed) => &pushed.key,
        Err(PushError::Unknown { key, .. }) => key,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(*told, key);
    pushed
}

async fn left(etcd: &Server) -> Vec<String> {
    let mut queue = by_priority(&etcd.registry().await);
    let mut left = Vec::new();
    while let Some(item) = soon(queue.try_pop()).await.unwrap() {
        left.push(String::from_utf8(item.value).unwrap());
    }
    left
}

async fn a_push_by_priority_whose_answer_was_lost_is_found_out(etcd: &mut Server) {
    push_unheard(etcd, Meanwhile::Nothing).await.unwrap();
    assert_eq!(left(etcd).await, ["before", "ours"]);
    push_unheard(etcd, Meanwhile::Popped).await.unwrap();
    assert!(left(etcd).await.is_empty());
    push_unheard(etcd, Meanwhile::PushedBehind).await.unwrap();
    assert_eq!(left(etcd).await, ["before", "ours", "theirs"]);
}

async fn a_push_by_priority_that_was_not_heard_is_made_again(etcd: &mut Server) {
    let deaf = Deaf::to(etcd).await;
    let other = by_priority(&etcd.registry().await);
    let queue = by_priority(&deaf.registry().await);
    push_first(&queue, "before").await;
    let pushed = deaf.unsaid(queue.push(1, "ours"), async {}).await.unwrap();
    assert_eq!(pushed.key, format!("{NAME}/00001/{:016}", 1));
    // Another one gets the number, with the same value.
    let theirs = async { drop(push_first(&other, "ours").await) };
    let pushed = deaf.unsaid(queue.push(1, "ours"), theirs).await.unwrap();
    assert_eq!(pushed.key, format!("{NAME}/00001/{:016}", 3));
    assert_eq!(left(etcd).await, ["before", "ours", "ours", "ours"]);
}

async fn a_push_by_priority_that_nobody_can_know_of_is_told_of(etcd: &mut Server) {
    let unknown = push_unheard(etcd, Meanwhile::PoppedAndPushed).await;
    assert!(matches!(unknown, Err(PushError::Unknown { .. })));
    assert_eq!(left(etcd).await, ["theirs"]);
}

async fn a_push_by_priority_that_lands_late_is_refused(etcd: &mut Server) {
    let deaf = Deaf::to(etcd).await;
    let queue = by_priority(&deaf.registry().await);
    push_first(&queue, "before").await;
    deaf.late(queue.push(1, "ours")).await.unwrap();
    assert_eq!(left(etcd).await, ["before", "ours"]);
    deaf.land().await;
    assert!(left(etcd).await.is_empty());
}

async fn a_pop_that_lands_late_takes_nothing(etcd: &mut Server) {
    let deaf = Deaf::to(etcd).await;
    let (mut queue, [first, next]) = ahead(etcd, &deaf.registry().await).await;
    let item = deaf.late(queue.pop()).await.unwrap();
    assert_eq!(item.key, first.key);
    // Somebody puts it back under its key.
    crate::server::put(&etcd.registry().await, &first.key, "again").await;
    deaf.land().await;
    assert!(!is_gone(etcd, &first).await && !is_gone(etcd, &next).await);
}
