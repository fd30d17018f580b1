//! What a channel counts, as Prometheus would read it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::{collections::BTreeMap, time::Duration};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use support::{wire::*, *};
use switchboard_proto::HellosRequest;
use switchboard_resolver::{Channel, Condition, MethodConfig, RetryPolicy, ServiceConfig};
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tonic::Code;

/// What is counted on this thread, which is all that a test runs on.
struct Counted {
    handle: PrometheusHandle,
    _recording: metrics::LocalRecorderGuard<'static>,
}

impl Counted {
    fn begin() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        // Each test has one, and a guard may not borrow from its neighbour.
        let recorder = Box::leak(Box::new(recorder));
        Self {
            handle,
            _recording: metrics::set_default_local_recorder(recorder),
        }
    }

    /// The series of a metric, by their last label, but those that are 0.
    fn of(&self, metric: &str) -> BTreeMap<String, f64> {
        let text = self.handle.render();
        let lines = text.lines().filter_map(|line| line.split_once(metric));
        let series = lines.filter_map(|(before, series)| {
            let (labels, value) = series.strip_prefix('{')?.split_once("} ")?;
            let labels = labels.strip_prefix("service=\"greeter\",")?;
            let label = labels.split('"').nth(1)?;
            let value: f64 = value.parse().expect("a number");
            (before.is_empty() && value != 0.0).then(|| (label.to_owned(), value))
        });
        series.collect()
    }

    /// The value of a series without further labels.
    fn value(&self, series: &str) -> f64 {
        let text = self.handle.render();
        let prefix = format!("{series}{{service=\"greeter\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
        value.expect(&text).parse().expect("a number")
    }

    fn endpoints(&self) -> BTreeMap<String, f64> {
        self.of("switchboard_endpoints")
    }

    fn calls(&self) -> BTreeMap<String, f64> {
        self.of("switchboard_calls_total")
    }

    fn retries(&self) -> BTreeMap<String, f64> {
        self.of("switchboard_call_retries_total")
    }
}

fn these<const N: usize>(series: [(&str, f64); N]) -> BTreeMap<String, f64> {
    series
        .map(|(label, value)| (label.to_owned(), value))
        .into()
}

#[tokio::test(start_paused = true)]
async fn endpoints_are_counted_by_their_state_over_all_channels_to_a_service() {
    let counted = Counted::begin();
    let network = Network::serving(&["a:1", "b:1"]);
    let one = connected(&network, &["a:1", "b:1"]).await;
    let two = connected(&network, &["a:1"]).await;
    assert_eq!(counted.endpoints(), these([("ready", 3.0)]));

    network.crash("b:1");
    until_it_is(&one, "b:1", Condition::Failing).await;
    assert_eq!(
        counted.endpoints(),
        these([("failing", 1.0), ("ready", 2.0)])
    );

    two.close().await;
    assert_eq!(
        counted.endpoints(),
        these([("failing", 1.0), ("ready", 1.0)])
    );

    // One that drains is still there, and what was closed is not.
    let endless = HellosRequest {
        count: u32::MAX,
        ..HellosRequest::default()
    };
    let mut replies = client(&one).say_hellos(endless).await.unwrap().into_inner();
    replies.next().await.unwrap().unwrap();
    let mut states = one.watch_state();
    let mut closing = JoinSet::new();
    closing.spawn(one.close());
    let drains = |state: &std::sync::Arc<switchboard_resolver::ChannelState>| {
        condition_of(state, "a:1") == Some(Condition::Draining) && state.endpoints.len() == 1
    };
    within(SOON, states.wait_for(drains)).await.unwrap();
    assert_eq!(counted.endpoints(), these([("draining", 1.0)]));
    drop(replies);
    closing.join_next().await.unwrap().unwrap();
    assert_eq!(counted.endpoints(), these([]));
}

#[tokio::test(start_paused = true)]
async fn calls_are_counted_once_by_the_code_that_they_end_with() {
    let counted = Counted::begin();
    let (channel, _listener, mut wire) = wired(&[], |it| it).await;
    let server = async {
        let stream = wire.request().await.expect("a request");
        wire.answer(stream, "a:1").await;
        // Headers that are all of the response.
        let stream = wire.request().await.expect("a request");
        wire.status(stream, "5").await;
        // One that nobody answers in time, and one that its caller gives up.
        wire.request().await.expect("a request");
        wire.request().await.expect("a request");
        wire
    };
    let calls = async {
        call(&channel).await.unwrap();
        assert_eq!(counted.calls(), these([("OK", 1.0)]));
        assert_eq!(call(&channel).await.unwrap_err().code(), Code::NotFound);
        let short = with_timeout(hello("Ada"), Duration::from_secs(1));
        let late = client(&channel).say_hello(short).await.unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded);
        let limit = Duration::from_millis(100);
        tokio::time::timeout(limit, call(&channel))
            .await
            .unwrap_err();
    };
    let ((), _wire) = within(SOON, futures::future::join(calls, server)).await;
    let mut expected = these([
        ("CANCELLED", 1.0),
        ("DEADLINE_EXCEEDED", 1.0),
        ("NOT_FOUND", 1.0),
        ("OK", 1.0),
    ]);
    assert_eq!(counted.calls(), expected);

    // One that never left counts too.
    let (said, source) = source();
    said.snapshot(&[]);
    let nowhere = builder(&Network::new(), source).connect_lazy().unwrap();
    assert_eq!(call(&nowhere).await.unwrap_err().code(), Code::Unavailable);
    expected.insert("UNAVAILABLE".to_owned(), 1.0);
    assert_eq!(counted.calls(), expected);
}

