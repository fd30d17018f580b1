//! What those see who follow a service, and those who dial it.

use std::time::Duration;

use etcd_client::{Client, CompactionOptions, DeleteOptions};
use switchboard::{
    DiscoverError, Instance, Instances, Publisher, Registry, RegistryError, Snapshot, SourceState,
};
use switchboard_test_support::{Etcd, eventually};
use tokio_stream::StreamExt;

const SOON: Duration = Duration::from_secs(5);

/// How long what a wiped etcd held is carried over.
const GRACE: Duration = Duration::from_secs(10);

async fn registry(etcd: &Etcd) -> Registry {
    Registry::connect(etcd.endpoint())
        .await
        .expect("etcd is there")
}

fn greeter(host: u8) -> Instance {
    Instance::new("greeter", format!("10.0.0.{host}:50051").as_str()).expect("an instance")
}

async fn publish(registry: &Registry, instance: Instance) -> Publisher {
    let publisher = registry.publish(instance).expect("it can be published");
    publisher.published().await.expect("etcd takes it");
    publisher
}

fn hosts(snapshot: &Snapshot) -> Vec<String> {
    let endpoints = snapshot
        .instances()
        .map(|instance| instance.origins()[0].address().host().to_owned());
    let mut hosts: Vec<_> = endpoints.collect();
    hosts.sort();
    hosts
}

/// Waits for a snapshot of those hosts, and panics if an empty one comes in between.
async fn wait_for(instances: &mut Instances, expected: &[&str]) {
    wait_for_within(SOON, instances, expected).await;
}

async fn wait_for_within(limit: Duration, instances: &mut Instances, expected: &[&str]) {
    let reached = async {
        while hosts(&instances.snapshot()) != expected {
            let snapshot = instances.changed().await.expect("it goes on");
            assert!(
                expected.is_empty() || snapshot.instances().len() > 0,
                "an empty list"
            );
        }
    };
    let reached = tokio::time::timeout(limit, reached).await;
    reached.unwrap_or_else(|_| panic!("not {expected:?}: {instances:?}"));
}

async fn put(etcd: &mut Client, name: &str, value: &str) {
    etcd.put(format!("/microservices/{name}"), value, None)
        .await
        .expect("etcd takes it");
}

#[tokio::test]
async fn instances_come_change_and_go() {
    let etcd = Etcd::start().await;
    let registry = registry(&etcd).await;
    let first = publish(&registry, greeter(1)).await;
    let mut instances = registry.discover("greeter").await.unwrap();
    assert_eq!(hosts(&instances.snapshot()), ["10.0.0.1"]);

    let second = publish(&registry, greeter(2)).await;
    wait_for(&mut instances, &["10.0.0.1", "10.0.0.2"]).await;
    let before = instances.snapshot().revision();
    second.update(greeter(3)).await.unwrap();
    wait_for(&mut instances, &["10.0.0.1", "10.0.0.3"]).await;
    assert!(instances.snapshot().revision() > before);
    first.stop().await.unwrap();
    second.stop().await.unwrap();
    wait_for(&mut instances, &[]).await;
}

#[tokio::test]
async fn as_a_stream_the_snapshot_there_is_comes_first() {
    let etcd = Etcd::start().await;
    let registry = registry(&etcd).await;
    let mut instances = registry.discover("greeter").await.unwrap();
    assert!(hosts(&instances.next().await.unwrap()).is_empty());
    let _publisher = publish(&registry, greeter(1)).await;
    assert_eq!(hosts(&instances.next().await.unwrap()), ["10.0.0.1"]);
    registry.close().await;
    assert!(instances.next().await.is_none());
    // One change was not waited for.
    instances.changed().await.unwrap();
    assert!(matches!(
        instances.changed().await,
        Err(DiscoverError::Closed)
    ));
}

