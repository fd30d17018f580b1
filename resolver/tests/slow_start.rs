//! What calls a server gets that is new, or back.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

mod support;

use std::time::Duration;

use support::*;
use switchboard_resolver::{Channel, Condition, SlowStart};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);
const THREE: [&str; 3] = ["a:1", "b:1", "c:1"];

/// A channel over the first two of three servers that starts new ones slowly, within 30 s.
async fn over_two(network: &Network) -> (Said, Channel) {
    let (said, source) = source();
    let builder = builder(network, source).slow_start(SlowStart::default());
    let channel = builder.connect_lazy().unwrap();
    said.snapshot(&THREE[..2]);
    until_ready(&channel, &THREE[..2]).await;
    (said, channel)
}

/// How many of a hundred calls the server gets.
async fn percent(channel: &Channel, address: &str) -> usize {
    let shares = shares(channel, 100).await;
    shares.get(address).copied().unwrap_or(0)
}

#[track_caller]
fn assert_about(percent: usize, expected: usize) {
    assert!(
        percent.abs_diff(expected) <= 2,
        "{percent}, not about {expected}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_server_gets_a_tenth_at_first_and_its_share_after_the_window() {
    let network = Network::serving(&THREE);
    let (said, channel) = over_two(&network).await;
    sleep(60 * SECOND).await;
    said.snapshot(&THREE);
    until_ready(&channel, &THREE).await;
    // 0.1 of 2.1, 0.5 of 2.5, and all of it.
    assert_about(percent(&channel, "c:1").await, 5);
    sleep(15 * SECOND + SECOND / 10).await;
    assert_about(percent(&channel, "c:1").await, 20);
    // What others learn of it begins nothing anew.
    said.endpoints(
        THREE
            .iter()
            .map(|it| endpoint(&[it]).with_metadata("zone", "north"))
            .collect(),
    );
    until(&channel, |state| !state.endpoints[2].metadata.is_empty()).await;
    assert_about(percent(&channel, "c:1").await, 20);
    sleep(15 * SECOND).await;
    assert_about(percent(&channel, "c:1").await, 33);
}

#[tokio::test(start_paused = true)]
async fn servers_that_are_all_new_are_alike() {
    let network = Network::serving(&THREE);
    let (_said, channel) = over_two(&network).await;
    assert_eq!(percent(&channel, "a:1").await, 50);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_failed_starts_slowly_and_one_whose_connection_was_replaced_does_not() {
    let network = Network::serving(&THREE);
    let (_said, channel) = over_two(&network).await;
    sleep(60 * SECOND).await;
    network.shut_down("a:1");
    network.serve("a:1");
    sleep(SECOND).await;
    until_ready(&channel, &THREE[..2]).await;
    assert_eq!(percent(&channel, "a:1").await, 50);

    network.crash("a:1");
    until_it_is(&channel, "a:1", Condition::Failing).await;
    network.serve("a:1");
    until_ready(&channel, &THREE[..2]).await;
    // 0.1 of 1.1.
    assert_about(percent(&channel, "a:1").await, 9);
    sleep(31 * SECOND).await;
    assert_eq!(percent(&channel, "a:1").await, 50);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_comes_back_starts_slowly_if_its_connection_was_not_kept() {
    let network = Network::serving(&THREE);
    let (said, channel) = over_two(&network).await;
    said.snapshot(&THREE);
    until_ready(&channel, &THREE).await;
    sleep(60 * SECOND).await;
    for (kept_for, expected) in [(SECOND, 33), (50 * SECOND, 5)] {
        said.snapshot(&THREE[..2]);
        until(&channel, |state| {
            state.endpoints.last().unwrap().is_reserved
        })
        .await;
        sleep(kept_for).await;
        said.snapshot(&THREE);
        until_ready(&channel, &THREE).await;
        assert_about(percent(&channel, "c:1").await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_called_leaves_its_calls_to_one_that_starts() {
    let network = Network::serving(&THREE);
    let (said, channel) = over_two(&network).await;
    sleep(60 * SECOND).await;
    said.snapshot(&THREE);
    until_ready(&channel, &THREE).await;
    network.crash("a:1");
    network.crash("b:1");
    until_it_is(&channel, "b:1", Condition::Failing).await;
    assert_eq!(percent(&channel, "c:1").await, 100);
}
