//! What recipes cost, beside those of etcd's Go packages that have the same keys.
//!
//! ```text
//! cargo bench --bench recipes                   a table
//! cargo bench --bench recipes -- --json         one object a line
//! cargo bench --bench recipes -- --rounds 5     fewer rounds
//! ```
//!
//! Whoever takes part is a process of its own, in Rust or in Go, on one etcd, which is another. Both
//! sides take turns in each round, so that what else the machine does hits both. A ratio is how many
//! times as much was done in a second as in Go: the median over the rounds, with the least and the
//! greatest beside it. Requests are counted by etcd: those about keys, and those on the streams of
//! watches. Without Go there is our side alone.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench panics where it cannot go on, takes the time, and has a task of its own"
)]

mod cases;
#[path = "../shared/median.rs"]
mod median;
#[path = "../shared/options.rs"]
mod options;
mod peer;
mod report;
mod side;

use clap::Parser;
use switchboard_test_support::Etcd;

use self::{
    cases::{CASES, PEERS},
    options::Options,
    report::Report,
    side::Side,
};

/// Measures recipes beside those of etcd's Go packages.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// By how much each case is shorter.
    #[arg(long, default_value_t = 1)]
    shorter: usize,
    /// Is one of those who take part, on the etcd at this endpoint.
    #[arg(long, hide = true)]
    peer: Option<String>,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    match arguments.peer {
        // On a worker of the runtime, as a service's calls are: the main thread is none.
        Some(endpoint) => tokio::spawn(peer::run(endpoint)).await.unwrap(),
        None => compare(&arguments.options, arguments.shorter).await,
    }
}

async fn compare(options: &Options, shorter: usize) {
    let etcd = Etcd::start().await;
    let mut ours = Side::ours(&etcd, PEERS).await;
    let mut go = match Side::go(&etcd, PEERS).await {
        Ok(go) => Some(go),
        Err(reason) => {
            eprintln!("Go is left out: {reason}");
            None
        }
    };
    let mut report = Report::new(options.json, go.is_some());
    let mut turns = vec![Vec::new(); CASES.len()];
    // The first round finds connections that are not open yet.
    for round in 0..=options.rounds {
        for (case, turns) in CASES.iter().zip(&mut turns) {
            let case = case.shorter(shorter);
            let turn = match &mut go {
                None => (ours.turn(&etcd, &case, round).await, None),
                Some(go) if round % 2 == 0 => {
                    let ours = ours.turn(&etcd, &case, round).await;
                    (ours, Some(go.turn(&etcd, &case, round).await))
                }
                Some(go) => {
                    let go = go.turn(&etcd, &case, round).await;
                    (ours.turn(&etcd, &case, round).await, Some(go))
                }
            };
            if round > 0 {
                turns.push(turn);
            }
        }
    }
    for (case, turns) in CASES.iter().zip(&turns) {
        report.add(case.name, turns);
    }
    report.print();
}
