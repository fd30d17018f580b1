//! What a publisher does to etcd, seen from outside with a client of etcd's own protocol.

use std::{collections::BTreeMap, time::Duration};

use etcd_client::{Client, GetOptions, PutOptions, WatchOptions};
use switchboard::{Instance, InstanceId, PublicationStatus, PublishError, Publisher, Registry};
use switchboard_test_support::{Etcd, eventually};

const PREFIX: &str = "/microservices/";
const SOON: Duration = Duration::from_secs(5);

async fn registry(etcd: &Etcd) -> Registry {
    let builder = Registry::builder(etcd.endpoint()).expect("a target");
    builder
        .ttl(Duration::from_secs(2))
        .connect()
        .await
        .expect("etcd is there")
}

fn greeter() -> Instance {
    Instance::new("greeter", "10.0.0.1:50051").expect("an instance")
}

async fn publish(registry: &Registry, instance: Instance) -> Publisher {
    let publisher = registry.publish(instance).expect("it can be published");
    publisher.published().await.expect("etcd takes it");
    publisher
}

/// A record as it lies in etcd.
#[derive(Debug, Clone, PartialEq)]
struct Found {
    value: serde_json::Value,
    lease: i64,
    revision: i64,
}

async fn records(etcd: &mut Client) -> BTreeMap<String, Found> {
    let found = etcd
        .get(PREFIX, Some(GetOptions::new().with_prefix()))
        .await
        .expect("etcd answers");
    let records = found.kvs().iter().map(|kv| {
        let value = serde_json::from_slice(kv.value()).expect("kratos' JSON");
        let found = Found {
            value,
            lease: kv.lease(),
            revision: kv.mod_revision(),
        };
        (kv.key_str().expect("UTF-8").to_owned(), found)
    });
    records.collect()
}

async fn only_record(etcd: &mut Client) -> (String, Found) {
    let records = records(etcd).await;
    assert_eq!(records.len(), 1, "{records:?}");
    records.into_iter().next().expect("the one")
}

