//! What becomes of calls when a server answers, and badly.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

mod support;

use std::{collections::HashMap, time::Duration};

use support::{
    tuned::{Tuned, balanced},
    *,
};
use switchboard_resolver::{Backoff, Breaker, Channel, Condition, Ejection, ReserveUse};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tonic::Code;

const SECOND: Duration = Duration::from_secs(1);

/// Servers `s0:1` and so on, and a channel over them that ejects.
async fn ejecting<const N: usize>(ejection: Ejection) -> (Network, [Tuned; N], Channel) {
    balanced(|builder| builder.ejection(ejection)).await
}

/// Makes as many calls, and counts how they ended.
async fn codes(channel: &Channel, calls: usize) -> HashMap<Code, usize> {
    let mut codes = HashMap::new();
    for _ in 0..calls {
        let code = call(channel).await.err().map_or(Code::Ok, |it| it.code());
        *codes.entry(code).or_default() += 1;
    }
    codes
}

async fn until_ejected(channel: &Channel, address: &str) {
    until_it_is(channel, address, Condition::Ejected).await;
}

#[tokio::test(start_paused = true)]
async fn c48_five_failures_in_a_row_eject_one_of_four_and_one_probe_readmits_it() {
    let (_network, servers, channel) = ejecting::<4>(Ejection::default()).await;
    let logged = Logged::start();
    servers[1].answers(Code::Internal);
    // The fifth is at the end of five rounds.
    let codes_before = codes(&channel, 16).await;
    assert_eq!(codes_before[&Code::Internal], 4);
    codes(&channel, 4).await;
    let start = Instant::now();
    until_ejected(&channel, "s1:1").await;
    // By the last of its calls, not when the interval is over.
    assert_took(start, Duration::ZERO);
    let state = channel.state();
    let error = state.endpoints[1].last_error.as_deref();
    assert_eq!(error, Some("ejected: 5 calls failed in a row"));
    for server in &servers {
        server.calls();
    }
    assert_eq!(codes(&channel, 30).await, [(Code::Ok, 30)].into());
    // The others share its calls evenly.
    assert_eq!(servers.each_ref().map(Tuned::calls), [10, 0, 10, 10]);

    // One call on trial, which fails: out again, for longer.
    let probed = async {
        while servers[1].calls() == 0 {
            sleep(SECOND / 10).await;
            codes(&channel, 4).await;
        }
    };
    within(10 * SECOND, probed).await;
    assert!(start.elapsed() > 2 * SECOND, "{:?}", start.elapsed());
    assert_eq!(codes(&channel, 30).await, [(Code::Ok, 30)].into());
    assert_eq!(servers[1].calls(), 0);
    assert_eq!(logged.names(), ["WARN endpoint_ejected"]);

    // And one that succeeds: it is back.
    servers[1].answers(Code::Ok);
    let back = async {
        while condition_of(&channel.state(), "s1:1") != Some(Condition::Ready) {
            sleep(SECOND / 10).await;
            codes(&channel, 4).await;
        }
    };
    within(30 * SECOND, back).await;
    servers[1].calls();
    codes(&channel, 40).await;
    assert_eq!(servers[1].calls(), 10);
    assert_eq!(
        logged.names(),
        ["WARN endpoint_ejected", "INFO endpoint_readmitted"]
    );
}

