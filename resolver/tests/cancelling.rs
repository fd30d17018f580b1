//! Calls that their callers drop, wherever they are: nothing of them is left.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

mod support;

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use support::{wire::*, *};
use switchboard_embedded::Network;
use switchboard_resolver::Channel;
use tokio::{runtime::Handle, task::JoinSet};
use tokio_stream::StreamExt;

/// When a call is dropped that was polled so many times.
#[derive(Debug, Clone, Copy)]
enum Dropped {
    /// As it waits.
    After(usize),
    /// As it is about to be polled once more: whoever woke it believes that it has heard.
    Woken(usize),
}

/// Polls `future` until it is to be dropped, and drops it. Returns whether it ended before.
async fn drop_it<T>(dropped: Dropped, future: impl Future<Output = T>) -> bool {
    let mut future = pin!(future);
    let mut polls = 0;
    poll_fn(|cx| {
        if let Dropped::Woken(most) = dropped
            && polls == most
        {
            return Poll::Ready(false);
        }
        polls += 1;
        match (future.as_mut().poll(cx), dropped) {
            (Poll::Ready(_), _) => Poll::Ready(true),
            (Poll::Pending, Dropped::After(most)) if polls == most => Poll::Ready(false),
            (Poll::Pending, _) => Poll::Pending,
        }
    })
    .await
}

const TICK: Duration = Duration::from_millis(5);

/// Answers slowly, and has heard enough after some frames, whether the request has ended or not. It
/// allows one stream, and sees that there is never another one.
async fn serve(mut listener: switchboard_embedded::Listener) {
    let mut wire = Wire::accept_only(&mut listener).await;
    tokio::time::sleep(TICK).await;
    wire.preface().await;
    wire.settings(&[(MAX_STREAMS, 1)]).await;
    const ENOUGH: usize = 20;
    let mut open = None;
    let mut heard = 0;
    while let Some(frame) = wire.next().await {
        match frame.kind {
            HEADERS => {
                assert_eq!(open, None, "the limit is 1");
                open = Some(frame.stream);
                heard = 0;
                wire.headers(frame.stream).await;
            }
            RST_STREAM => open = open.filter(|stream| *stream != frame.stream),
            _ => {}
        }
        let length = (frame.payload.len() as u32).to_be_bytes();
        if frame.kind == DATA && length != [0; 4] {
            wire.send(WINDOW_UPDATE, 0, 0, &length).await;
            wire.send(WINDOW_UPDATE, 0, frame.stream, &length).await;
        }
        // It may be reset meanwhile, which a server hears of later.
        if open == Some(frame.stream) {
            heard += 1;
            tokio::time::sleep(TICK).await;
            wire.message(frame.stream, "a:1").await;
            if frame.flags & END_STREAM != 0 || heard == ENOUGH {
                tokio::time::sleep(TICK).await;
                wire.trailers(frame.stream).await;
                open = None;
            }
        }
    }
}

/// A call that waits for a connection, for a slot, for its own body, which has no end, for the
/// windows, for the response and for each part of that.
async fn long_call(channel: Channel) {
    let requests = tokio_stream::iter(0..4).then(async |_| {
        tokio::time::sleep(TICK).await;
        hello(&"x".repeat(100_000))
    });
    let requests = requests.chain(tokio_stream::pending());
    let mut replies = client(&channel).chat(requests).await.unwrap().into_inner();
    while let Some(reply) = replies.next().await {
        reply.unwrap();
    }
}

/// Returns whether the call ended before it was to be dropped.
async fn dropped(when: Dropped) -> bool {
    let tasks = Handle::current().metrics().num_alive_tasks();
    let network = Network::new();
    let mut others = JoinSet::new();
    others.spawn(serve(network.listen("a:1").unwrap()));
    let channel = Channel::balance(["a:1"])
        .unwrap()
        .connector(network.connector("channel"))
        .connect_lazy()
        .unwrap();
    // One that has the slot first, and one that waits for it longer.
    let mut calls = JoinSet::new();
    for _ in 0..2 {
        let channel = channel.clone();
        calls.spawn(async move { within(SOON, call(&channel)).await.unwrap() });
        if calls.len() == 1 {
            tokio::task::yield_now().await;
        }
    }
    let ended = drop_it(when, long_call(channel.clone())).await;
    within(SOON, calls.join_all()).await;
    assert_eq!(channel.state().endpoints[0].calls_in_flight(), 0);
    within(SOON, call(&channel)).await.unwrap();
    assert_eq!(channel.state().endpoints[0].calls_in_flight(), 0);
    within(SOON, channel.close()).await;
    others.shutdown().await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks);
    ended
}

#[tokio::test(start_paused = true)]
async fn c23_a_call_that_is_dropped_at_any_await_point_leaves_nothing_behind() {
    for when in [Dropped::After, Dropped::Woken] {
        let mut polls = 1;
        while !dropped(when(polls)).await {
            polls += 1;
        }
        assert!(polls > 10, "{polls}");
    }
}