async fn wait_for(publisher: &Publisher, what: &str, fits: impl Fn(&PublicationStatus) -> bool) {
    eventually(SOON, what, async || {
        match publisher.status().borrow().clone() {
            status if fits(&status) => Ok(()),
            status => Err(format!("{status:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn publishing_is_one_key_of_kratos_layout_under_the_registrys_one_lease() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let registry = registry(&etcd).await;
    let publisher = publish(
        &registry,
        greeter().with_version("v1").with_metadata("zone", "b"),
    )
    .await;
    let other = publish(&registry, Instance::new("other", "10.0.0.1:50052").unwrap()).await;

    let records = records(&mut client).await;
    let id = greeter().id().to_string();
    let found = &records[&format!("{PREFIX}greeter/{id}")];
    let expected = serde_json::json!({
        "id": id, "name": "greeter", "version": "v1",
        "metadata": {"zone": "b"}, "endpoints": ["grpc://10.0.0.1:50051"],
    });
    assert_eq!(found.value, expected);
    let leases = client.leases().await.unwrap();
    let leases: Vec<_> = leases.leases().iter().map(|lease| lease.id()).collect();
    assert_eq!(leases, [found.lease]);
    assert!(
        records.values().all(|record| record.lease == found.lease),
        "{records:?}"
    );
    drop((publisher, other));
}

#[tokio::test]
async fn paused_the_key_is_gone_and_resumed_it_is_back_under_the_same_lease() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let publisher = publish(&registry(&etcd).await, greeter()).await;
    let (key, before) = only_record(&mut client).await;

    publisher.pause().await.unwrap();
    assert!(records(&mut client).await.is_empty());
    assert!(matches!(
        *publisher.status().borrow(),
        PublicationStatus::Paused
    ));
    publisher
        .pause()
        .await
        .expect("pausing twice is pausing once");

    publisher.resume().await.unwrap();
    let (again, after) = only_record(&mut client).await;
    assert_eq!(
        (again, after.value, after.lease),
        (key, before.value, before.lease)
    );
}

#[tokio::test]
async fn an_update_changes_the_value_in_place() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let publisher = publish(&registry(&etcd).await, greeter()).await;
    let (key, before) = only_record(&mut client).await;
    publisher
        .update(greeter().with_metadata("weight", "7"))
        .await
        .unwrap();
    let (again, after) = only_record(&mut client).await;
    assert_eq!((again, after.lease), (key, before.lease));
    assert_eq!(after.value["metadata"]["weight"], "7");
}

#[tokio::test]
async fn an_update_that_moves_the_server_moves_the_key_in_one_revision() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let publisher = publish(&registry(&etcd).await, greeter()).await;
    let (old, before) = only_record(&mut client).await;
    let from = WatchOptions::new()
        .with_prefix()
        .with_start_revision(before.revision + 1);
    let mut watch = client.watch(PREFIX, Some(from)).await.unwrap();

    publisher
        .update(Instance::new("greeter", "10.0.0.2:50051").unwrap())
        .await
        .unwrap();
    let (new, after) = only_record(&mut client).await;
    assert_ne!(old, new);
    let mut events = Vec::new();
    while events.len() < 2 {
        let message = watch.message().await.unwrap().expect("the watch goes on");
        events.extend(
            message
                .events()
                .iter()
                .map(|event| event.kv().unwrap().mod_revision()),
        );
    }
    assert_eq!(
        events,
        [after.revision, after.revision],
        "never two keys, never none"
    );
}

#[tokio::test]
async fn stopped_the_key_is_gone_when_it_returns_and_closed_the_lease_is_too() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let registry = registry(&etcd).await;
    let stopped = publish(&registry, greeter()).await;
    let kept = publish(
        &registry,
        Instance::new("greeter", "10.0.0.2:50051").unwrap(),
    )
    .await;
    let mut status = stopped.status();

    stopped.stop().await.unwrap();
    let (_, left) = only_record(&mut client).await;
    assert_eq!(left.value["endpoints"][0], "grpc://10.0.0.2:50051");
    status
        .wait_for(|status| matches!(status, PublicationStatus::Stopped))
        .await
        .unwrap();

    registry.close().await;
    assert!(records(&mut client).await.is_empty());
    assert!(client.leases().await.unwrap().leases().is_empty());
    assert!(matches!(
        kept.published().await,
        Err(PublishError::Stopped { .. })
    ));
    assert!(matches!(
        kept.resume().await,
        Err(PublishError::Stopped { .. })
    ));
}

#[tokio::test]
async fn dropped_without_a_stop_the_key_goes_all_the_same() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let registry = registry(&etcd).await;
    drop(publish(&registry, greeter()).await);
    // Sooner than its lease would end it.
    eventually(
        Duration::from_secs(1),
        "the key is gone",
        async || match records(&mut client).await {
            records if records.is_empty() => Ok(()),
            records => Err(format!("{records:?}")),
        },
    )
    .await;
}

#[tokio::test]
async fn what_cannot_be_dialed_or_does_not_fit_is_refused_before_anything_is_written() {
    let etcd = Etcd::start().await;
    let registry = registry(&etcd).await;
    let publisher = publish(&registry, greeter()).await;
    let wrong = Instance::new("other", "10.0.0.1:50051").unwrap();
    let refused = publisher.update(wrong).await.unwrap_err().to_string();
    assert_eq!(refused, "another service: other (expected: greeter)");
    let unspecified = greeter().with_origin("http://0.0.0.0:80".parse().unwrap());
    let refused = registry.publish(unspecified).unwrap_err().to_string();
    assert!(
        refused.contains("0.0.0.0:80") && refused.contains("expected: "),
        "{refused}"
    );
    let (_, record) = only_record(&mut etcd.client().await).await;
    assert_eq!(record.value["endpoints"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_deleted_key_and_a_spoiled_one_are_back_within_a_second() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let _publisher = publish(&registry(&etcd).await, greeter()).await;
    let (key, before) = only_record(&mut client).await;
    let is_back = async |client: &mut Client| {
        eventually(Duration::from_secs(1), "the record is back", async || {
            let found = client.get(key.as_str(), None).await.unwrap();
            match found.kvs().first() {
                Some(kv) if kv.lease() == before.lease && kv.value() != b"garbage" => Ok(()),
                seen => Err(format!("{seen:?}")),
            }
        })
        .await;
    };
    client.delete(key.as_str(), None).await.unwrap();
    is_back(&mut client).await;
    client.put(key.as_str(), "garbage", None).await.unwrap();
    is_back(&mut client).await;
    client
        .put(
            key.as_str(),
            "garbage",
            Some(PutOptions::new().with_ignore_lease()),
        )
        .await
        .unwrap();
    is_back(&mut client).await;
}

#[tokio::test]
async fn a_revoked_lease_is_replaced_and_the_key_is_back() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let publisher = publish(&registry(&etcd).await, greeter()).await;
    let (key, before) = only_record(&mut client).await;
    client.lease_revoke(before.lease).await.unwrap();
    let is_back = |status: &PublicationStatus| matches!(status, PublicationStatus::Published { lease, .. } if *lease != before.lease);
    wait_for(&publisher, "it is published under another lease", is_back).await;
    let (again, after) = only_record(&mut client).await;
    assert_eq!((again, after.value), (key, before.value));
}

#[tokio::test]
async fn the_newer_one_of_two_with_one_identity_has_the_key_and_the_older_says_so() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let (first, second) = (registry(&etcd).await, registry(&etcd).await);
    let older = publish(&first, greeter().with_version("old")).await;
    let newer = publish(&second, greeter().with_version("new")).await;
    let is_superseded =
        |status: &PublicationStatus| matches!(status, PublicationStatus::Superseded);
    wait_for(&older, "the older one gives way", is_superseded).await;
    assert!(matches!(
        older.published().await,
        Err(PublishError::Superseded { .. })
    ));
    let (_, record) = only_record(&mut client).await;
    assert_eq!(record.value["version"], "new");

    // No ping-pong: the key is as it was, until the newer one leaves.
    let is_published =
        |status: &PublicationStatus| matches!(status, PublicationStatus::Published { .. });
    assert_eq!(only_record(&mut client).await.1, record);
    newer.stop().await.unwrap();
    wait_for(&older, "the older one is back", is_published).await;
    assert_eq!(only_record(&mut client).await.1.value["version"], "old");
}

