//! What becomes of calls when endpoints vanish whose servers live.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

mod support;

use std::time::Duration;

use support::{wire::Wire, *};
use switchboard_resolver::{Channel, Condition, Endpoint, ReservePolicy, ReserveUse, Update};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);
const FOUR: [&str; 4] = ["a:1", "b:1", "c:1", "d:1"];

/// A channel over four servers, all READY.
async fn over_four(network: &Network) -> (Said, Channel) {
    let (said, source) = source();
    let channel = builder(network, source).connect_lazy().unwrap();
    said.snapshot(&FOUR);
    until_ready(&channel, &FOUR).await;
    (said, channel)
}

async fn until_reserve_is(channel: &Channel, usage: ReserveUse) {
    until(channel, |state| state.reserve == usage).await;
}

/// Returns who answers, in order, of as many calls as make every turn come.
async fn servers(channel: &Channel) -> Vec<String> {
    shares(channel, 40).await.into_keys().collect()
}

fn is_reserved(channel: &Channel, address: &str) -> bool {
    let state = channel.state();
    let mut endpoints = state.endpoints.iter();
    endpoints.any(|it| it.addresses[0].to_string() == address && it.is_reserved)
}

async fn until_gone(channel: &Channel, address: &str) {
    until(channel, |state| condition_of(state, address).is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn c57_one_of_four_that_vanishes_gets_no_more_calls() {
    let network = Network::serving(&FOUR);
    let (said, channel) = over_four(&network).await;
    said.snapshot(&FOUR[..3]);
    until(&channel, |state| state.endpoints[3].is_reserved).await;
    assert_eq!(servers(&channel).await, FOUR[..3]);
    assert_eq!(channel.state().reserve, ReserveUse::Unused);
}

#[tokio::test(start_paused = true)]
async fn c57_three_of_four_that_vanish_at_once_serve_on_until_the_source_was_right_for_40_s() {
    let network = Network::serving(&FOUR);
    let (said, channel) = over_four(&network).await;
    let logged = Logged::start();
    let start = Instant::now();
    said.snapshot(&FOUR[..1]);
    until_reserve_is(&channel, ReserveUse::Used).await;
    assert_eq!(servers(&channel).await, FOUR);
    until_reserve_is(&channel, ReserveUse::Unused).await;
    assert_took(start, 40 * SECOND);
    assert_eq!(servers(&channel).await, FOUR[..1]);
    until_ready(&channel, &FOUR[..1]).await;
    assert_eq!(logged.names(), ["WARN reserve_used", "INFO reserve_left"]);
    for address in &FOUR {
        assert_eq!(network.dials(address).len(), 1, "{address}");
    }
}

#[tokio::test(start_paused = true)]
async fn c57_what_vanishes_is_disconnected_and_what_is_new_connected_though_nobody_calls() {
    let network = switchboard_embedded::Network::new();
    let [mut first, mut second] = ["a:1", "b:1"].map(|it| network.listen(it).unwrap());
    let (said, source) = source();
    let builder = Channel::builder(source).connector(network.connector("channel"));
    let channel = builder.connect_lazy().unwrap();
    said.snapshot(&["a:1"]);
    let mut old = within(SOON, Wire::accept(&mut first, &[])).await;
    until_ready(&channel, &["a:1"]).await;
    let start = Instant::now();
    said.snapshot(&["b:1"]);
    let _new = within(SOON, Wire::accept(&mut second, &[])).await;
    within(SOON, async { while old.next().await.is_some() {} }).await;
    assert_took(start, 40 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn c57_half_of_four_that_vanish_leave_the_calls_to_the_others() {
    let network = Network::serving(&FOUR);
    let (said, channel) = over_four(&network).await;
    said.snapshot(&FOUR[..2]);
    until(&channel, |state| state.endpoints[3].is_reserved).await;
    assert_eq!(servers(&channel).await, FOUR[..2]);
    // And those help once the others fail.
    network.crash("a:1");
    until_reserve_is(&channel, ReserveUse::Used).await;
    assert_eq!(servers(&channel).await, FOUR[1..]);
    network.serve("a:1");
    until_reserve_is(&channel, ReserveUse::Unused).await;
    assert_eq!(servers(&channel).await, FOUR[..2]);
}

#[tokio::test(start_paused = true)]
async fn c57_those_that_come_back_are_called_over_the_connections_they_had() {
    let network = Network::serving(&FOUR);
    let (said, channel) = over_four(&network).await;
    said.snapshot(&FOUR[..1]);
    until_reserve_is(&channel, ReserveUse::Used).await;
    said.endpoints(
        FOUR.iter()
            .map(|it| endpoint(&[it]).with_metadata("zone", "north"))
            .collect(),
    );
    until_reserve_is(&channel, ReserveUse::Unused).await;
    until_ready(&channel, &FOUR).await;
    assert_eq!(servers(&channel).await, FOUR);
    let state = channel.state();
    assert!(
        state
            .endpoints
            .iter()
            .all(|it| it.metadata["zone"] == "north")
    );
    for address in &FOUR {
        assert_eq!(network.dials(address).len(), 1, "{address}");
    }
    // For good: the time of those that vanished does not go on.
    sleep(400 * SECOND).await;
    assert_eq!(servers(&channel).await, FOUR);
}

#[tokio::test(start_paused = true)]
async fn c57_a_connection_in_reserve_that_is_lost_is_not_replaced() {
    let network = Network::serving(&FOUR);
    let (said, channel) = over_four(&network).await;
    said.snapshot(&FOUR[..1]);
    until_reserve_is(&channel, ReserveUse::Used).await;
    network.crash("b:1");
    network.serve("b:1");
    until_gone(&channel, "b:1").await;
    assert_eq!(servers(&channel).await, ["a:1", "c:1", "d:1"]);
    network.shut_down("c:1");
    network.serve("c:1");
    until_gone(&channel, "c:1").await;
    // One of two: that is enough.
    assert_eq!(servers(&channel).await, ["a:1"]);
    assert!(is_reserved(&channel, "d:1"));
    assert_eq!(network.dials("b:1").len(), 1);
    assert_eq!(network.dials("c:1").len(), 1);
    // Listed again, they are connected to as any that are new.
    said.snapshot(&FOUR);
    until_ready(&channel, &FOUR).await;
}

#[tokio::test(start_paused = true)]
async fn c57_a_source_that_stumbles_starts_the_40_s_anew_and_5_min_are_the_end() {
    let network = Network::serving(&FOUR);
    let (said, channel) = over_four(&network).await;
    let stale = || Update::Stale {
        since: Instant::now().into_std(),
        cause: cause("etcd is away"),
    };
    let start = Instant::now();
    said.snapshot(&FOUR[..1]);
    sleep(30 * SECOND).await;
    said.say(stale());
    sleep(30 * SECOND).await;
    said.say(Update::Fresh);
    until_reserve_is(&channel, ReserveUse::Unused).await;
    assert_took(start, 100 * SECOND);

    said.snapshot(&FOUR);
    until_ready(&channel, &FOUR).await;
    let start = Instant::now();
    said.snapshot(&FOUR[..1]);
    said.say(stale());
    until_reserve_is(&channel, ReserveUse::Used).await;
    tokio::time::timeout(400 * SECOND, until_long(&channel))
        .await
        .unwrap();
    assert_took(start, 300 * SECOND);
}

/// Waits until the reserve is used no more, for longer than other waits.
async fn until_long(channel: &Channel) {
    let mut states = channel.watch_state();
    states
        .wait_for(|it| it.reserve == ReserveUse::Unused)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn c57_all_that_vanish_serve_on_and_are_redialed() {
    let network = Network::serving(&FOUR);
    let (said, channel) = over_four(&network).await;
    let logged = Logged::start();
    // As leases run out, one after another.
    for left in (0..4).rev() {
        said.snapshot(&FOUR[..left]);
        sleep(SECOND / 4).await;
    }
    until_reserve_is(&channel, ReserveUse::LastSet).await;
    assert_eq!(servers(&channel).await, FOUR);
    sleep(1_000 * SECOND).await;
    network.crash("b:1");
    network.serve("b:1");
    until(&channel, |state| {
        state
            .endpoints
            .iter()
            .all(|it| it.condition == Condition::Ready)
    })
    .await;
    assert_eq!(servers(&channel).await, FOUR);
    assert_eq!(network.dials("b:1").len(), 2);

    said.snapshot(&FOUR[1..]);
    until_reserve_is(&channel, ReserveUse::Unused).await;
    assert_eq!(servers(&channel).await, FOUR[1..]);
    assert!(is_reserved(&channel, "a:1"));
    until_gone(&channel, "a:1").await;
    assert_eq!(logged.names(), ["WARN reserve_used", "INFO reserve_left"]);
}

#[tokio::test(start_paused = true)]
async fn c57_all_that_vanish_are_gone_where_that_is_believed() {
    let network = Network::serving(&FOUR);
    let (said, source) = source();
    let channel = builder(&network, source).reserve(accepting_empty());
    let channel = channel.connect_lazy().unwrap();
    said.snapshot(&FOUR);
    until_ready(&channel, &FOUR).await;
    // Those in reserve go, too.
    said.snapshot(&FOUR[..1]);
    until_reserve_is(&channel, ReserveUse::Used).await;
    said.snapshot(&[]);
    until(&channel, |state| state.endpoints.is_empty()).await;
    assert_eq!(channel.state().reserve, ReserveUse::Unused);
    let refused = call(&channel).await.unwrap_err();
    assert_eq!(refused.message(), "service greeter: no endpoints");
}

#[tokio::test(start_paused = true)]
async fn a_last_set_whose_servers_are_gone_fails_calls_with_what_their_addresses_answer() {
    let network = Network::serving(&["a:1"]);
    let (said, source) = source();
    let channel = builder(&network, source).connect_lazy().unwrap();
    said.snapshot(&["a:1"]);
    until_ready(&channel, &["a:1"]).await;
    said.snapshot(&[]);
    network.shut_down("a:1");
    until_it_is(&channel, "a:1", Condition::Failing).await;
    let refused = call(&channel).await.unwrap_err();
    assert!(refused.message().contains("endpoint a:1"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_where_nothing_is_to_be() {
    let network = Network::serving(&FOUR);
    let (said, source) = source();
    let channel = builder(&network, source).reserve(without_reserve());
    let channel = channel.connect_lazy().unwrap();
    said.snapshot(&FOUR);
    until_ready(&channel, &FOUR).await;
    said.snapshot(&FOUR[..1]);
    until_ready(&channel, &FOUR[..1]).await;
    assert_eq!(servers(&channel).await, FOUR[..1]);
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_rests_keeps_no_reserve() {
    let network = Network::serving(&FOUR);
    let (said, source) = source();
    let channel = builder(&network, source).reserve(ReservePolicy {
        settled: 10_000 * SECOND,
        limit: 10_000 * SECOND,
        ..ReservePolicy::default()
    });
    let channel = channel.idle_timeout(60 * SECOND).connect_lazy().unwrap();
    said.snapshot(&FOUR);
    until_ready(&channel, &FOUR).await;
    said.snapshot(&FOUR[..1]);
    until_reserve_is(&channel, ReserveUse::Used).await;
    let mut states = channel.watch_state();
    let rests = states
        .wait_for(|it| it.endpoints.len() == 1 && it.endpoints[0].condition == Condition::Idle);
    within(300 * SECOND, rests).await.unwrap();
    assert_eq!(channel.state().reserve, ReserveUse::Unused);
    assert_eq!(served_by(&channel).await, "a:1");
}

/// Under calls without a pause, whatever vanishes and comes back: while a server lives that was listed
/// within the last 40 s, no call fails.
#[tokio::test(start_paused = true)]
async fn no_call_fails_while_keys_come_and_go_and_servers_live() {
    let network = Network::serving(&FOUR);
    let (said, channel) = over_four(&network).await;
    let mut rng = fastrand::Rng::with_seed(57);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let channel = channel.clone();
        callers.spawn(async move {
            for _ in 0..2_000 {
                call(&channel).await.unwrap();
                sleep(Duration::from_millis(5)).await;
            }
        });
    }
    while !callers.is_empty() {
        let listed: Vec<Endpoint> = FOUR
            .iter()
            .filter(|_| rng.bool())
            .map(|it| endpoint(&[it]))
            .collect();
        said.endpoints(listed);
        let _ = tokio::time::timeout(SECOND / 20, callers.join_next())
            .await
            .map(Option::unwrap)
            .map(Result::unwrap);
    }
}
