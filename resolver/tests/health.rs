//! Servers that say of themselves whether they serve.

mod support;

use std::time::Duration;

use prost::Message;
use support::{wire::*, *};
use switchboard_embedded::Listener;
use switchboard_proto::HellosRequest;
use switchboard_resolver::{Backoff, Channel, ChannelBuilder, Condition, HealthCheck};
use tokio::{task::JoinSet, time::Instant};
use tonic::Code;
use tonic_health::{
    ServingStatus::{NotServing, Serving},
    pb::HealthCheckResponse,
    server::HealthReporter,
};

const MILLIS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// How long a server may take for its first answer, unless that is set.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

const SAYS_SERVING: i32 = 1;
const SAYS_NOT_SERVING: i32 = 2;

/// A channel that watches its servers' health.
fn watched(network: &Network, addresses: &[&str]) -> Channel {
    let builder = Channel::balance(addresses.iter().copied()).expect("addresses");
    let builder = builder.name("greeter").connector(network.connector());
    let builder = builder.health(HealthCheck::of_server());
    builder.connect_lazy().expect("a channel")
}

/// Starts servers that tell how they are.
fn reporting(addresses: &[&str]) -> (Network, Vec<HealthReporter>) {
    let network = Network::new();
    let start = |address: &&str| {
        let reporter = HealthReporter::new();
        network.serve_reporting(address, &reporter);
        reporter
    };
    let reporters = addresses.iter().map(start).collect();
    (network, reporters)
}

fn last_error(channel: &Channel) -> String {
    let state = channel.state();
    state.endpoints[0].last_error.clone().unwrap_or_default()
}

/// A server frame by frame whose health is watched, and the stream of that watch.
async fn asked(
    settings: &[(u16, u32)],
    configure: impl FnOnce(ChannelBuilder) -> ChannelBuilder,
) -> (Channel, Listener, Wire, u32) {
    let network = switchboard_embedded::Network::new();
    let mut listener = network.listen("a:1").expect("nobody there");
    let builder = Channel::balance(["a:1"])
        .expect("an address")
        .name("greeter")
        .backoff(Backoff {
            jitter: 0.0,
            ..Backoff::default()
        })
        .health(HealthCheck::of_server())
        .connector(network.connector("channel"));
    let channel = configure(builder).connect_lazy().expect("a channel");
    let mut wire = within(SOON, Wire::accept(&mut listener, settings)).await;
    let stream = within(SOON, wire.request()).await.expect("a watch");
    (channel, listener, wire, stream)
}

/// The same, of a server that has said it serves.
async fn serving(
    settings: &[(u16, u32)],
    configure: impl FnOnce(ChannelBuilder) -> ChannelBuilder,
) -> (Channel, Listener, Wire, u32) {
    let (channel, listener, mut wire, stream) = asked(settings, configure).await;
    wire.headers(stream).await;
    says(&mut wire, stream, SAYS_SERVING).await;
    until_ready(&channel, &["a:1"]).await;
    (channel, listener, wire, stream)
}

async fn says(wire: &mut Wire, stream: u32, status: i32) {
    let said = HealthCheckResponse { status }.encode_to_vec();
    wire.send_raw(&data(stream, &message(&said))).await;
}

/// Waits for the next watch to be opened, and returns when that was and its stream.
async fn asked_again(wire: &mut Wire) -> (Instant, u32) {
    let stream = within(10 * MINUTE, wire.request()).await.expect("a watch");
    (Instant::now(), stream)
}

/// Waits until the stream is reset.
async fn until_reset(wire: &mut Wire, stream: u32) {
    let reset = async {
        loop {
            let frame = wire.next().await.expect("a connection that stays");
            if frame.kind == RST_STREAM && frame.stream == stream {
                break;
            }
        }
    };
    within(SOON, reset).await;
}

/// Reads until the client has ended the connection.
async fn until_ended(wire: &mut Wire) {
    within(SOON, async { while wire.next().await.is_some() {} }).await;
}

/// Makes a call and answers it.
async fn call_and_answer(channel: &Channel, wire: &mut Wire) -> String {
    let answering = async {
        let stream = wire.request().await.expect("a request");
        wire.answer(stream, "a:1").await;
    };
    let (served, ()) = within(SOON, async { tokio::join!(served_by(channel), answering) }).await;
    served
}