#[tokio::test]
async fn a_given_id_that_another_server_has_is_refused() {
    let etcd = Etcd::start().await;
    let registry = registry(&etcd).await;
    let id: InstanceId = "one".parse().unwrap();
    let first = publish(&registry, greeter().with_id(id.clone())).await;
    let other = Instance::new("greeter", "10.0.0.2:50051")
        .unwrap()
        .with_id(id);
    let elsewhere = self::registry(&etcd).await;
    let refused = elsewhere.publish(other).unwrap();
    let error = refused.published().await.unwrap_err();
    assert!(
        matches!(&error, PublishError::IdTaken { key } if key.ends_with("/greeter/one")),
        "{error:?}"
    );
    assert!(matches!(
        &*first.status().borrow(),
        PublicationStatus::Published { .. }
    ));
}

#[tokio::test]
async fn without_etcd_a_publication_says_why_and_stands_when_etcd_comes() {
    let mut etcd = Etcd::start().await;
    etcd.kill().await;
    let registry = Registry::builder(etcd.endpoint())
        .unwrap()
        .connect_lazy()
        .unwrap();
    let publisher = registry.publish(greeter()).unwrap();
    let is_retrying =
        |status: &PublicationStatus| matches!(status, PublicationStatus::Retrying { .. });
    wait_for(&publisher, "it says why", is_retrying).await;
    let PublicationStatus::Retrying { cause } = publisher.status().borrow().clone() else {
        unreachable!()
    };
    let reason = std::error::Error::source(&*cause)
        .expect("a reason")
        .to_string();
    assert!(reason.contains(etcd.endpoint()), "{cause}: {reason}");
    etcd.restart().await;
    tokio::time::timeout(Duration::from_secs(3), publisher.published())
        .await
        .expect("in time")
        .unwrap();
}

#[tokio::test]
async fn etcd_wiped_the_record_is_back_within_three_seconds() {
    let mut etcd = Etcd::start().await;
    let publisher = publish(&registry(&etcd).await, greeter()).await;
    let before = only_record(&mut etcd.client().await).await;
    etcd.wipe_and_restart().await;
    let mut client = etcd.client().await;
    let what = "the record is back";
    let after = eventually(Duration::from_secs(3), what, async || {
        match records(&mut client).await {
            records if records.len() == 1 => Ok(records.into_iter().next().unwrap()),
            records => Err(format!("{records:?}")),
        }
    })
    .await;
    assert_eq!((after.0, after.1.value), (before.0, before.1.value));
    drop(publisher);
}