#[tokio::test]
async fn a_service_whose_name_begins_alike_is_another_one() {
    let etcd = Etcd::start().await;
    let registry = registry(&etcd).await;
    let _other = publish(
        &registry,
        Instance::new("greeter-admin", "10.0.0.9:1").unwrap(),
    )
    .await;
    let _greeter = publish(&registry, greeter(1)).await;
    let instances = registry.discover("greeter").await.unwrap();
    assert_eq!(hosts(&instances.snapshot()), ["10.0.0.1"]);
}

#[tokio::test]
async fn values_that_are_no_instances_are_left_out_and_take_nothing_with_them() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let registry = registry(&etcd).await;
    let _publisher = publish(&registry, greeter(1)).await;
    put(&mut client, "greeter/bad", "garbage").await;
    let mut instances = registry.discover("greeter").await.unwrap();
    assert_eq!(hosts(&instances.snapshot()), ["10.0.0.1"]);

    let good = r#"{"id":"k","name":"greeter","metadata":null,"endpoints":["grpc://10.0.0.2:1"]}"#;
    put(&mut client, "greeter/k", good).await;
    wait_for(&mut instances, &["10.0.0.1", "10.0.0.2"]).await;
    put(
        &mut client,
        "greeter/k",
        r#"{"id":"k","name":"greeter","metadata":{"weight":1}}"#,
    )
    .await;
    put(
        &mut client,
        "greeter/l",
        &good.replace("10.0.0.2", "10.0.0.3"),
    )
    .await;
    wait_for(&mut instances, &["10.0.0.1", "10.0.0.2", "10.0.0.3"]).await;
}