#[tokio::test(start_paused = true)]
async fn c45_who_does_not_serve_is_not_picked_and_stays_connected_until_it_does() {
    let (network, reporters) = reporting(&["a:1", "b:1"]);
    let channel = watched(&network, &["a:1", "b:1"]);
    until_ready(&channel, &["a:1", "b:1"]).await;
    assert_eq!(shares(&channel, 10).await["a:1"], 5);
    for _ in 0..3 {
        reporters[0].set_service_status("", NotServing).await;
        until_it_is(&channel, "a:1", Condition::Unhealthy).await;
        assert_eq!(
            last_error(&channel),
            "health of the server: NOT_SERVING (expected: SERVING)"
        );
        assert_eq!(shares(&channel, 10).await["b:1"], 10);
        reporters[0].set_service_status("", Serving).await;
        until_ready(&channel, &["a:1", "b:1"]).await;
        assert_eq!(shares(&channel, 10).await["a:1"], 5);
    }
    assert_eq!(network.dials("a:1").len(), 1);
    channel.close().await;
}

#[tokio::test(start_paused = true)]
async fn c45_calls_in_flight_go_on_at_a_server_that_does_not_serve_any_more() {
    let (network, reporters) = reporting(&["a:1"]);
    let channel = watched(&network, &["a:1"]);
    until_ready(&channel, &["a:1"]).await;
    let hellos = HellosRequest {
        name: "Ada".into(),
        count: 3,
        interval_ms: 1000,
    };
    let mut stream = client(&channel)
        .say_hellos(hellos)
        .await
        .unwrap()
        .into_inner();
    reporters[0].set_service_status("", NotServing).await;
    until_it_is(&channel, "a:1", Condition::Unhealthy).await;
    let mut count = 0;
    while stream.message().await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 3);
}

#[tokio::test(start_paused = true)]
async fn c45_if_nobody_serves_calls_fail_with_what_is_said_and_wait_for_ready_waits() {
    let (network, reporters) = reporting(&["a:1"]);
    reporters[0].set_service_status("", NotServing).await;
    let channel = watched(&network, &["a:1"]);
    let start = Instant::now();
    let status = call(&channel).await.unwrap_err();
    assert_took(start, Duration::ZERO);
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(
        status.message(),
        "service greeter: endpoint a:1: health of the server: NOT_SERVING (expected: SERVING)"
    );
    let mut waiting = JoinSet::new();
    let mut greeter = client(&channel);
    waiting.spawn(async move { greeter.say_hello(waiting_for_ready(hello("Ada"))).await });
    tokio::time::sleep(MINUTE).await;
    assert!(waiting.try_join_next().is_none());
    reporters[0].set_service_status("", Serving).await;
    for reply in within(SOON, waiting.join_all()).await {
        assert_eq!(reply.unwrap().into_inner().served_by, "a:1");
    }
}

#[tokio::test(start_paused = true)]
async fn c45_the_service_that_was_named_is_asked_for() {
    let (network, reporters) = reporting(&["a:1"]);
    let of = |health| {
        let builder = Channel::balance(["a:1"]).unwrap().name("greeter");
        let builder = builder.connector(network.connector()).health(health);
        builder.connect_lazy().unwrap()
    };
    let named = of(HealthCheck::of_service("helloworld.Greeter"));
    let own = of(HealthCheck::of_channel());
    for channel in [&named, &own] {
        // tonic's health service does not follow the protocol here, and breaks off.
        until_it_is(channel, "a:1", Condition::Unhealthy).await;
    }
    let expected = "health of service \"helloworld.Greeter\": its watch broke: NotFound: ";
    assert!(
        last_error(&named).starts_with(expected),
        "{}",
        last_error(&named)
    );
    reporters[0]
        .set_service_status("helloworld.Greeter", Serving)
        .await;
    until_ready(&named, &["a:1"]).await;
    assert_eq!(
        condition_of(&own.state(), "a:1"),
        Some(Condition::Unhealthy)
    );
    reporters[0].set_service_status("greeter", Serving).await;
    until_ready(&own, &["a:1"]).await;
}

#[tokio::test(start_paused = true)]
async fn c45_before_its_first_answer_nobody_is_ready_and_calls_wait() {
    let (channel, _listener, mut wire, stream) = asked(&[], |it| it).await;
    let mut calls = JoinSet::new();
    let caller = channel.clone();
    calls.spawn(async move { served_by(&caller).await });
    tokio::time::sleep(4 * SECOND).await;
    assert_eq!(
        condition_of(&channel.state(), "a:1"),
        Some(Condition::Connecting)
    );
    // The headers of an answer are none.
    wire.headers(stream).await;
    assert!(calls.try_join_next().is_none());
    says(&mut wire, stream, SAYS_SERVING).await;
    let request = within(SOON, wire.request()).await.expect("the call");
    wire.answer(request, "a:1").await;
    assert_eq!(calls.join_all().await, ["a:1"]);
}

