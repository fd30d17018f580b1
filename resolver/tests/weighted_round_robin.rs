//! How calls are shared where servers are not alike.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

mod support;

use std::collections::BTreeMap;

use support::*;
use switchboard_resolver::{Channel, Endpoint, SlowStart, WeightedRoundRobin};

/// Endpoints that say this of their weights.
fn saying(weights: &[(&str, Option<&str>)]) -> Vec<Endpoint> {
    let endpoints = weights.iter().map(|(address, weight)| {
        let endpoint = endpoint(&[*address]);
        match weight {
            Some(weight) => endpoint.with_metadata("weight", *weight),
            None => endpoint,
        }
    });
    endpoints.collect()
}

/// A channel by weight over servers that say this of theirs.
async fn weighted(weights: &[(&str, Option<&str>)]) -> (Network, Said, Channel) {
    let addresses: Vec<_> = weights.iter().map(|it| it.0).collect();
    let network = Network::serving(&addresses);
    let (said, source) = source();
    let builder = builder(&network, source).policy(WeightedRoundRobin::new());
    let channel = builder.connect_lazy().unwrap();
    said.endpoints(saying(weights));
    until_ready(&channel, &addresses).await;
    (network, said, channel)
}

/// The shares that servers get of calls, of a hundred.
async fn percent(channel: &Channel, calls: usize) -> BTreeMap<String, f64> {
    let shares = shares(channel, calls).await.into_iter();
    let percent = |count: usize| 100.0 * count as f64 / calls as f64;
    shares.map(|(it, count)| (it, percent(count))).collect()
}

#[track_caller]
fn assert_percent(percent: &BTreeMap<String, f64>, expected: &[(&str, f64)]) {
    assert_eq!(percent.len(), expected.len(), "{percent:?}");
    for (address, expected) in expected {
        // Stride by stride: there is no chance in it.
        let is_it = (percent[*address] - expected).abs() < 1.0;
        assert!(is_it, "{percent:?}, not {expected}");
    }
}

#[tokio::test(start_paused = true)]
async fn c51_calls_are_shared_by_weight_within_a_percentage_point() {
    let (_network, _said, channel) = weighted(&[("a:1", Some("1")), ("b:1", Some("3"))]).await;
    let percent = percent(&channel, 10_000).await;
    assert_percent(&percent, &[("a:1", 25.0), ("b:1", 75.0)]);
}

#[tokio::test(start_paused = true)]
async fn c51_who_weighs_nothing_is_never_called() {
    let weights = [("a:1", Some("0")), ("b:1", Some("2")), ("c:1", Some("2.0"))];
    let (network, _said, channel) = weighted(&weights).await;
    let shares = percent(&channel, 1_000).await;
    assert_percent(&shares, &[("b:1", 50.0), ("c:1", 50.0)]);
    // Nor when another one is gone.
    network.crash("b:1");
    until_it_is(&channel, "b:1", switchboard_resolver::Condition::Failing).await;
    assert_percent(&percent(&channel, 100).await, &[("c:1", 100.0)]);
}

#[tokio::test(start_paused = true)]
async fn c51_who_says_no_weight_has_the_mean_of_the_others_which_is_told_once_if_it_is_nonsense() {
    let logged = Logged::start();
    for (unknown, told) in [
        (None, 0),
        (Some("-1"), 1),
        (Some("NaN"), 1),
        (Some("much"), 1),
    ] {
        let before = logged.names().len();
        let weights = [("a:1", Some("1")), ("b:1", Some("3")), ("c:1", unknown)];
        let (_network, said, channel) = weighted(&weights).await;
        let shares = percent(&channel, 1_200).await;
        let expected = [("a:1", 100.0 / 6.0), ("b:1", 50.0), ("c:1", 100.0 / 3.0)];
        assert_percent(&shares, &expected);
        // New pickers do not tell it again.
        for zone in ["north", "east", "south"] {
            let listed = saying(&weights).into_iter();
            said.endpoints(listed.map(|it| it.with_metadata("zone", zone)).collect());
            until(&channel, |it| {
                it.endpoints[2]
                    .metadata
                    .get("zone")
                    .is_some_and(|it| it == zone)
            })
            .await;
        }
        assert_eq!(
            logged.names()[before..],
            vec!["WARN endpoint_weight_rejected"; told],
            "{unknown:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn c51_another_weight_counts_from_the_next_calls_on_without_a_reconnect() {
    let (network, said, channel) = weighted(&[("a:1", Some("1")), ("b:1", Some("3"))]).await;
    percent(&channel, 10).await;
    said.endpoints(saying(&[("a:1", Some("4")), ("b:1", Some("1"))]));
    until(&channel, |it| it.endpoints[0].metadata["weight"] == "4").await;
    let shares = percent(&channel, 1_000).await;
    assert_percent(&shares, &[("a:1", 80.0), ("b:1", 20.0)]);
    assert_eq!(network.dials("a:1").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn c51_if_all_weigh_nothing_all_are_called_alike() {
    let (_network, _said, channel) = weighted(&[("a:1", Some("0")), ("b:1", Some("0"))]).await;
    let shares = percent(&channel, 100).await;
    assert_percent(&shares, &[("a:1", 50.0), ("b:1", 50.0)]);
}

#[tokio::test(start_paused = true)]
async fn who_starts_slowly_has_its_part_of_its_weight() {
    let network = Network::serving(&["a:1", "b:1"]);
    let (said, source) = source();
    let builder = builder(&network, source).policy(WeightedRoundRobin::new().weight_key("power"));
    let channel = builder
        .slow_start(SlowStart::default())
        .connect_lazy()
        .unwrap();
    let [a, b] = ["a:1", "b:1"].map(|it| endpoint(&[it]));
    let (a, b) = (a.with_metadata("power", "1"), b.with_metadata("power", "3"));
    said.endpoints(vec![a.clone()]);
    until_ready(&channel, &["a:1"]).await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    said.endpoints(vec![a, b]);
    until_ready(&channel, &["a:1", "b:1"]).await;
    // A tenth of 3 beside 1.
    let shares = percent(&channel, 1_300).await;
    assert_percent(&shares, &[("a:1", 100.0 / 1.3), ("b:1", 30.0 / 1.3)]);
}