#[tokio::test(start_paused = true)]
async fn how_long_calls_wait_is_noted_of_those_that_do_also_if_they_give_up() {
    let counted = Counted::begin();
    let network = Network::new();
    let (said, source) = source();
    said.snapshot(&[]);
    let channel = builder(&network, source).connect_lazy().unwrap();
    until(&channel, |state| {
        state.source == switchboard_resolver::SourceState::Fresh
    })
    .await;
    let mut waiting = JoinSet::new();
    waiting.spawn({
        let mut client = client(&channel);
        async move {
            client
                .say_hello(waiting_for_ready(hello("Ada")))
                .await
                .map(drop)
        }
    });
    let limit = Duration::from_secs(1);
    let mut impatient = client(&channel);
    let given_up = impatient.say_hello(waiting_for_ready(hello("Bob")));
    assert!(tokio::time::timeout(limit, given_up).await.is_err());
    tokio::time::sleep(Duration::from_secs(2)).await;
    network.serve("a:1");
    said.snapshot(&["a:1"]);
    waiting.join_next().await.unwrap().unwrap().unwrap();
    // These do not wait.
    call(&channel).await.unwrap();
    call(&channel).await.unwrap();
    assert_eq!(counted.value("switchboard_pick_wait_seconds_count"), 2.0);
    let sum = counted.value("switchboard_pick_wait_seconds_sum");
    assert!((4.0..4.1).contains(&sum), "{sum}");
    assert_eq!(counted.calls(), these([("CANCELLED", 1.0), ("OK", 3.0)]));
}

#[tokio::test(start_paused = true)]
async fn waiting_until_a_channel_is_connected_is_no_wait_of_a_call() {
    let counted = Counted::begin();
    let network = Network::serving(&["a:1"]);
    let channel = Channel::balance(["a:1"]).unwrap().name("greeter");
    let channel = channel.connector(network.connector()).connect().await;
    call(&channel.unwrap()).await.unwrap();
    let text = counted.handle.render();
    assert!(
        !text.contains("switchboard_pick_wait_seconds_count{service=\"greeter\"} 1"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_sent_again_are_counted_by_why_they_could_be() {
    let counted = Counted::begin();
    let (channel, _listener, mut wire) = wired(&[], |it| it).await;
    let server = async {
        let stream = wire.request().await.expect("a request");
        wire.reset(stream, REFUSED_STREAM).await;
        let stream = wire.request().await.expect("the same request");
        wire.answer(stream, "a:1").await;
    };
    let (_, ()) = within(SOON, futures::future::join(served_by(&channel), server)).await;
    assert_eq!(counted.retries(), these([("refused", 1.0)]));

    let network = Network::serving(&["a:1", "b:1"]);
    let channel = connected(&network, &["a:1", "b:1"]).await;
    shares(&channel, 2).await;
    network.crash("a:1");
    // Nothing has run since, so nobody knows, and one of two goes there first.
    let calls = [served_by(&channel), served_by(&channel)];
    let served = within(SOON, futures::future::join_all(calls)).await;
    assert_eq!(served, ["b:1"; 2]);
    assert_eq!(
        counted.retries(),
        these([("refused", 1.0), ("unsent", 1.0)])
    );
    // Sent twice, and ended once.
    assert_eq!(counted.calls(), these([("OK", 5.0)]));
}

#[tokio::test(start_paused = true)]
async fn calls_that_their_method_has_made_again_are_counted_by_attempt_and_end_once() {
    let counted = Counted::begin();
    let retry = RetryPolicy::new(3, [14]);
    let method = MethodConfig::default().with_retry(retry);
    let config = ServiceConfig::default().with_method("", method).unwrap();
    let (channel, _listener, mut wire) = wired(&[], |it| it.service_config(config)).await;
    let server = async {
        for code in ["14", "14"] {
            let stream = wire.request().await.expect("a request");
            wire.status(stream, code).await;
        }
        let stream = wire.request().await.expect("the same request");
        wire.answer(stream, "a:1").await;
        for code in ["14", "5"] {
            let stream = wire.request().await.expect("a request");
            wire.status(stream, code).await;
        }
    };
    let calls = async {
        call(&channel).await.unwrap();
        assert_eq!(counted.retries(), these([("configured", 2.0)]));
        assert_eq!(counted.calls(), these([("OK", 1.0)]));
        assert_eq!(call(&channel).await.unwrap_err().code(), Code::NotFound);
    };
    let (_, ()) = within(SOON, futures::future::join(server, calls)).await;
    assert_eq!(counted.retries(), these([("configured", 3.0)]));
    assert_eq!(counted.calls(), these([("NOT_FOUND", 1.0), ("OK", 1.0)]));
}
