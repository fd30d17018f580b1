//! Servers that say of themselves whether they serve: how they are asked, and for how long.

mod support;

use std::time::Duration;

use support::{health::*, wire::*, *};
use switchboard_proto::HellosRequest;
use switchboard_resolver::{Channel, Condition, HealthCheck};
use tokio::{task::JoinSet, time::Instant};
use tonic_health::ServingStatus::{NotServing, Serving};

const MILLIS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn c46_a_watch_that_breaks_without_an_answer_is_opened_again_with_backoff() {
    let (channel, _listener, mut wire, mut stream) = asked(&[], |it| it).await;
    let mut waits = Vec::new();
    for turn in 0..5 {
        match turn % 3 {
            0 => wire.reset(stream, CANCEL).await,
            1 => wire.status(stream, "14").await,
            _ => {
                wire.headers(stream).await;
                wire.trailers(stream).await;
            }
        }
        let broke = Instant::now();
        until_it_is(&channel, "a:1", Condition::Unhealthy).await;
        let (at, next) = asked_again(&mut wire).await;
        waits.push((at - broke).as_secs_f64());
        stream = next;
    }
    let near = |(one, other): (&f64, &f64)| (one - other).abs() < 0.05;
    let expected = [1.0, 1.6, 2.56, 4.096, 6.5536];
    assert!(waits.iter().zip(&expected).all(near), "{waits:?}");
    // Any answer starts it over.
    wire.headers(stream).await;
    says(&mut wire, stream, SAYS_NOT_SERVING).await;
    let error = "health of the server: NOT_SERVING (expected: SERVING)";
    until(&channel, |state| {
        state.endpoints[0].last_error.as_deref() == Some(error)
    })
    .await;
    wire.reset(stream, CANCEL).await;
    let broke = Instant::now();
    let (at, stream) = asked_again(&mut wire).await;
    let waited = (at - broke).as_secs_f64();
    assert!((1.0..1.05).contains(&waited), "{waited}");
    wire.headers(stream).await;
    says(&mut wire, stream, SAYS_SERVING).await;
    until_ready(&channel, &["a:1"]).await;
}

#[tokio::test(start_paused = true)]
async fn c46_a_watch_that_was_good_is_opened_again_at_once_and_nobody_is_trusted_meanwhile() {
    let (channel, _listener, mut wire, stream) = serving(&[], |it| it).await;
    tokio::time::sleep(MINUTE).await;
    wire.send_raw(&trailers(stream, &[("grpc-status", "0")]))
        .await;
    let broke = Instant::now();
    let (at, stream) = asked_again(&mut wire).await;
    assert_eq!(at - broke, Duration::ZERO);
    until_it_is(&channel, "a:1", Condition::Connecting).await;
    let expected = "health of the server: its watch ended (expected: to stay open)";
    assert_eq!(last_error(&channel), expected);
    let mut calls = JoinSet::new();
    let caller = channel.clone();
    calls.spawn(async move { served_by(&caller).await });
    let sent = tokio::time::timeout(SECOND, wire.request()).await;
    assert!(sent.is_err(), "a call is sent to who has not answered");
    wire.headers(stream).await;
    says(&mut wire, stream, SAYS_SERVING).await;
    let request = within(SOON, wire.request()).await.expect("the call");
    wire.answer(request, "a:1").await;
    assert_eq!(calls.join_all().await, ["a:1"]);

    // One that answers and breaks off is not asked in a hot loop.
    wire.reset(stream, CANCEL).await;
    let (_, mut stream) = asked_again(&mut wire).await;
    let start = Instant::now();
    for _ in 0..10 {
        wire.headers(stream).await;
        says(&mut wire, stream, SAYS_SERVING).await;
        wire.reset(stream, CANCEL).await;
        (_, stream) = asked_again(&mut wire).await;
    }
    assert!(start.elapsed() >= 10 * SECOND, "{:?}", start.elapsed());
}

/// No calls go there, and nobody else would find out that it is gone.
#[tokio::test(start_paused = true)]
async fn c46_who_does_not_serve_and_says_no_more_is_asked_anew() {
    let (channel, _listener, mut wire, mut stream) = serving(&[], |it| it).await;
    tokio::time::sleep(MINUTE).await;
    says(&mut wire, stream, SAYS_NOT_SERVING).await;
    until_it_is(&channel, "a:1", Condition::Unhealthy).await;
    let mut states = channel.watch_state();
    states.mark_unchanged();
    let mut last = Instant::now();
    for _ in 0..3 {
        let next;
        (last, next) = {
            until_reset(&mut wire, stream).await;
            let (at, next) = asked_again(&mut wire).await;
            assert_eq!(at - last, 30 * SECOND);
            (at, next)
        };
        wire.headers(next).await;
        says(&mut wire, next, SAYS_NOT_SERVING).await;
        stream = next;
    }
    assert!(!states.has_changed().unwrap());
    says(&mut wire, stream, SAYS_SERVING).await;
    until_ready(&channel, &["a:1"]).await;
    let asked = tokio::time::timeout(10 * MINUTE, wire.request()).await;
    assert!(asked.is_err(), "asked anew, though it serves");
}

