//! What holds at every revision of etcd, whatever is done to a registration.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use etcd_client::{Client, EventType, GetOptions, PutOptions, WatchOptions};
use switchboard::{Instance, PublicationStatus, Publisher, Registry};
use switchboard_test_support::{Etcd, eventually};

const PREFIX: &str = "/microservices/";
const SOON: Duration = Duration::from_secs(10);

/// Reads the history of the prefix, revision by revision, and checks each.
struct Auditor {
    /// The keys that hold a record, each with whose it is: its metadata says so.
    records: BTreeMap<String, String>,
    /// The first revision that was not checked.
    next: i64,
    checked: usize,
}

impl Auditor {
    fn new() -> Self {
        Self {
            records: BTreeMap::new(),
            next: 1,
            checked: 0,
        }
    }

    /// Checks every revision up to the current one, and returns that.
    async fn check(&mut self, client: &mut Client) -> i64 {
        // What ends the history that is read.
        let sentinel = client
            .put(format!("{PREFIX}sentinel"), "", None)
            .await
            .unwrap();
        let last = sentinel.header().unwrap().revision();
        let from = WatchOptions::new()
            .with_prefix()
            .with_start_revision(self.next);
        let mut watch = client.watch(PREFIX, Some(from)).await.unwrap();
        while self.next <= last {
            let message = tokio::time::timeout(SOON, watch.message());
            let message = message.await.expect("it is told").unwrap().unwrap();
            assert!(!message.canceled(), "{message:?}");
            let mut events = message.events().iter().peekable();
            while let Some(event) = events.next() {
                let kv = event.kv().unwrap();
                match event.event_type() {
                    EventType::Put => self.put(kv),
                    EventType::Delete => drop(self.records.remove(kv.key_str().unwrap())),
                }
                let revision = kv.mod_revision();
                let is_last =
                    |next: &&etcd_client::Event| next.kv().unwrap().mod_revision() != revision;
                if events.peek().is_none_or(is_last) {
                    self.check_revision(revision);
                    self.next = revision + 1;
                }
            }
        }
        last
    }

    fn put(&mut self, kv: &etcd_client::KeyValue) {
        let key = kv.key_str().unwrap().to_owned();
        let record: Option<serde_json::Value> = serde_json::from_slice(kv.value()).ok();
        let publication = record.and_then(|it| Some(it["metadata"]["who"].as_str()?.to_owned()));
        match publication {
            Some(publication) => {
                let revision = kv.mod_revision();
                assert_ne!(kv.lease(), 0, "{key} without a lease, at {revision}");
                self.records.insert(key, publication);
            }
            // The test's own.
            None => drop(self.records.remove(&key)),
        }
    }

    fn check_revision(&mut self, revision: i64) {
        let mut seen = BTreeSet::new();
        for publication in self.records.values() {
            let is_only = seen.insert(publication);
            assert!(is_only, "two keys at {revision}: {:?}", self.records);
        }
        self.checked += 1;
    }
}

fn instance(host: u8, who: &str) -> Instance {
    let address = format!("10.0.0.{host}:50051");
    let instance = Instance::new("greeter", address).unwrap();
    instance.with_metadata("who", who)
}

async fn registry(etcd: &Etcd) -> Registry {
    let builder = Registry::builder(etcd.endpoint()).unwrap();
    builder.ttl(Duration::from_secs(2)).connect().await.unwrap()
}

/// Waits until there is a record of each of them, and of nobody else.
async fn standing(client: &mut Client, limit: Duration, who: &[&str]) {
    eventually(limit, "the records stand", async || {
        let options = GetOptions::new().with_prefix();
        let found = client.get(PREFIX, Some(options)).await;
        let found = found.map_err(|error| error.to_string())?;
        let mut names = Vec::new();
        for kv in found.kvs() {
            let Ok(record) = serde_json::from_slice::<serde_json::Value>(kv.value()) else {
                continue;
            };
            names.push(record["metadata"]["who"].as_str().unwrap().to_owned());
        }
        names.sort();
        if names == who {
            Ok(())
        } else {
            Err(format!("{names:?}"))
        }
    })
    .await;
}

