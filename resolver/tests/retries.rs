//! Calls that are made again, as the retry policy of their method has it (gRPC's A6).

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use support::{retrying::*, scripted::*, wire::*, *};
use switchboard_resolver::{
    Breaker, CallErrorKind, CallInfo, Candidate, Channel, ChannelBuilder, Condition, Ejection,
    Load, MethodConfig, PickError, Picker, Policy, ServiceConfig,
};
use tokio::{runtime::Handle, task::JoinSet, time::Instant};
use tonic::{Code, Status};

const SECOND: Duration = Duration::from_secs(1);

/// No timer of a channel is as short.
const AT_ONCE: Duration = Duration::from_millis(10);

/// How long after each attempt the next one came, in milliseconds.
fn waits(script: &Script) -> Vec<u64> {
    let seen = script.seen();
    let waits = seen.windows(2).map(|it| it[1].at - it[0].at);
    waits.map(|it| it.as_millis() as u64).collect()
}

/// Asserts that these waits are those, a fifth more or less; a paused clock may be a few ms late.
#[track_caller]
fn assert_near(waits: &[u64], expected: &[u64]) {
    assert_eq!(waits.len(), expected.len(), "{waits:?}");
    for (wait, expected) in waits.iter().zip(expected) {
        let range = expected * 8 / 10..=expected * 12 / 10 + 5;
        assert!(range.contains(wait), "{waits:?}, not {expected:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn c38_a_call_is_made_again_until_it_succeeds_after_waits_that_grow() {
    let (_network, script, channel) = retrying(&["a:1"], 5).await;
    script.then(unavailable(3));
    assert_eq!(served_by(&channel).await, "a:1");
    assert_near(&waits(&script), &[100, 200, 400]);
    // The next one begins from the start.
    script.then(unavailable(1));
    assert_eq!(served_by(&channel).await, "a:1");
    assert_near(&waits(&script), &[100]);
}

#[tokio::test(start_paused = true)]
async fn c38_the_server_is_told_how_many_attempts_there_were_before() {
    let (_network, script, channel) = retrying(&["a:1"], 3).await;
    script.then(unavailable(2));
    call(&channel).await.unwrap();
    let before: Vec<_> = script.seen().into_iter().map(|it| it.before).collect();
    assert_eq!(before, [None, Some("1".to_owned()), Some("2".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn c38_after_the_last_attempt_the_caller_sees_how_that_one_ended() {
    let (_network, script, channel) = retrying(&["a:1"], 3).await;
    script.then(unavailable(2));
    script.then([failure_with(Code::Unavailable, "attempt", "the third")]);
    let status = call(&channel).await.unwrap_err();
    assert_eq!(status.message(), "Unavailable");
    assert_eq!(status.metadata().get("attempt").unwrap(), "the third");
    assert_eq!(script.seen().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn c38_more_than_five_attempts_are_five() {
    let (_network, script, channel) = retrying(&["a:1"], 100).await;
    script.then(unavailable(100));
    assert_eq!(code(&channel).await, Code::Unavailable);
    assert_eq!(script.seen().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn c38_a_code_that_is_not_retried_reaches_the_caller_at_once() {
    let (_network, script, channel) = retrying(&["a:1"], 3).await;
    script.then([failure_with(Code::NotFound, "who", "Bob")]);
    let start = Instant::now();
    let status = call(&channel).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(status.metadata().get("who").unwrap(), "Bob");
    assert!(start.elapsed() < AT_ONCE);
    assert_eq!(script.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn c38_only_methods_that_have_a_policy_are_retried() {
    let method = MethodConfig::default().with_retry(retry(3));
    let config = ServiceConfig::default().with_method("greeter.v1.Greeter/GreetAll", method);
    let config = config.unwrap();
    let (_network, script, channel) = scripted(&["a:1"], |it| it.service_config(config)).await;
    script.then(unavailable(1));
    assert_eq!(code(&channel).await, Code::Unavailable);
    script.then(unavailable(1));
    let names = tokio_stream::iter([hello("Ada")]);
    client(&channel).greet_all(names).await.unwrap();
    assert_eq!(script.seen().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn c38_a_server_names_the_wait_and_the_backoff_begins_anew_after_it() {
    let (_network, script, channel) = retrying(&["a:1"], 5).await;
    script.then(unavailable(2));
    script.then([failure_with(
        Code::Unavailable,
        "grpc-retry-pushback-ms",
        "7000",
    )]);
    script.then(unavailable(1));
    assert_eq!(code(&channel).await, Code::Ok);
    let waits = waits(&script);
    assert_near(&[waits[0], waits[1], waits[3]], &[100, 200, 100]);
    // Exactly, with the clock's own granularity.
    assert!((7000..=7005).contains(&waits[2]), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn c38_a_server_forbids_it_by_a_wait_that_is_negative_or_no_number() {
    let (_network, script, channel) = retrying(&["a:1"], 5).await;
    for value in ["-1", "soon", ""] {
        script.then([failure_with(
            Code::Unavailable,
            "grpc-retry-pushback-ms",
            value,
        )]);
        assert_eq!(code(&channel).await, Code::Unavailable);
        assert_eq!(script.seen().len(), 1, "{value:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn c38_another_endpoint_is_preferred_to_those_that_were_tried() {
    let network = Network::new();
    let (bad, good) = (Script::default(), Script::default());
    bad.serve(&network, "a:1");
    bad.serve(&network, "b:1");
    good.serve(&network, "c:1");
    let addresses = ["a:1", "b:1", "c:1"];
    let channel = Channel::balance(addresses)
        .unwrap()
        .connector(network.connector());
    let channel = channel
        .service_config(config(retry(3)))
        .connect_lazy()
        .unwrap();
    until_ready(&channel, &addresses).await;
    bad.then(unavailable(1000));
    // Three attempts at three endpoints, whoever is first and whatever turns others take meanwhile.
    for _ in 0..20 {
        let calls = [served_by(&channel), served_by(&channel)];
        let served = within(SOON, futures::future::join_all(calls)).await;
        assert_eq!(served, ["c:1"; 2]);
    }
    assert!(bad.seen().len() > 20);
}

#[tokio::test(start_paused = true)]
async fn c38_if_all_were_tried_any_is_good_enough() {
    let (_network, script, channel) = retrying(&["a:1", "b:1"], 4).await;
    script.then(unavailable(3));
    assert_eq!(code(&channel).await, Code::Ok);
    let mut by: Vec<_> = script.seen().into_iter().map(|it| it.by).collect();
    by[..2].sort();
    assert_eq!(by[..2], ["a:1", "b:1"]);
    assert_eq!(by.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn c38_a_response_that_has_begun_is_the_one_that_counts() {
    let (channel, _listener, mut wire) = wired(&[], |it| it.service_config(config(retry(3)))).await;
    let server = async {
        let stream = wire.request().await.unwrap();
        wire.headers(stream).await;
        wire.send_raw(&trailers(stream, &[("grpc-status", "14")]))
            .await;
        let again = tokio::time::timeout(SOON, wire.request()).await;
        assert!(again.is_err(), "it is made again: {again:?}");
    };
    let (reply, ()) = tokio::join!(call(&channel), server);
    assert_eq!(reply.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn c38_an_answer_of_a_proxy_is_no_response_that_has_begun() {
    let (channel, _listener, mut wire) = wired(&[], |it| it.service_config(config(retry(3)))).await;
    let server = async {
        let stream = wire.request().await.unwrap();
        let fields = [(":status", "503"), ("content-type", "text/html")];
        wire.send(HEADERS, END_HEADERS, stream, &block(&fields))
            .await;
        let stream = wire.request().await.expect("the same request");
        wire.answer(stream, "a:1").await;
    };
    let (served, ()) = within(SOON, futures::future::join(served_by(&channel), server)).await;
    assert_eq!(served, "a:1");
}

#[tokio::test(start_paused = true)]
async fn c38_a_request_that_goes_on_is_sent_once() {
    let (_network, script, channel) = retrying(&["a:1"], 3).await;
    script.then(unavailable(1));
    let names =
        tokio_stream::StreamExt::chain(tokio_stream::iter([hello("Ada")]), tokio_stream::pending());
    let status = client(&channel).greet_all(names).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(script.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn c38_a_call_that_broke_on_its_way_is_made_again_too() {
    let (channel, mut listener, mut wire) =
        wired(&[], |it| it.service_config(config(retry(2)))).await;
    let server = async {
        wire.request().await.unwrap();
        // The connection ends, and the call may have been processed.
        drop(wire);
        let mut wire = Wire::accept(&mut listener, &[]).await;
        let stream = wire.request().await.expect("the same request");
        wire.answer(stream, "a:1").await;
    };
    let (served, ()) = within(SOON, futures::future::join(served_by(&channel), server)).await;
    assert_eq!(served, "a:1");
}

#[tokio::test(start_paused = true)]
async fn c38_what_no_server_has_processed_counts_for_nothing() {
    let config = config(retry(2)).with_retry_throttling(3, 0.1).unwrap();
    let (channel, _listener, mut wire) = wired(&[], |it| it.service_config(config)).await;
    let server = async {
        let stream = wire.request().await.unwrap();
        wire.reset(stream, REFUSED_STREAM).await;
        // The first of two attempts, which leaves 2 of 3 tokens.
        let stream = wire.request().await.expect("the same request");
        wire.status(stream, "14").await;
        let stream = wire.request().await.expect("the same request");
        wire.answer(stream, "a:1").await;
    };
    let (served, ()) = within(SOON, futures::future::join(served_by(&channel), server)).await;
    assert_eq!(served, "a:1");
}

#[tokio::test(start_paused = true)]
async fn c38_a_call_that_finds_nobody_is_made_again() {
    let (network, script, channel) = retrying(&["a:1"], 5).await;
    network.crash("a:1");
    until_it_is(&channel, "a:1", Condition::Failing).await;
    let mut calls = JoinSet::new();
    let caller = channel.clone();
    calls.spawn(async move { code(&caller).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    script.serve(&network, "a:1");
    channel.reset_backoff();
    assert_eq!(calls.join_next().await.unwrap().unwrap(), Code::Ok);
    let seen = script.seen();
    assert_eq!(seen[0].before.as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn c38_the_deadline_covers_all_attempts() {
    let (_network, script, channel) = retrying(&["a:1"], 5).await;
    script.then(unavailable(1));
    script.then([Answer::Silence]);
    let start = Instant::now();
    let call = with_timeout(hello("Ada"), SECOND);
    let status = client(&channel).say_hello(call).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_took(start, SECOND);
    // The second attempt was told what is left.
    let seen = script.seen();
    let left: Vec<_> = seen.iter().map(|it| it.timeout.clone().unwrap()).collect();
    assert_eq!(left[0], "1000000u");
    let left: u64 = left[1].strip_suffix('u').unwrap().parse().unwrap();
    assert!((870_000..=920_000).contains(&left), "{left}");
}

#[tokio::test(start_paused = true)]
async fn c38_an_attempt_that_the_deadline_would_forestall_is_not_waited_for() {
    let (_network, script, channel) = retrying(&["a:1"], 5).await;
    script.then([failure_with(
        Code::Unavailable,
        "grpc-retry-pushback-ms",
        "1000",
    )]);
    let start = Instant::now();
    let call = with_timeout(hello("Ada"), SECOND);
    let status = client(&channel).say_hello(call).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "what it failed with last");
    assert!(start.elapsed() < AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn c38_a_channel_that_is_closed_ends_the_wait() {
    let (_network, script, channel) = retrying(&["a:1"], 2).await;
    script.then([failure_with(
        Code::Unavailable,
        "grpc-retry-pushback-ms",
        "60000",
    )]);
    let mut calls = JoinSet::new();
    let caller = channel.clone();
    calls.spawn(async move { call(&caller).await });
    tokio::time::sleep(SECOND).await;
    let start = Instant::now();
    within(SECOND, channel.close()).await;
    let status = calls.join_next().await.unwrap().unwrap().unwrap_err();
    assert!(start.elapsed() < AT_ONCE);
    assert!(status.message().contains("closed"), "{status:?}");
    assert_eq!(
        kind(&status),
        CallErrorKind::Interrupted,
        "it was processed once"
    );
}

/// The load that a policy sees.
#[derive(Debug, Clone, Default)]
struct Watched(Arc<Mutex<Option<Arc<Load>>>>);

impl Policy for Watched {
    fn name(&self) -> &str {
        "watched"
    }

    fn picker(&self, candidates: &[Candidate], _: u64) -> Box<dyn Picker> {
        *self.0.lock().unwrap() = Some(candidates[0].load().clone());
        Box::new(First)
    }

    fn reads_load(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct First;

impl Picker for First {
    fn pick(&self, _: &CallInfo<'_>, take: &mut dyn FnMut(usize) -> bool) -> Result<(), PickError> {
        take(0);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn c38_a_call_that_waits_to_be_made_again_holds_nothing_and_leaves_nothing() {
    let watched = Watched::default();
    let configure = |it: ChannelBuilder| {
        let it = it.policy(watched.clone()).service_config(config(retry(2)));
        it.max_calls_in_flight_per_endpoint(1)
    };
    let (_network, script, channel) = scripted(&["a:1"], configure).await;
    let load = watched.0.lock().unwrap().clone().unwrap();
    let tasks = Handle::current().metrics().num_alive_tasks();
    let in_flight = || {
        (
            channel.state().endpoints[0].calls_in_flight(),
            load.calls_in_flight(),
        )
    };
    for is_dropped in [true, false] {
        script.then([failure_with(
            Code::Unavailable,
            "grpc-retry-pushback-ms",
            "5000",
        )]);
        let mut waiting = Box::pin(call(&channel));
        let waited = tokio::time::timeout(SECOND, &mut waiting).await;
        assert!(waited.is_err(), "{waited:?}");
        assert_eq!(in_flight(), (0, 0));
        // The only slot is free.
        assert_eq!(within(AT_ONCE, served_by(&channel)).await, "a:1");
        match is_dropped {
            true => drop(waiting),
            false => drop(within(SOON, waiting).await.unwrap()),
        }
        assert_eq!(in_flight(), (0, 0));
        assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks);
    }
}

#[tokio::test(start_paused = true)]
async fn c38_each_attempt_is_judged_as_what_it_was() {
    let breaker = Breaker {
        consecutive_failures: 3,
        ..Breaker::default()
    };
    let ejection = Ejection {
        breaker: Some(breaker),
        ..Ejection::default()
    };
    for (attempts, is_ejected) in [(2, false), (3, true)] {
        let configure = |it: ChannelBuilder| {
            it.ejection(ejection)
                .service_config(config(retry(attempts)))
        };
        let (_network, script, channel) = scripted(&["a:1"], configure).await;
        script.then(unavailable(attempts as usize));
        // One call.
        assert_eq!(code(&channel).await, Code::Unavailable);
        tokio::time::sleep(AT_ONCE).await;
        let is = condition_of(&channel.state(), "a:1");
        assert_eq!(is == Some(Condition::Ejected), is_ejected, "{is:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn c38_waits_vary_and_follow_from_the_channel_s_seed() {
    let waits_of = async |seed| {
        let configure = |it: ChannelBuilder| it.seed(seed).service_config(config(retry(5)));
        let (_network, script, channel) = scripted(&["a:1"], configure).await;
        script.then(unavailable(4));
        assert_eq!(code(&channel).await, Code::Ok);
        waits(&script)
    };
    let waits = waits_of(7).await;
    assert_eq!(waits, waits_of(7).await);
    // Always the same two, so that chance decides nothing.
    assert_ne!(waits, waits_of(8).await);
}

#[tokio::test(start_paused = true)]
async fn c38_a_call_that_was_answered_once_is_not_told_as_one_that_nobody_processed() {
    let (network, script, channel) = retrying(&["a:1"], 2).await;
    script.then(unavailable(1));
    let mut calls = JoinSet::new();
    let caller = channel.clone();
    calls.spawn(async move { call(&caller).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    network.crash("a:1");
    let status: Status = calls.join_next().await.unwrap().unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(script.seen().len(), 1, "the second attempt found nobody");
    assert_eq!(kind(&status), CallErrorKind::Interrupted);
}
