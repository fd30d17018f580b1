//! An etcd that was restored from a backup: what was written since is gone, and what was taken away since stands
//! again, under a lease that is alive and that its process would go on renewing.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

use std::time::Duration;

use etcd_client::{GetOptions, PutOptions};
use switchboard::{
    Instance, PublicationStatus, Publisher, Registry,
    coordination::{Lock, Lost},
};
use switchboard_test_support::{Cluster, ClusterSettings, Release, eventually};
use tokio::time::timeout;

const TTL: Duration = Duration::from_secs(3);

/// By when what nobody wants has gone, and all else stands: a restored etcd gives its leases their whole time again,
/// and one is renewed once more until its history is known to have gone back.
const GONE: Duration = Duration::from_secs(15);

/// By when what is wanted is there, under another lease.
const AGAIN: Duration = Duration::from_secs(3);

/// An etcd, and a process's worth of registry.
struct Scene {
    cluster: Cluster,
    registry: Registry,
}

impl Scene {
    async fn begin() -> Self {
        let cluster = Cluster::start(Release::Found, ClusterSettings::new(1)).await;
        let cluster = cluster.unwrap();
        let registry = Registry::builder(cluster.endpoints().as_str()).unwrap();
        let registry = registry.ttl(TTL).connect().await.unwrap();
        Self { cluster, registry }
    }

    async fn publish(&self, address: &str) -> Publisher {
        let instance = Instance::new("greeter", address).unwrap();
        let publisher = self.registry.publish(instance).unwrap();
        published(&publisher).await;
        publisher
    }

    /// Returns the keys that there are, each with its lease.
    async fn keys(&self) -> Vec<(String, i64)> {
        let all = Some(GetOptions::new().with_all_keys());
        let found = self.cluster.client(0).await.get("", all).await.unwrap();
        let keys = found.kvs().iter();
        keys.map(|kv| (kv.key_str().unwrap().to_owned(), kv.lease()))
            .collect()
    }

    /// Waits until there are so many keys, all of them under the lease that the registry has.
    async fn holds(&self, expected: usize) {
        eventually(GONE, "etcd holds what is wanted", async || {
            let (keys, lease) = (self.keys().await, self.lease().await);
            let is_ours = keys.iter().all(|(_, of)| *of == lease);
            match keys.len() == expected && is_ours {
                true => Ok(()),
                false => Err(format!("{keys:?} (expected: {expected} under {lease})")),
            }
        })
        .await;
    }

    /// Waits until so many keys are under another lease than this one.
    async fn stands(&self, expected: usize, before: i64) {
        eventually(AGAIN, "what is wanted stands", async || {
            let keys = self.keys().await;
            let again = keys.iter().filter(|(_, of)| *of != before).count();
            (again == expected).then_some(()).ok_or(format!("{keys:?}"))
        })
        .await;
    }

    async fn lease(&self) -> i64 {
        let tenure = timeout(GONE, self.registry.keys().tenure()).await;
        tenure.unwrap().unwrap().lease()
    }
}

async fn published(publisher: &Publisher) {
    let mut status = publisher.status();
    let is_published = |it: &PublicationStatus| matches!(it, PublicationStatus::Published { .. });
    let published = timeout(GONE, status.wait_for(is_published)).await;
    published.unwrap().unwrap();
}

#[tokio::test]
async fn what_was_paused_moved_or_stopped_since_the_backup_goes_and_what_is_wanted_stands() {
    let mut scene = Scene::begin().await;
    let paused = scene.publish("10.0.0.1:1").await;
    let moved = scene.publish("10.0.0.2:1").await;
    let stopped = scene.publish("10.0.0.3:1").await;
    let _unchanged = scene.publish("10.0.0.4:1").await;
    let before = scene.lease().await;
    let backup = scene.cluster.back_up().await;
    scene.holds(4).await;

    paused.pause().await.unwrap();
    let elsewhere = Instance::new("greeter", "10.0.0.2:2").unwrap();
    moved.update(elsewhere).await.unwrap();
    stopped.stop().await.unwrap();
    scene.holds(2).await;
    scene.cluster.restore(&backup).await;

    scene.stands(2, before).await;
    scene.holds(2).await;
    assert_ne!(scene.lease().await, before);
    assert!(matches!(
        *paused.status().borrow(),
        PublicationStatus::Paused
    ));
    published(&moved).await;
    paused.resume().await.unwrap();
    scene.holds(3).await;
}

#[tokio::test]
async fn a_lock_that_was_given_back_since_the_backup_can_be_had_and_one_that_is_held_is_lost() {
    let mut scene = Scene::begin().await;
    let lock = |name: &str| Lock::new(&scene.registry, name).unwrap();
    let (given_back, held) = (lock("/given-back"), lock("/held"));
    let guard = given_back.lock().await.unwrap();
    let kept = held.lock().await.unwrap();
    let backup = scene.cluster.back_up().await;
    eventually(GONE, "etcd is back", async || {
        scene.cluster.client(0).await.get("/", None).await
    })
    .await;

    guard.unlock().await.unwrap();
    scene.cluster.restore(&backup).await;

    let lost = timeout(GONE, kept.lost()).await;
    assert_eq!(lost.unwrap(), Lost::Lease);
    for lock in [given_back, held] {
        let guard = timeout(GONE, lock.lock()).await.unwrap().unwrap();
        guard.unlock().await.unwrap();
    }
}

/// A restart alone, which elects a leader as the start of a backup does, costs no lease.
#[tokio::test]
async fn an_etcd_that_is_restarted_with_its_data_keeps_the_lease() {
    let mut scene = Scene::begin().await;
    let _publisher = scene.publish("10.0.0.1:1").await;
    let before = scene.lease().await;
    for number in 0..3 {
        let mut client = scene.cluster.client(0).await;
        let options = PutOptions::new().with_lease(before);
        client
            .put(format!("/{number}"), "", Some(options))
            .await
            .unwrap();
        scene.cluster.restart(0).await;
        scene.holds(number + 2).await;
        assert_eq!(scene.lease().await, before);
    }
}
