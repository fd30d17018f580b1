//! Servers that say nothing any more.

mod support;

use std::time::Duration;

use futures::StreamExt;
use support::{wire::*, *};
use switchboard_proto::HellosRequest;
use switchboard_resolver::{Channel, Condition};
use switchboard_test_support::eventually;
use tokio::{task::JoinSet, time::Instant};
use tonic::Code;

const ADDRESSES: [&str; 4] = ["a:1", "b:1", "c:1", "d:1"];
const MILLIS: Duration = Duration::from_millis(1);

/// Starts a call every 10 ms for as long as asked, and returns when each began and how it ended.
async fn load(channel: &Channel, time: Duration) -> Vec<(Instant, Result<String, Code>)> {
    let end = Instant::now() + time;
    let mut calls = JoinSet::new();
    while Instant::now() < end {
        let mut client = client(channel);
        calls.spawn(async move {
            let start = Instant::now();
            let reply = client
                .say_hello(with_timeout(hello("Ada"), 2000 * MILLIS))
                .await;
            let served = reply.map(|it| it.into_inner().served_by);
            (start, served.map_err(|status| status.code()))
        });
        tokio::time::sleep(10 * MILLIS).await;
    }
    calls.join_all().await
}

#[tokio::test(start_paused = true)]
async fn c50_a_frozen_server_is_suspect_within_600_ms_and_is_picked_again_when_it_wakes() {
    let network = Network::serving(&ADDRESSES);
    let channel = connected(&network, &ADDRESSES).await;
    load(&channel, 1000 * MILLIS).await;

    let frozen = Instant::now();
    network.cut("a:1");
    let suspected = async {
        until_it_is(&channel, "a:1", Condition::Suspect).await;
        frozen.elapsed()
    };
    let (suspected, calls) = tokio::join!(suspected, load(&channel, 5000 * MILLIS));
    assert!(suspected <= 600 * MILLIS, "{suspected:?}");
    let failed: Vec<_> = calls.iter().filter(|(_, it)| it.is_err()).collect();
    assert!(!failed.is_empty(), "those that it held");
    for (start, _) in failed {
        let after = *start - frozen;
        assert!(
            after <= 600 * MILLIS,
            "a call failed that began {after:?} after"
        );
    }

    network.heal("a:1");
    let woken = Instant::now();
    until_it_is(&channel, "a:1", Condition::Ready).await;
    assert!(woken.elapsed() <= 1000 * MILLIS, "{:?}", woken.elapsed());
    let calls = load(&channel, 1000 * MILLIS).await;
    assert!(calls.iter().all(|(_, it)| it.is_ok()));
    assert!(calls.iter().any(|(_, it)| it.as_deref() == Ok("a:1")));
}

#[tokio::test(start_paused = true)]
async fn c50_if_all_are_suspect_all_are_used() {
    let network = Network::serving(&["a:1"]);
    let channel = connected(&network, &["a:1"]).await;
    call(&channel).await.unwrap();
    network.cut("a:1");
    let mut held = JoinSet::new();
    let other = channel.clone();
    held.spawn(async move { served_by(&other).await });
    until_it_is(&channel, "a:1", Condition::Suspect).await;
    let other = channel.clone();
    held.spawn(async move { served_by(&other).await });
    eventually(
        1000 * MILLIS,
        "both calls are sent",
        async || match channel.state().endpoints[0].calls_in_flight() {
            2 => Ok(()),
            other => Err(format!("{other} in flight")),
        },
    )
    .await;
    assert_eq!(
        condition_of(&channel.state(), "a:1"),
        Some(Condition::Suspect)
    );
    network.heal("a:1");
    assert_eq!(within(SOON, held.join_all()).await, ["a:1"; 2]);
}

