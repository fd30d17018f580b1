//! Calls and connections go to endpoints that match, by what is known of them.

mod support;

use std::time::Duration;

use futures::StreamExt;
use support::{selecting::*, *};
use switchboard_proto::HellosRequest;
use switchboard_resolver::{
    BuildError, CallErrorKind, Channel, Condition, Filter, ReserveUse, ServedBy, WaitForReady,
};
use tokio::time::Instant;
use tonic::Code;

const ABC: [&str; 3] = ["a:1", "b:1", "c:1"];

/// Of which `a` and `b` run v1 in one zone, and `c` runs v2 in another, for whoever has paid.
fn fleet() -> Vec<switchboard_resolver::Endpoint> {
    vec![
        server("a:1", "v1", "north"),
        server("b:1", "v1", "north").with_metadata("tier", "silver"),
        server("c:1", "v2", "south").with_metadata("tier", "gold"),
    ]
}

/// A channel that is connected to all, and follows a configuration.
async fn configured(network: &Network) -> (Said, Configs, Channel) {
    let ((said, source), (configs, told)) = (source(), configs());
    let channel = builder(network, source).service_configs(told);
    let channel = channel.connect_lazy().expect("a channel");
    said.endpoints(fleet());
    until_ready(&channel, &ABC).await;
    (said, configs, channel)
}

