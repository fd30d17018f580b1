//! A put and the event of it, and puts from many at once.

use std::time::Instant;

use etcd_client::{Client, WatchOptions};
use switchboard_test_support::Etcd;
use tokio::task::JoinSet;

use crate::{
    median::{median, sorted},
    report::Report,
    served::Served,
};

/// How many puts there are in one round.
const PUTS: usize = 500;

/// How many requests are under way where many are.
const AT_ONCE: usize = 32;

/// As long as the record of a server.
const VALUE: [u8; 200] = [b'x'; 200];

pub(crate) async fn run(rounds: usize, report: &mut Report) {
    let real = Etcd::start().await;
    let embedded = Served::start().await;
    let (mut events, mut puts) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        events.push((hear(embedded.endpoint()).await, hear(real.endpoint()).await));
        puts.push((put(embedded.endpoint()).await, put(real.endpoint()).await));
    }
    report.add("a put to its watch's event (medians)", &events);
    report.add("500 puts, 32 at a time", &puts);
}

/// Returns the median, in microseconds, from when a put is sent until a watch on another connection
/// has its event.
async fn hear(endpoint: &str) -> f64 {
    let mut watching = Client::connect([endpoint], None).await.unwrap();
    let mut client = Client::connect([endpoint], None).await.unwrap();
    let options = WatchOptions::new().with_prefix();
    let mut stream = watching.watch("/heard/", Some(options)).await.unwrap();
    assert!(stream.message().await.unwrap().unwrap().created());
    let mut took = Vec::new();
    for id in 0..PUTS {
        let key = format!("/heard/{:032x}", id % 10);
        let begin = Instant::now();
        let (put, heard) = tokio::join!(client.put(key, VALUE, None), async {
            assert_eq!(stream.message().await.unwrap().unwrap().events().len(), 1);
            begin.elapsed()
        });
        put.unwrap();
        took.push(heard.as_secs_f64() * 1e6);
    }
    median(&sorted(took))
}

/// Returns how long all puts take together, in microseconds.
async fn put(endpoint: &str) -> f64 {
    let mut client = Client::connect([endpoint], None).await.unwrap();
    client.status().await.unwrap();
    let begin = Instant::now();
    let mut workers = JoinSet::new();
    for worker in 0..AT_ONCE {
        let mut client = client.clone();
        workers.spawn(async move {
            for id in (worker..PUTS).step_by(AT_ONCE) {
                let key = format!("/put/{id:032x}");
                client.put(key, VALUE, None).await.unwrap();
            }
        });
    }
    workers.join_all().await;
    begin.elapsed().as_secs_f64() * 1e6
}
