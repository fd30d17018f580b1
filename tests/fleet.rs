//! One process that publishes very much.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

use std::{collections::BTreeSet, time::Duration};

use etcd_client::{Client, EventType, GetOptions, WatchOptions};
use switchboard::{Instance, PublicationStatus, Publisher, Registry};
use switchboard_test_support::Etcd;
use tokio::time::Instant;

const PUBLICATIONS: u16 = 2_000;
const PREFIX: &str = "/microservices/";

async fn publish_all(registry: &Registry) -> Vec<Publisher> {
    let instance = |port| Instance::new(format!("s{port}"), format!("10.0.0.1:{port}")).unwrap();
    let publishers: Vec<_> = (1..=PUBLICATIONS)
        .map(|port| registry.publish(instance(port)).unwrap())
        .collect();
    for publisher in &publishers {
        publisher.published().await.unwrap();
    }
    publishers
}

fn lease(publisher: &Publisher) -> i64 {
    match *publisher.status().borrow() {
        PublicationStatus::Published { lease, .. } => lease,
        ref status => panic!("{status:?}"),
    }
}

/// Returns the keys, each with its lease.
async fn keys(client: &mut Client) -> BTreeSet<(Vec<u8>, i64)> {
    let options = GetOptions::new().with_prefix().with_keys_only();
    let found = client.get(PREFIX, Some(options)).await.unwrap();
    let keys = found.kvs().iter().map(|kv| (kv.key().to_vec(), kv.lease()));
    keys.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_publications_survive_a_lost_lease() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let registry = Registry::connect(etcd.endpoint()).await.unwrap();
    let publishers = publish_all(&registry).await;
    let before = keys(&mut client).await;
    assert_eq!(before.len(), usize::from(PUBLICATIONS));
    let lost = lease(&publishers[0]);

    let mut watch = client
        .watch(PREFIX, Some(WatchOptions::new().with_prefix()))
        .await
        .unwrap();
    let begin = Instant::now();
    client.lease_revoke(lost).await.unwrap();
    let mut back = Vec::new();
    while back.len() < publishers.len() {
        let message = tokio::time::timeout(Duration::from_secs(2), watch.message());
        let message = message.await.expect("they come").unwrap().unwrap();
        let puts = message
            .events()
            .iter()
            .filter(|event| event.event_type() == EventType::Put);
        back.extend(puts.map(|_| begin.elapsed()));
    }
    let (first, last) = (back[0], back[back.len() - 1]);
    println!("{} keys were back after {first:?} to {last:?}", back.len());
    assert!(last <= Duration::from_secs(2), "back only after {last:?}");

    let after = keys(&mut client).await;
    let names =
        |keys: &BTreeSet<(Vec<u8>, i64)>| Vec::from_iter(keys.iter().map(|(key, _)| key.clone()));
    assert_eq!(names(&before), names(&after));
    let leases: BTreeSet<_> = after.iter().map(|(_, lease)| lease).collect();
    assert!(leases.len() == 1 && !leases.contains(&lost), "{leases:?}");
}
