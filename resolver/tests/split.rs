//! Calls are shared between versions as configured.

mod support;

use std::{collections::BTreeMap, time::Duration};

use support::{selecting::*, *};
use switchboard_proto::HellosRequest;
use switchboard_resolver::{Channel, Condition, Endpoint, Split};
use tokio::{task::JoinSet, time::Instant};
use tonic::Code;

const ALL: [&str; 4] = ["a:1", "b:1", "c:1", "d:1"];

/// Three of v1, and a canary.
fn fleet() -> Vec<Endpoint> {
    let endpoints = ALL.iter().map(|address| {
        let is_canary = *address == "d:1";
        version(address, if is_canary { "v2" } else { "v1" })
    });
    endpoints.collect()
}

fn split(percent: &[(&str, f64)]) -> Split {
    Split::by_version(percent.iter().copied()).expect("100 percent")
}

async fn ready(network: &Network, split: Split) -> Channel {
    let (said, source) = source();
    let channel = builder(network, source).split(split).connect_lazy();
    let channel = channel.expect("a channel");
    said.endpoints(fleet());
    until_ready(&channel, &ALL).await;
    channel
}

/// A channel that is connected to all, and follows a configuration.
async fn configured(network: &Network) -> (Said, Configs, Channel) {
    let ((said, source), (configs, told)) = (source(), configs());
    let channel = builder(network, source).service_configs(told);
    let channel = channel.connect_lazy().expect("a channel");
    said.endpoints(fleet());
    until_ready(&channel, &ALL).await;
    (said, configs, channel)
}

#[tokio::test(start_paused = true)]
async fn calls_are_split_within_one_percentage_point_and_in_turn_within_a_version() {
    let network = Network::serving(&ALL);
    let channel = ready(&network, split(&[("v1", 95.0), ("v2", 5.0)])).await;
    // The turns are counted and not drawn: nothing is left to chance.
    let shares = shares(&channel, 50_000).await;
    assert!(shares["d:1"].abs_diff(2_500) <= 500, "{shares:?}");
    let v1 = ["a:1", "b:1", "c:1"].map(|it| shares[it]);
    assert!(v1.iter().max().unwrap() - v1.iter().min().unwrap() <= 1);
}

#[tokio::test(start_paused = true)]
async fn a_version_without_anybody_leaves_its_calls_to_the_others() {
    let network = Network::serving(&ALL);
    let channel = ready(&network, split(&[("v1", 5.0), ("v2", 95.0)])).await;
    network.crash("d:1");
    until_it_is(&channel, "d:1", Condition::Failing).await;
    let shares = shares(&channel, 30).await;
    let v1 = ["a:1", "b:1", "c:1"].map(|it| (it.to_owned(), 10));
    assert_eq!(shares, v1.into());
}