#[tokio::test(start_paused = true)]
async fn c46_a_goaway_ends_the_watch_and_the_next_connection_has_its_own() {
    let (channel, mut listener, mut wire, stream) = serving(&[], |it| it).await;
    wire.go_away(LAST, NO_ERROR).await;
    until_reset(&mut wire, stream).await;
    until_ended(&mut wire).await;
    let mut second = within(SOON, Wire::accept(&mut listener, &[])).await;
    let stream = within(SOON, second.request()).await.expect("a watch");
    assert_ne!(
        condition_of(&channel.state(), "a:1"),
        Some(Condition::Ready)
    );
    second.headers(stream).await;
    says(&mut second, stream, SAYS_SERVING).await;
    until_ready(&channel, &["a:1"]).await;
    assert_eq!(call_and_answer(&channel, &mut second).await, "a:1");
}

#[tokio::test(start_paused = true)]
async fn c46_what_an_earlier_connection_says_does_not_count_for_the_next() {
    let (channel, mut listener, mut wire, stream) = serving(&[], |it| it).await;
    // It goes on, with a call, beside the next one.
    let mut greeter = client(&channel);
    let opening = greeter.say_hellos(HellosRequest::default());
    let answering = async {
        let stream = wire.request().await.expect("a request");
        wire.headers(stream).await;
    };
    let (_hellos, ()) = tokio::join!(async { opening.await.expect("headers") }, answering);
    wire.go_away(LAST, NO_ERROR).await;
    let mut second = within(SOON, Wire::accept(&mut listener, &[])).await;
    let next = within(SOON, second.request()).await.expect("a watch");
    for status in [SAYS_SERVING, SAYS_NOT_SERVING, SAYS_SERVING] {
        says(&mut wire, stream, status).await;
    }
    tokio::time::sleep(SECOND).await;
    assert_eq!(
        condition_of(&channel.state(), "a:1"),
        Some(Condition::Connecting)
    );
    second.headers(next).await;
    says(&mut second, next, SAYS_SERVING).await;
    until_ready(&channel, &["a:1"]).await;
    says(&mut wire, stream, SAYS_NOT_SERVING).await;
    tokio::time::sleep(SECOND).await;
    until_ready(&channel, &["a:1"]).await;
}

#[tokio::test(start_paused = true)]
async fn c46_a_lost_connection_ends_its_watch_and_is_dialed_again() {
    let (network, reporters) = reporting(&["a:1", "b:1"]);
    let channel = watched(&network, &["a:1", "b:1"]);
    until_ready(&channel, &["a:1", "b:1"]).await;
    network.crash("a:1");
    until_it_is(&channel, "a:1", Condition::Failing).await;
    assert_eq!(shares(&channel, 10).await["b:1"], 10);
    reporters[0].set_service_status("", NotServing).await;
    network.serve_reporting("a:1", &reporters[0]);
    until_it_is(&channel, "a:1", Condition::Unhealthy).await;
    reporters[0].set_service_status("", Serving).await;
    until_ready(&channel, &["a:1", "b:1"]).await;
}

#[tokio::test(start_paused = true)]
async fn c46_a_removed_endpoint_is_not_watched_and_its_connection_ends() {
    let network = switchboard_embedded::Network::new();
    let mut listener = network.listen("a:1").unwrap();
    let (said, source) = source();
    let builder = Channel::builder(source).health(HealthCheck::of_server());
    let builder = builder.connector(network.connector("channel"));
    let channel = builder.connect_lazy().unwrap();
    said.snapshot(&["a:1"]);
    let mut wire = within(SOON, Wire::accept(&mut listener, &[])).await;
    let stream = within(SOON, wire.request()).await.expect("a watch");
    wire.headers(stream).await;
    says(&mut wire, stream, SAYS_SERVING).await;
    until_ready(&channel, &["a:1"]).await;
    // A call of its own goes on, without the watch.
    let mut greeter = client(&channel);
    let opening = greeter.say_hellos(HellosRequest::default());
    let answering = async {
        let stream = wire.request().await.expect("a request");
        wire.headers(stream).await;
        stream
    };
    let (hellos, call) = tokio::join!(async { opening.await.expect("headers") }, answering);
    said.snapshot(&[]);
    until_reset(&mut wire, stream).await;
    let mut hellos = hellos.into_inner();
    wire.message(call, "a:1").await;
    assert!(within(SOON, hellos.message()).await.unwrap().is_some());
    wire.trailers(call).await;
    assert!(within(SOON, hellos.message()).await.unwrap().is_none());
    until_ended(&mut wire).await;
    until(&channel, |state| state.endpoints.is_empty()).await;
    within(SOON, channel.close()).await;
}

