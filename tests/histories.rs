//! What those see who follow a service while etcd's history is compacted, or begins anew.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

use std::{collections::BTreeMap, time::Duration};

use etcd_client::CompactionOptions;
use switchboard::{Instance, Instances, Registry, ServeError, Snapshot};
use switchboard_proto::{
    HelloRequest, Polite, greeter_client::GreeterClient, greeter_server::GreeterServer,
};
use switchboard_test_support::{Etcd, eventually};
use tokio::{
    net::TcpListener,
    sync::oneshot,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout, timeout_at},
};
use tokio_stream::StreamExt;
use tonic::transport::Server;

const SOON: Duration = Duration::from_secs(10);

fn hosts(snapshot: &Snapshot) -> Vec<String> {
    let hosts = snapshot
        .instances()
        .map(|instance| instance.origins()[0].address().to_string());
    hosts.collect()
}

/// Starts a greeter that is published until its task ends; returns its address.
async fn start_greeter(etcd: &Etcd, serving: &mut JoinSet<Result<(), ServeError>>) -> String {
    let registry = Registry::connect(etcd.endpoint())
        .await
        .expect("etcd is there");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let instance = Instance::new("greeter", address.clone()).expect("an instance");
    let greeter = GreeterServer::new(Polite {
        address: address.clone(),
    });
    let router = Server::builder().add_service(greeter);
    let (published, is_published) = oneshot::channel();
    let serve = registry.serve(instance, router, listener);
    let serve = serve.on_published(|| published.send(()).expect("the test waits"));
    serving.spawn(serve.into_future());
    let is_published = timeout(SOON, is_published).await.expect("in time");
    is_published.expect("it is published");
    address
}

#[tokio::test]
async fn etcd_wiped_fails_no_call_and_is_full_again_and_no_list_is_short_in_between() {
    let mut etcd = Etcd::start().await;
    let mut serving = JoinSet::new();
    let mut addresses = Vec::new();
    for _ in 0..3 {
        addresses.push(start_greeter(&etcd, &mut serving).await);
    }
    let registry = Registry::connect(etcd.endpoint()).await.unwrap();
    let mut instances = registry.discover("greeter").await.unwrap();
    let channel = registry.dial("greeter").connect().await.unwrap();

    let (stop, mut stopped) = oneshot::channel();
    let mut client = GreeterClient::new(channel.clone());
    let calls = async {
        let (mut answered, mut failures) = (BTreeMap::<String, u32>::new(), Vec::new());
        let mut ticks = interval(Duration::from_millis(5));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while stopped.try_recv().is_err() {
            ticks.tick().await;
            let request = HelloRequest { name: "you".into() };
            match client.say_hello(request).await {
                Ok(reply) => *answered.entry(reply.into_inner().served_by).or_default() += 1,
                Err(status) => failures.push(status.to_string()),
            }
        }
        (answered, failures)
    };
    let wipe = async {
        etcd.wipe_and_restart().await;
        let healthy = Instant::now();
        // No list is short, and the last one is fresh, within 3 s of etcd's health.
        let full = async {
            while instances.staleness().is_some() || !is_of_this_history(&etcd, &instances).await {
                let snapshot = instances.changed().await.expect("it goes on");
                assert_eq!(snapshot.instances().len(), 3, "{snapshot:?}");
            }
        };
        let full = timeout_at(healthy + Duration::from_secs(3), full).await;
        full.unwrap_or_else(|_| panic!("not all there: {instances:?}"));
        // What was carried over would go now.
        let later = healthy + Duration::from_secs(14);
        while let Ok(changed) = timeout_at(later, instances.changed()).await {
            assert_eq!(changed.expect("it goes on").instances().len(), 3);
        }
        stop.send(()).expect("calls go on");
    };
    let ((answered, failures), ()) = tokio::join!(calls, wipe);
    assert_eq!(failures, [""; 0]);
    assert!(answered.values().sum::<u32>() > 2_500, "{answered:?}");
    addresses.sort();
    assert_eq!(Vec::from_iter(answered.keys().cloned()), addresses);
    let mut hosts = hosts(&instances.snapshot());
    hosts.sort();
    assert_eq!(hosts, addresses);
    assert!(instances.staleness().is_none());
}

/// Whether the snapshot is of the etcd that runs now: it holds three keys, at that revision.
async fn is_of_this_history(etcd: &Etcd, instances: &Instances) -> bool {
    let options = etcd_client::GetOptions::new()
        .with_prefix()
        .with_count_only();
    let mut client = etcd.client().await;
    let held = client.get("/microservices/greeter/", Some(options)).await;
    held.is_ok_and(|held| {
        let now = held
            .header()
            .map_or(0, etcd_client::ResponseHeader::revision);
        held.count() == 3 && instances.snapshot().revision() <= now
    })
}

