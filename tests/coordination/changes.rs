//! To wait until a key is deleted, of which the recipes are made.

use std::time::Duration;

use switchboard::{
    Registry,
    keys::{Changes, KeyEvent, KeyRange},
};
use tokio::time::timeout;

use crate::{
    on_both,
    server::{Server, delete, put, soon},
};

on_both! {
    a_deletion_to_come_is_told,
    a_deletion_is_told_though_others_wrote_before_it_was_waited_for,
    a_key_that_is_gone_is_not_waited_for,
    a_key_that_is_another_one_by_now_is_not_waited_for,
}

const KEY: &str = "/shop/key";

/// Less than the time after which whoever waits is to look again in any case.
const AT_ONCE: Duration = Duration::from_secs(5);

async fn deleted(registry: &Registry, seen: i64) -> Vec<KeyEvent> {
    let range = KeyRange::Key(KEY.to_owned());
    let changed = registry.keys();
    let changed = changed.changed(&range, seen, Changes::Deletes);
    changed.await.unwrap()
}

/// Deletes the key while somebody waits for that, who has seen it at a revision.
async fn is_told(etcd: &Server, seen: i64) {
    let (waiting, registry) = (etcd.registry().await, etcd.registry().await);
    let mut told = std::pin::pin!(deleted(&waiting, seen));
    let early = timeout(Duration::from_millis(200), &mut told).await;
    assert!(early.is_err(), "{early:?} (expected: nothing yet)");
    delete(&registry, KEY).await;
    let events = soon(told).await;
    let [KeyEvent::Delete { key, revision }] = &events[..] else {
        panic!("events: {events:?} (expected: one deletion)");
    };
    assert_eq!(key, KEY.as_bytes());
    assert!(*revision > seen);
}

async fn a_deletion_to_come_is_told(etcd: &mut Server) {
    let seen = put(&etcd.registry().await, KEY, "1").await;
    is_told(etcd, seen).await;
}

async fn a_deletion_is_told_though_others_wrote_before_it_was_waited_for(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let seen = put(&registry, KEY, "1").await;
    put(&registry, KEY, "2").await;
    put(&registry, "/shop/other", "1").await;
    is_told(etcd, seen).await;
}

async fn a_key_that_is_gone_is_not_waited_for(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let seen = put(&registry, KEY, "1").await;
    delete(&registry, KEY).await;
    let told = timeout(AT_ONCE, deleted(&registry, seen)).await;
    told.expect("at once");
}

async fn a_key_that_is_another_one_by_now_is_not_waited_for(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let seen = put(&registry, KEY, "1").await;
    delete(&registry, KEY).await;
    put(&registry, KEY, "2").await;
    let told = timeout(AT_ONCE, deleted(&registry, seen)).await;
    told.expect("at once");
}