#[tokio::test(start_paused = true)]
async fn c46_a_watch_is_no_call_and_keeps_nothing_from_resting_or_closing() {
    let (channel, mut listener, mut wire, stream) =
        serving(&[], |it| it.idle_timeout(MINUTE)).await;
    assert_eq!(channel.state().endpoints[0].calls_in_flight(), 0);
    let start = Instant::now();
    within(2 * MINUTE, async { while wire.next().await.is_some() {} }).await;
    assert!(start.elapsed() <= 2 * MINUTE, "{:?}", start.elapsed());
    until_it_is(&channel, "a:1", Condition::Idle).await;
    let _ = stream;

    let waking = call(&channel);
    let answering = async {
        let mut wire = within(SOON, Wire::accept(&mut listener, &[])).await;
        let stream = wire.request().await.expect("a watch");
        wire.headers(stream).await;
        says(&mut wire, stream, SAYS_SERVING).await;
        let request = wire.request().await.expect("the call");
        wire.answer(request, "a:1").await;
        wire
    };
    let (served, mut wire) = tokio::join!(waking, answering);
    assert_eq!(served.unwrap().served_by, "a:1");
    let start = Instant::now();
    tokio::join!(channel.close(), until_ended(&mut wire));
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn c46_a_server_that_has_nothing_to_say_is_neither_pinged_nor_suspect() {
    // Neither after it has answered, nor before.
    let (channel, _listener, mut wire, _stream) = serving(&[], |it| it).await;
    is_left_alone(&channel, &mut wire).await;
    let health = HealthCheck::of_server().answer_timeout(60 * MINUTE);
    let (channel, _listener, mut wire, stream) = asked(&[], |it| it.health(health.clone())).await;
    is_left_alone(&channel, &mut wire).await;
    wire.headers(stream).await;
    is_left_alone(&channel, &mut wire).await;

    // Nor beside a stream that has nothing to say either.
    let (channel, _listener, mut wire, stream) = serving(&[], |it| it.health(health)).await;
    let mut greeter = client(&channel);
    let opening = greeter.say_hellos(HellosRequest::default());
    let answering = async {
        let stream = wire.request().await.expect("a request");
        wire.headers(stream).await;
    };
    let (_hellos, ()) = tokio::join!(async { opening.await.expect("headers") }, answering);
    wire.reset(stream, CANCEL).await;
    asked_again(&mut wire).await;
    until_it_is(&channel, "a:1", Condition::Unhealthy).await;
    is_left_alone(&channel, &mut wire).await;
}

/// Asserts that the server is not pinged, and that the channel thinks of it what it did.
async fn is_left_alone(channel: &Channel, wire: &mut Wire) {
    let mut states = channel.watch_state();
    states.mark_unchanged();
    let ping = async {
        loop {
            let frame = wire.read().await.expect("a connection");
            if frame.kind == PING && frame.flags & ACK == 0 {
                break;
            }
        }
    };
    let pinged = tokio::time::timeout(4 * MINUTE, ping).await;
    assert!(pinged.is_err(), "pinged, though nobody waits for it");
    assert!(!states.has_changed().expect("open"));
}

#[tokio::test(start_paused = true)]
async fn c46_a_server_that_is_connected_and_hangs_up_is_not_worth_more_for_its_health() {
    let (channel, mut listener, mut wire, mut stream) = asked(&[], |it| it).await;
    // Dialed at once after the first time, and then in growing intervals, though it answers.
    let start = Instant::now();
    let mut waits = Vec::new();
    for _ in 0..4 {
        wire.headers(stream).await;
        says(&mut wire, stream, SAYS_SERVING).await;
        until_ready(&channel, &["a:1"]).await;
        drop(wire);
        let lost = Instant::now();
        wire = within(SOON, Wire::accept(&mut listener, &[])).await;
        waits.push(lost.elapsed().as_secs_f64());
        stream = within(SOON, wire.request()).await.expect("a watch");
    }
    let near = |(one, other): (&f64, &f64)| (one - other).abs() < 0.05;
    let expected = [0.0, 1.6, 2.56, 4.096];
    assert!(
        waits.iter().zip(&expected).all(near),
        "{waits:?} in {:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn c46_the_watch_counts_against_the_limit_and_a_hundred_calls_share_the_rest() {
    let (channel, _listener, mut wire, stream) = serving(&[(MAX_STREAMS, 3)], |it| it).await;
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let channel = channel.clone();
        calls.spawn(async move { served_by(&channel).await });
    }
    for _ in 0..50 {
        let first = within(SOON, wire.request()).await.expect("a call");
        let second = within(SOON, wire.request()).await.expect("another");
        let third = tokio::time::timeout(10 * MILLIS, wire.request()).await;
        assert!(third.is_err(), "one more than is allowed beside the watch");
        assert_eq!(channel.state().endpoints[0].calls_in_flight(), 2);
        wire.answer(first, "a:1").await;
        wire.answer(second, "a:1").await;
    }
    assert_eq!(calls.join_all().await.len(), 100);
    says(&mut wire, stream, SAYS_NOT_SERVING).await;
    until_it_is(&channel, "a:1", Condition::Unhealthy).await;
}

#[tokio::test(start_paused = true)]
async fn c46_where_only_one_stream_is_allowed_it_is_the_calls() {
    let not_watched = "health of the server: not watched: the server allows one stream at a time (expected: two or more)";
    let network = switchboard_embedded::Network::new();
    let mut listener = network.listen("a:1").unwrap();
    let builder = Channel::balance(["a:1"]).unwrap();
    let builder = builder.health(HealthCheck::of_server());
    let builder = builder.connector(network.connector("channel"));
    let channel = builder.connect_lazy().unwrap();
    let mut wire = within(SOON, Wire::accept(&mut listener, &[(MAX_STREAMS, 1)])).await;
    until_ready(&channel, &["a:1"]).await;
    assert_eq!(last_error(&channel), not_watched);
    assert_eq!(call_and_answer(&channel, &mut wire).await, "a:1");

    // Also of a server that comes to allow no more, and even if it does not serve.
    let (channel, _listener, mut wire, stream) = serving(&[(MAX_STREAMS, 2)], |it| it).await;
    says(&mut wire, stream, SAYS_NOT_SERVING).await;
    until_it_is(&channel, "a:1", Condition::Unhealthy).await;
    wire.settings(&[(MAX_STREAMS, 1)]).await;
    until_reset(&mut wire, stream).await;
    until_ready(&channel, &["a:1"]).await;
    assert_eq!(last_error(&channel), not_watched);
    for _ in 0..3 {
        assert_eq!(call_and_answer(&channel, &mut wire).await, "a:1");
    }
}

#[tokio::test(start_paused = true)]
async fn c46_a_limit_that_has_fallen_holds_for_the_watch_too() {
    let (channel, _listener, mut wire, stream) = serving(&[(MAX_STREAMS, 3)], |it| it).await;
    wire.settings(&[(MAX_STREAMS, 0)]).await;
    tokio::time::sleep(SECOND).await;
    wire.reset(stream, CANCEL).await;
    until_it_is(&channel, "a:1", Condition::Unhealthy).await;
    let expected = "health of the server: its watch broke: the server allows no more streams";
    assert_eq!(last_error(&channel), expected);
    let asked = tokio::time::timeout(10 * SECOND, wire.request()).await;
    assert!(asked.is_err(), "one more than is allowed");
    wire.settings(&[(MAX_STREAMS, 3)]).await;
    let (_, stream) = asked_again(&mut wire).await;
    wire.headers(stream).await;
    says(&mut wire, stream, SAYS_SERVING).await;
    until_ready(&channel, &["a:1"]).await;
}

#[tokio::test(start_paused = true)]
async fn c46_a_suspect_server_is_suspect_whatever_it_said_of_its_health() {
    let (network, reporters) = reporting(&["a:1"]);
    let channel = watched(&network, &["a:1"]);
    until_ready(&channel, &["a:1"]).await;
    network.cut("a:1");
    let mut held = JoinSet::new();
    let caller = channel.clone();
    held.spawn(async move { served_by(&caller).await });
    until_it_is(&channel, "a:1", Condition::Suspect).await;
    network.heal("a:1");
    until_it_is(&channel, "a:1", Condition::Ready).await;
    assert_eq!(within(SOON, held.join_all()).await, ["a:1"]);
    reporters[0].set_service_status("", NotServing).await;
    until_it_is(&channel, "a:1", Condition::Unhealthy).await;
}