#[tokio::test]
async fn what_does_not_come_back_to_a_wiped_etcd_goes_when_the_grace_is_over() {
    let mut etcd = Etcd::start().await;
    put(&etcd, 1).await;
    put(&etcd, 2).await;
    let registry = Registry::connect(etcd.endpoint()).await.unwrap();
    let mut instances = registry.discover("greeter").await.unwrap();
    etcd.wipe_and_restart().await;
    put(&etcd, 2).await;
    let restarted = Instant::now();
    let stale = async {
        loop {
            let staleness = instances.staleness();
            let cause = staleness.map(|staleness| staleness.cause.to_string());
            if cause.is_some_and(|cause| cause.contains("another history")) {
                break;
            }
            assert_eq!(instances.changed().await.unwrap().instances().len(), 2);
        }
    };
    timeout(SOON, stale).await.expect("it is told");
    while instances.snapshot().instances().len() == 2 {
        let changed = timeout(Duration::from_secs(20), instances.changed()).await;
        changed.expect("in time").unwrap();
    }
    assert!(restarted.elapsed() >= Duration::from_secs(9), "too early");
    assert_eq!(hosts(&instances.snapshot()), ["10.0.0.2:1"]);
    assert!(instances.staleness().is_none());
}

/// Puts an instance; returns the revision.
async fn put(etcd: &Etcd, host: u8) -> i64 {
    let value =
        format!(r#"{{"id":"{host}","name":"greeter","endpoints":["grpc://10.0.0.{host}:1"]}}"#);
    let key = format!("/microservices/greeter/{host}");
    let put = etcd.client().await.put(key, value, None).await;
    let put = put.expect("etcd takes it");
    put.header().expect("it has a header").revision()
}

async fn delete(etcd: &Etcd, host: u8) -> i64 {
    let key = format!("/microservices/greeter/{host}");
    let deleted = etcd.client().await.delete(key, None).await;
    let deleted = deleted.expect("etcd takes it");
    deleted.header().expect("it has a header").revision()
}

#[tokio::test]
async fn history_compacted_under_an_open_discovery_loses_nothing_and_shows_nothing_untrue() {
    let mut etcd = Etcd::start().await;
    let mut held: Vec<u8> = vec![1];
    // What etcd held, from each revision on.
    let mut truth = BTreeMap::from([(put(&etcd, 1).await, held.clone())]);
    let registry = Registry::connect(etcd.endpoint()).await.unwrap();
    let mut instances = registry.discover("greeter").await.unwrap();

    // Another look at what is followed: all share one watch.
    let beside = registry.discover("greeter").await.unwrap();

    let (stop, mut stopped) = oneshot::channel();
    let watch = async {
        let mut seen = vec![instances.snapshot()];
        loop {
            tokio::select! {
                Some(snapshot) = instances.next() => seen.push(snapshot),
                _ = &mut stopped => return seen,
            }
        }
    };
    let change = async {
        for round in 0..240u8 {
            let host = 2 + round % 7;
            let revision = match held.iter().position(|it| *it == host) {
                Some(at) => {
                    held.remove(at);
                    delete(&etcd, host).await
                }
                None => {
                    held.push(host);
                    held.sort();
                    put(&etcd, host).await
                }
            };
            truth.insert(revision, held.clone());
            if round % 3 == 0 {
                let options = CompactionOptions::new().with_physical();
                let mut client = etcd.client().await;
                let compacted = client.compact(revision, Some(options)).await;
                compacted.expect("etcd compacts");
            }
            if round % 60 == 59 {
                etcd.kill().await;
                etcd.restart().await;
            }
            if round % 60 == 10 {
                // Some were missed; the others are to be followed as they come.
                eventually(SOON, "it is fresh", async || match beside.staleness() {
                    None => Ok(()),
                    Some(staleness) => Err(format!("{staleness:?}")),
                })
                .await;
            }
            if (11..21).contains(&(round % 60)) {
                eventually(SOON, "each change is seen", async || {
                    match beside.snapshot().revision() {
                        seen if seen >= revision => Ok(()),
                        seen => Err(format!("{seen} of {revision}")),
                    }
                })
                .await;
            }
        }
        let last = *truth.last_key_value().expect("a revision").0;
        eventually(SOON, "the last change is seen", async || {
            let mut client = etcd.client().await;
            let now = client.get("/", None).await.map_err(|it| it.to_string())?;
            let now = now
                .header()
                .map_or(0, etcd_client::ResponseHeader::revision);
            if now == last {
                Ok(())
            } else {
                Err(format!("{now}, not {last}"))
            }
        })
        .await;
        (truth, last, stop)
    };
    let (seen, last) = tokio::join!(watch, async {
        let (truth, last, stop) = change.await;
        let fresh = registry.discover("greeter").await.unwrap();
        eventually(SOON, "the last change is seen", async || {
            match fresh.snapshot().revision() {
                revision if revision >= last && fresh.staleness().is_none() => Ok(()),
                revision => Err(format!("{revision} of {last}")),
            }
        })
        .await;
        stop.send(()).expect("it watches");
        (truth, hosts(&fresh.snapshot()))
    });
    let (truth, last) = last;
    let at = |revision: i64| {
        let (_, held) = truth.range(..=revision).next_back().expect("a revision");
        let hosts = held.iter().map(|host| format!("10.0.0.{host}:1"));
        hosts.collect::<Vec<_>>()
    };
    assert!(seen.len() > 20, "only {} snapshots", seen.len());
    for snapshot in &seen {
        assert_eq!(hosts(snapshot), at(snapshot.revision()), "{snapshot:?}");
    }
    let revisions: Vec<_> = seen.iter().map(Snapshot::revision).collect();
    assert!(revisions.is_sorted(), "{revisions:?}");
    assert_eq!(last, at(i64::MAX));
}