#[tokio::test(start_paused = true)]
async fn a_version_whose_endpoints_are_all_busy_leaves_its_calls_to_the_others() {
    let network = Network::serving(&ALL);
    let (said, source) = source();
    let builder = builder(&network, source).split(split(&[("v1", 1.0), ("v2", 99.0)]));
    let builder = builder.max_calls_in_flight_per_endpoint(1);
    let channel = builder.connect_lazy().unwrap();
    said.endpoints(fleet());
    until_ready(&channel, &ALL).await;
    // Nearly each is v2's, which has one endpoint, and it takes one call.
    let start = Instant::now();
    let mut held = Vec::new();
    for _ in 0..3 {
        let request = HellosRequest {
            name: "Ada".into(),
            count: 1_000,
            interval_ms: 1_000,
        };
        held.push(client(&channel).say_hellos(request).await.unwrap());
    }
    call(&channel).await.unwrap();
    assert_took(start, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn who_is_in_no_group_gets_no_calls_and_if_nobody_is_in_one_calls_fail_and_say_so() {
    let network = Network::serving(&ALL);
    let channel = ready(&network, split(&[("v2", 40.0), ("v3", 60.0)])).await;
    assert_eq!(shares(&channel, 10).await, [("d:1".to_owned(), 10)].into());
    network.crash("d:1");
    until_it_is(&channel, "d:1", Condition::Failing).await;
    let start = Instant::now();
    let status = call(&channel).await.unwrap_err();
    assert_took(start, Duration::ZERO);
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(
        status.message(),
        "service greeter: no endpoint that can be called is in a group of the split by version: v1 \
         (expected: v2=40, v3=60)"
    );
    // One that is being connected is waited for.
    network.serve("d:1");
    let mut client = client(&channel);
    let reply = client.say_hello(waiting_for_ready(hello("Ada"))).await;
    assert_eq!(reply.unwrap().into_inner().served_by, "d:1");
}

#[tokio::test(start_paused = true)]
async fn another_split_fails_no_call_and_reconnects_nothing() {
    let network = Network::serving(&ALL);
    let (_said, configs, channel) = configured(&network).await;
    let mut callers = JoinSet::new();
    for caller in 0..4 {
        let channel = channel.clone();
        callers.spawn(async move {
            let mut shares = BTreeMap::<_, usize>::new();
            for _ in 0..400 {
                // Were one to fail, this would panic.
                *shares.entry(served_by(&channel).await).or_default() += 1;
                tokio::time::sleep(Duration::from_millis(1 + caller)).await;
            }
            shares
        });
    }
    for v2 in (0..=100).chain((0..100).rev()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let v1 = 100 - v2;
        configs.say(format!(
            r#"{{ "split": {{ "by": "version", "percent": {{ "v1": {v1}, "v2": {v2} }} }} }}"#
        ));
    }
    for shares in within(SOON, callers.join_all()).await {
        assert_eq!(shares.len(), 4, "{shares:?}");
    }
    assert_eq!(ALL.map(|it| network.dials(it).len()), [1; 4]);
    // The last one leaves v2 nothing.
    assert!(!shares(&channel, 100).await.contains_key("d:1"));
}

#[tokio::test(start_paused = true)]
async fn c08_a_split_that_makes_no_sense_leaves_the_last_good_one_and_is_told() {
    let network = Network::serving(&ALL);
    let (_said, configs, channel) = configured(&network).await;
    configs.say(r#"{ "split": { "by": "version", "percent": { "v1": 90, "v2": 10 } } }"#);
    configs.say(r#"{ "split": { "by": "version", "percent": { "v1": 80, "v2": 10 } } }"#);
    until(&channel, |state| state.config.rejected.is_some()).await;
    let rejected = channel.state().config.rejected.clone();
    assert_eq!(
        rejected.as_deref(),
        Some("split by version: v1=80, v2=10, together 90 (expected: 100 together)")
    );
    let shares = shares(&channel, 1_000).await;
    assert!(shares["d:1"].abs_diff(100) <= 2, "{shares:?}");
    configs.say(r#"{ "split": { "by": "version", "percent": { "v1": 80, "v2": 20 } } }"#);
    until(&channel, |state| state.config.rejected.is_none()).await;
    let shares = support::shares(&channel, 1_000).await;
    assert!(shares["d:1"].abs_diff(200) <= 2, "{shares:?}");
}

#[tokio::test(start_paused = true)]
async fn c17_another_version_counts_for_the_split_without_a_reconnect() {
    let network = Network::serving(&ALL);
    let (said, source) = source();
    let builder = builder(&network, source).split(split(&[("v1", 90.0), ("v2", 10.0)]));
    let channel = builder.connect_lazy().unwrap();
    said.endpoints(fleet());
    until_ready(&channel, &ALL).await;
    // Of v1 there is one now, and three are of v2.
    let mut swapped = vec![version("a:1", "v1")];
    swapped.extend(["b:1", "c:1", "d:1"].map(|it| version(it, "v2")));
    said.endpoints(swapped);
    until(&channel, |state| {
        state.endpoints[1].metadata["version"] == "v2"
    })
    .await;
    let shares = shares(&channel, 1_000).await;
    assert!(shares["a:1"].abs_diff(900) <= 2, "{shares:?}");
    assert_eq!(ALL.map(|it| network.dials(it).len()), [1; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_nobody_is_in_is_told_once_and_so_is_that_it_is_filled() {
    let logged = Logged::start();
    let network = Network::serving(&ALL);
    let (said, source) = source();
    // One is misspelt.
    let channel = builder(&network, source).split(split(&[("v1", 95.0), ("V2", 5.0)]));
    let channel = channel.connect_lazy().expect("a channel");
    until(&channel, |state| state.config.empty_groups.is_empty()).await;
    assert!(logged.names().is_empty());
    said.endpoints(fleet());
    until_ready(&channel, &ALL).await;
    assert_eq!(channel.state().config.empty_groups, ["V2"]);
    said.endpoints(fleet());
    let mut filled = fleet();
    filled[0] = version("a:1", "V2");
    said.endpoints(filled);
    until(&channel, |state| state.config.empty_groups.is_empty()).await;
    let names = logged.names();
    let of_groups: Vec<_> = names
        .iter()
        .filter(|it| it.contains("split_group"))
        .collect();
    assert_eq!(
        of_groups,
        ["WARN split_group_empty", "INFO split_groups_filled"]
    );
}
