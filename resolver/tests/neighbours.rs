//! What one call must not cost the others, and one moment those after it.

mod support;

use std::time::Duration;

use support::{wire::*, *};
use switchboard_proto::HellosRequest;
use switchboard_resolver::{Channel, ChannelBuilder, Condition, KeepAlive};
use tokio::{task::JoinSet, time::Instant};
use tonic::Request;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn headers_that_http2_forbids_are_left_out() {
    let network = Network::serving(&["a:1", "b:1"]);
    let channel = connected(&network, &["a:1", "b:1"]).await;
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "upgrade",
        "transfer-encoding",
    ] {
        let mut request = Request::new(hello("Ada"));
        let value = "keep-alive".parse().expect("a value");
        request.metadata_mut().insert(name, value);
        let mut greeter = client(&channel);
        let reply = within(SECOND, greeter.say_hello(request)).await;
        reply.expect("an answer");
        within(SECOND, call(&channel)).await.expect("an answer");
    }
    assert_eq!(network.dials("a:1").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn c40_who_waits_has_a_turn_beside_one_that_calls_without_a_pause() {
    let (channel, _listener, mut wire) = wired(&[(MAX_STREAMS, 1)], |it| it).await;
    let mut others = JoinSet::new();
    others.spawn(async move {
        while let Some(stream) = wire.request().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
            wire.answer(stream, "a:1").await;
        }
    });
    let busy = channel.clone();
    others.spawn(async move {
        loop {
            served_by(&busy).await;
        }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    for _ in 0..10 {
        within(SECOND, call(&channel)).await.expect("an answer");
    }
}

#[tokio::test(start_paused = true)]
async fn c39_answers_that_cross_dropped_calls_cost_no_other_call() {
    let (channel, _listener, mut wire) = wired(&[], |it| it).await;
    let other = channel.clone();
    let mut kept = JoinSet::new();
    kept.spawn(async move { served_by(&other).await });
    let kept_stream = wire.request().await.expect("a request");
    for _ in 0..20 {
        let mut calls = JoinSet::new();
        let mut streams = Vec::new();
        for _ in 0..100 {
            let channel = channel.clone();
            calls.spawn(async move { drop(call(&channel).await) });
        }
        for _ in 0..100 {
            streams.push(wire.request().await.expect("a request"));
        }
        calls.shutdown().await;
        let mut left = streams.len();
        while left > 0 {
            let frame = wire.next().await.expect("the connection lives");
            left -= usize::from(frame.kind == RST_STREAM && streams.contains(&frame.stream));
        }
        for stream in streams {
            wire.status(stream, "0").await;
        }
    }
    wire.answer(kept_stream, "a:1").await;
    assert_eq!(within(SECOND, kept.join_all()).await, ["a:1"]);
}

#[tokio::test(start_paused = true)]
async fn c36_a_large_call_that_is_refused_once_is_sent_again_too() {
    let window = 1_u32 << 20;
    let (channel, _listener, mut wire) = wired(&[(WINDOW, window)], |it| it).await;
    wire.send(WINDOW_UPDATE, 0, 0, &window.to_be_bytes()).await;
    let mut calls = JoinSet::new();
    let mut greeter = client(&channel);
    let large = hello(&"x".repeat(100_000));
    calls.spawn(async move { greeter.say_hello(large).await.map(|it| it.into_inner()) });
    let refused = wire.request().await.expect("a request");
    wire.reset(refused, REFUSED_STREAM).await;
    let stream = wire.request().await.expect("a request");
    wire.answer(stream, "a:1").await;
    let reply = within(SECOND, calls.join_all()).await.remove(0);
    assert_eq!(reply.expect("an answer").served_by, "a:1");
}

#[tokio::test(start_paused = true)]
async fn c50_a_server_that_began_slowly_is_suspect_as_soon_as_any() {
    let network = switchboard_embedded::Network::new();
    let mut listener = network.listen("a:1").expect("nobody there");
    let channel = Channel::balance(["a:1"]).expect("an address");
    let channel = channel.connector(network.connector("channel"));
    let channel = channel.connect_lazy().expect("a channel");
    tokio::time::sleep(5 * SECOND).await;
    let _wire = Wire::accept(&mut listener, &[]).await;
    until_ready(&channel, &["a:1"]).await;
    let start = Instant::now();
    let mut calls = JoinSet::new();
    let other = channel.clone();
    calls.spawn(async move { drop(call(&other).await) });
    until_it_is(&channel, "a:1", Condition::Suspect).await;
    assert!(start.elapsed() <= 3 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn keep_alive_counts_from_what_was_heard_last() {
    let keep_alive = KeepAlive {
        interval: 6 * SECOND,
        timeout: 3 * SECOND,
        while_idle: true,
    };
    let set = |it: ChannelBuilder| it.keep_alive(keep_alive).min_ping_interval(6 * SECOND);
    let (channel, _listener, mut wire) = wired(&[], set).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    wire.send(PING, 0, 0, &[0; 8]).await;
    let start = Instant::now();
    until_it_is(&channel, "a:1", Condition::Connecting).await;
    let range = Duration::from_millis(8900)..=Duration::from_millis(9100);
    assert!(range.contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_drains_shows_the_calls_it_still_has() {
    let network = Network::serving(&["a:1"]);
    let (said, source) = source();
    let channel = builder(&network, source).reserve(accepting_empty());
    let channel = channel.connect_lazy().expect("a channel");
    said.snapshot(&["a:1"]);
    let hellos = HellosRequest {
        name: "Ada".into(),
        count: 2,
        interval_ms: 60_000,
    };
    let mut greeter = client(&channel);
    let mut stream = greeter
        .say_hellos(hellos)
        .await
        .expect("a stream")
        .into_inner();
    said.snapshot(&[]);
    until_it_is(&channel, "a:1", Condition::Draining).await;
    assert_eq!(channel.state().endpoints[0].calls_in_flight(), 1);
    while stream.message().await.expect("a message").is_some() {}
    until(&channel, |state| state.endpoints.is_empty()).await;
}