#[tokio::test]
async fn a_watch_that_breaks_after_a_compaction_is_opened_again_once() {
    let mut etcd = Etcd::start().await;
    let registry = registry(&etcd).await;
    let publisher = publish(&registry, greeter()).await;
    let mut client = etcd.client().await;
    for _ in 0..3 {
        client.put("/else", "", None).await.unwrap();
    }
    let revision = client.get("/else", None).await.unwrap();
    let revision = revision.header().unwrap().revision();
    client.compact(revision, None).await.unwrap();

    let mut status = publisher.status();
    status.mark_unchanged();
    etcd.restart().await;
    let is_published =
        |status: &PublicationStatus| matches!(status, PublicationStatus::Published { .. });
    status.changed().await.unwrap();
    status.wait_for(is_published).await.unwrap();
    // The lease, renewed at the same time, may yet have something to say.
    let mut changes = 0;
    let watched = async {
        while status.changed().await.is_ok() {
            changes += 1;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), watched).await;
    assert!(changes <= 2, "the status changed {changes} times in 2 s");
}

#[tokio::test]
async fn the_newer_one_of_two_in_one_registry_has_the_key_until_it_stops() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let registry = registry(&etcd).await;
    let older = publish(&registry, greeter().with_version("old")).await;
    let newer = publish(&registry, greeter().with_version("new")).await;
    let is_superseded =
        |status: &PublicationStatus| matches!(status, PublicationStatus::Superseded);
    wait_for(&older, "the older one gives way", is_superseded).await;
    let (_, record) = only_record(&mut client).await;
    assert_eq!(record.value["version"], "new");

    // Whatever the older one is told, it leaves the key alone.
    client.put("a sentinel", "", None).await.unwrap();
    let update = older.update(greeter().with_version("older")).await;
    assert!(
        matches!(update, Err(PublishError::Superseded { .. })),
        "{update:?}"
    );
    assert_eq!(only_record(&mut client).await.1, record);

    newer.stop().await.unwrap();
    older.published().await.unwrap();
    let version = only_record(&mut client).await.1.value["version"].clone();
    assert_eq!(version, "older");
    let third = publish(&registry, greeter().with_version("third")).await;
    older.stop().await.unwrap();
    let version = only_record(&mut client).await.1.value["version"].clone();
    assert_eq!(
        version, "third",
        "what stops takes nothing of others with it"
    );
    drop(third);
}

#[tokio::test]
async fn a_given_id_that_another_server_of_the_registry_has_is_refused() {
    let etcd = Etcd::start().await;
    let registry = registry(&etcd).await;
    let id: InstanceId = "one".parse().unwrap();
    let first = publish(&registry, greeter().with_id(id.clone())).await;
    let other = Instance::new("greeter", "10.0.0.2:50051").unwrap();
    let refused = registry.publish(other.with_id(id)).unwrap();
    let error = refused.published().await.unwrap_err();
    assert!(matches!(error, PublishError::IdTaken { .. }), "{error:?}");
    first.stop().await.unwrap();
    let is_published =
        |status: &PublicationStatus| matches!(status, PublicationStatus::Published { .. });
    wait_for(&refused, "the id is free", is_published).await;
}

#[tokio::test]
async fn a_stop_that_etcd_does_not_confirm_is_an_error_also_while_the_registry_closes() {
    let mut etcd = Etcd::start().await;
    let registry = registry(&etcd).await;
    let publisher = publish(&registry, greeter()).await;
    etcd.kill().await;
    registry.close().await;
    publisher
        .stop()
        .await
        .expect_err("nobody knows whether the key is gone");
}

#[tokio::test]
async fn resumed_a_publication_is_the_newest_again_also_if_its_pause_was_not_done() {
    let mut etcd = Etcd::start().await;
    let registry = registry(&etcd).await;
    let older = publish(&registry, greeter().with_version("older")).await;
    etcd.freeze();
    let given_up = tokio::time::timeout(Duration::from_millis(50), older.pause()).await;
    given_up.expect_err("etcd is frozen");
    let newer = registry.publish(greeter().with_version("newer")).unwrap();
    let given_up = tokio::time::timeout(Duration::from_millis(50), older.resume()).await;
    given_up.expect_err("etcd is frozen");
    etcd.thaw();
    let is_published =
        |status: &PublicationStatus| matches!(status, PublicationStatus::Published { .. });
    let is_superseded =
        |status: &PublicationStatus| matches!(status, PublicationStatus::Superseded);
    wait_for(&newer, "the one that came before gives way", is_superseded).await;
    wait_for(&older, "the newest has the key", is_published).await;
    let version = only_record(&mut etcd.client().await).await.1.value["version"].clone();
    assert_eq!(version, "older");
}
