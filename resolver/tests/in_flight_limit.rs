//! How many calls an endpoint has at a time, where the channel's owner limits that.

mod support;

use std::time::Duration;

use support::{wire::*, *};
use switchboard_resolver::{Channel, Condition};
use tokio::task::JoinSet;
use tonic::Code;

/// Begins calls, and leaves them to whoever answers.
fn begin(calls: &mut JoinSet<String>, channel: &Channel, count: usize) {
    for _ in 0..count {
        let channel = channel.clone();
        calls.spawn(async move { served_by(&channel).await });
    }
}

/// Sees that no request comes, though there is time for one.
async fn expect_none(wire: &mut Wire) {
    let other = tokio::time::timeout(Duration::from_millis(1), wire.next()).await;
    assert!(other.is_err(), "{other:?}");
}

async fn next_answer(calls: &mut JoinSet<String>) -> String {
    let answered = within(SOON, calls.join_next()).await;
    answered.expect("a call").expect("no panic")
}

/// A channel with a limit to two servers, which are READY, and the servers' sides of it.
async fn two_wired(limit: usize) -> (Channel, [Wire; 2]) {
    let network = switchboard_embedded::Network::new();
    let addresses = ["a:1", "b:1"];
    let [mut a, mut b] = addresses.map(|it| network.listen(it).expect("nobody there"));
    let channel = Channel::balance(addresses)
        .expect("addresses")
        .name("greeter")
        .connector(network.connector("channel"))
        .max_calls_in_flight_per_endpoint(limit)
        .connect_lazy()
        .expect("a channel");
    let wires = [
        Wire::accept(&mut a, &[]).await,
        Wire::accept(&mut b, &[]).await,
    ];
    until_ready(&channel, &addresses).await;
    (channel, wires)
}

#[tokio::test(start_paused = true)]
async fn c40_a_thousand_calls_at_a_limit_of_one_come_one_after_another() {
    let (channel, _listener, mut wire) =
        wired(&[], |it| it.max_calls_in_flight_per_endpoint(1)).await;
    let mut calls = JoinSet::new();
    begin(&mut calls, &channel, 1000);
    for _ in 0..1000 {
        let stream = within(SOON, wire.request()).await.expect("a request");
        expect_none(&mut wire).await;
        assert_eq!(channel.state().endpoints[0].calls_in_flight(), 1);
        wire.answer(stream, "a:1").await;
    }
    assert_eq!(within(SOON, calls.join_all()).await, vec!["a:1"; 1000]);
}

#[tokio::test(start_paused = true)]
async fn c40_calls_beyond_the_limit_go_to_another_endpoint_and_wait_if_there_is_none() {
    let (channel, [mut a, mut b]) = two_wired(2).await;
    let mut calls = JoinSet::new();
    begin(&mut calls, &channel, 5);
    let mut streams = Vec::new();
    for _ in 0..2 {
        streams.push(within(SOON, a.request()).await.expect("a request"));
    }
    let mut others = Vec::new();
    for _ in 0..2 {
        others.push(within(SOON, b.request()).await.expect("a request"));
    }
    expect_none(&mut a).await;
    expect_none(&mut b).await;
    // The fifth goes where there is room first, whoever's turn it is.
    for stream in others {
        b.answer(stream, "b:1").await;
        assert_eq!(next_answer(&mut calls).await, "b:1");
    }
    let stream = within(SOON, b.request()).await.expect("the fifth");
    b.answer(stream, "b:1").await;
    assert_eq!(next_answer(&mut calls).await, "b:1");
    for stream in streams {
        a.answer(stream, "a:1").await;
        assert_eq!(next_answer(&mut calls).await, "a:1");
    }
}

#[tokio::test(start_paused = true)]
async fn c40_a_call_that_waits_at_the_limit_ends_at_its_deadline_and_says_so() {
    let (channel, _listener, mut wire) =
        wired(&[], |it| it.max_calls_in_flight_per_endpoint(1)).await;
    let mut calls = JoinSet::new();
    begin(&mut calls, &channel, 1);
    let stream = wire.request().await.expect("a request");
    let request = with_timeout(hello("Ada"), Duration::from_millis(100));
    let status = client(&channel).say_hello(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("calls in flight"), "{status:?}");
    expect_none(&mut wire).await;
    let status = within(SOON, call(&channel)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("calls in flight"), "{status:?}");
    wire.answer(stream, "a:1").await;
    assert_eq!(next_answer(&mut calls).await, "a:1");
}

