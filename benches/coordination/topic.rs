//! Messages that are sent, beside bare transactions; and received, beside a watch.

use std::time::Instant;

use etcd_client::{Client, Compare, CompareOp, Txn, TxnOp, WatchOptions};
use switchboard::{
    Registry,
    coordination::{Start, Topic},
};
use switchboard_test_support::Etcd;

use crate::{
    median::{median, sorted},
    report::{Report, Turn, requests},
};

/// How many messages there are in a turn.
const MESSAGES: u64 = 200;

pub(crate) async fn run(etcd: &Etcd, rounds: usize, report: &mut Report) {
    let (mut sent, mut heard) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        sent.push((send(etcd, round).await, commit(etcd, round).await));
        heard.push((receive(etcd, round).await, watch(etcd, round).await));
    }
    let case = format!("{MESSAGES} messages, one after another / guarded transactions");
    report.add(&case, &sent);
    report.note(format!(
        "messages a second: {}",
        rate(sent.iter().map(|it| it.0))
    ));
    report.note(format!(
        "transactions a second: {}",
        rate(sent.iter().map(|it| it.1))
    ));
    report.add("send to received / put to a watch's event", &heard);
}

fn rate(turns: impl Iterator<Item = Turn>) -> String {
    let rates = turns.map(|it| MESSAGES as f64 / it.micros * 1e6);
    format!("{:.0}", median(&sorted(rates.collect())))
}

fn payload(number: u64) -> String {
    format!("message {number:056}")
}

async fn send(etcd: &Etcd, round: usize) -> Turn {
    let registry = Registry::connect(etcd.endpoint()).await.unwrap();
    let topic = Topic::new(&registry, format!("sent-{round}")).unwrap();
    topic.send("the first one").await.unwrap();
    let before = requests(etcd).await;
    let begin = Instant::now();
    for number in 0..MESSAGES {
        topic.send(payload(number)).await.unwrap();
    }
    let micros = begin.elapsed().as_secs_f64() * 1e6;
    let requests = requests(etcd).await - before;
    registry.close().await;
    Turn { micros, requests }
}

/// Commits transactions of the same shape, each guarded by what the one before wrote.
async fn commit(etcd: &Etcd, round: usize) -> Turn {
    let mut client = Client::connect([etcd.endpoint()], None).await.unwrap();
    let head = format!("/bench/committed-{round}/head");
    let put = client.put(head.as_str(), "0", None).await.unwrap();
    let mut revision = put.header().unwrap().revision();
    let before = requests(etcd).await;
    let begin = Instant::now();
    for number in 0..MESSAGES {
        let key = format!("/bench/committed-{round}/{number:020}");
        let guard = Compare::mod_revision(head.as_str(), CompareOp::Equal, revision);
        let txn = Txn::new().when([guard]).and_then([
            TxnOp::put(key, payload(number), None),
            TxnOp::put(head.as_str(), number.to_string(), None),
        ]);
        let outcome = client.txn(txn).await.unwrap();
        assert!(outcome.succeeded());
        revision = outcome.header().unwrap().revision();
    }
    let micros = begin.elapsed().as_secs_f64() * 1e6;
    let requests = requests(etcd).await - before;
    Turn { micros, requests }
}

async fn receive(etcd: &Etcd, round: usize) -> Turn {
    let sending = Registry::connect(etcd.endpoint()).await.unwrap();
    let receiving = Registry::connect(etcd.endpoint()).await.unwrap();
    let name = format!("heard-{round}");
    let topic = Topic::new(&sending, name.as_str()).unwrap();
    let subscribed = Topic::new(&receiving, name.as_str()).unwrap();
    let mut subscription = subscribed.subscribe(Start::Beginning).await.unwrap();
    topic.send("the first one").await.unwrap();
    subscription.next().await.unwrap();
    let before = requests(etcd).await;
    let mut took = Vec::new();
    for number in 0..MESSAGES {
        let begin = Instant::now();
        let (sent, heard) = tokio::join!(topic.send(payload(number)), async {
            subscription.next().await.unwrap();
            begin.elapsed()
        });
        sent.unwrap();
        took.push(heard.as_secs_f64() * 1e6);
    }
    let requests = requests(etcd).await - before;
    drop(subscription);
    sending.close().await;
    receiving.close().await;
    let micros = median(&sorted(took));
    Turn { micros, requests }
}

async fn watch(etcd: &Etcd, round: usize) -> Turn {
    let watching = Client::connect([etcd.endpoint()], None).await.unwrap();
    let mut client = Client::connect([etcd.endpoint()], None).await.unwrap();
    let prefix = format!("/bench/watched-{round}/");
    let options = WatchOptions::new().with_prefix();
    let mut watch = watching.watch_client();
    let mut stream = watch.watch(prefix.as_str(), Some(options)).await.unwrap();
    assert!(stream.message().await.unwrap().unwrap().created());
    let before = requests(etcd).await;
    let mut took = Vec::new();
    for number in 0..MESSAGES {
        let key = format!("{prefix}{number:020}");
        let begin = Instant::now();
        let (put, heard) = tokio::join!(client.put(key, payload(number), None), async {
            assert_eq!(stream.message().await.unwrap().unwrap().events().len(), 1);
            begin.elapsed()
        });
        put.unwrap();
        took.push(heard.as_secs_f64() * 1e6);
    }
    let requests = requests(etcd).await - before;
    let micros = median(&sorted(took));
    Turn { micros, requests }
}
