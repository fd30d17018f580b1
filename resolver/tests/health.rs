//! Servers that say of themselves whether they serve: what follows from what they say.

mod support;

use std::time::Duration;

use prost::Message;
use support::{health::*, wire::*, *};
use switchboard_proto::HellosRequest;
use switchboard_resolver::{Channel, Condition, HealthCheck};
use tokio::{task::JoinSet, time::Instant};
use tonic::Code;
use tonic_health::{
    ServingStatus::{NotServing, Serving},
    pb::HealthCheckResponse,
};

const MILLIS: Duration = Duration::from_millis(1);

/// How long a server may take for its first answer, unless that is set.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

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
async fn a_server_that_has_left_the_list_and_stops_is_no_warning() {
    let (network, reporters) = reporting(&["a:1", "b:1", "c:1", "d:1"]);
    let (said, source) = source();
    let channel = builder(&network, source).health(HealthCheck::of_server());
    let channel = channel.connect_lazy().unwrap();
    said.snapshot(&["a:1", "b:1", "c:1", "d:1"]);
    until_ready(&channel, &["a:1", "b:1", "c:1", "d:1"]).await;
    let logged = Logged::start();
    said.snapshot(&["b:1", "c:1", "d:1"]);
    until(&channel, |state| state.endpoints[0].is_reserved).await;
    reporters[0].set_service_status("", NotServing).await;
    until_it_is(&channel, "a:1", Condition::Unhealthy).await;
    assert_eq!(logged.names(), [""; 0]);
    reporters[1].set_service_status("", NotServing).await;
    until_it_is(&channel, "b:1", Condition::Unhealthy).await;
    assert_eq!(logged.names(), ["WARN endpoint_unhealthy"]);
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
