//! Channels that nobody calls.

mod support;

use std::time::Duration;

use support::{wire::*, *};
use switchboard_proto::HellosRequest;
use switchboard_resolver::{Channel, ChannelBuilder, Condition};
use tokio::{task::JoinSet, time::Instant};
use tonic::Code;

const MINUTE: Duration = Duration::from_secs(60);

fn idle_after_a_minute(network: &Network, addresses: &[&str]) -> ChannelBuilder {
    let builder = Channel::balance(addresses.iter().copied()).expect("addresses");
    let builder = builder.name("greeter").connector(network.connector());
    builder.idle_timeout(MINUTE).seed(7)
}

async fn until_idle(channel: &Channel) {
    let mut states = channel.watch_state();
    let idle = states.wait_for(|state| {
        let mut endpoints = state.endpoints.iter();
        !state.endpoints.is_empty() && endpoints.all(|it| it.condition == Condition::Idle)
    });
    within(60 * MINUTE, idle).await.expect("open");
}

#[tokio::test(start_paused = true)]
async fn c31_without_calls_connections_close_and_the_next_call_wakes_them() {
    let network = Network::serving(&["a:1", "b:1"]);
    let builder = idle_after_a_minute(&network, &["a:1", "b:1"]);
    let channel = builder.connect_lazy().unwrap();
    for round in 1..=3 {
        served_by(&channel).await;
        let called = Instant::now();
        until_idle(&channel).await;
        let range = MINUTE..=MINUTE * 3 / 2;
        assert!(range.contains(&called.elapsed()), "{:?}", called.elapsed());
        assert_eq!(network.dials("a:1").len(), round);
        // Nobody dials meanwhile.
        tokio::time::sleep(60 * MINUTE).await;
        assert_eq!(network.dials("a:1").len(), round);
    }
    assert_eq!(shares(&channel, 10).await["a:1"], 5);
    channel.close().await;
}

#[tokio::test(start_paused = true)]
async fn c31_the_server_sees_the_connection_end() {
    let (channel, _listener, mut wire) = wired(&[], |it| it.idle_timeout(MINUTE)).await;
    let read_to_its_end = async { while wire.next().await.is_some() {} };
    within(2 * MINUTE, read_to_its_end).await;
    until_idle(&channel).await;
}

#[tokio::test(start_paused = true)]
async fn c31_a_call_in_flight_keeps_the_connections() {
    let network = Network::serving(&["a:1", "b:1"]);
    let builder = idle_after_a_minute(&network, &["a:1", "b:1"]);
    let channel = builder.connect().await.unwrap();
    until_ready(&channel, &["a:1", "b:1"]).await;
    let hellos = HellosRequest {
        name: "Ada".into(),
        count: 10,
        interval_ms: MINUTE.as_millis() as u32,
    };
    let mut stream = client(&channel)
        .say_hellos(hellos)
        .await
        .unwrap()
        .into_inner();
    while stream.message().await.unwrap().is_some() {}
    until_ready(&channel, &["a:1", "b:1"]).await;
    assert_eq!(network.dials("a:1").len(), 1);
    assert_eq!(network.dials("b:1").len(), 1);
    let ended = Instant::now();
    until_idle(&channel).await;
    assert!(ended.elapsed() >= MINUTE);
}

#[tokio::test(start_paused = true)]
async fn c31_a_call_on_a_connection_that_leaves_keeps_the_channel_too() {
    let (channel, mut listener, mut wire) = wired(&[], |it| it.idle_timeout(MINUTE)).await;
    let mut greeter = client(&channel);
    let opening = greeter.say_hellos(HellosRequest::default());
    let answering = async {
        let stream = wire.request().await.expect("a request");
        wire.headers(stream).await;
        stream
    };
    let (hellos, stream) = tokio::join!(opening, answering);
    let mut hellos = hellos.unwrap().into_inner();
    wire.go_away(LAST, NO_ERROR).await;
    let mut second = within(SOON, Wire::accept(&mut listener, &[])).await;
    // Pings are answered meanwhile.
    let old = async { while wire.next().await.is_some() {} };
    let new = async { while second.next().await.is_some() {} };
    let both = async { tokio::join!(old, new) };
    let ended = tokio::time::timeout(10 * MINUTE, both).await;
    assert!(ended.is_err(), "both connections are still there");
    assert_eq!(channel.state().endpoints[0].condition, Condition::Ready);

    wire.trailers(stream).await;
    assert!(within(SOON, hellos.message()).await.unwrap().is_none());
    let ended = Instant::now();
    until_idle(&channel).await;
    assert!(ended.elapsed() >= MINUTE);
}

#[tokio::test(start_paused = true)]
async fn c31_a_call_that_waits_keeps_the_channel_dialing() {
    let network = Network::new();
    let channel = idle_after_a_minute(&network, &["a:1"])
        .connect_lazy()
        .unwrap();
    let mut greeter = client(&channel);
    let mut waiting = JoinSet::new();
    waiting.spawn(async move {
        let reply = greeter.say_hello(waiting_for_ready(hello("Ada"))).await;
        reply.map(|it| it.into_inner().served_by)
    });
    tokio::time::sleep(10 * MINUTE).await;
    network.serve("a:1");
    for served in waiting.join_all().await {
        assert_eq!(served.unwrap(), "a:1");
    }
}

#[tokio::test(start_paused = true)]
async fn c31_what_changes_while_a_channel_is_idle_counts_when_it_wakes() {
    let network = Network::serving(&["a:1", "b:1"]);
    let (said, source) = source();
    let channel = builder(&network, source)
        .reserve(accepting_empty())
        .idle_timeout(MINUTE)
        .connect_lazy()
        .unwrap();
    said.snapshot(&["a:1"]);
    assert_eq!(served_by(&channel).await, "a:1");
    until_idle(&channel).await;
    said.snapshot(&["b:1"]);
    until(&channel, |state| {
        condition_of(state, "b:1") == Some(Condition::Idle)
    })
    .await;
    assert_eq!(network.dials("b:1"), []);
    assert_eq!(served_by(&channel).await, "b:1");
    until_idle(&channel).await;
    said.snapshot(&[]);
    until(&channel, |state| state.endpoints.is_empty()).await;
    let refused = call(&channel).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("no endpoints"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn c31_a_thousand_calls_at_once_wake_a_channel_once() {
    let network = Network::serving(&["a:1"]);
    let channel = idle_after_a_minute(&network, &["a:1"])
        .connect_lazy()
        .unwrap();
    until_idle(&channel).await;
    let calls = (0..1000).map(|_| call(&channel));
    for answer in futures::future::join_all(calls).await {
        answer.unwrap();
    }
    assert_eq!(network.dials("a:1").len(), 2);
    until_idle(&channel).await;
    // No wish to wake it is left from before.
    tokio::time::sleep(MINUTE).await;
    until_idle(&channel).await;
    assert_eq!(network.dials("a:1").len(), 2);
}