#[tokio::test(start_paused = true)]
async fn c48_there_is_never_more_than_one_probe_and_one_that_is_given_up_is_made_again() {
    let (_network, servers, channel) = ejecting::<3>(Ejection::default()).await;
    servers[0].answers(Code::Unavailable);
    codes(&channel, 15).await;
    until_ejected(&channel, "s0:1").await;
    servers[0].answers(Code::Ok);
    servers[0].hold();
    servers[0].calls();
    // Longer than it is ejected for.
    sleep(10 * SECOND).await;
    let mut calls = JoinSet::new();
    for _ in 0..30 {
        let channel = channel.clone();
        calls.spawn(async move { call(&channel).await.map(|it| it.served_by) });
    }
    for _ in 0..29 {
        let served_by = within(SOON, calls.join_next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_ne!(served_by, "s0:1");
    }
    assert_eq!(servers[0].calls(), 1);
    assert_eq!(codes(&channel, 30).await, [(Code::Ok, 30)].into());
    assert_eq!(servers[0].calls(), 0);
    // Its caller gives it up; the next one that comes is the probe.
    calls.shutdown().await;
    servers[0].release(1_000);
    let addresses = shares(&channel, 30).await;
    assert!(addresses.contains_key("s0:1"), "{addresses:?}");
    until_it_is(&channel, "s0:1", Condition::Ready).await;
}

#[tokio::test(start_paused = true)]
async fn c48_a_probe_that_never_ends_does_not_keep_the_next_one_away() {
    let (_network, servers, channel) = ejecting::<3>(Ejection::default()).await;
    servers[0].answers(Code::Unavailable);
    codes(&channel, 15).await;
    until_ejected(&channel, "s0:1").await;
    servers[0].answers(Code::Ok);
    servers[0].hold();
    servers[0].calls();
    let start = Instant::now();
    let mut calls = JoinSet::new();
    let mut probed = Vec::new();
    while start.elapsed() < 100 * SECOND {
        sleep(SECOND / 10).await;
        for _ in 0..3 {
            let channel = channel.clone();
            calls.spawn(async move { call(&channel).await });
        }
        tokio::task::yield_now().await;
        let probes = servers[0].calls();
        assert!(probes <= 1, "{probes} probes at once");
        probed.extend((probes == 1).then(|| start.elapsed()));
    }
    // Each as long after the one before as a first ejection lasts.
    assert!((3..=4).contains(&probed.len()), "{probed:?}");
    for pair in probed.windows(2) {
        assert!(pair[1] - pair[0] >= 29 * SECOND, "{probed:?}");
    }
    // Whichever ends first decides.
    servers[0].release(1_000);
    until_it_is(&channel, "s0:1", Condition::Ready).await;
    for ended in within(SOON, calls.join_all()).await {
        ended.unwrap();
    }
}

/// What of the last set is listed still serves, and fails all calls: those in reserve do better.
#[tokio::test(start_paused = true)]
async fn c57_the_reserve_is_called_when_those_that_are_listed_are_ejected() {
    let network = Network::new();
    let servers = ["s0:1", "s1:1", "s2:1", "s3:1"].map(|it| Tuned::serve(&network, it));
    let addresses = servers.each_ref().map(|it| it.address());
    let (said, source) = source();
    let builder = builder(&network, source).ejection(Ejection::default());
    let channel = builder.connect_lazy().unwrap();
    said.snapshot(&addresses);
    until_ready(&channel, &addresses).await;
    said.snapshot(&addresses[..2]);
    until_ready(&channel, &addresses[..2]).await;
    assert_eq!(channel.state().reserve, ReserveUse::Unused);
    servers[..2]
        .iter()
        .for_each(|it| it.answers(Code::Internal));
    // Once one of them is, the reserve has a part of the calls.
    codes(&channel, 30).await;
    until_ejected(&channel, "s0:1").await;
    until_ejected(&channel, "s1:1").await;
    assert_eq!(channel.state().reserve, ReserveUse::Used);
    assert_eq!(codes(&channel, 20).await, [(Code::Ok, 20)].into());
}

#[tokio::test(start_paused = true)]
async fn what_an_endpoint_was_ejected_for_is_told_until_it_fails_otherwise() {
    let (network, servers, channel) = ejecting::<2>(Ejection::default()).await;
    let logged = Logged::start();
    servers[0].hold();
    // One stays in flight, so that the server's silence matters.
    let mut calls = JoinSet::new();
    for _ in 0..2 {
        let channel = channel.clone();
        calls.spawn(async move { call(&channel).await });
    }
    for _ in 0..10 {
        let request = with_timeout(hello("Ada"), SECOND / 10);
        let _ = client(&channel).say_hello(request).await;
    }
    until_ejected(&channel, "s0:1").await;
    network.cut("s0:1");
    let start = Instant::now();
    while !logged.names().contains(&"WARN endpoint_suspect".to_owned()) {
        sleep(SECOND).await;
        assert!(start.elapsed() < 400 * SECOND, "never silent");
    }
    network.heal("s0:1");
    sleep(SECOND).await;
    until_ejected(&channel, "s0:1").await;
    let state = channel.state();
    let error = state.endpoints[0].last_error.as_deref();
    assert_eq!(error, Some("ejected: 5 calls failed in a row"));
}

#[tokio::test(start_paused = true)]
async fn c48_answers_that_are_the_caller_s_own_fault_eject_nobody() {
    let (_network, servers, channel) = ejecting::<2>(Ejection::default()).await;
    for code in [
        Code::NotFound,
        Code::InvalidArgument,
        Code::PermissionDenied,
        Code::Unauthenticated,
        Code::FailedPrecondition,
        Code::Unimplemented,
        Code::ResourceExhausted,
        Code::Cancelled,
    ] {
        servers[0].answers(code);
        codes(&channel, 40).await;
        sleep(SECOND).await;
        assert_eq!(servers[0].calls(), 20, "{code}");
    }
    until_ready(&channel, &["s0:1", "s1:1"]).await;
}

#[tokio::test(start_paused = true)]
async fn c48_calls_that_meet_their_deadline_or_are_given_up_count_as_what_they_are() {
    let (_network, servers, channel) = ejecting::<2>(Ejection::default()).await;
    servers[0].hold();
    // Given up by their callers: nothing is said of the server.
    for _ in 0..40 {
        let _ = tokio::time::timeout(SECOND / 100, call(&channel)).await;
    }
    sleep(SECOND).await;
    until_ready(&channel, &["s0:1", "s1:1"]).await;
    // Too late for their deadlines: it is.
    for _ in 0..10 {
        let request = with_timeout(hello("Ada"), SECOND / 100);
        let _ = client(&channel).say_hello(request).await;
    }
    until_ejected(&channel, "s0:1").await;
}

#[tokio::test(start_paused = true)]
async fn c49_if_all_are_ejected_a_bad_one_is_used_rather_than_none() {
    let (_network, servers, channel) = ejecting::<2>(Ejection::default()).await;
    servers.iter().for_each(|it| it.answers(Code::Internal));
    codes(&channel, 10).await;
    until_ejected(&channel, "s0:1").await;
    until_ejected(&channel, "s1:1").await;
    assert_eq!(codes(&channel, 20).await, [(Code::Internal, 20)].into());
    // One answers again: its first good answer readmits it, and it has all calls.
    servers[1].answers(Code::Ok);
    codes(&channel, 4).await;
    until_it_is(&channel, "s1:1", Condition::Ready).await;
    servers[0].calls();
    assert_eq!(codes(&channel, 20).await, [(Code::Ok, 20)].into());
    assert_eq!(servers[0].calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn c47_one_bad_of_six_with_volume_is_ejected_and_back_after_its_time() {
    // What fails half of its calls has no long rows.
    let (_network, servers, channel) = ejecting::<6>(Ejection::default()).await;
    let start = Instant::now();
    let mut ejected = None;
    let mut number = 0;
    while ejected.is_none() {
        servers[2].answers([Code::Ok, Code::Unavailable][number % 2]);
        number += 1;
        codes(&channel, 6).await;
        sleep(SECOND / 20).await;
        ejected = (condition_of(&channel.state(), "s2:1") == Some(Condition::Ejected))
            .then(|| start.elapsed());
        assert!(start.elapsed() < 60 * SECOND, "never ejected");
    }
    let ejected = ejected.unwrap();
    assert!(
        ejected >= 9 * SECOND && ejected <= 12 * SECOND,
        "{ejected:?}"
    );
    servers[2].answers(Code::Ok);
    let start = Instant::now();
    while condition_of(&channel.state(), "s2:1") != Some(Condition::Ready) {
        assert_eq!(codes(&channel, 6).await, [(Code::Ok, 6)].into());
        sleep(SECOND / 20).await;
    }
    assert_took_about(start, 30 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn c47_never_more_are_ejected_than_the_share() {
    let ejection = Ejection {
        max_share: 0.34,
        ..Ejection::default()
    };
    let (_network, servers, channel) = ejecting::<6>(ejection).await;
    servers[..4]
        .iter()
        .for_each(|it| it.answers(Code::Internal));
    let start = Instant::now();
    let mut most = 0;
    while start.elapsed() < 45 * SECOND {
        codes(&channel, 12).await;
        sleep(SECOND / 20).await;
        let state = channel.state();
        let ejected = state.endpoints.iter();
        most = most.max(
            ejected
                .filter(|it| it.condition == Condition::Ejected)
                .count(),
        );
    }
    assert_eq!(most, 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_ejected_and_restarts_is_tried_soon() {
    // Out for 5, 10, 20 and 40 s, so that much of the last is left after a minute.
    let breaker = Breaker::default();
    let times = Backoff {
        jitter: 0.0,
        ..breaker.times
    };
    let ejection = Ejection {
        breaker: Some(Breaker { times, ..breaker }),
        ..Ejection::default()
    };
    let (network, servers, channel) = ejecting::<2>(ejection).await;
    servers[0].answers(Code::Internal);
    codes(&channel, 10).await;
    until_ejected(&channel, "s0:1").await;
    // Out for long, after several trials.
    for _ in 0..60 {
        sleep(SECOND).await;
        codes(&channel, 2).await;
    }
    network.crash("s0:1");
    network.serve("s0:1");
    let start = Instant::now();
    while condition_of(&channel.state(), "s0:1") != Some(Condition::Ready) {
        sleep(SECOND / 10).await;
        codes(&channel, 2).await;
        assert!(start.elapsed() < 10 * SECOND, "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn calls_lost_with_a_connection_eject_nobody() {
    let (network, servers, channel) = ejecting::<2>(Ejection::default()).await;
    servers[0].hold();
    let mut calls = JoinSet::new();
    for _ in 0..40 {
        let channel = channel.clone();
        calls.spawn(async move { call(&channel).await.map(drop).map_err(|it| it.code()) });
    }
    // All that go elsewhere have ended by then.
    sleep(SECOND).await;
    assert_eq!(servers[0].calls(), 20);
    let logged = Logged::start();
    network.crash("s0:1");
    network.serve("s0:1");
    let ended = within(SOON, calls.join_all()).await;
    let lost = ended.iter().filter(|it| **it == Err(Code::Unavailable));
    assert_eq!(lost.count(), 20);
    sleep(20 * SECOND).await;
    until_ready(&channel, &["s0:1", "s1:1"]).await;
    assert!(logged.names().is_empty(), "{:?}", logged.names());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_left_is_new_when_it_is_back() {
    let network = Network::new();
    let server = Tuned::serve(&network, "s0:1");
    network.serve("s1:1");
    let (said, source) = source();
    let builder = builder(&network, source).ejection(Ejection::default());
    let channel = builder.reserve(without_reserve()).connect_lazy().unwrap();
    said.snapshot(&["s0:1", "s1:1"]);
    until_ready(&channel, &["s0:1", "s1:1"]).await;
    server.answers(Code::Internal);
    codes(&channel, 10).await;
    until_ejected(&channel, "s0:1").await;
    said.snapshot(&["s1:1"]);
    until_ready(&channel, &["s1:1"]).await;
    server.answers(Code::Ok);
    said.snapshot(&["s0:1", "s1:1"]);
    until_ready(&channel, &["s0:1", "s1:1"]).await;
    assert_eq!(shares(&channel, 20).await["s0:1"], 10);
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_go_to_an_endpoint_as_soon_as_it_is_readmitted() {
    let network = Network::new();
    let addresses = ["s0:1", "s1:1"];
    let servers = addresses.map(|it| Tuned::serve(&network, it));
    let (said, source) = source();
    let builder = builder(&network, source).ejection(Ejection::default());
    let builder = builder.max_calls_in_flight_per_endpoint(5);
    let channel = builder.connect_lazy().unwrap();
    said.snapshot(&addresses);
    until_ready(&channel, &addresses).await;
    servers[0].answers(Code::Internal);
    codes(&channel, 10).await;
    until_ejected(&channel, "s0:1").await;
    // Its time is over: it gets one call, the other one as many as it may have, and four wait.
    sleep(10 * SECOND).await;
    servers[0].answers(Code::Ok);
    servers.iter().for_each(Tuned::hold);
    for server in &servers {
        server.calls();
    }
    let mut calls = JoinSet::new();
    for _ in 0..10 {
        let channel = channel.clone();
        calls.spawn(async move { call(&channel).await.map(drop) });
    }
    sleep(SECOND).await;
    assert_eq!(servers.each_ref().map(Tuned::calls), [1, 5]);
    servers[0].release(1);
    within(SOON, calls.join_next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    sleep(SECOND / 10).await;
    assert_eq!(servers.each_ref().map(Tuned::calls), [4, 0]);
}

#[track_caller]
fn assert_took_about(start: Instant, expected: Duration) {
    let took = start.elapsed();
    assert!(took >= expected && took < expected + SECOND, "{took:?}");
}
