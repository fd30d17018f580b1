//! Calls without a server: who is offered, of whom.

use std::collections::BTreeMap;

use http::Request;
use proptest::prelude::*;

use super::*;
use crate::{Filter, RoundRobin};

/// Endpoints `10.0.0.0:1` and so on, each of a version and in a zone.
fn endpoints(servers: &[(&str, &str)]) -> Vec<Endpoint> {
    let servers = servers.iter().enumerate();
    let endpoints = servers.map(|(host, (version, zone))| {
        let endpoint = Endpoint::new(format!("10.0.0.{host}:1").parse().unwrap());
        endpoint
            .with_metadata("version", *version)
            .with_metadata("zone", *zone)
    });
    endpoints.collect()
}

/// The group of those that can be called, where all of these are listed.
fn group(
    config: &ServiceConfig,
    servers: &[(&str, &str)],
    is_callable: impl Fn(usize) -> bool,
    filter: Option<&Filter>,
) -> (Option<Group>, Vec<Endpoint>) {
    let listed = endpoints(servers);
    let callable = listed.iter().enumerate().filter(|it| is_callable(it.0));
    let callable: Vec<_> = callable.map(|it| it.1.clone()).collect();
    let candidates: Vec<_> = callable.iter().cloned().map(Candidate::new).collect();
    let making = Making {
        config,
        policy: &RoundRobin,
        candidates: &candidates,
        listed: &listed,
        rng: fastrand::Rng::with_seed(7),
    };
    let group = making.group(|it| filter.is_none_or(|filter| filter.matches(it)));
    (group, callable)
}

/// Makes calls that whoever is offered takes, unless it is full, and counts who does by a key.
fn shares(
    group: &Group,
    callable: &[Endpoint],
    calls: usize,
    key: &str,
    is_full: impl Fn(&Endpoint) -> bool,
) -> BTreeMap<String, usize> {
    let request = Request::new(());
    let call = CallInfo::of(&request);
    let mut shares = BTreeMap::new();
    for _ in 0..calls {
        let mut taken = None;
        let is_taken = group.pick(&call, &mut |index| {
            assert!(taken.is_none(), "offered although another one took it");
            taken = Some(&callable[index]).filter(|it| !is_full(it));
            taken.is_some()
        });
        assert_eq!(is_taken.unwrap(), taken.is_some());
        let Some(endpoint) = taken else {
            continue;
        };
        *shares.entry(endpoint.metadata()[key].clone()).or_default() += 1;
    }
    shares
}

fn split(percent: &[(&str, f64)]) -> ServiceConfig {
    let split = Split::by_version(percent.iter().copied()).unwrap();
    ServiceConfig::default().with_split(split)
}

const SERVERS: [(&str, &str); 6] = [
    ("v1", "a"),
    ("v1", "b"),
    ("v2", "a"),
    ("v2", "b"),
    ("v3", "a"),
    ("v4", "b"),
];

#[test]
fn calls_are_split_as_configured_and_who_is_in_no_group_gets_none() {
    let config = split(&[("v1", 70.0), ("v2", 29.0), ("v3", 1.0)]);
    let (group, callable) = group(&config, &SERVERS, |_| true, None);
    let shares = shares(&group.unwrap(), &callable, 1_000, "version", |_| false);
    let shares: Vec<_> = shares.into_iter().collect();
    let [(v1, 699..=701), (v2, 289..=291), (v3, 9..=11)] = &shares[..] else {
        panic!("{shares:?}");
    };
    assert_eq!([v1, v2, v3], ["v1", "v2", "v3"]);
}

