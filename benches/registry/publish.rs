//! Publishing a thousand services, beside a thousand guarded transactions, and a thousand puts.

use std::{sync::Arc, time::Instant};

use etcd_client::{Client, Compare, CompareOp, PutOptions, Txn, TxnOp};
use switchboard::{Instance, Registry};
use switchboard_test_support::Etcd;
use tokio::task::JoinSet;

use crate::report::{Report, Turn, requests};

const SERVICES: usize = 1_000;

/// How many requests ours has under way at a time.
const AT_ONCE: usize = 32;

pub(crate) async fn run(etcd: &Etcd, rounds: usize, report: &mut Report) {
    let (mut transactions, mut puts) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let ours = ours(etcd, round).await;
        transactions.push((ours, raw(etcd, round, Guarded::Yes).await));
        puts.push((ours, raw(etcd, round, Guarded::No).await));
    }
    report.add(
        "publish 1,000 services / guarded transactions",
        &transactions,
    );
    report.add("publish 1,000 services / puts", &puts);
}

async fn ours(etcd: &Etcd, round: usize) -> Turn {
    let registry = Registry::connect(etcd.endpoint()).await.unwrap();
    let instance = |service| {
        let name = format!("service-{round}-{service}");
        Instance::new(name, "10.0.0.1:50051").unwrap()
    };
    let instances: Vec<_> = (0..SERVICES).map(instance).collect();
    let before = requests(etcd).await;
    let begin = Instant::now();
    let publishers: Vec<_> = instances
        .into_iter()
        .map(|instance| registry.publish(instance).unwrap())
        .collect();
    for publisher in &publishers {
        publisher.published().await.unwrap();
    }
    let micros = begin.elapsed().as_secs_f64() * 1e6;
    let requests = requests(etcd).await - before;
    registry.close().await;
    Turn { micros, requests }
}

#[derive(Clone, Copy)]
enum Guarded {
    Yes,
    No,
}

async fn raw(etcd: &Etcd, round: usize, guarded: Guarded) -> Turn {
    let mut client = Client::connect([etcd.endpoint()], None).await.unwrap();
    client.status().await.unwrap();
    let record = |service| {
        let key = format!("/raw/service-{round}-{service}/4a7d1ed414474e4033ac29ccb8653d9b");
        let value = format!(
            r#"{{"id":"4a7d1ed414474e4033ac29ccb8653d9b","name":"service-{round}-{service}","version":"","metadata":{{}},"endpoints":["grpc://10.0.0.1:50051"]}}"#
        );
        (key, value)
    };
    let records: Arc<Vec<_>> = Arc::new((0..SERVICES).map(record).collect());
    let before = requests(etcd).await;
    let begin = Instant::now();
    let lease = client.lease_grant(10, None).await.unwrap().id();
    let _keeping = client.lease_keep_alive(lease).await.unwrap();
    let mut workers = JoinSet::new();
    for worker in 0..AT_ONCE {
        let (mut client, records) = (client.clone(), records.clone());
        workers.spawn(async move {
            for (key, value) in records.iter().skip(worker).step_by(AT_ONCE) {
                let options = PutOptions::new().with_lease(lease);
                match guarded {
                    Guarded::Yes => {
                        let absent = Compare::mod_revision(key.as_str(), CompareOp::Equal, 0);
                        let put = TxnOp::put(key.as_str(), value.as_str(), Some(options));
                        let get = TxnOp::get(key.as_str(), None);
                        let txn = Txn::new().when([absent]).and_then([put]).or_else([get]);
                        assert!(client.txn(txn).await.unwrap().succeeded());
                    }
                    Guarded::No => drop(
                        client
                            .put(key.as_str(), value.as_str(), Some(options))
                            .await
                            .unwrap(),
                    ),
                }
            }
        });
    }
    workers.join_all().await;
    let micros = begin.elapsed().as_secs_f64() * 1e6;
    let requests = requests(etcd).await - before;
    client.lease_revoke(lease).await.unwrap();
    Turn { micros, requests }
}
