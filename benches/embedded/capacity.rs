//! Many keys and many watchers at once.

use std::time::Instant;

use etcd_client::{Client, GetOptions, Txn, TxnOp, WatchStream};
use tokio::task::JoinSet;

use crate::{report::Report, served::Served};

const KEYS: usize = 100_000;
const VALUE: [u8; 200] = [b'x'; 200];

/// etcd's limit of operations in one transaction, by its default, is 128.
const KEYS_AT_ONCE: usize = 100;

const WATCHERS: usize = 10_000;
const CONNECTIONS: usize = 10;

fn key(number: usize) -> String {
    format!("/held/{number:032x}")
}

pub(crate) async fn run(report: &mut Report) {
    let server = Served::start().await;
    let empty = server.resident();
    let begin = Instant::now();
    fill(&server).await;
    let filled = begin.elapsed();
    let full = server.resident();

    let begin = Instant::now();
    let mut watches = watch(&server).await;
    let watching = begin.elapsed();
    let watched = server.resident();

    let begin = Instant::now();
    let mut client = server.client().await;
    let hearing = async {
        for (number, stream) in watches.iter_mut().enumerate() {
            let message = stream.message().await.unwrap().unwrap();
            let [event] = message.events() else {
                panic!("{message:?} (expected: one event)");
            };
            assert_eq!(event.kv().unwrap().key(), key(number).as_bytes());
        }
    };
    tokio::join!(hearing, touch(&mut client));
    let heard = begin.elapsed();
    let count = GetOptions::new().with_prefix().with_count_only();
    let held = client.get("/held/", Some(count)).await.unwrap();
    assert_eq!(held.count(), KEYS as i64);

    let each = |before: Option<u64>, after: Option<u64>, count: usize| {
        let grown = after?.saturating_sub(before?);
        Some(grown as f64 / count as f64)
    };
    report.figure(
        "a key of 38 bytes with a value of 200",
        each(empty, full, KEYS),
        "bytes",
    );
    report.figure(
        "a watcher with a stream of its own",
        each(full, watched, WATCHERS),
        "bytes",
    );
    report.figure(
        "100,000 keys, 100 a transaction",
        Some(filled.as_secs_f64()),
        "s",
    );
    report.figure("10,000 watches opened", Some(watching.as_secs_f64()), "s");
    report.figure(
        "10,000 watches, each told of a put",
        Some(heard.as_secs_f64()),
        "s",
    );
}

async fn fill(server: &Served) {
    let mut client = server.client().await;
    for first in (0..KEYS).step_by(KEYS_AT_ONCE) {
        let puts = (first..first + KEYS_AT_ONCE).map(|number| TxnOp::put(key(number), VALUE, None));
        let txn = Txn::new().and_then(puts.collect::<Vec<_>>());
        assert!(client.txn(txn).await.unwrap().succeeded());
    }
}

/// Watches the first keys, in order.
async fn watch(server: &Served) -> Vec<WatchStream> {
    let mut workers = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let mut client = server.client().await;
        workers.spawn(async move {
            let mut streams = Vec::new();
            for number in (connection..WATCHERS).step_by(CONNECTIONS) {
                let mut stream = client.watch(key(number), None).await.unwrap();
                assert!(stream.message().await.unwrap().unwrap().created());
                streams.push((number, stream));
            }
            streams
        });
    }
    let mut streams: Vec<_> = workers.join_all().await.into_iter().flatten().collect();
    streams.sort_unstable_by_key(|(number, _)| *number);
    streams.into_iter().map(|(_, stream)| stream).collect()
}

/// Puts the first keys once more.
async fn touch(client: &mut Client) {
    for number in 0..WATCHERS {
        client.put(key(number), VALUE, None).await.unwrap();
    }
}
