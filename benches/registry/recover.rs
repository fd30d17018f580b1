//! Two thousand publications whose lease is lost, and what others at that etcd notice of it.

use std::time::{Duration, Instant};

use etcd_client::{Client, EventType, WatchOptions};
use switchboard::{Instance, PublicationStatus, Registry};
use switchboard_test_support::Etcd;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    median::sorted,
    report::{Report, at},
};

const PUBLICATIONS: usize = 2_000;
const PREFIX: &str = "/microservices/";

pub(crate) async fn run(etcd: &Etcd, rounds: usize, report: &mut Report) {
    let registry = Registry::connect(etcd.endpoint()).await.unwrap();
    let instance = |id| Instance::new(format!("recovering-{id}"), "10.0.0.1:50051").unwrap();
    let publishers: Vec<_> = (0..PUBLICATIONS)
        .map(|id| registry.publish(instance(id)).unwrap())
        .collect();
    for publisher in &publishers {
        publisher.published().await.unwrap();
    }
    let quiet = bystander(etcd, Duration::from_millis(500)).await;
    for _ in 0..rounds {
        let lease = match *publishers[0].status().borrow() {
            PublicationStatus::Published { lease, .. } => lease,
            ref status => panic!("{status:?}"),
        };
        let mut client = Client::connect([etcd.endpoint()], None).await.unwrap();
        let options = WatchOptions::new().with_prefix();
        let mut watch = client.watch(PREFIX, Some(options)).await.unwrap();
        let begin = Instant::now();
        let (stop, mut beside) = (CancellationToken::new(), JoinSet::new());
        beside.spawn(puts(client.clone(), stop.clone()));
        client.lease_revoke(lease).await.unwrap();
        let mut back = Vec::new();
        while back.len() < PUBLICATIONS {
            let message = watch.message().await.unwrap().unwrap();
            let puts = message
                .events()
                .iter()
                .filter(|event| event.event_type() == EventType::Put);
            back.extend(puts.map(|_| begin.elapsed().as_secs_f64()));
        }
        stop.cancel();
        let loud = beside.join_all().await.remove(0);
        for publisher in &publishers {
            publisher.published().await.unwrap();
        }
        let (first, last) = (back[0], back[back.len() - 1]);
        report.note(format!(
            "2,000 publications after a lost lease: back from {:.0} to {:.0} ms (99 % after {:.0} ms), {:.0} puts/s; \
             somebody else's puts meanwhile: p50 {:.1} ms, p99 {:.1} ms (otherwise {:.1} and {:.1} ms)",
            first * 1e3,
            last * 1e3,
            at(&back, 0.99) * 1e3,
            PUBLICATIONS as f64 / (last - first),
            at(&loud, 0.5),
            at(&loud, 0.99),
            at(&quiet, 0.5),
            at(&quiet, 0.99),
        ));
    }
    registry.close().await;
}

async fn bystander(etcd: &Etcd, span: Duration) -> Vec<f64> {
    let client = Client::connect([etcd.endpoint()], None).await.unwrap();
    let (stop, mut beside) = (CancellationToken::new(), JoinSet::new());
    beside.spawn(puts(client, stop.clone()));
    tokio::time::sleep(span).await;
    stop.cancel();
    beside.join_all().await.remove(0)
}

/// Puts elsewhere, one after the other; returns how long each took, in ms, sorted.
async fn puts(mut client: Client, stop: CancellationToken) -> Vec<f64> {
    let mut took = Vec::new();
    while !stop.is_cancelled() {
        let begin = Instant::now();
        client.put("/elsewhere", "", None).await.unwrap();
        took.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    sorted(took)
}
