//! An etcd of several members, of which one is silent or all are far away, as a registry meets it.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

use std::time::Duration;

use switchboard::{Instance, Publisher, Registry};
use switchboard_embedded::{EmbeddedEtcd, Network};
use tokio::time::{sleep, timeout};

const MEMBERS: [&str; 3] = ["one:2379", "two:2379", "three:2379"];

/// How long a lease is looked at.
const LONG: Duration = Duration::from_secs(60);

/// An etcd, and the network between it and a registry.
struct Scene {
    _etcd: EmbeddedEtcd,
    network: Network,
    registry: Registry,
}

impl Scene {
    async fn with_ttl(ttl: Duration) -> Self {
        let (etcd, network) = (EmbeddedEtcd::start(), Network::new());
        for member in MEMBERS {
            etcd.serve(network.listen(member).unwrap());
        }
        let registry = Registry::builder(MEMBERS.join(",").as_str()).unwrap();
        let registry = registry.connector(network.connector("us")).ttl(ttl);
        Self {
            registry: registry.connect().await.unwrap(),
            _etcd: etcd,
            network,
        }
    }

    async fn publish(&self) -> Publisher {
        let instance = Instance::new("greeter", "10.0.0.1:1").unwrap();
        let publisher = self.registry.publish(instance).unwrap();
        publisher.published().await.unwrap();
        publisher
    }

    /// Makes each way to etcd that long, and each way back.
    fn delay(&self, delay: Duration) {
        for member in MEMBERS {
            self.network.link("us", member).delay(delay);
        }
    }
}

/// A member is cut off at any moment between two renewals, and a renewal that meets it leaves time for another.
#[tokio::test(start_paused = true)]
async fn a_lease_outlives_a_member_that_falls_silent() {
    for ttl in [2, 3, 5, 10].map(Duration::from_secs) {
        for moment in 0..12 {
            for delay in [0, 50].map(Duration::from_millis) {
                let scene = Scene::with_ttl(ttl).await;
                let _publisher = scene.publish().await;
                scene.delay(delay);
                let tenure = scene.registry.keys().tenure().await.unwrap();
                sleep(2 * ttl + moment * ttl / 36).await;
                let silent = MEMBERS[moment as usize % 3];
                scene.network.link("us", silent).cut();
                let ended = timeout(LONG, tenure.ended()).await;
                assert!(ended.is_err(), "{ttl:?}, {silent} at {moment}, {delay:?}");
            }
        }
    }
}

/// A renewal has half of what is left of its lease, so that takes as long as a way there and back, and no two.
#[tokio::test(start_paused = true)]
async fn a_lease_outlives_a_way_that_is_slow() {
    for (ttl, delay) in [(2, 300), (3, 450), (5, 700), (10, 950)] {
        let scene = Scene::with_ttl(Duration::from_secs(ttl)).await;
        let _publisher = scene.publish().await;
        let tenure = scene.registry.keys().tenure().await.unwrap();
        scene.delay(Duration::from_millis(delay));
        let ended = timeout(LONG, tenure.ended()).await;
        assert!(ended.is_err(), "{ttl} s, {delay} ms each way");
    }
}

/// Whoever asks first meets the member that has fallen silent, one time in three.
#[tokio::test(start_paused = true)]
async fn lists_come_from_another_member_where_one_has_fallen_silent() {
    for asked_before in 0..6 {
        let scene = Scene::with_ttl(Duration::from_secs(10)).await;
        let _publisher = scene.publish().await;
        for _ in 0..asked_before {
            scene.registry.services().await.unwrap();
        }
        scene.network.link("us", MEMBERS[0]).cut();
        let services = scene.registry.services().await.unwrap();
        assert_eq!(services.len(), 1);
    }
}
