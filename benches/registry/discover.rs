//! Discovering many instances, beside reading their prefix; and hearing of a new one, beside a
//! watch.

use std::time::Instant;

use etcd_client::{Client, DeleteOptions, GetOptions, WatchOptions};
use switchboard::Registry;
use switchboard_test_support::Etcd;
use tokio::task::JoinSet;

use crate::{
    median::{median, sorted},
    report::{Report, Turn, requests},
};

const INSTANCES: usize = 10_000;

/// How many puts there are in one round of hearing of them.
const PUTS: usize = 200;

fn value(service: &str, id: usize) -> String {
    let host = format!("10.{}.{}.{}", id >> 16, id >> 8 & 255, id & 255);
    format!(
        r#"{{"id":"{id:032x}","name":"{service}","version":"v1.2.3","metadata":{{"weight":"100","zone":"eu-1b"}},"endpoints":["grpc://{host}:50051"]}}"#
    )
}

pub(crate) async fn run(etcd: &Etcd, rounds: usize, report: &mut Report) {
    fill(etcd).await;
    let mut lists = Vec::new();
    for _ in 0..rounds {
        lists.push((discover(etcd).await, get(etcd).await));
    }
    report.add("discover 10,000 instances / a prefix get", &lists);
    let mut news = Vec::new();
    for round in 0..rounds {
        news.push((hear(etcd, round).await, watch(etcd, round).await));
    }
    report.add("put to snapshot / to a watch's event (medians)", &news);
    let mut client = Client::connect([etcd.endpoint()], None).await.unwrap();
    let all = DeleteOptions::new().with_prefix();
    client.delete("/microservices/", Some(all)).await.unwrap();
}

async fn fill(etcd: &Etcd) {
    let client = Client::connect([etcd.endpoint()], None).await.unwrap();
    let mut workers = JoinSet::new();
    for worker in 0..32 {
        let mut client = client.clone();
        workers.spawn(async move {
            for id in (worker..INSTANCES).step_by(32) {
                let key = format!("/microservices/many/{id:032x}");
                client.put(key, value("many", id), None).await.unwrap();
            }
        });
    }
    workers.join_all().await;
}

async fn discover(etcd: &Etcd) -> Turn {
    let registry = Registry::connect(etcd.endpoint()).await.unwrap();
    let before = requests(etcd).await;
    let begin = Instant::now();
    let instances = registry.discover("many").await.unwrap();
    let micros = begin.elapsed().as_secs_f64() * 1e6;
    assert_eq!(instances.snapshot().instances().len(), INSTANCES);
    let requests = requests(etcd).await - before;
    drop(instances);
    registry.close().await;
    Turn { micros, requests }
}

async fn get(etcd: &Etcd) -> Turn {
    let mut client = Client::connect([etcd.endpoint()], None).await.unwrap();
    client.status().await.unwrap();
    let before = requests(etcd).await;
    let begin = Instant::now();
    let options = GetOptions::new().with_prefix();
    let found = client
        .get("/microservices/many/", Some(options))
        .await
        .unwrap();
    let micros = begin.elapsed().as_secs_f64() * 1e6;
    assert_eq!(found.kvs().len(), INSTANCES);
    let requests = requests(etcd).await - before;
    Turn { micros, requests }
}

async fn hear(etcd: &Etcd, round: usize) -> Turn {
    let registry = Registry::connect(etcd.endpoint()).await.unwrap();
    let mut client = Client::connect([etcd.endpoint()], None).await.unwrap();
    let before = requests(etcd).await;
    let service = format!("few-{round}");
    let mut instances = registry.discover(service.as_str()).await.unwrap();
    let mut took = Vec::new();
    for id in 0..PUTS {
        let key = format!("/microservices/{service}/{:032x}", id % 10);
        let begin = Instant::now();
        let put = client.put(key, value(&service, id), None);
        let (put, heard) = tokio::join!(put, async {
            instances.changed().await.unwrap();
            begin.elapsed()
        });
        put.unwrap();
        took.push(heard.as_secs_f64() * 1e6);
    }
    let requests = requests(etcd).await - before - PUTS as u64;
    drop(instances);
    registry.close().await;
    let micros = median(&sorted(took));
    Turn { micros, requests }
}

async fn watch(etcd: &Etcd, round: usize) -> Turn {
    let watching = Client::connect([etcd.endpoint()], None).await.unwrap();
    let mut client = Client::connect([etcd.endpoint()], None).await.unwrap();
    let before = requests(etcd).await;
    let service = format!("raw-{round}");
    let prefix = format!("/microservices/{service}/");
    let options = WatchOptions::new().with_prefix();
    let mut stream = watching
        .watch_client()
        .watch(prefix.as_str(), Some(options))
        .await
        .unwrap();
    assert!(stream.message().await.unwrap().unwrap().created());
    let mut took = Vec::new();
    for id in 0..PUTS {
        let key = format!("{prefix}{:032x}", id % 10);
        let begin = Instant::now();
        let put = client.put(key, value(&service, id), None);
        let (put, heard) = tokio::join!(put, async {
            assert_eq!(stream.message().await.unwrap().unwrap().events().len(), 1);
            begin.elapsed()
        });
        put.unwrap();
        took.push(heard.as_secs_f64() * 1e6);
    }
    let requests = requests(etcd).await - before - PUTS as u64;
    let micros = median(&sorted(took));
    Turn { micros, requests }
}
