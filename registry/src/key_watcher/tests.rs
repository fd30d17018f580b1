//! What becomes of a watch that cannot be opened.

use etcd_client::Client;
use switchboard_embedded::EmbeddedEtcd;
use tokio::time::sleep;

use super::*;
use crate::{Instance, Registry};

async fn registry_and_client(etcd: &EmbeddedEtcd) -> (Registry, Client) {
    let builder = Registry::builder("etcd:2379").unwrap();
    let registry = builder.connector(etcd.connector()).connect().await.unwrap();
    let channel = etcd_client::Channel::Tonic(etcd.channel());
    let client = Client::from_channel(channel, None).await.unwrap();
    (registry, client)
}

/// Between a publication's look at its key and the opening of its watch etcd may compact what it looked at.
#[tokio::test(start_paused = true)]
async fn a_key_whose_watch_would_begin_in_what_was_compacted_is_watched_all_the_same() {
    let etcd = EmbeddedEtcd::start();
    let (registry, mut client) = registry_and_client(&etcd).await;
    let instance = Instance::new("greeter", "10.0.0.1:1").unwrap();
    let publisher = registry.publish(instance).unwrap();
    publisher.published().await.unwrap();
    let key = etcd.keys().remove(0).key;

    // In less time than its watch waits for a lull.
    let began = clock::now();
    client.put("/else", "1", None).await.unwrap();
    client.put("/else", "2", None).await.unwrap();
    client.compact(etcd.revision(), None).await.unwrap();
    assert!(began + LULL > clock::now());
    sleep(LONGEST_WAIT * 4).await;

    client.delete(key.as_slice(), None).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert!(etcd.keys().iter().any(|kv| kv.key == key));
}

/// Its watch would begin at a revision that a restored etcd comes to only after long.
#[tokio::test(start_paused = true)]
async fn a_key_whose_watch_would_begin_in_what_is_yet_to_come_is_watched_all_the_same() {
    let etcd = EmbeddedEtcd::start();
    let (registry, mut client) = registry_and_client(&etcd).await;
    for _ in 0..100 {
        client.put("/else", "", None).await.unwrap();
    }
    let instance = Instance::new("greeter", "10.0.0.1:1").unwrap();
    let publisher = registry.publish(instance).unwrap();
    publisher.published().await.unwrap();
    let key = etcd.keys().remove(1).key;

    // In less time than its watch waits for a lull.
    etcd.wipe();
    let is_back = async || {
        while etcd.keys().is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    is_back().await;
    sleep(LONGEST_WAIT * 4).await;
    client.delete(key.as_slice(), None).await.unwrap();
    tokio::time::timeout(Duration::from_secs(1), is_back())
        .await
        .unwrap();
}