#[tokio::test(start_paused = true)]
async fn c40_the_limit_counts_calls_on_a_connection_that_leaves() {
    let (channel, mut listener, mut old) =
        wired(&[], |it| it.max_calls_in_flight_per_endpoint(2)).await;
    let mut calls = JoinSet::new();
    begin(&mut calls, &channel, 1);
    let stream = old.request().await.expect("a request");
    old.go_away(LAST, NO_ERROR).await;
    let mut new = within(SOON, Wire::accept(&mut listener, &[])).await;
    until_ready(&channel, &["a:1"]).await;
    begin(&mut calls, &channel, 2);
    let second = within(SOON, new.request()).await.expect("a request");
    expect_none(&mut new).await;
    assert_eq!(channel.state().endpoints[0].calls_in_flight(), 2);
    // The end of a call there lets one go here.
    old.answer(stream, "old").await;
    assert_eq!(next_answer(&mut calls).await, "old");
    let third = within(SOON, new.request()).await.expect("a request");
    for stream in [second, third] {
        new.answer(stream, "new").await;
        assert_eq!(next_answer(&mut calls).await, "new");
    }
}

#[tokio::test(start_paused = true)]
async fn c40_the_limit_counts_calls_of_before_an_endpoint_vanished() {
    let network = switchboard_embedded::Network::new();
    let mut listener = network.listen("a:1").expect("nobody there");
    let (said, source) = source();
    let channel = Channel::builder(source)
        .connector(network.connector("channel"))
        .max_calls_in_flight_per_endpoint(1)
        .reserve(without_reserve())
        .connect_lazy()
        .expect("a channel");
    said.snapshot(&["a:1"]);
    let mut old = within(SOON, Wire::accept(&mut listener, &[])).await;
    until_ready(&channel, &["a:1"]).await;
    let mut calls = JoinSet::new();
    begin(&mut calls, &channel, 1);
    let stream = old.request().await.expect("a request");
    said.snapshot(&[]);
    until_it_is(&channel, "a:1", Condition::Draining).await;
    said.snapshot(&["a:1"]);
    let mut new = within(SOON, Wire::accept(&mut listener, &[])).await;
    until_it_is(&channel, "a:1", Condition::Ready).await;
    begin(&mut calls, &channel, 1);
    expect_none(&mut new).await;
    old.answer(stream, "old").await;
    assert_eq!(next_answer(&mut calls).await, "old");
    let stream = within(SOON, new.request()).await.expect("the next one");
    new.answer(stream, "new").await;
    assert_eq!(next_answer(&mut calls).await, "new");
}

#[tokio::test(start_paused = true)]
async fn c40_calls_that_are_dropped_or_lost_with_their_connection_leave_room_below_the_limit() {
    let (channel, mut listener, mut wire) =
        wired(&[], |it| it.max_calls_in_flight_per_endpoint(1)).await;
    let mut dropped = JoinSet::new();
    begin(&mut dropped, &channel, 1);
    wire.request().await.expect("a request");
    let mut calls = JoinSet::new();
    begin(&mut calls, &channel, 1);
    expect_none(&mut wire).await;
    dropped.shutdown().await;
    let stream = within(SOON, wire.request()).await.expect("the next one");
    wire.answer(stream, "a:1").await;
    assert_eq!(next_answer(&mut calls).await, "a:1");
    let caller = channel.clone();
    let mut lost = JoinSet::new();
    lost.spawn(async move { call(&caller).await });
    wire.request().await.expect("a request");
    begin(&mut calls, &channel, 1);
    drop(wire);
    let status = within(SOON, lost.join_next())
        .await
        .expect("a call")
        .expect("no panic");
    assert_eq!(status.unwrap_err().code(), Code::Unavailable);
    let mut wire = within(SOON, Wire::accept(&mut listener, &[])).await;
    let stream = within(SOON, wire.request())
        .await
        .expect("the one that waited");
    wire.answer(stream, "a:1").await;
    assert_eq!(next_answer(&mut calls).await, "a:1");
}

#[tokio::test(start_paused = true)]
async fn c40_a_server_s_lower_limit_holds_beside_it() {
    let (channel, _listener, mut wire) = wired(&[(MAX_STREAMS, 1)], |it| {
        it.max_calls_in_flight_per_endpoint(3)
    })
    .await;
    let mut calls = JoinSet::new();
    begin(&mut calls, &channel, 5);
    let mut streams = vec![wire.request().await.expect("a request")];
    expect_none(&mut wire).await;
    wire.settings(&[(MAX_STREAMS, 100)]).await;
    for _ in 1..3 {
        streams.push(within(SOON, wire.request()).await.expect("a request"));
    }
    let other = tokio::time::timeout(Duration::from_millis(1), wire.request()).await;
    assert!(other.is_err(), "{other:?}");
    while let Some(stream) = streams.pop() {
        wire.answer(stream, "a:1").await;
        let next = tokio::time::timeout(Duration::from_millis(1), wire.request()).await;
        streams.extend(next.ok().flatten());
    }
    assert_eq!(within(SOON, calls.join_all()).await, vec!["a:1"; 5]);
}