#[tokio::test(start_paused = true)]
async fn c45_who_failed_is_failing_until_it_says_that_it_serves() {
    let network = switchboard_embedded::Network::new();
    let builder = Channel::balance(["a:1"]).unwrap().name("greeter");
    let builder = builder.health(HealthCheck::of_server());
    let builder = builder.connector(network.connector("channel"));
    let channel = builder.connect_lazy().unwrap();
    until_it_is(&channel, "a:1", Condition::Failing).await;
    let mut listener = network.listen("a:1").unwrap();
    let mut wire = within(SOON, Wire::accept(&mut listener, &[])).await;
    let stream = within(SOON, wire.request()).await.expect("a watch");
    tokio::time::sleep(SECOND).await;
    assert_eq!(
        condition_of(&channel.state(), "a:1"),
        Some(Condition::Failing)
    );
    wire.headers(stream).await;
    says(&mut wire, stream, SAYS_SERVING).await;
    until_ready(&channel, &["a:1"]).await;
}

#[tokio::test(start_paused = true)]
async fn c45_who_has_no_health_service_is_healthy_and_is_not_asked_again() {
    let network = Network::serving(&["a:1", "b:1"]);
    let channel = watched(&network, &["a:1", "b:1"]);
    until_ready(&channel, &["a:1", "b:1"]).await;
    assert_eq!(shares(&channel, 10).await["a:1"], 5);
    assert_eq!(last_error(&channel), "");

    let (channel, _listener, mut wire, stream) = asked(&[], |it| it).await;
    wire.status(stream, "12").await;
    until_ready(&channel, &["a:1"]).await;
    let asked = tokio::time::timeout(10 * MINUTE, wire.request()).await;
    assert!(asked.is_err(), "it is asked again");
    assert_eq!(call_and_answer(&channel, &mut wire).await, "a:1");
}

#[tokio::test(start_paused = true)]
async fn c45_who_does_not_answer_is_waited_for_so_long_and_asked_again() {
    let (channel, _listener, mut wire, _stream) = asked(&[], |it| it).await;
    let start = Instant::now();
    let status = call(&channel).await.unwrap_err();
    assert_took(start, ANSWER_TIMEOUT);
    let expected = "service greeter: endpoint a:1: health of the server: no answer within 5s";
    assert_eq!(status.message(), expected);
    let (at, stream) = asked_again(&mut wire).await;
    let waited = at - start;
    assert!((6 * SECOND..7 * SECOND).contains(&waited), "{waited:?}");
    wire.headers(stream).await;
    says(&mut wire, stream, SAYS_SERVING).await;
    until_ready(&channel, &["a:1"]).await;

    let health = HealthCheck::of_server().answer_timeout(SECOND);
    let (channel, _listener, _wire, _stream) = asked(&[], |it| it.health(health)).await;
    let start = Instant::now();
    until_it_is(&channel, "a:1", Condition::Unhealthy).await;
    assert_took(start, SECOND);
}

#[tokio::test(start_paused = true)]
async fn c45_answers_that_make_no_sense_are_told_as_they_came() {
    let (channel, _listener, mut wire, stream) = serving(&[], |it| it).await;
    for (status, expected) in [
        (
            3,
            "health of the server: SERVICE_UNKNOWN (expected: SERVING)",
        ),
        (0, "health of the server: UNKNOWN (expected: SERVING)"),
        (7, "health of the server: status 7 (expected: 0 to 3)"),
        (-1, "health of the server: status -1 (expected: 0 to 3)"),
    ] {
        says(&mut wire, stream, status).await;
        until(&channel, |state| {
            state.endpoints[0].last_error.as_deref() == Some(expected)
        })
        .await;
        until_it_is(&channel, "a:1", Condition::Unhealthy).await;
    }
    says(&mut wire, stream, SAYS_SERVING).await;
    until_ready(&channel, &["a:1"]).await;
}

