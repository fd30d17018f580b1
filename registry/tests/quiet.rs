//! An etcd where nothing happens is not one that is gone.

use std::time::Duration;

use switchboard_embedded::EmbeddedEtcd;
use switchboard_registry::{Instance, Registry};
use tokio::time::timeout;

async fn registry(etcd: &EmbeddedEtcd) -> Registry {
    let builder = Registry::builder("etcd:2379").expect("an address");
    let registry = builder.connector(etcd.connector()).connect().await;
    registry.expect("etcd is there")
}

#[tokio::test(start_paused = true)]
async fn a_list_stays_fresh_while_nothing_is_written() {
    let etcd = EmbeddedEtcd::start();
    let registry = registry(&etcd).await;
    let mut publishers = Vec::new();
    for listed in 0..2 {
        let mut greeters = registry.discover("greeter").await.expect("etcd is there");
        assert_eq!(greeters.snapshot().instances().len(), listed);
        // It would be marked stale, and read again, each of which is a change.
        let changed = timeout(Duration::from_secs(600), greeters.changed()).await;
        assert!(changed.is_err(), "nothing changes");
        assert!(greeters.staleness().is_none());
        let instance = Instance::new("greeter", "10.0.0.1:1").expect("an address");
        let publisher = registry.publish(instance).expect("a valid one");
        publisher.published().await.expect("etcd takes it");
        publishers.push(publisher);
    }
}
