//! How calls are shared, and what a change of the endpoints does to calls and connections.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use support::*;
use switchboard_proto::HellosRequest;
use switchboard_resolver::{Channel, Condition, ServedBy};
use tokio::{task::JoinSet, time::Instant};
use tokio_stream::StreamExt;
use tonic::Code;

const ABC: [&str; 3] = ["a:1", "b:1", "c:1"];

#[tokio::test(start_paused = true)]
async fn c10_ready_endpoints_share_calls_evenly() {
    let channel = connected(&Network::serving(&ABC), &ABC).await;
    for calls in [1, 7] {
        let shares = shares(&channel, 3 * calls).await;
        assert_eq!(shares, ABC.map(|it| (it.to_owned(), calls)).into());
    }
}

#[tokio::test(start_paused = true)]
async fn c11_when_one_stops_the_others_share_evenly() {
    let network = Network::serving(&ABC);
    let channel = connected(&network, &ABC).await;
    network.crash("b:1");
    until_it_is(&channel, "b:1", Condition::Failing).await;
    let shares = shares(&channel, 20).await;
    assert_eq!(
        shares,
        [("a:1".to_owned(), 10), ("c:1".to_owned(), 10)].into()
    );
}

#[tokio::test(start_paused = true)]
async fn c12_when_all_stop_calls_fail_at_once_with_the_last_connect_error() {
    let network = Network::serving(&ABC);
    let channel = connected(&network, &ABC).await;
    // Connections that have lived for a while, so that losing them is not a failed attempt.
    tokio::time::sleep(Duration::from_secs(5)).await;
    for address in ABC {
        network.crash(address);
        until_it_is(&channel, address, Condition::Failing).await;
        // So that the errors are not of one moment, and the last one is known.
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    let start = Instant::now();
    let status = call(&channel).await.unwrap_err();
    assert_took(start, Duration::ZERO);
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(
        status.message(),
        "service greeter: endpoint c:1: cannot connect: connection refused"
    );
}

#[tokio::test(start_paused = true)]
async fn c13_the_first_picks_of_many_channels_are_spread() {
    let network = Network::serving(&ABC);
    let mut first_picks = BTreeMap::<_, usize>::new();
    for _ in 0..90 {
        let channel = connected(&network, &ABC).await;
        *first_picks.entry(served_by(&channel).await).or_default() += 1;
    }
    // 30 each on average; that one of them has fewer than 8 happens once in millions of runs.
    let spread = first_picks.values().all(|picks| *picks >= 8);
    assert!(first_picks.len() == 3 && spread, "{first_picks:?}");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_picks_the_same_and_another_does_not() {
    let network = Network::serving(&ABC);
    let first_pick = async |seed: u64| {
        let builder = Channel::balance(ABC).unwrap().seed(seed);
        let channel = builder
            .connector(network.connector())
            .connect_lazy()
            .unwrap();
        until_ready(&channel, &ABC).await;
        served_by(&channel).await
    };
    let mut picks = BTreeSet::new();
    for seed in 0..20 {
        let pick = first_pick(seed).await;
        assert_eq!(first_pick(seed).await, pick);
        picks.insert(pick);
    }
    assert_eq!(picks.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn c14_an_address_that_is_named_twice_has_one_connection() {
    let network = Network::serving(&["a:1", "b:1"]);
    let (said, source) = source();
    let channel = builder(&network, source).connect_lazy().unwrap();
    said.snapshot(&["a:1", "a:1", "b:1", "a:1"]);
    until_ready(&channel, &["a:1", "b:1"]).await;
    assert_eq!(network.dials("a:1").len(), 1);
    let shares = shares(&channel, 10).await;
    assert_eq!(shares["a:1"], 5, "once named, once picked");
}

#[tokio::test(start_paused = true)]
async fn c15_the_same_snapshot_again_reconnects_nothing() {
    let network = Network::serving(&ABC);
    let (said, source) = source();
    let channel = builder(&network, source).connect_lazy().unwrap();
    said.snapshot(&["a:1", "b:1"]);
    until_ready(&channel, &["a:1", "b:1"]).await;
    for _ in 0..5 {
        said.snapshot(&["b:1", "a:1"]);
    }
    // Once this one is there, those before it have been seen to.
    said.snapshot(&ABC);
    until_ready(&channel, &ABC).await;
    assert_eq!(ABC.map(|address| network.dials(address).len()), [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn c16_no_call_fails_while_one_endpoint_replaces_another() {
    let network = Network::serving(&["a:1", "b:1"]);
    let (said, source) = source();
    let channel = builder(&network, source).connect_lazy().unwrap();
    said.snapshot(&["a:1"]);
    let mut callers = JoinSet::new();
    for caller in 0..8 {
        let channel = channel.clone();
        callers.spawn(async move {
            let mut seen = BTreeSet::new();
            for _ in 0..300 {
                seen.insert(served_by(&channel).await);
                tokio::time::sleep(Duration::from_millis(1 + caller)).await;
            }
            seen
        });
    }
    for turn in 0..50 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        said.snapshot(&[["b:1", "a:1"][turn % 2]]);
    }
    for seen in within(SOON, callers.join_all()).await {
        assert_eq!(seen.len(), 2, "both were called");
    }
    // The connection is kept while the other is called.
    assert_eq!(network.dials("a:1").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn c17_other_metadata_takes_effect_without_a_reconnect() {
    let network = Network::serving(&["a:1"]);
    let (said, source) = source();
    let channel = builder(&network, source).connect_lazy().unwrap();
    for zone in ["north", "south"] {
        said.endpoints(vec![endpoint(&["a:1"]).with_metadata("zone", zone)]);
        until_ready(&channel, &["a:1"]).await;
        until(&channel, |state| {
            state.endpoints[0].metadata["zone"] == zone
        })
        .await;
        let reply = client(&channel).say_hello(hello("Ada")).await.unwrap();
        let served_by: &ServedBy = reply.extensions().get().expect("who answered");
        assert_eq!(served_by.endpoint().metadata()["zone"], zone);
    }
    assert_eq!(network.dials("a:1").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn c18_a_removed_endpoint_gets_no_new_calls_and_its_stream_completes() {
    let network = Network::serving(&["a:1", "b:1"]);
    let (said, source) = source();
    let channel = builder(&network, source).connect_lazy().unwrap();
    said.snapshot(&["a:1"]);
    let request = HellosRequest {
        name: "Ada".into(),
        count: 20,
        interval_ms: 1_000,
    };
    let mut replies = client(&channel)
        .say_hellos(request)
        .await
        .unwrap()
        .into_inner();
    replies.next().await.unwrap().unwrap();
    said.snapshot(&["b:1"]);
    until_it_is(&channel, "b:1", Condition::Ready).await;
    until_it_is(&channel, "a:1", Condition::Draining).await;
    assert_eq!(shares(&channel, 10).await, [("b:1".to_owned(), 10)].into());

    let mut received = 1;
    while let Some(reply) = within(SOON, replies.next()).await {
        assert_eq!(reply.unwrap().served_by, "a:1");
        received += 1;
    }
    assert_eq!(received, 20);
    drop(replies);
    until_ready(&channel, &["b:1"]).await;
}

#[tokio::test(start_paused = true)]
async fn c19_addresses_of_an_endpoint_in_another_order_are_the_same_endpoint() {
    let network = Network::serving(&["a:1", "a:2"]);
    let (said, source) = source();
    let channel = builder(&network, source).connect_lazy().unwrap();
    said.endpoints(vec![endpoint(&["a:1", "a:2"])]);
    until_ready(&channel, &["a:1"]).await;
    said.endpoints(vec![endpoint(&["a:2", "a:1"])]);
    until_ready(&channel, &["a:2"]).await;
    assert_eq!(
        (network.dials("a:1").len(), network.dials("a:2").len()),
        (1, 0)
    );
    assert_eq!(served_by(&channel).await, "a:1");

    // The new order counts from the next dial on.
    network.crash("a:1");
    until(&channel, |_| network.dials("a:2").len() == 1).await;
    assert_eq!(network.dials("a:1").len(), 1);
}
