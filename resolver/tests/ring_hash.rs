//! Who is called by a call's key.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

mod support;

use std::collections::BTreeSet;

use support::*;
use switchboard_proto::{HelloRequest, HellosRequest};
use switchboard_resolver::{Channel, Condition, HashKey, RingHash};
use tonic::{Code, Request};

const KEYS: usize = 400;
const FOUR: [&str; 4] = ["a:1", "b:1", "c:1", "d:1"];
const BUT_C: [&str; 3] = ["a:1", "b:1", "d:1"];

fn keyed<T>(message: T, key: usize) -> Request<T> {
    let mut request = Request::new(message);
    let key = HashKey::new(key.to_string());
    request.extensions_mut().insert(key);
    request
}

/// Who answers each of some keys.
async fn homes(channel: &Channel) -> Vec<String> {
    let mut homes = Vec::new();
    for key in 0..KEYS {
        let request = keyed(HelloRequest::default(), key);
        let reply = client(channel).say_hello(request).await.unwrap();
        homes.push(reply.into_inner().served_by);
    }
    homes
}

/// Asserts that from `before` to `after` the keys of one endpoint moved, and no others.
#[track_caller]
fn assert_moved(before: &[String], after: &[String], from: &str) {
    for (key, (before, after)) in before.iter().zip(after).enumerate() {
        assert_eq!(
            before == from,
            before != after,
            "{key}: {before} to {after}"
        );
    }
    let moved = before.iter().filter(|it| *it == from).count();
    assert!(moved > KEYS / 8, "{moved}");
}

async fn over_four(network: &Network, policy: RingHash) -> (Said, Channel) {
    let (said, source) = source();
    let builder = builder(network, source).reserve(without_reserve());
    let channel = builder.policy(policy).connect_lazy().unwrap();
    said.snapshot(&FOUR);
    until_ready(&channel, &FOUR).await;
    (said, channel)
}

#[tokio::test(start_paused = true)]
async fn c53_when_an_endpoint_leaves_only_its_keys_move() {
    let network = Network::serving(&FOUR);
    let (said, channel) = over_four(&network, RingHash::new()).await;
    let before = homes(&channel).await;
    assert_eq!(homes(&channel).await, before);
    // Another client has the same ring.
    let (_said, other) = over_four(&network, RingHash::new()).await;
    assert_eq!(homes(&other).await, before);

    said.snapshot(&BUT_C);
    until_ready(&channel, &BUT_C).await;
    let after = homes(&channel).await;
    assert_moved(&before, &after, "c:1");
    // To all others, and back when it is.
    let heirs: BTreeSet<_> = after.iter().map(String::as_str).collect();
    assert_eq!(heirs, BUT_C.into());
    said.snapshot(&FOUR);
    until_ready(&channel, &FOUR).await;
    assert_eq!(homes(&channel).await, before);
}

#[tokio::test(start_paused = true)]
async fn c53_the_keys_of_a_failing_endpoint_go_to_the_next_on_the_ring() {
    let network = Network::serving(&FOUR);
    let (said, channel) = over_four(&network, RingHash::new()).await;
    let before = homes(&channel).await;
    network.crash("c:1");
    until_it_is(&channel, "c:1", Condition::Failing).await;
    let failing = homes(&channel).await;
    assert_moved(&before, &failing, "c:1");
    // As if it had left.
    said.snapshot(&BUT_C);
    until_ready(&channel, &BUT_C).await;
    assert_eq!(homes(&channel).await, failing);
}

#[tokio::test(start_paused = true)]
async fn c53_the_keys_of_one_that_can_take_no_more_go_to_the_next_on_the_ring() {
    let network = Network::serving(&FOUR);
    let builder = Channel::balance(FOUR)
        .unwrap()
        .connector(network.connector());
    let builder = builder.policy(RingHash::new());
    let channel = builder
        .max_calls_in_flight_per_endpoint(1)
        .connect_lazy()
        .unwrap();
    until_ready(&channel, &FOUR).await;
    let before = homes(&channel).await;
    let of_c = before.iter().position(|it| it == "c:1").unwrap();
    let request = HellosRequest {
        count: 1_000_000,
        interval_ms: 1_000_000,
        ..HellosRequest::default()
    };
    let stream = client(&channel)
        .say_hellos(keyed(request, of_c))
        .await
        .unwrap();
    let busy = homes(&channel).await;
    assert_moved(&before, &busy, "c:1");
    drop(stream);
    until(&channel, |it| {
        it.endpoints.iter().all(|it| it.calls_in_flight() == 0)
    })
    .await;
    assert_eq!(homes(&channel).await, before);
}

#[tokio::test(start_paused = true)]
async fn c53_a_call_without_a_key_is_refused_and_told_what_it_lacks() {
    let network = Network::serving(&FOUR);
    let (_said, channel) = over_four(&network, RingHash::by_header("x-user")).await;
    let status = call(&channel).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    let expected =
        "ring_hash key: none (expected: a header x-user or the request extension HashKey)";
    assert!(status.message().ends_with(expected), "{status:?}");
    // With one it is not, whatever is in it.
    let mut homes = BTreeSet::new();
    for user in 0..100 {
        let mut request = Request::new(HelloRequest::default());
        request.metadata_mut().insert("x-user", user.into());
        let reply = client(&channel).say_hello(request).await.unwrap();
        homes.insert(reply.into_inner().served_by);
    }
    assert_eq!(homes.len(), 4);

    let (_said, channel) = over_four(&network, RingHash::new().or_random()).await;
    // That one of four gets none of 100 happens once in billions of times.
    assert_eq!(shares(&channel, 100).await.len(), 4);
}
