//! A channel's configuration in a key of etcd, and in its target: etcd in memory, on a paused clock.

#![allow(clippy::unwrap_used, reason = "a test's own helpers")]

use std::{sync::Arc, time::Duration};

use switchboard::{Channel, ChannelState, Condition, Instance, Publisher, Registry};
use switchboard_embedded::{EmbeddedEtcd, Network};
use switchboard_registry::keys::{Operation, Transaction};
use tokio::time::{sleep, timeout};

/// Longer than anything here takes on a clock that nobody waits for.
const SOON: Duration = Duration::from_secs(60);
const KEY: &str = "/switchboard/service-configs/greeter";
const GOOD: &str = r#"{"loadBalancingConfig": [{"least_request": {}}]}"#;

struct World {
    _etcd: EmbeddedEtcd,
    network: Network,
    registry: Registry,
    /// Whoever writes configurations.
    operator: Registry,
}

impl World {
    async fn new() -> Self {
        let (etcd, network) = (EmbeddedEtcd::start(), Network::new());
        etcd.serve(network.listen("etcd:2379").unwrap());
        let registry = async |party: &str| {
            let registry = Registry::builder("etcd:2379").unwrap();
            let registry = registry.connector(network.connector(party));
            registry.connect().await.unwrap()
        };
        Self {
            registry: registry("client").await,
            operator: registry("operator").await,
            _etcd: etcd,
            network,
        }
    }

    async fn publish(&self, address: &str, version: &str) -> Publisher {
        let instance = Instance::new("greeter", address).unwrap();
        let publisher = self.registry.publish(instance.with_version(version));
        let publisher = publisher.unwrap();
        publisher.published().await.unwrap();
        publisher
    }

    async fn put(&self, value: impl Into<Vec<u8>>) {
        self.commit(Operation::put(KEY, value, None)).await;
    }

    async fn commit(&self, operation: Operation) {
        let transaction = Transaction::new().then(operation);
        self.operator.keys().commit(transaction).await.unwrap();
    }

    fn dial(&self, target: &str) -> Channel {
        let channel = self.registry.dial_target(target).unwrap();
        let channel = channel.connector(self.network.connector("client"));
        channel.connect_lazy().unwrap()
    }
}

async fn until(channel: &Channel, is_so: impl Fn(&ChannelState) -> bool) -> Arc<ChannelState> {
    let mut states = channel.watch_state();
    let state = timeout(SOON, states.wait_for(|state| is_so(state)));
    state.await.expect("in time").unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn a_key_s_last_good_value_is_in_force_whatever_becomes_of_the_key() {
    let world = World::new().await;
    let channel = world.dial(&format!("etcd:///greeter?config={KEY}"));
    let state = until(&channel, |_| true).await;
    assert_eq!(state.config.policy, "round_robin");
    assert_eq!(state.config.adopted, None);

    world.put(GOOD).await;
    let state = until(&channel, |it| it.config.adopted.is_some()).await;
    assert_eq!(state.config.adopted.as_deref(), Some(GOOD));
    assert_eq!(state.config.policy, "least_request");

    let bad: [&[u8]; 4] = [
        br#"{"loadBalancingConfig": [{"fastest": {}}]}"#,
        br#"{"loadBalancingConfig": "least_request"}"#,
        b"",
        b"{\"filter\": {\"match\": {\"tier\": \"\xff\"}}}",
    ];
    let mut last = None;
    for value in bad {
        world.put(value).await;
        let is_new = |it: &ChannelState| it.config.rejected.is_some() && it.config.rejected != last;
        let state = until(&channel, is_new).await;
        assert_eq!(state.config.adopted.as_deref(), Some(GOOD), "{value:?}");
        assert_eq!(state.config.policy, "least_request", "{value:?}");
        last = state.config.rejected.clone();
    }

    // A good one ends the complaint; without the key the channel is as it was built.
    world.put("{}").await;
    let state = until(&channel, |it| it.config.rejected.is_none()).await;
    assert_eq!(state.config.policy, "round_robin");
    world.put(GOOD).await;
    until(&channel, |it| it.config.policy == "least_request").await;
    world.commit(Operation::delete(KEY)).await;
    let state = until(&channel, |it| it.config.adopted.is_none()).await;
    assert_eq!(state.config.policy, "round_robin");
    channel.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_configuration_outlives_etcd_s_absence_and_follows_it_when_it_is_back() {
    let world = World::new().await;
    world.put(GOOD).await;
    let channel = world.dial(&format!("etcd:///greeter?config={KEY}"));
    until(&channel, |it| it.config.policy == "least_request").await;
    world.network.link("client", "etcd:2379").cut();
    let mut states = channel.watch_state();
    let changed = states.wait_for(|it| it.config.policy != "least_request");
    assert!(timeout(10 * SOON, changed).await.is_err(), "it stays");
    world.network.link("client", "etcd:2379").heal();
    world.put("{}").await;
    until(&channel, |it| it.config.policy == "round_robin").await;
    channel.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_closed_leaves_the_last_configuration_in_force() {
    let world = World::new().await;
    world.put(GOOD).await;
    let channel = world.dial(&format!("etcd:///greeter?config={KEY}"));
    until(&channel, |it| it.config.policy == "least_request").await;
    world.registry.close().await;
    sleep(SOON).await;
    assert_eq!(channel.state().config.policy, "least_request");
    channel.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_says_who_is_called() {
    let world = World::new().await;
    let _published = [
        world.publish("10.0.0.1:50051", "v1").await,
        world.publish("10.0.0.2:50051", "v2").await,
        world.publish("10.0.0.3:50051", "v2").await,
    ];
    let addresses = |state: &ChannelState| -> Vec<String> {
        let endpoints = state.endpoints.iter();
        let endpoints = endpoints.filter(|it| it.condition != Condition::Draining);
        endpoints.map(|it| it.addresses[0].to_string()).collect()
    };
    for (target, expected) in [
        ("etcd:///greeter?policy=ring_hash", 3),
        ("etcd:///greeter?version=v2", 2),
        ("etcd:///greeter?version=v1", 1),
        ("etcd:///greeter?subset=2", 2),
        ("discovery:///greeter?version=v2&subset=1", 1),
    ] {
        let channel = world.dial(target);
        let state = until(&channel, |it| it.endpoints.len() == expected).await;
        if target.contains("version=v1") {
            assert_eq!(addresses(&state), ["10.0.0.1:50051"]);
        }
        if target.contains("policy") {
            assert_eq!(state.config.policy, "ring_hash");
        }
        channel.close().await;
    }
}