#[tokio::test(start_paused = true)]
async fn c50_a_host_that_is_gone_without_a_word_is_unavailable_within_11_s() {
    let network = Network::serving(&["a:1"]);
    let channel = connected(&network, &["a:1"]).await;
    call(&channel).await.unwrap();
    network.cut("a:1");
    let start = Instant::now();
    let status = call(&channel).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(start.elapsed() <= 11_000 * MILLIS, "{:?}", start.elapsed());
    assert!(status.message().contains("endpoint a:1"), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn c50_an_idle_stream_and_slow_calls_are_pinged_no_more_than_go_servers_allow() {
    let (channel, _listener, mut wire) = wired(&[], |it| it).await;

    let mut greeter = client(&channel);
    let opening = greeter.say_hellos(HellosRequest::default());
    let answering = async {
        let stream = wire.request().await.expect("a request");
        wire.headers(stream).await;
    };
    let (_idle_stream, ()) = tokio::join!(async { opening.await.expect("headers") }, answering);
    // Each that begins and is not answered would be a reason to ask.
    let mut calls = JoinSet::new();
    for minute in 0..10 {
        let channel = channel.clone();
        calls.spawn(async move {
            tokio::time::sleep(minute * Duration::from_secs(60)).await;
            drop(call(&channel).await);
        });
    }
    // grpc-go's own count: what comes within 5 minutes of the ping before is a strike, and headers or
    // data clear them; the third one ends the connection.
    let (mut strikes, mut last, mut pings) = (0, None::<Instant>, 0);
    let end = Instant::now() + Duration::from_secs(700);
    while let Ok(frame) = tokio::time::timeout_at(end, wire.read()).await {
        let frame = frame.expect("the connection lives");
        match (frame.kind, frame.flags & ACK) {
            (PING, 0) => {
                let now = Instant::now();
                if last.is_some_and(|last| now < last + Duration::from_secs(300)) {
                    strikes += 1;
                }
                assert!(strikes <= 2, "too many pings");
                (last, pings) = (Some(now), pings + 1);
                wire.send(PING, ACK, 0, &frame.payload).await;
            }
            (SETTINGS, 0) => wire.send(SETTINGS, ACK, 0, &[]).await,
            _ => {}
        }
    }
    assert!(pings >= 2, "{pings}");
    assert_eq!(channel.state().endpoints[0].calls_in_flight(), 11);
}

/// Room for all that is sent here.
const LARGE: u32 = 1 << 30;

/// Says something every 100 ms, which is no answer to anything.
async fn chatter(wire: &mut Wire, time: Duration) {
    for _ in 0..time.as_millis() / 100 {
        tokio::time::sleep(100 * MILLIS).await;
        wire.send(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes()).await;
    }
}

/// A call whose request does not fit into what lies between here and the server.
async fn large_call(channel: &Channel) -> Result<String, tonic::Status> {
    let reply = client(channel).say_hello(hello(&"x".repeat(1 << 20))).await;
    reply.map(|it| it.into_inner().served_by)
}

/// Over byte streams that are not TCP the kernel does not see to this.
#[tokio::test(start_paused = true)]
async fn c50_a_server_that_speaks_and_never_reads_is_unavailable_within_11_s() {
    let (channel, mut listener, mut wire) = wired(&[(WINDOW, LARGE)], |it| it).await;
    wire.send(WINDOW_UPDATE, 0, 0, &LARGE.to_be_bytes()).await;
    let start = Instant::now();
    let calling = async {
        let (large, small) = tokio::join!(large_call(&channel), call(&channel));
        (large.expect_err("not sent"), small.expect_err("nor this"))
    };
    let server = async {
        // Reads the first headers, and nothing after them.
        wire.next().await.expect("a request");
        chatter(&mut wire, 60_000 * MILLIS).await;
    };
    let (large, small) = tokio::select! {
        ended = calling => ended,
        () = server => panic!("the calls are still there"),
    };
    let took = start.elapsed();
    let range = 10_000 * MILLIS..=11_000 * MILLIS;
    assert!(range.contains(&took), "{took:?}");
    for status in [large, small] {
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        let expected = "endpoint a:1: the server takes nothing of what is sent to it";
        assert!(status.message().contains(expected), "{status:?}");
    }
    // It is no worse than others when it is dialed again.
    let _second = within(SOON, Wire::accept(&mut listener, &[])).await;
    until_ready(&channel, &["a:1"]).await;
}

#[tokio::test(start_paused = true)]
async fn c50_a_server_that_reads_slowly_is_waited_for() {
    let (channel, _listener, mut wire) = wired(&[(WINDOW, LARGE)], |it| it).await;
    wire.send(WINDOW_UPDATE, 0, 0, &LARGE.to_be_bytes()).await;
    let start = Instant::now();
    let server = async {
        loop {
            let frame = wire.next().await.expect("a frame");
            if frame.flags & END_STREAM != 0 {
                wire.answer(frame.stream, "a:1").await;
                break;
            }
            chatter(&mut wire, 9000 * MILLIS).await;
        }
    };
    let (served, ()) = tokio::join!(large_call(&channel), server);
    assert_eq!(served.expect("an answer"), "a:1");
    assert!(start.elapsed() > 300_000 * MILLIS);
}

/// Returns when the channel pings next.
async fn pinged(wire: &mut Wire) -> Instant {
    loop {
        let frame = within(SOON, wire.read()).await.expect("a frame");
        match (frame.kind, frame.flags & ACK) {
            (PING, 0) => return Instant::now(),
            (SETTINGS, 0) => wire.send(SETTINGS, ACK, 0, &[]).await,
            _ => {}
        }
    }
}

/// Lets everything sleep, as on a machine that is suspended: no timer fires meanwhile, and what the
/// servers would have said was not said either.
async fn suspend(time: Duration) {
    tokio::time::advance(time).await;
}

#[tokio::test(start_paused = true)]
async fn c50_a_process_that_slept_suspects_nobody() {
    let (channel, mut listener, mut wire) = wired(&[], |it| it).await;
    let is_suspect = |state: &std::sync::Arc<switchboard_resolver::ChannelState>| {
        condition_of(state, "a:1") == Some(Condition::Suspect)
    };
    // The first one, after which nothing is on its way any more.
    let answering = async {
        let stream = wire.request().await.expect("a request");
        wire.answer(stream, "a:1").await;
    };
    tokio::join!(served_by(&channel), answering);
    let mut calls = JoinSet::new();
    let caller = channel.clone();
    calls.spawn(async move { served_by(&caller).await });
    let stream = wire.request().await.expect("a request");
    let mut states = channel.watch_state();

    // Before it has asked: the server has its whole time to answer.
    suspend(2000 * MILLIS).await;
    let woken = Instant::now();
    let waited = pinged(&mut wire).await - woken;
    assert!(waited >= 250 * MILLIS, "pinged {waited:?} after");

    // And once it has.
    suspend(2000 * MILLIS).await;
    let suspected = states.wait_for(is_suspect);
    let suspected = tokio::time::timeout(200 * MILLIS, suspected).await;
    assert!(suspected.is_err(), "suspect, though only we have slept");
    until_it_is(&channel, "a:1", Condition::Suspect).await;

    // Nor is one given up that was suspect before.
    suspend(60_000 * MILLIS).await;
    tokio::time::sleep(1000 * MILLIS).await;
    wire.answer(stream, "a:1").await;
    assert_eq!(within(SOON, calls.join_all()).await, ["a:1"]);
    until_it_is(&channel, "a:1", Condition::Ready).await;
    assert!(futures::poll!(std::pin::pin!(listener.next())).is_pending());
}
