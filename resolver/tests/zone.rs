//! Calls stay in one's own zone while it has enough READY endpoints.

mod support;

use std::time::Duration;

use support::{selecting::*, *};
use switchboard_proto::HellosRequest;
use switchboard_resolver::{BuildError, Channel, Condition, Endpoint, Filter, ZonePreference};

const NORTH: [&str; 4] = ["a:1", "b:1", "c:1", "d:1"];
const SOUTH: [&str; 2] = ["s:1", "t:1"];
const ALL: [&str; 6] = ["a:1", "b:1", "c:1", "d:1", "s:1", "t:1"];

fn fleet() -> Vec<Endpoint> {
    let north = NORTH.iter().map(|it| in_zone(it, "north"));
    north.chain(SOUTH.map(|it| in_zone(it, "south"))).collect()
}

async fn ready(network: &Network, zone: ZonePreference) -> (Said, Channel) {
    let (said, source) = source();
    let channel = builder(network, source).prefer_zone(zone).connect_lazy();
    let channel = channel.expect("a channel");
    said.endpoints(fleet());
    until_ready(&channel, &ALL).await;
    (said, channel)
}

/// Makes calls, and returns how many of 1,000 stay in the north. Turns are counted and not drawn.
async fn staying(channel: &Channel) -> usize {
    let shares = shares(channel, 1_000).await;
    NORTH.iter().filter_map(|it| shares.get(*it)).sum()
}

async fn crash(network: &Network, channel: &Channel, addresses: &[&str]) {
    for address in addresses {
        network.crash(address);
        until_it_is(channel, address, Condition::Failing).await;
    }
}

#[tokio::test(start_paused = true)]
async fn calls_stay_in_the_zone_while_enough_of_it_is_ready_and_spill_by_what_is_lacking() {
    let network = Network::serving(&ALL);
    let (_said, channel) = ready(&network, "north".into()).await;
    assert_eq!(staying(&channel).await, 1_000);
    // 1.4 x 3/4 is more than all.
    crash(&network, &channel, &["a:1"]).await;
    assert_eq!(staying(&channel).await, 1_000);
    // 1.4 x 2/4, and 1.4 x 1/4.
    crash(&network, &channel, &["b:1"]).await;
    assert!(staying(&channel).await.abs_diff(700) <= 1);
    crash(&network, &channel, &["c:1"]).await;
    assert!(staying(&channel).await.abs_diff(350) <= 1);
    crash(&network, &channel, &["d:1"]).await;
    assert_eq!(staying(&channel).await, 0);
    network.serve("b:1");
    channel.reset_backoff();
    until_it_is(&channel, "b:1", Condition::Ready).await;
    assert!(staying(&channel).await.abs_diff(350) <= 1);
}

#[tokio::test(start_paused = true)]
async fn how_much_more_than_its_share_an_endpoint_takes_is_settable() {
    let network = Network::serving(&ALL);
    let zone = ZonePreference::new("north").with_overprovisioning(1.0);
    let (_said, channel) = ready(&network, zone).await;
    crash(&network, &channel, &["a:1"]).await;
    assert!(staying(&channel).await.abs_diff(750) <= 1);

    let zone = ZonePreference::new("north").with_overprovisioning(0.5);
    let builder = builder(&network, source().1).prefer_zone(zone);
    let error = builder.connect_lazy().unwrap_err();
    assert!(matches!(error, BuildError::ServiceConfig(_)));
    assert_eq!(
        error.to_string(),
        "zone overprovisioning: 0.5 (expected: 1 or more)"
    );
}

#[tokio::test(start_paused = true)]
async fn if_nobody_is_in_the_zone_calls_go_to_all() {
    let network = Network::serving(&ALL);
    let (_said, channel) = ready(&network, "east".into()).await;
    assert_eq!(shares(&channel, 60).await.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_finds_nobody_free_in_the_zone_leaves_it() {
    let network = Network::serving(&["a:1", "s:1"]);
    let (said, source) = source();
    let builder = builder(&network, source).prefer_zone("north");
    let builder = builder.max_calls_in_flight_per_endpoint(1);
    let channel = builder.connect_lazy().unwrap();
    said.endpoints(vec![in_zone("a:1", "north"), in_zone("s:1", "south")]);
    until_ready(&channel, &["a:1", "s:1"]).await;
    let request = HellosRequest {
        name: "Ada".into(),
        count: 1_000,
        interval_ms: 1_000,
    };
    let held = client(&channel).say_hellos(request).await.unwrap();
    for _ in 0..10 {
        assert_eq!(
            within(Duration::from_secs(1), served_by(&channel)).await,
            "s:1"
        );
    }
    drop(held);
    until(&channel, |state| state.endpoints[0].calls_in_flight() == 0).await;
    assert_eq!(served_by(&channel).await, "a:1");
}

#[tokio::test(start_paused = true)]
async fn what_is_listed_counts_after_the_filter_and_whether_it_can_be_reached_or_not() {
    let network = Network::serving(&ALL);
    let (said, source) = source();
    let builder = builder(&network, source).prefer_zone("north");
    let builder = builder.filter(Filter::version("v1"));
    let channel = builder.connect_lazy().unwrap();
    let listed = |others: &str| {
        let in_north = |address| in_zone(address, "north");
        vec![
            in_north("a:1").with_metadata("version", "v1"),
            // Nobody is there.
            in_north("x:1").with_metadata("version", others),
            in_north("y:1").with_metadata("version", others),
            in_north("z:1").with_metadata("version", others),
            server("s:1", "v1", "south"),
        ]
    };
    said.endpoints(listed("v2"));
    until_ready(&channel, &["a:1", "s:1"]).await;
    assert_eq!(staying(&channel).await, 1_000);
    said.endpoints(listed("v1"));
    until(&channel, |state| state.endpoints.len() == 5).await;
    assert!(staying(&channel).await.abs_diff(350) <= 1);
}

#[tokio::test(start_paused = true)]
async fn c17_another_zone_takes_effect_without_a_reconnect() {
    let network = Network::serving(&ALL);
    let (said, channel) = ready(&network, "north".into()).await;
    let moved = fleet().into_iter().map(|it| {
        let is_north = it.metadata()["zone"] == "north";
        it.with_metadata("zone", if is_north { "south" } else { "north" })
    });
    said.endpoints(moved.collect());
    until(&channel, |state| {
        state.endpoints[0].metadata["zone"] == "south"
    })
    .await;
    assert_eq!(staying(&channel).await, 0);
    assert_eq!(ALL.map(|it| network.dials(it).len()), [1; 6]);
}

#[tokio::test(start_paused = true)]
async fn c17_another_preference_takes_effect_without_a_reconnect() {
    let network = Network::serving(&ALL);
    let ((said, source), (configs, told)) = (source(), configs());
    let channel = builder(&network, source).prefer_zone("north");
    let channel = channel.service_configs(told).connect_lazy().unwrap();
    said.endpoints(fleet());
    until_ready(&channel, &ALL).await;
    assert_eq!(staying(&channel).await, 1_000);
    configs.say(r#"{ "zone": { "prefer": "south" }, "subset": 0 }"#);
    until(&channel, |state| state.config.rejected.is_some()).await;
    assert_eq!(staying(&channel).await, 1_000);
    configs.say(r#"{ "zone": { "prefer": "south" } }"#);
    until(&channel, |state| state.config.rejected.is_none()).await;
    assert_eq!(staying(&channel).await, 0);
    assert_eq!(ALL.map(|it| network.dials(it).len()), [1; 6]);
}
