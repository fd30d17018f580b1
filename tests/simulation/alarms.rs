//! That what must not be is noticed.

use std::time::Duration;

use etcd_client::{Client, PutOptions};
use switchboard_embedded::EmbeddedEtcd;

use crate::{
    auditor::{Auditor, Claim, Wanted},
    counts::Counts,
    health::{Health, LEARNED},
    script::{Party, Place},
    setting,
    trace::Trace,
};

const PARTY: Party = Party::Publisher(0);
const KEY: &str = "/microservices/ledger/a";
const NOW: Duration = Duration::from_secs(3600);

/// A store, and who audits it; nothing is wrong with etcd.
struct Audited {
    etcd: EmbeddedEtcd,
    client: Client,
    auditor: Auditor,
    health: Health,
    lease: i64,
}

impl Audited {
    async fn begin(wanted: Wanted) -> Self {
        let etcd = EmbeddedEtcd::start();
        let channel = etcd_client::Channel::Tonic(etcd.channel());
        let mut client = Client::from_channel(channel, None).await.unwrap();
        let lease = client.lease_grant(60, None).await.unwrap().id();
        let mut auditor = Auditor::default();
        let claim = Claim {
            party: PARTY,
            service: "ledger",
            wanted,
        };
        auditor.claims.insert("p".to_owned(), claim);
        Self {
            etcd,
            client,
            auditor,
            health: Health::new(),
            lease,
        }
    }

    async fn put(&mut self, key: &str, lease: i64) {
        let value = r#"{"id":"a","name":"ledger","version":"1","metadata":{"who":"p"},"endpoints":["grpc://a:1"]}"#;
        let options = PutOptions::new().with_lease(lease);
        self.client.put(key, value, Some(options)).await.unwrap();
    }

    fn violations(&mut self, now: Duration) -> String {
        let trace = Trace::new(false);
        let found = self
            .auditor
            .audit(&self.etcd, &mut self.health, now, &trace);
        found.join("; ")
    }
}

fn at_a() -> Wanted {
    Wanted::At {
        address: "a:1".to_owned(),
        version: "1".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn two_keys_of_one_publication_are_noticed() {
    let mut audited = Audited::begin(at_a()).await;
    audited.put(KEY, audited.lease).await;
    assert_eq!(audited.violations(NOW), "");
    audited.put("/microservices/ledger/b", audited.lease).await;
    audited.client.delete(KEY, None).await.unwrap();
    // Though it was so at one revision only.
    assert!(audited.violations(NOW).starts_with("at 3: p has two keys"));
}

#[tokio::test(start_paused = true)]
async fn a_key_without_a_lease_is_noticed() {
    let mut audited = Audited::begin(at_a()).await;
    audited.put(KEY, 0).await;
    assert!(audited.violations(NOW).ends_with("/a without a lease"));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_goes_without_a_reason_is_noticed() {
    let vanished = async |audited: &mut Audited| {
        audited.put(KEY, audited.lease).await;
        audited.violations(NOW);
        audited.client.delete(KEY, None).await.unwrap();
        audited.violations(NOW)
    };
    let mut audited = Audited::begin(at_a()).await;
    assert!(
        vanished(&mut audited)
            .await
            .ends_with("p has no key, and nothing was wrong")
    );

    let mut audited = Audited::begin(at_a()).await;
    audited.auditor.lease_ended(audited.lease);
    assert_eq!(vanished(&mut audited).await, "");
    let mut audited = Audited::begin(at_a()).await;
    audited.health.etcd_broken(NOW);
    assert_eq!(vanished(&mut audited).await, "");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_not_put_back_is_noticed() {
    let mut audited = Audited::begin(at_a()).await;
    audited.put(KEY, audited.lease).await;
    assert_eq!(audited.violations(NOW), "");
    let second = Duration::from_secs(1);
    audited.auditor.meddled(KEY, NOW + second);
    audited.client.put(KEY, "garbage", None).await.unwrap();
    assert_eq!(audited.violations(NOW), "");
    assert!(
        audited
            .violations(NOW + second)
            .starts_with("p is not put back")
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_of_what_is_gone_is_noticed() {
    let mut audited = Audited::begin(Wanted::Absent { is_confirmed: true }).await;
    audited.put(KEY, audited.lease).await;
    assert!(audited.violations(NOW).contains("p is gone and has a key"));
    assert_eq!(audited.auditor.unsettled().len(), 1);
}

#[test]
fn a_call_that_was_sent_may_fail_with_its_link_or_its_server_and_not_later() {
    let (before, after) = (NOW, NOW + Duration::from_secs(2));
    let crash = NOW + Duration::from_secs(1);
    let mut health = Health::new();
    assert!(!health.excuses_sent(0, 0, before, after));
    health.crashed(0, crash);
    assert!(health.excuses_sent(0, 0, before, after));
    assert!(!health.excuses_sent(0, 0, after, after));
    assert!(!health.excuses_sent(0, 1, before, after));
    health.foul(Party::Client(0), Place::Server(1), NOW);
    assert!(health.excuses_sent(0, 1, after, after));
    health.fair(Party::Client(0), Place::Server(1), crash);
    assert!(health.excuses_sent(0, 1, before, after) && !health.excuses_sent(0, 1, after, after));
    assert!(!health.excuses_sent(1, 1, before, after));
}

#[test]
fn a_server_must_be_known_once_it_was_there_long_enough_and_stays_so_without_etcd() {
    let mut health = Health::new();
    health.serves(0, NOW);
    health.listed(0, NOW);
    let learned = NOW + LEARNED;
    assert_eq!(
        health.should_be_known(0, learned - Duration::from_millis(1)),
        None
    );
    assert_eq!(health.should_be_known(0, learned), Some(0));
    health.etcd_broken(learned);
    assert_eq!(health.should_be_known(0, learned), Some(0));
    health.foul(Party::Client(0), Place::Server(0), learned);
    assert_eq!(health.should_be_known(0, learned), None);
    assert_eq!(health.should_be_known(1, learned), Some(0));
    health.unlisted(0);
    assert_eq!(health.should_be_known(1, learned), None);
}

#[test]
fn what_was_under_way_when_its_process_stood_still_may_fail_and_nothing_after() {
    let (party, moment) = (Party::Client(0), Duration::from_millis(1));
    let mut health = Health::new();
    assert!(!health.has_stood_still(party, NOW));
    health.goes_on(party, NOW);
    assert!(health.has_stood_still(party, NOW));
    assert!(!health.has_stood_still(party, NOW + moment));
    assert!(!health.has_stood_still(Party::Client(1), NOW));
}

#[tokio::test(start_paused = true)]
async fn a_setting_that_never_was_or_not_then_is_noticed() {
    let mut audited = Audited::begin(at_a()).await;
    audited.client.put(setting::KEY, "1", None).await.unwrap();
    audited.client.put(setting::KEY, "2", None).await.unwrap();
    assert_eq!(audited.violations(NOW), "");
    let values = &mut audited.auditor.setting;
    assert!(values.was(1, 0) && values.was(2, 1) && values.was(3, 2));
    assert!(!values.was(2, 2) && !values.was(3, 1) && !values.was(3, 3));
    assert!(!values.was_lost(1));
    values.wiped();
    assert!(values.was_lost(1) && !values.was_lost(3));
}

#[test]
fn a_fault_that_never_came_is_noticed() {
    let mut counts = Counts::new();
    assert!(counts.missing().contains(&"etcd wiped"));
    counts.add("etcd wiped", 1);
    assert!(!counts.missing().contains(&"etcd wiped"));
}