#[tokio::test(start_paused = true)]
async fn c45_an_answer_that_is_none_ends_the_watch_and_is_told() {
    // Serving, and then a field that nobody knows.
    let mut huge = HealthCheckResponse {
        status: SAYS_SERVING,
    }
    .encode_to_vec();
    huge.extend([0x7a, 0x88, 0x27]);
    huge.extend([b'x'; 5000]);
    let nonsense = [
        // A message of another kind, and one that is none at all.
        message(&[0x0a, 0x01, 0x41]),
        message(&[0xff; 20]),
        message(&huge),
        // Compressed, and so large that it will never be there.
        vec![1, 0, 0, 0, 1, 0],
        vec![0, 0xff, 0xff, 0xff, 0xff],
    ];
    for bytes in nonsense {
        let (channel, _listener, mut wire, mut stream) = serving(&[], |it| it).await;
        let mut last = None;
        for wait in [1.0, 1.6, 2.56] {
            wire.send_raw(&data(stream, &bytes)).await;
            until_it_is(&channel, "a:1", Condition::Unhealthy).await;
            let error = last_error(&channel);
            let expected = "health of the server: its watch broke: ";
            assert!(error.starts_with(expected), "{error}");
            let (at, next) = asked_again(&mut wire).await;
            if let Some(last) = last {
                assert_took(last, Duration::from_secs_f64(wait));
            }
            wire.headers(next).await;
            (last, stream) = (Some(at), next);
        }
        says(&mut wire, stream, SAYS_SERVING).await;
        until_ready(&channel, &["a:1"]).await;
        assert_eq!(call_and_answer(&channel, &mut wire).await, "a:1");
    }
}

/// Sends answers as fast as they go, for as long as they are wanted, and returns how many that were.
async fn flood(wire: &mut Wire, stream: u32, statuses: [i32; 2]) -> usize {
    let mut sent = 0;
    let both = statuses.map(|status| {
        let said = HealthCheckResponse { status }.encode_to_vec();
        data(stream, &message(&said))
    });
    let both = both.concat();
    for _ in 0..100_000 {
        wire.send_raw(&both).await;
        sent += 2;
        // What comes is looked at now and then.
        if sent % 200 == 0
            && let Ok(Some(frame)) = tokio::time::timeout(MILLIS, wire.next()).await
            && frame.kind == RST_STREAM
        {
            break;
        }
    }
    sent
}

#[tokio::test(start_paused = true)]
async fn c45_who_flips_all_the_time_is_not_listened_to_and_asked_ever_more_seldom() {
    let (channel, _listener, mut wire, mut stream) = serving(&[], |it| it).await;
    let mut states = channel.watch_state();
    let mut waits = Vec::new();
    for _ in 0..4 {
        states.mark_unchanged();
        let flooding = async {
            let sent = flood(&mut wire, stream, [SAYS_NOT_SERVING, SAYS_SERVING]).await;
            (sent, Instant::now())
        };
        let mut seen = 0;
        let counting = async {
            while states.changed().await.is_ok() {
                seen += 1;
            }
        };
        let (sent, ended) = tokio::select! {
            flooded = within(SOON, flooding) => flooded,
            () = counting => panic!("the channel is closed"),
        };
        assert!(sent < 100_000, "{sent}");
        assert!(seen <= 12, "the channel changed {seen} times");
        assert_eq!(
            last_error(&channel),
            "health of the server: more than 10 changes within 1s (expected: fewer)"
        );
        until_it_is(&channel, "a:1", Condition::Unhealthy).await;
        let (at, next) = asked_again(&mut wire).await;
        waits.push((at - ended).as_secs_f64());
        wire.headers(next).await;
        stream = next;
    }
    let near = |(one, other): (&f64, &f64)| (one - other).abs() < 0.1;
    let expected = [1.0, 1.6, 2.56, 4.096];
    assert!(waits.iter().zip(&expected).all(near), "{waits:?}");
    // And its word counts again once it behaves.
    says(&mut wire, stream, SAYS_SERVING).await;
    until_ready(&channel, &["a:1"]).await;
}

#[tokio::test(start_paused = true)]
async fn c45_who_repeats_itself_all_the_time_is_not_listened_to_either() {
    let (channel, _listener, mut wire, stream) = serving(&[], |it| it).await;
    let mut states = channel.watch_state();
    states.mark_unchanged();
    let sent = within(SOON, flood(&mut wire, stream, [SAYS_SERVING; 2])).await;
    assert!((1000..100_000).contains(&sent), "{sent}");
    until_it_is(&channel, "a:1", Condition::Unhealthy).await;
    assert_eq!(
        last_error(&channel),
        "health of the server: more than 1000 answers within 1s (expected: one each time it changes)"
    );
}

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
    let (channel, _listener, mut wire, _stream) = serving(&[], |it| it).await;
    let mut states = channel.watch_state();
    states.mark_unchanged();
    let ping = async {
        loop {
            if wire.read().await.expect("a connection").kind == PING {
                break;
            }
        }
    };
    let pinged = tokio::time::timeout(20 * MINUTE, ping).await;
    assert!(pinged.is_err(), "pinged, though nobody waits for it");
    assert!(!states.has_changed().unwrap());
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