#[tokio::test]
async fn history_compacted_while_etcd_was_away_leaves_nothing_out() {
    let mut etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let registry = registry(&etcd).await;
    for host in 1..=3 {
        let value =
            format!(r#"{{"id":"{host}","name":"greeter","endpoints":["grpc://10.0.0.{host}:1"]}}"#);
        put(&mut client, &format!("greeter/{host}"), &value).await;
    }
    let mut instances = registry.discover("greeter").await.unwrap();
    etcd.freeze();
    eventually(
        Duration::from_secs(15),
        "the watch is given up",
        async || match instances.staleness() {
            Some(_) => Ok(()),
            None => Err("fresh"),
        },
    )
    .await;
    assert_eq!(
        instances.snapshot().instances().len(),
        3,
        "the last snapshot stays"
    );
    etcd.thaw();
    // What the frozen etcd had in its sockets is not what the watch sees next.
    let mut client = etcd.client().await;
    client
        .delete("/microservices/greeter/1", None)
        .await
        .unwrap();
    let last = r#"{"id":"4","name":"greeter","endpoints":["grpc://10.0.0.4:1"]}"#;
    put(&mut client, "greeter/4", last).await;
    let revision = client
        .get("/", None)
        .await
        .unwrap()
        .header()
        .unwrap()
        .revision();
    client
        .compact(revision, Some(CompactionOptions::new().with_physical()))
        .await
        .unwrap();
    wait_for(&mut instances, &["10.0.0.2", "10.0.0.3", "10.0.0.4"]).await;
    eventually(SOON, "it is fresh again", async || {
        match instances.staleness() {
            None => Ok(()),
            Some(staleness) => Err(format!("{staleness:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn a_wiped_etcd_that_has_grown_past_the_old_one_is_seen_as_it_is() {
    let mut etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let registry = registry(&etcd).await;
    let value = |host| {
        format!(r#"{{"id":"{host}","name":"greeter","endpoints":["grpc://10.0.0.{host}:1"]}}"#)
    };
    put(&mut client, "greeter/1", &value(1)).await;
    put(&mut client, "greeter/2", &value(2)).await;
    let mut instances = registry.discover("greeter").await.unwrap();
    assert_eq!(instances.snapshot().instances().len(), 2);

    etcd.wipe_and_restart().await;
    let mut client = etcd.client().await;
    put(&mut client, "greeter/3", &value(3)).await;
    for _ in 0..20 {
        put(&mut client, "elsewhere", "").await;
    }
    // The put that the watch was opened at has two chances to come, 3 s apart.
    let found = Duration::from_secs(10);
    wait_for_within(found, &mut instances, &["10.0.0.1", "10.0.0.2", "10.0.0.3"]).await;
    assert!(instances.staleness().is_some(), "two are carried over");
    wait_for_within(GRACE + SOON, &mut instances, &["10.0.0.3"]).await;
    assert!(instances.staleness().is_none());
}

#[tokio::test]
async fn a_name_that_is_none_is_refused() {
    let etcd = Etcd::start().await;
    let registry = registry(&etcd).await;
    assert!(matches!(
        registry.discover("a/b").await,
        Err(DiscoverError::Name(_))
    ));
    let error = registry.dial("a/b").connect().await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("invalid service name: \"a/b\""), "{text}");
}

#[tokio::test]
async fn a_service_without_servers_is_said_to_have_none() {
    let etcd = Etcd::start().await;
    let error = registry(&etcd)
        .await
        .dial("greeter")
        .connect()
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("greeter") && text.contains("no endpoints"),
        "{text}"
    );
}

#[tokio::test]
async fn a_channel_outlives_the_handle_it_was_dialed_with_and_knows_when_etcd_is_away() {
    let mut etcd = Etcd::start().await;
    let target = format!("etcd://{}/greeter", etcd.endpoint());
    let channel = switchboard::dial(&target).unwrap().connect_lazy().unwrap();
    let registry = registry(&etcd).await;
    let _publisher = publish(&registry, greeter(1)).await;
    let mut state = channel.watch_state();
    let found =
        state.wait_for(|state| state.endpoints.len() == 1 && state.source == SourceState::Fresh);
    tokio::time::timeout(SOON, found)
        .await
        .expect("it is found")
        .unwrap();

    etcd.kill().await;
    let stale = state.wait_for(|state| matches!(state.source, SourceState::Stale { .. }));
    let state = tokio::time::timeout(SOON, stale)
        .await
        .expect("it is stale")
        .unwrap();
    assert_eq!(state.endpoints.len(), 1, "the last snapshot stays");
}

#[tokio::test]
async fn dialed_after_its_registry_was_closed_a_channel_says_so_at_once() {
    let etcd = Etcd::start().await;
    let registry = registry(&etcd).await;
    registry.clone().close().await;
    let connected = tokio::time::timeout(SOON, registry.dial("greeter").connect()).await;
    let error = connected.expect("in time").unwrap_err();
    assert!(error.to_string().contains("ended"), "{error}");
    assert!(registry.discover("greeter").await.is_err());
}

#[tokio::test]
async fn an_etcd_that_is_not_there_is_named() {
    let error = Registry::connect("127.0.0.1:1").await.unwrap_err();
    assert_eq!(error.to_string(), "cannot reach etcd: 127.0.0.1:1");
    let RegistryError::Unreachable { cause, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(cause.to_string().contains("127.0.0.1:1"), "{cause:?}");
    assert!(matches!(
        Registry::connect("greeter").await,
        Err(RegistryError::Target(_))
    ));
    for millis in [1_999, 2_500] {
        let builder = Registry::builder("127.0.0.1:1")
            .unwrap()
            .ttl(Duration::from_millis(millis));
        assert!(matches!(builder.connect_lazy(), Err(RegistryError::Ttl(_))));
    }
}

#[tokio::test]
async fn ten_thousand_and_one_instances_are_found() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let mut puts = tokio::task::JoinSet::new();
    for worker in 0..32u32 {
        let mut client = etcd.client().await;
        puts.spawn(async move {
            for id in (worker..10_001).step_by(32) {
                let value = format!(
                    r#"{{"id":"{id}","name":"greeter","endpoints":["grpc://10.0.0.1:1"]}}"#
                );
                put(&mut client, &format!("greeter/{id}"), &value).await;
            }
        });
    }
    puts.join_all().await;
    let mut instances = registry(&etcd).await.discover("greeter").await.unwrap();
    assert_eq!(instances.snapshot().instances().len(), 10_001);
    client
        .delete(
            "/microservices/greeter/",
            Some(DeleteOptions::new().with_prefix()),
        )
        .await
        .unwrap();
    wait_for(&mut instances, &[]).await;
}
