//! What the guides for other fleets show of etcd.

use switchboard::{Instance, Layout, Registry};
use switchboard_test_support::Etcdctl;

pub(crate) async fn a_server_in_a_go_zero_fleet_has_the_key_that_is_shown(etcdctl: Etcdctl) {
    let instance = Instance::new("greeter.rpc", "10.0.0.7:50051").unwrap();
    let guide = include_str!("../../../docs/go-zero.md");
    is_as_shown(guide, &etcdctl, Layout::go_zero(), instance).await;
}

pub(crate) async fn a_server_in_a_kratos_fleet_has_the_key_that_is_shown(etcdctl: Etcdctl) {
    let instance = Instance::new("greeter", "10.0.0.7:50051").unwrap();
    let instance = instance.with_version("v2").with_metadata("weight", "10");
    let guide = include_str!("../../../docs/kratos.md");
    is_as_shown(guide, &etcdctl, Layout::kratos(), instance).await;
}

/// Publishes, and runs the command of a guide.
async fn is_as_shown(guide: &str, etcdctl: &Etcdctl, layout: Layout, instance: Instance) {
    let (_, rest) = guide.split_once("$ etcdctl ").unwrap();
    let (block, _) = rest.split_once("```").unwrap();
    let (command, shown) = block.split_once('\n').unwrap();

    let registry = Registry::builder(etcdctl.endpoint()).unwrap();
    let registry = registry.layout(layout).connect().await.unwrap();
    let publisher = registry.publish(instance).unwrap();
    publisher.published().await.unwrap();
    assert_eq!(etcdctl.says(command.split(' ')).await, shown);
    registry.close().await;
}
