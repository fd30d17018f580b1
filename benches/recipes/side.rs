//! Those who take part on one side, each a process of its own.

use std::{
    collections::BTreeMap,
    env,
    process::Command,
    time::{Duration, Instant},
};

use futures::future::join_all;
use switchboard_test_support::{Etcd, Process, build_go};

use crate::cases::Case;

/// Far more than any turn takes.
const LIMIT: Duration = Duration::from_secs(120);

/// Go's default, in seconds.
const TTL: &str = "60";

/// What requests are counted of, with the name they are shown by: those about keys, one by one, and those
/// on the streams of watches, which begin a watch or end it. Not those that keep leases.
const REQUESTS: [(&str, &str); 5] = [
    ("Txn", "txn"),
    ("Range", "range"),
    ("Put", "put"),
    ("DeleteRange", "delete"),
    ("Watch", "watch"),
];

/// One side.
pub(crate) struct Side {
    name: &'static str,
    peers: Vec<Process>,
}

/// What a side's turn came to.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    /// How many were done in a second, by all together.
    pub(crate) rate: f64,
    /// How many requests etcd got for each that was done, by their kinds.
    pub(crate) requests: BTreeMap<&'static str, f64>,
}

impl Side {
    /// Starts those in Rust: this program again.
    pub(crate) async fn ours(etcd: &Etcd, count: usize) -> Self {
        let peers = (0..count).map(|_| {
            let mut command = Command::new(env::current_exe().unwrap());
            command.args(["--peer", etcd.endpoint()]);
            command
        });
        Self::start("ours", peers).await
    }

    /// Starts those in Go: the program of the tests.
    ///
    /// # Errors
    ///
    /// There is no Go here.
    pub(crate) async fn go(etcd: &Etcd, count: usize) -> Result<Self, &'static str> {
        let program = build_go("tests/recipes/go").await?;
        let peers = (0..count).map(|_| {
            let mut command = Command::new(&program);
            command.args([etcd.endpoint(), TTL]);
            command
        });
        Ok(Self::start("go", peers).await)
    }

    async fn start(name: &'static str, peers: impl Iterator<Item = Command>) -> Self {
        let mut peers: Vec<_> = peers.map(Process::spawn_with_input).collect();
        let ready = peers.iter_mut().map(|peer| says(peer, "ready"));
        join_all(ready).await;
        Self { name, peers }
    }

    /// Does a case once.
    pub(crate) async fn turn(&mut self, etcd: &Etcd, case: &Case, round: usize) -> Turn {
        let Self { name, peers } = self;
        let (what, with, times) = (case.what, case.with, case.times);
        let command = format!("load {what} /bench/{name}/{with}/{round} {times}");
        let peers = &mut peers[..case.peers];
        let before = requests(etcd).await;
        let begin = Instant::now();
        for peer in &mut *peers {
            peer.write_line(&command);
        }
        join_all(peers.iter_mut().map(|peer| says(peer, "ok"))).await;
        let took = begin.elapsed().as_secs_f64();
        let after = requests(etcd).await;
        let done = (case.peers * times) as f64;
        let requests = after
            .into_iter()
            .map(|(kind, count)| (kind, (count - before[kind]) / done));
        Turn {
            rate: done / took,
            requests: requests.collect(),
        }
    }
}

async fn says(peer: &mut Process, expected: &str) {
    let line = peer.wait_for_line(LIMIT, |_| true).await;
    assert!(
        line.starts_with(expected),
        "{line:?} (expected: {expected})"
    );
}

/// Returns how many requests etcd has got, by their kinds.
async fn requests(etcd: &Etcd) -> BTreeMap<&'static str, f64> {
    let mut counts = BTreeMap::new();
    for (method, kind) in REQUESTS {
        let label = format!(r#"grpc_method="{method}""#);
        let count = etcd
            .metric("grpc_server_msg_received_total", &[&label])
            .await;
        counts.insert(kind, count);
    }
    counts
}