#[tokio::test(start_paused = true)]
async fn c54_a_channel_connects_to_what_matches_by_version_zone_and_metadata() {
    let gold = Filter::metadata("tier", "gold");
    for (filter, expected) in [
        (Filter::version("v1"), &["a:1", "b:1"][..]),
        (Filter::zone("south"), &["c:1"]),
        (gold, &["c:1"]),
        (Filter::one_of("tier", ["gold", "silver"]), &["b:1", "c:1"]),
        (
            Filter::version("v1").and(Filter::metadata("tier", "silver")),
            &["b:1"],
        ),
    ] {
        let network = Network::serving(&ABC);
        let (said, source) = source();
        let channel = builder(&network, source).filter(filter.clone());
        let channel = channel.connect_lazy().unwrap();
        said.endpoints(fleet());
        until_ready(&channel, expected).await;
        let shares = shares(&channel, 6).await;
        let calls = 6 / expected.len();
        let expected = expected.iter().map(|it| ((*it).to_owned(), calls));
        assert_eq!(shares, expected.collect(), "{filter}");
        for address in ABC {
            let is_used = shares.contains_key(address);
            assert_eq!(network.dials(address).len(), usize::from(is_used));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c54_if_nothing_that_is_listed_matches_calls_fail_at_once_and_say_so() {
    let network = Network::serving(&ABC);
    let (said, source) = source();
    let builder = builder(&network, source).filter(Filter::version("v9"));
    let channel = builder.connect_lazy().unwrap();
    said.endpoints(fleet());
    until_fresh(&channel).await;
    let start = Instant::now();
    let status = call(&channel).await.unwrap_err();
    assert_took(start, Duration::ZERO);
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(kind(&status), CallErrorKind::Unsent);
    assert_eq!(
        status.message(),
        "service greeter: none of 3 endpoints matches the channel's filter (expected: version=v9)"
    );

    // Who waits for ready is served by the first that matches.
    let mut client = client(&channel);
    let waiting = client.say_hello(waiting_for_ready(hello("Ada")));
    let listing = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        said.endpoints(vec![version("a:1", "v1"), version("b:1", "v9")]);
    };
    let (reply, ()) = within(SOON, async { tokio::join!(waiting, listing) }).await;
    assert_eq!(reply.unwrap().into_inner().served_by, "b:1");
    assert!(network.dials("a:1").is_empty());
}

#[tokio::test(start_paused = true)]
async fn c54_a_fallback_is_all_if_none_matches_and_ends_when_one_does() {
    let network = Network::serving(&ABC);
    let (said, source) = source();
    let builder = builder(&network, source).filter(Filter::version("v2").or_any());
    let channel = builder.connect_lazy().unwrap();
    said.endpoints(vec![version("a:1", "v1"), version("b:1", "v1")]);
    until_ready(&channel, &["a:1", "b:1"]).await;
    assert_eq!(shares(&channel, 4).await.len(), 2);
    said.endpoints(fleet());
    until_ready(&channel, &["c:1"]).await;
    assert_eq!(shares(&channel, 4).await, [("c:1".to_owned(), 4)].into());
    said.endpoints(vec![version("a:1", "v1"), version("b:1", "v1")]);
    until_ready(&channel, &["a:1", "b:1"]).await;
}

#[tokio::test(start_paused = true)]
async fn c54_a_call_goes_to_those_that_match_its_own_filter_each_in_its_turn() {
    let network = Network::serving(&ABC);
    let (said, source) = source();
    let channel = builder(&network, source).connect_lazy().unwrap();
    said.endpoints(fleet());
    until_ready(&channel, &ABC).await;
    // Made anew for each call: it is the same filter by what it asks for, and its turn goes on.
    let filters: [(fn() -> Filter, _); 3] = [
        (|| Filter::version("v1"), ["a:1", "b:1"]),
        (
            || Filter::one_of("tier", ["gold", "silver"]),
            ["b:1", "c:1"],
        ),
        (|| Filter::zone("south"), ["c:1", "c:1"]),
    ];
    for (filter, expected) in filters {
        let mut served = Vec::new();
        for _ in 0..4 {
            served.push(filtered(&channel, &filter()).await.unwrap());
        }
        assert_eq!(served[..2], served[2..], "in turn");
        served[..2].sort();
        assert_eq!(served[..2], expected);
    }
    // Those without one go to all.
    assert_eq!(shares(&channel, 3).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn c54_a_call_that_nothing_matches_fails_at_once_or_waits_or_falls_back() {
    let network = Network::serving(&ABC);
    let (said, source) = source();
    let channel = builder(&network, source).connect_lazy().unwrap();
    said.endpoints(fleet());
    until_ready(&channel, &ABC).await;
    let v9 = Filter::version("v9");
    let start = Instant::now();
    let status = filtered(&channel, &v9).await.unwrap_err();
    assert_took(start, Duration::ZERO);
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(
        status.message(),
        "service greeter: none of 3 endpoints that can be called matches the call's filter \
         (expected: version=v9)"
    );
    filtered(&channel, &v9.clone().or_any()).await.unwrap();

    let mut request = with_filter(v9);
    request.extensions_mut().insert(WaitForReady);
    let mut client = client(&channel);
    let listing = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        said.endpoints(vec![version("a:1", "v9"), version("b:1", "v1")]);
    };
    let (reply, ()) = tokio::join!(client.say_hello(request), listing);
    let reply = reply.unwrap();
    let served_by: &ServedBy = reply.extensions().get().unwrap();
    assert_eq!(served_by.endpoint().metadata()["version"], "v9");
}

#[tokio::test(start_paused = true)]
async fn c54_a_call_waits_for_one_that_matches_and_is_being_connected() {
    let network = Network::serving(&["a:1"]);
    network.silence("c:1");
    let (said, source) = source();
    let builder = builder(&network, source).connect_timeout(Duration::from_secs(5));
    let channel = builder.connect_lazy().unwrap();
    said.endpoints(vec![version("a:1", "v1"), version("c:1", "v2")]);
    until_it_is(&channel, "a:1", Condition::Ready).await;
    // It is not there until it has failed, and nobody waits for it any more.
    let start = Instant::now();
    let v2 = Filter::version("v2");
    let status = within(SOON, filtered(&channel, &v2)).await.unwrap_err();
    assert_took(start, Duration::from_secs(5));
    assert!(status.message().contains("version=v2"), "{status}");
    network.crash("c:1");
    network.serve("c:1");
    channel.reset_backoff();
    until_it_is(&channel, "c:1", Condition::Ready).await;
    assert_eq!(filtered(&channel, &v2).await.unwrap(), "c:1");
    assert_eq!(
        filtered(&channel, &Filter::version("v1")).await.unwrap(),
        "a:1"
    );
}

#[tokio::test(start_paused = true)]
async fn calls_with_more_filters_than_are_kept_are_spread_all_the_same() {
    let network = Network::serving(&ABC);
    let channel = connected(&network, &ABC).await;
    let mut counts = std::collections::BTreeMap::<_, usize>::new();
    for shard in 0..300 {
        // None matches, and all will do: or a third of them.
        let filter = Filter::metadata("shard", shard.to_string()).or_any();
        *counts
            .entry(filtered(&channel, &filter).await.unwrap())
            .or_default() += 1;
    }
    assert_eq!(counts, ABC.map(|it| (it.to_owned(), 100)).into());

    let (said, source) = source();
    let channel = builder(&network, source).seed(3).connect_lazy().unwrap();
    said.endpoints(fleet());
    until_ready(&channel, &ABC).await;
    let mut counts = std::collections::BTreeMap::<_, usize>::new();
    for shard in 0..300 {
        let filter = Filter::one_of("version", ["v1".to_owned(), shard.to_string()]);
        *counts
            .entry(filtered(&channel, &filter).await.unwrap())
            .or_default() += 1;
    }
    // Each begins anywhere: that one of both has fewer than 100 of 300 happens once in 10^8 runs, and never
    // with this seed.
    assert!(
        counts.len() == 2 && counts.values().all(|it| *it >= 100),
        "{counts:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn c17_another_version_counts_for_the_filters_of_calls_without_a_reconnect() {
    let network = Network::serving(&["a:1", "b:1"]);
    let (said, source) = source();
    let channel = builder(&network, source).connect_lazy().unwrap();
    let v2 = Filter::version("v2");
    for (a, b) in [("v1", "v2"), ("v2", "v1"), ("v1", "v2")] {
        said.endpoints(vec![version("a:1", a), version("b:1", b)]);
        until(&channel, |state| {
            let versions = state
                .endpoints
                .iter()
                .map(|it| it.metadata["version"].clone());
            versions.eq([a, b])
        })
        .await;
        until_ready(&channel, &["a:1", "b:1"]).await;
        let expected = if a == "v2" { "a:1" } else { "b:1" };
        for _ in 0..4 {
            assert_eq!(filtered(&channel, &v2).await.unwrap(), expected);
        }
    }
    assert_eq!(["a:1", "b:1"].map(|it| network.dials(it).len()), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn c17_what_matches_no_more_is_let_go_at_once_and_its_stream_completes() {
    let network = Network::serving(&ABC);
    let (said, source) = source();
    let builder = builder(&network, source).filter(Filter::version("v1"));
    let channel = builder.connect_lazy().unwrap();
    said.endpoints(vec![version("a:1", "v1")]);
    until_ready(&channel, &["a:1"]).await;
    let request = HellosRequest {
        name: "Ada".into(),
        count: 20,
        interval_ms: 1_000,
    };
    let replies = client(&channel).say_hellos(request).await.unwrap();
    let mut replies = replies.into_inner();
    replies.next().await.unwrap().unwrap();
    said.endpoints(vec![version("a:1", "v2"), version("b:1", "v1")]);
    until_it_is(&channel, "a:1", Condition::Draining).await;
    until_it_is(&channel, "b:1", Condition::Ready).await;
    assert_eq!(shares(&channel, 10).await, [("b:1".to_owned(), 10)].into());
    let mut received = 1;
    while let Some(reply) = within(SOON, replies.next()).await {
        assert_eq!(reply.unwrap().served_by, "a:1");
        received += 1;
    }
    assert_eq!(received, 20);
}

#[tokio::test(start_paused = true)]
async fn c54_what_does_not_match_is_neither_in_reserve_nor_counted_for_it() {
    let network = Network::serving(&["a:1", "b:1", "c:1", "d:1"]);
    let (said, source) = source();
    let builder = builder(&network, source).filter(Filter::version("v1"));
    let channel = builder.connect_lazy().unwrap();
    said.endpoints(
        ["a:1", "b:1", "c:1", "d:1"]
            .map(|it| version(it, "v1"))
            .into(),
    );
    until_ready(&channel, &["a:1", "b:1", "c:1", "d:1"]).await;
    // Three of four match no more: that is what the source says, and not that they have vanished.
    said.endpoints(vec![
        version("a:1", "v1"),
        version("b:1", "v2"),
        version("c:1", "v2"),
        version("d:1", "v2"),
    ]);
    until_ready(&channel, &["a:1"]).await;
    assert_eq!(channel.state().endpoints.len(), 1, "{channel:?}");
    assert_eq!(channel.state().reserve, ReserveUse::Unused);
    assert_eq!(shares(&channel, 4).await, [("a:1".to_owned(), 4)].into());

    // One vanishes of two that match: half of them is enough, though it is a quarter of all.
    said.endpoints(vec![
        version("a:1", "v1"),
        version("b:1", "v1"),
        version("c:1", "v2"),
        version("d:1", "v2"),
    ]);
    until_ready(&channel, &["a:1", "b:1"]).await;
    said.endpoints(vec![
        version("a:1", "v1"),
        version("c:1", "v2"),
        version("d:1", "v2"),
    ]);
    until(&channel, |state| {
        state.endpoints.iter().any(|it| it.is_reserved)
    })
    .await;
    assert_eq!(channel.state().reserve, ReserveUse::Unused);
    assert_eq!(shares(&channel, 4).await, [("a:1".to_owned(), 4)].into());
}

#[tokio::test(start_paused = true)]
async fn c54_another_filter_is_asked_of_what_was_listed_last() {
    let network = Network::serving(&ABC);
    let (said, configs, channel) = configured(&network).await;
    configs.say(r#"{ "filter": { "match": { "version": "v1" } } }"#);
    until_ready(&channel, &["a:1", "b:1"]).await;
    configs.say(r#"{ "filter": { "match": { "tier": ["gold", "silver"] } } }"#);
    until_ready(&channel, &["b:1", "c:1"]).await;
    assert_eq!(shares(&channel, 4).await.len(), 2);
    assert_eq!(network.dials("b:1").len(), 1, "it matched all the while");
    // An empty list is not believed, and what it was before is all that was listed.
    said.snapshot(&[]);
    until(&channel, |state| state.reserve == ReserveUse::LastSet).await;
    configs.say("{}");
    until_ready(&channel, &ABC).await;
    configs.say(r#"{ "filter": { "match": { "tier": [] } } }"#);
    until(&channel, |state| state.config.rejected.is_some()).await;
    assert_eq!(shares(&channel, 6).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn who_is_in_reserve_and_matches_no_more_is_let_go() {
    let network = Network::serving(&ABC);
    let (said, configs, channel) = configured(&network).await;
    said.endpoints(fleet().split_off(2));
    until(&channel, |state| state.reserve == ReserveUse::Used).await;
    assert_eq!(shares(&channel, 6).await.len(), 3);
    // At once, not when the time of the reserve is over.
    let start = Instant::now();
    configs.say(r#"{ "filter": { "match": { "version": "v2" } } }"#);
    until(&channel, |state| state.endpoints.len() == 1).await;
    assert_took(start, Duration::ZERO);
    assert_eq!(shares(&channel, 6).await, [("c:1".to_owned(), 6)].into());
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_one_who_waits_may_not_take_is_told_to_one_who_may() {
    let network = Network::serving(&["a:1", "b:1"]);
    let (said, source) = source();
    let builder = builder(&network, source).max_calls_in_flight_per_endpoint(1);
    let channel = builder.connect_lazy().unwrap();
    said.endpoints(vec![version("a:1", "v1"), version("b:1", "v2")]);
    until_ready(&channel, &["a:1", "b:1"]).await;
    let hold = async |address: &str, seconds: u32| {
        let filter = Filter::version(if address == "a:1" { "v1" } else { "v2" });
        let mut request = tonic::Request::new(HellosRequest {
            name: "Ada".into(),
            count: seconds,
            interval_ms: 1_000,
        });
        request.extensions_mut().insert(filter);
        let replies = client(&channel).say_hellos(request).await.unwrap();
        replies.into_inner()
    };
    let short = hold("a:1", 3).await;
    let long = hold("b:1", 15).await;
    let start = Instant::now();
    let v2 = Filter::version("v2");
    let first = async {
        assert_eq!(filtered(&channel, &v2).await.unwrap(), "b:1");
        start.elapsed()
    };
    let second = async {
        // After the first waits.
        tokio::task::yield_now().await;
        assert_eq!(served_by(&channel).await, "a:1");
        start.elapsed()
    };
    let ends = async {
        tokio::join!(short.count(), long.count());
    };
    let (first, second, ()) = tokio::join!(first, second, ends);
    assert!(second < Duration::from_secs(4), "{second:?}");
    assert!(first > Duration::from_secs(10), "{first:?}");
}

#[tokio::test]
async fn a_filter_that_nothing_can_match_is_refused_where_it_is_set() {
    let none: [&str; 0] = [];
    let builder = builder(&Network::new(), source().1).filter(Filter::one_of("tier", none));
    let error = builder.connect_lazy().unwrap_err();
    assert!(matches!(error, BuildError::ServiceConfig(_)));
    assert_eq!(
        error.to_string(),
        "filter: tier= (expected: keys, and at least one value for each)"
    );
}