async fn key_of(client: &mut Client, host: u8) -> (String, i64) {
    let key = format!("{PREFIX}greeter/{}", instance(host, "").id());
    let found = client.get(key.as_str(), None).await.unwrap();
    (key, found.kvs().first().expect("it is there").lease())
}

async fn superseded(publisher: &Publisher) {
    let mut status = publisher.status();
    let is_superseded =
        |status: &PublicationStatus| matches!(status, PublicationStatus::Superseded);
    let waited = tokio::time::timeout(SOON, status.wait_for(is_superseded)).await;
    waited.expect("in time").unwrap();
}

#[tokio::test]
async fn never_two_keys_of_one_publication_and_never_a_key_without_a_lease() {
    let mut etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let mut auditor = Auditor::new();
    let second = Duration::from_secs(1);
    let everybody = ["a", "b", "c"];
    let registry = registry(&etcd).await;
    let publish = |host, who| registry.publish(instance(host, who)).unwrap();
    let (a, b, c) = (publish(1, "a"), publish(2, "b"), publish(3, "c"));
    standing(&mut client, SOON, &everybody).await;

    // What the publisher is told.
    a.update(instance(4, "a")).await.unwrap();
    a.update(instance(1, "a").with_version("2")).await.unwrap();
    c.pause().await.unwrap();
    standing(&mut client, SOON, &["a", "b"]).await;
    c.resume().await.unwrap();
    standing(&mut client, second, &everybody).await;
    auditor.check(&mut client).await;

    // What others do.
    let (key, lease) = key_of(&mut client, 2).await;
    client.delete(key.as_str(), None).await.unwrap();
    standing(&mut client, second, &everybody).await;
    client.put(key.as_str(), "garbage", None).await.unwrap();
    standing(&mut client, second, &everybody).await;
    let keeping = Some(PutOptions::new().with_ignore_lease());
    client.put(key.as_str(), "garbage", keeping).await.unwrap();
    standing(&mut client, second, &everybody).await;
    client.lease_revoke(lease).await.unwrap();
    standing(&mut client, second, &everybody).await;
    let revision = auditor.check(&mut client).await;
    client.compact(revision, None).await.unwrap();

    // A second process with the identity of `b`.
    let other = self::registry(&etcd).await;
    let newer = other.publish(instance(2, "newer b")).unwrap();
    newer.published().await.unwrap();
    superseded(&b).await;
    standing(&mut client, second, &["a", "c", "newer b"]).await;
    let before = auditor.check(&mut client).await;
    newer.stop().await.unwrap();
    standing(&mut client, second, &everybody).await;
    let after = auditor.check(&mut client).await;
    // A deletion, a put, and the auditor's own.
    assert_eq!(after - before, 3, "they took the key from each other");

    // What etcd does: frozen for longer than the TTL, crashed, crashed after a compaction.
    etcd.freeze();
    let mut status = a.status();
    let is_retrying =
        |status: &PublicationStatus| matches!(status, PublicationStatus::Retrying { .. });
    let noticed = tokio::time::timeout(SOON, status.wait_for(is_retrying)).await;
    noticed.expect("it is noticed").unwrap();
    etcd.thaw();
    standing(&mut client, SOON, &everybody).await;
    etcd.restart().await;
    let mut client = etcd.client().await;
    standing(&mut client, 3 * second, &everybody).await;
    let revision = auditor.check(&mut client).await;
    client.compact(revision, None).await.unwrap();
    etcd.restart().await;
    let mut client = etcd.client().await;
    standing(&mut client, 3 * second, &everybody).await;
    auditor.check(&mut client).await;

    // Nothing is left of it.
    etcd.wipe_and_restart().await;
    let mut client = etcd.client().await;
    let mut anew = Auditor::new();
    standing(&mut client, 3 * second, &everybody).await;
    c.stop().await.unwrap();
    standing(&mut client, second, &["a", "b"]).await;
    anew.check(&mut client).await;
    let checked = auditor.checked + anew.checked;
    assert!(checked > 30, "only {checked} revisions were looked at");
}
