//! An update that reaches 100 replicas, beside one that reaches 100 watches.

use std::time::Instant;

use etcd_client::Client;
use serde::Deserialize;
use switchboard::{Registry, coordination::Config};
use switchboard_test_support::Etcd;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    median::{median, sorted},
    report::{Report, Turn, requests},
};

/// How many replicas there are, each with a connection of its own, and as many watches.
const REPLICAS: usize = 100;

const OURS: &str = "/bench/limits.json";
const RAW: &str = "/bench/raw.json";

#[derive(Deserialize)]
struct Limits {
    calls: usize,
}

/// What tells when each of those who follow a key has seen its new value.
struct Audience {
    key: &'static str,
    seen: mpsc::UnboundedReceiver<(usize, Instant)>,
    _tasks: JoinSet<()>,
}

/// How long an update took, in microseconds, to the one in the middle and to the last, and how many
/// requests etcd saw meanwhile.
#[derive(Clone, Copy)]
struct Reached {
    median: f64,
    last: f64,
    requests: u64,
}

pub(crate) async fn run(etcd: &Etcd, rounds: usize, report: &mut Report) {
    let mut client = Client::connect([etcd.endpoint()], None).await.unwrap();
    for key in [OURS, RAW] {
        client.put(key, value(0), None).await.unwrap();
    }
    let (mut ours, mut raw) = (replicas(etcd).await, watches(etcd).await);
    // The first ones find watches that are not open yet.
    for calls in 1..=2 {
        ours.reach(etcd, &mut client, calls).await;
        raw.reach(etcd, &mut client, calls).await;
    }
    let mut reached = Vec::new();
    for calls in 3..rounds + 3 {
        reached.push(match calls % 2 {
            0 => {
                let ours = ours.reach(etcd, &mut client, calls).await;
                (ours, raw.reach(etcd, &mut client, calls).await)
            }
            _ => {
                let raw = raw.reach(etcd, &mut client, calls).await;
                (ours.reach(etcd, &mut client, calls).await, raw)
            }
        });
    }
    let turns = |of: fn(Reached) -> f64| {
        let turn = |it: Reached| Turn {
            micros: of(it),
            requests: it.requests,
        };
        let turns = reached.iter().map(|(ours, raw)| (turn(*ours), turn(*raw)));
        turns.collect::<Vec<_>>()
    };
    let last = format!("update to the last of {REPLICAS} replicas / watches");
    report.add(&last, &turns(|it| it.last));
    let middle = format!("update to the median one of {REPLICAS}");
    report.add(&middle, &turns(|it| it.median));
}

fn value(calls: usize) -> String {
    format!(r#"{{"calls": {calls}}}"#)
}

async fn replicas(etcd: &Etcd) -> Audience {
    let (sender, seen) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    for _ in 0..REPLICAS {
        let registry = Registry::connect(etcd.endpoint()).await.unwrap();
        let config = Config::<Limits>::at(&registry, OURS).unwrap();
        let mut config = config.load().await.unwrap();
        let sender = sender.clone();
        tasks.spawn(async move {
            while let Ok(limits) = config.changed().await {
                let _ = sender.send((limits.calls, Instant::now()));
            }
            drop(registry);
        });
    }
    Audience {
        key: OURS,
        seen,
        _tasks: tasks,
    }
}

async fn watches(etcd: &Etcd) -> Audience {
    let (sender, seen) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    for _ in 0..REPLICAS {
        let client = Client::connect([etcd.endpoint()], None).await.unwrap();
        let mut stream = client.watch_client().watch(RAW, None).await.unwrap();
        assert!(stream.message().await.unwrap().unwrap().created());
        let sender = sender.clone();
        tasks.spawn(async move {
            while let Ok(Some(response)) = stream.message().await {
                for event in response.events() {
                    let limits = serde_json::from_slice(event.kv().unwrap().value());
                    let Limits { calls } = limits.unwrap();
                    let _ = sender.send((calls, Instant::now()));
                }
            }
            drop(client);
        });
    }
    Audience {
        key: RAW,
        seen,
        _tasks: tasks,
    }
}

impl Audience {
    /// Puts a value, and waits until everybody has seen it.
    async fn reach(&mut self, etcd: &Etcd, client: &mut Client, calls: usize) -> Reached {
        let before = requests(etcd).await;
        let begin = Instant::now();
        client.put(self.key, value(calls), None).await.unwrap();
        let mut took = Vec::new();
        while took.len() < REPLICAS {
            let (seen, at) = self.seen.recv().await.unwrap();
            if seen == calls {
                took.push((at - begin).as_secs_f64() * 1e6);
            }
        }
        let took = sorted(took);
        Reached {
            median: median(&took),
            last: took[REPLICAS - 1],
            requests: requests(etcd).await - before,
        }
    }
}