#[test]
fn the_calls_of_a_group_without_anybody_go_to_the_others_by_their_weights() {
    let config = split(&[("v1", 60.0), ("v2", 30.0), ("v3", 10.0)]);
    let (all, callable) = group(&config, &SERVERS, |_| true, None);
    let is_v1 = |it: &Endpoint| it.metadata()["version"] == "v1";
    let full = shares(&all.unwrap(), &callable, 1_000, "version", is_v1);
    // The first two cannot be called at all.
    let (rest, callable) = group(&config, &SERVERS, |index| index > 1, None);
    let gone = shares(&rest.unwrap(), &callable, 1_000, "version", |_| false);
    for shares in [full, gone] {
        assert_eq!(shares["v2"] + shares["v3"], 1_000);
        assert!((240..=260).contains(&shares["v3"]), "{shares:?}");
    }
}

#[test]
fn a_group_of_0_percent_gets_no_calls_whoever_else_can_be_called() {
    let config = split(&[("v1", 100.0), ("v2", 0.0)]);
    let (all, callable) = group(&config, &SERVERS, |_| true, None);
    let is_v1 = |it: &Endpoint| it.metadata()["version"] == "v1";
    let all = all.unwrap();
    assert_eq!(
        shares(&all, &callable, 100, "version", |_| false)["v1"],
        100
    );
    assert!(shares(&all, &callable, 10, "version", is_v1).is_empty());
    assert!(
        group(&config, &SERVERS, |index| index > 1, None)
            .0
            .is_none()
    );
}

#[test]
fn each_group_is_tried_once_though_nobody_takes_the_call() {
    let config = split(&[("v1", 50.0), ("v2", 50.0)]);
    let (all, _) = group(&config, &SERVERS, |_| true, None);
    let request = Request::new(());
    let mut offers = Vec::new();
    let is_taken = all.unwrap().pick(&CallInfo::of(&request), &mut |index| {
        offers.push(index);
        false
    });
    assert!(!is_taken.unwrap());
    offers.sort();
    assert_eq!(offers, [0, 1, 2, 3]);
}

#[test]
fn as_many_stay_in_the_zone_as_its_endpoints_can_take() {
    let servers = [("v1", "a"); 10].into_iter().chain([("v1", "b"); 10]);
    let servers: Vec<_> = servers.collect();
    let config = ServiceConfig::default().with_zone("a");
    for (ready, stay) in [(10, 1_000), (8, 1_000), (5, 700), (1, 140)] {
        let is_callable = |index| index < ready || index >= 10;
        let (group, callable) = group(&config, &servers, is_callable, None);
        let shares = shares(&group.unwrap(), &callable, 1_000, "zone", |_| false);
        let here = shares["a"];
        assert!(here.abs_diff(stay) <= 1, "{ready} of 10 READY: {shares:?}");
    }
}

#[test]
fn a_zone_without_anybody_free_leaves_its_calls_to_the_others_and_the_other_way_round() {
    let config = ServiceConfig::default().with_zone("a");
    let (group, callable) = group(&config, &SERVERS, |index| index != 2, None);
    let group = group.unwrap();
    for (full, other) in [("a", "b"), ("b", "a")] {
        let is_full = |it: &Endpoint| it.metadata()["zone"] == full;
        let shares = shares(&group, &callable, 100, "zone", is_full);
        assert_eq!(shares, [(other.to_owned(), 100)].into());
    }
}

#[test]
fn zones_count_within_each_group_of_a_split() {
    // All of v1 is READY in the zone, and one of two of v2.
    let servers = [
        ("v1", "a"),
        ("v1", "a"),
        ("v2", "a"),
        ("v2", "a"),
        ("v1", "b"),
        ("v2", "b"),
    ];
    let config = split(&[("v1", 50.0), ("v2", 50.0)]).with_zone("a");
    let (group, callable) = group(&config, &servers, |index| index != 3, None);
    let shares = shares(&group.unwrap(), &callable, 1_000, "zone", |_| false);
    // Half of the calls are v2's, of which 0.7 stay.
    assert!(shares["a"].abs_diff(850) <= 2, "{shares:?}");
}

fn any_servers() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    let version = prop::sample::select(vec!["v1", "v2", "v3"]);
    let zone = prop::sample::select(vec!["a", "b"]);
    prop::collection::vec((version, zone), 0..12)
}

