//! How endpoints are connected to, left alone, and connected to again.

mod support;

use std::time::Duration;

use support::*;
use switchboard_proto::HellosRequest;
use switchboard_resolver::{Backoff, Channel, ChannelBuilder, Condition, ConnectError, KeepAlive};
use tokio::{io::AsyncWriteExt, runtime::Handle, task::JoinSet, time::Instant};
use tokio_stream::StreamExt;
use tokio_util::task::TaskTracker;
use tonic::Code;

const SECOND: Duration = Duration::from_secs(1);

fn to_a(network: &Network) -> ChannelBuilder {
    let builder = Channel::balance(["a:1"])
        .expect("an address")
        .name("greeter");
    builder.connector(network.connector()).seed(7)
}

/// How long after each dial the next one came, in seconds.
fn waits(network: &Network, address: &str) -> Vec<f64> {
    let dials = network.dials(address);
    let pairs = dials.windows(2);
    pairs
        .map(|pair| (pair[1] - pair[0]).as_secs_f64())
        .collect()
}

#[track_caller]
fn assert_waits_are_about(waits: &[f64], middles: &[f64]) {
    // 20 % of jitter, and a timer is up to a millisecond late.
    let fits = |(wait, middle): (&f64, &f64)| (middle * 0.8..=middle * 1.2 + 0.002).contains(wait);
    let all_fit = waits.iter().zip(middles).all(fits);
    assert!(
        waits.len() >= middles.len() && all_fit,
        "{waits:?} are not {middles:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn c25_a_server_that_never_speaks_is_not_ready_and_is_backed_off_from() {
    let network = Network::new();
    network.silence("a:1");
    let channel = to_a(&network)
        .connect_timeout(3 * SECOND)
        .connect_lazy()
        .unwrap();
    let start = Instant::now();
    until_it_is(&channel, "a:1", Condition::Failing).await;
    assert_took(start, 3 * SECOND);
    let message = call(&channel).await.unwrap_err().message().to_owned();
    assert!(
        message.contains("no HTTP/2 settings from the server within 3s"),
        "{message}"
    );
    tokio::time::sleep(30 * SECOND).await;
    // Each attempt takes its 3 s before the wait begins.
    let waits: Vec<_> = waits(&network, "a:1").iter().map(|it| it - 3.0).collect();
    assert_waits_are_about(&waits, &[1.0, 1.6, 2.56]);
    assert_eq!(
        condition_of(&channel.state(), "a:1"),
        Some(Condition::Failing)
    );
}

#[tokio::test(start_paused = true)]
async fn c26_an_address_that_swallows_attempts_is_timed_out_while_others_serve() {
    let network = Network::serving(&["b:1"]);
    network.cut("a:1");
    let channel = Channel::balance(["a:1", "b:1"]).unwrap().name("greeter");
    let channel = channel
        .connector(network.connector())
        .connect()
        .await
        .unwrap();
    let start = Instant::now();
    assert_eq!(shares(&channel, 10).await, [("b:1".to_owned(), 10)].into());
    until_it_is(&channel, "a:1", Condition::Failing).await;
    assert_took(start, 20 * SECOND);
    assert_eq!(
        channel.state().endpoints[0].last_error.as_deref(),
        Some("cannot connect: no connection within 20s")
    );
}

#[tokio::test(start_paused = true)]
async fn c27_a_reset_ends_the_backoff_at_once() {
    let network = Network::new();
    let channel = to_a(&network).connect_lazy().unwrap();
    tokio::time::sleep(500 * SECOND).await;
    network.serve("a:1");
    let start = Instant::now();
    channel.reset_backoff();
    until_ready(&channel, &["a:1"]).await;
    assert_took(start, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn c27_a_removal_ends_the_backoff_and_its_task() {
    let network = Network::new();
    let (said, source) = source();
    let channel = builder(&network, source).reserve(accepting_empty());
    let channel = channel.connect_lazy().unwrap();
    said.snapshot(&["a:1"]);
    until_it_is(&channel, "a:1", Condition::Failing).await;
    let with_the_endpoint = Handle::current().metrics().num_alive_tasks();
    said.snapshot(&[]);
    until_ready(&channel, &[]).await;
    assert_eq!(
        Handle::current().metrics().num_alive_tasks(),
        with_the_endpoint - 1
    );
    let dials = network.dials("a:1").len();
    tokio::time::sleep(500 * SECOND).await;
    assert_eq!(network.dials("a:1").len(), dials);
}

#[tokio::test(start_paused = true)]
async fn c28_a_lost_connection_is_redialed_at_once_then_with_growing_backoff_reset_by_success() {
    let network = Network::serving(&["a:1"]);
    let channel = to_a(&network).connect_lazy().unwrap();
    until_ready(&channel, &["a:1"]).await;
    for round in 0..2 {
        tokio::time::sleep(10 * SECOND).await;
        let before = network.dials("a:1").len();
        let start = Instant::now();
        network.crash("a:1");
        tokio::time::sleep(13 * SECOND).await;
        assert_eq!(network.dials("a:1")[before], start, "at once");
        let waits = &waits(&network, "a:1")[before..];
        assert_waits_are_about(waits, &[1.0, 1.6, 2.56, 4.096]);
        let is_round = |wait: &f64| (wait - 1.0).abs() < 0.002 || (wait - 1.6).abs() < 0.002;
        assert!(
            !waits[..2].iter().all(is_round),
            "jittered: {waits:?}, round {round}"
        );
        network.serve("a:1");
        until_ready(&channel, &["a:1"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn c28_a_server_that_accepts_and_hangs_up_is_no_hot_loop() {
    let network = Network::new();
    network.hang_up("a:1");
    let channel = to_a(&network).connect_lazy().unwrap();
    tokio::time::sleep(13 * SECOND).await;
    // Each connection lives for 10 ms before the wait begins.
    let waits: Vec<_> = waits(&network, "a:1").iter().map(|it| it - 0.01).collect();
    assert_waits_are_about(&waits, &[0.0, 1.6, 2.56, 4.096]);
    let dials = network.dials("a:1").len();
    assert!(dials <= 6, "{dials} dials in 13 s");
    drop(channel);
}

#[tokio::test(start_paused = true)]
async fn c29_an_endpoint_that_failed_is_failing_through_every_redial_until_ready() {
    let network = Network::new();
    let channel = to_a(&network).connect_lazy().unwrap();
    until_it_is(&channel, "a:1", Condition::Failing).await;
    network.cut("a:1");
    let mut states = channel.watch_state();
    for _ in 0..20 {
        tokio::time::sleep(SECOND).await;
        let start = Instant::now();
        let status = call(&channel).await.unwrap_err();
        assert_eq!(
            status.code(),
            Code::Unavailable,
            "fails fast, also during a redial"
        );
        assert_took(start, Duration::ZERO);
        assert_eq!(
            condition_of(&states.borrow_and_update(), "a:1"),
            Some(Condition::Failing)
        );
    }
    assert!(network.dials("a:1").len() >= 2);
    network.serve("a:1");
    until_ready(&channel, &["a:1"]).await;
}

#[tokio::test(start_paused = true)]
async fn c30_while_an_address_hangs_the_next_one_of_its_endpoint_is_tried_after_250_ms() {
    let network = Network::serving(&["a:2"]);
    network.cut("a:1");
    let (said, source) = source();
    let channel = builder(&network, source).connect_lazy().unwrap();
    said.endpoints(vec![endpoint(&["a:1", "a:2"])]);
    let start = Instant::now();
    until_ready(&channel, &["a:1"]).await;
    assert_took(start, Duration::from_millis(250));
    assert_eq!(served_by(&channel).await, "a:2");
}

#[tokio::test(start_paused = true)]
async fn c34_after_a_goaway_the_stream_goes_on_and_new_calls_go_to_a_new_connection() {
    let network = Network::serving(&["a:1"]);
    let channel = to_a(&network).connect().await.unwrap();
    let request = HellosRequest {
        name: "Ada".into(),
        count: 10,
        interval_ms: 1_000,
    };
    let replies = client(&channel)
        .say_hellos(request)
        .await
        .unwrap()
        .into_inner();
    network.shut_down("a:1");
    network.serve("a:1");
    tokio::time::sleep(SECOND).await;
    for _ in 0..5 {
        call(&channel).await.unwrap();
    }
    assert_eq!(network.dials("a:1").len(), 2);
    let replies: Vec<_> = within(SOON, replies.collect()).await;
    assert_eq!(replies.into_iter().filter(Result::is_ok).count(), 10);
}

#[tokio::test(start_paused = true)]
async fn connecting_succeeds_with_the_first_endpoint_and_fails_with_the_last() {
    let network = Network::new();
    let start = Instant::now();
    let error = to_a(&network).connect().await.unwrap_err();
    assert_took(start, Duration::ZERO);
    assert!(matches!(error, ConnectError::Unavailable(_)));
    assert_eq!(
        error.to_string(),
        "service greeter: endpoint a:1: cannot connect: connection refused"
    );

    network.cut("b:1");
    let builder = Channel::balance(["a:1", "b:1"])
        .unwrap()
        .connect_timeout(SECOND);
    let error = builder
        .connector(network.connector())
        .connect()
        .await
        .unwrap_err();
    assert_took(start, SECOND);
    assert_eq!(
        error.to_string(),
        "endpoint b:1: cannot connect: no connection within 1s"
    );

    network.serve("a:1");
    to_a(&network).connect().await.unwrap();

    let builder = Channel::builder(tokio_stream::pending()).connect_timeout(SECOND);
    let error = builder.connect().await.unwrap_err().to_string();
    assert_eq!(
        error,
        "no endpoint became ready within 2s: the endpoints are not known yet"
    );
}

#[tokio::test(start_paused = true)]
async fn keep_alive_finds_a_server_that_fell_silent() {
    let network = Network::serving(&["a:1"]);
    let keep_alive = KeepAlive {
        interval: 10 * SECOND,
        timeout: 5 * SECOND,
        while_idle: false,
    };
    let channel = to_a(&network)
        .keep_alive(keep_alive)
        .connect()
        .await
        .unwrap();
    let mut calls = JoinSet::new();
    let mut caller = client(&channel);
    calls.spawn(async move { caller.say_hello(hello("hang")).await });
    tokio::time::sleep(60 * SECOND).await;
    assert!(calls.try_join_next().is_none(), "the server answers pings");
    network.cut("a:1");
    let start = Instant::now();
    let status = calls.join_next().await.unwrap().unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(start.elapsed() <= 16 * SECOND, "{:?}", start.elapsed());
    assert!(
        status
            .message()
            .starts_with("service greeter: endpoint a:1: "),
        "{status}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_backoff_can_be_set() {
    let network = Network::new();
    let backoff = Backoff {
        base: Duration::from_millis(100),
        factor: 2.0,
        cap: Duration::from_millis(300),
        jitter: 0.0,
    };
    let channel = to_a(&network).backoff(backoff).connect_lazy().unwrap();
    tokio::time::sleep(SECOND).await;
    let waits: Vec<_> = waits(&network, "a:1")
        .iter()
        .map(|it| (it * 10.0).round())
        .collect();
    assert_eq!(waits[..4], [1.0, 2.0, 3.0, 3.0]);
    drop(channel);
}

#[tokio::test(start_paused = true)]
async fn c25_a_server_that_says_anything_but_settings_is_not_ready() {
    for (text, expected) in [
        (&b"\0"[..], "no HTTP/2 settings from the server within 3s"),
        // The head of SETTINGS with one setting, and half of that.
        (
            b"\0\0\x06\x04\0\0\0\0\0\0\x03\0",
            "no HTTP/2 settings from the server within 3s",
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "the server speaks HTTP/1 (expected: HTTP/2)",
        ),
    ] {
        let servers = TaskTracker::new();
        let builder = Channel::balance(["a:1"])
            .unwrap()
            .connect_timeout(3 * SECOND)
            .connector(move |_| {
                let (ours, mut theirs) = tokio::io::duplex(1024);
                servers.spawn(async move {
                    theirs.write_all(text).await.expect("a reader");
                    std::future::pending::<()>().await;
                });
                std::future::ready(Ok(ours))
            });
        let error = builder.connect().await.expect_err("not READY").to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_whose_connector_panicked_is_gone_once_it_is_removed() {
    type Never = std::future::Ready<std::io::Result<tokio::io::DuplexStream>>;
    let (said, source) = source();
    let channel = Channel::builder(source).connector(|_| -> Never { panic!("a bug") });
    let channel = channel.reserve(accepting_empty()).connect_lazy().unwrap();
    for _ in 0..3 {
        said.snapshot(&["a:1"]);
        until_it_is(&channel, "a:1", Condition::Failing).await;
        said.snapshot(&[]);
        until_ready(&channel, &[]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn times_longer_than_a_clock_can_tell_are_never() {
    let network = Network::serving(&["a:1"]);
    let keep_alive = KeepAlive {
        interval: Duration::MAX,
        timeout: Duration::MAX,
        while_idle: true,
    };
    let backoff = Backoff {
        base: Duration::MAX,
        cap: Duration::MAX,
        ..Backoff::default()
    };
    let builder = to_a(&network)
        .timeout(Duration::MAX)
        .connect_timeout(Duration::MAX)
        .keep_alive(keep_alive)
        .backoff(backoff);
    let channel = within(SOON, builder.connect()).await.unwrap();
    call(&channel).await.unwrap();
    network.crash("a:1");
    until_it_is(&channel, "a:1", Condition::Failing).await;
    tokio::time::sleep(500 * SECOND).await;
    assert_eq!(network.dials("a:1").len(), 2);
    within(SOON, channel.close()).await;
}