proptest! {
    #[test]
    fn whoever_is_there_a_call_goes_to_one_that_may_have_it_if_there_is_one(
        servers in any_servers(),
        callable in prop::collection::vec(any::<bool>(), 12),
        full in prop::collection::vec(any::<bool>(), 12),
        is_split: bool,
        has_zone: bool,
        version in prop::option::of(prop::sample::select(vec!["v1", "v2", "v3"])),
    ) {
        let mut config = ServiceConfig::default();
        if is_split {
            config = split(&[("v1", 90.0), ("v2", 10.0)]);
        }
        if has_zone {
            config = config.with_zone("a");
        }
        let filter = version.map(Filter::version);
        let (group, callable) = group(&config, &servers, |index| callable[index], filter.as_ref());
        let is_full = |it: &Endpoint| {
            let host = it.to_string()["10.0.0.".len()..].split(':').next().unwrap().parse::<usize>();
            full[host.unwrap()]
        };
        let may_have = |it: &&Endpoint| {
            let is_asked_for = filter.as_ref().is_none_or(|filter| filter.matches(it));
            is_asked_for && (!is_split || it.metadata()["version"] != "v3")
        };
        let allowed: Vec<_> = callable.iter().filter(may_have).collect();
        prop_assert_eq!(group.is_some(), !allowed.is_empty());
        let Some(group) = group else {
            return Ok(());
        };
        let free = allowed.iter().filter(|it| !is_full(it)).count();
        let calls = 20;
        let shares = shares(&group, &callable, calls, "version", is_full);
        prop_assert_eq!(shares.values().sum::<usize>(), if free > 0 { calls } else { 0 });
        for version in shares.keys() {
            let is_of = |it: &&Endpoint| it.metadata()["version"] == *version;
            prop_assert!(allowed.iter().any(is_of));
        }
        let found = group.find(callable.len(), &|index| !is_full(&callable[index]));
        prop_assert_eq!(found.is_some(), free > 0);
    }
}

/// It is made on the task that keeps all of a channel's connections. To look at each endpoint for each group
/// would take many seconds here.
#[test]
fn a_split_of_very_many_groups_is_made_in_a_moment() {
    let percent = (0..100_000).map(|it| (format!("v{it}"), 0.001));
    let config = ServiceConfig::default().with_split(Split::by_version(percent).unwrap());
    let endpoints = (0..4_000).map(|it| {
        let endpoint = Endpoint::new(format!("10.0.{}.{}:1", it / 250, it % 250).parse().unwrap());
        endpoint.with_metadata("version", format!("v{}", 99_999 - it))
    });
    let candidates: Vec<_> = endpoints.map(Candidate::new).collect();
    let making = Making {
        config: &config,
        policy: &RoundRobin,
        candidates: &candidates,
        listed: &[],
        rng: fastrand::Rng::with_seed(7),
    };
    let start = tokio::time::Instant::now();
    let Some(Group::Split { groups, .. }) = making.group(|_| true) else {
        panic!("no split");
    };
    let took = start.elapsed();
    assert_eq!(groups.len(), 4_000);
    assert!(took.as_secs() < 3, "{took:?}");
}

/// Offers everybody, and one that there is not, whoever has taken the call.
#[derive(Debug)]
struct Greedy;

impl Picker for Greedy {
    fn pick(&self, _: &CallInfo<'_>, take: &mut dyn FnMut(usize) -> bool) -> Result<(), PickError> {
        for index in 0..=2 {
            take(index);
        }
        Ok(())
    }
}

#[test]
fn a_picker_that_goes_on_to_offer_takes_the_call_from_nobody() {
    for members in [None, Some([0, 1].into())] {
        let picker = Box::new(Greedy);
        let group = Group::Leaf { picker, members };
        let mut offered = Vec::new();
        let request = Request::new(());
        let is_taken = group.pick(&CallInfo::of(&request), &mut |index| {
            offered.push(index);
            true
        });
        assert!(is_taken.unwrap());
        assert_eq!(offered, [0]);
    }
}
