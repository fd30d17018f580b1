//! What the registry costs, beside what etcd-client costs that does the same by hand.
//!
//! ```text
//! cargo bench --bench registry               a table
//! cargo bench --bench registry -- --json     one object a line
//! ```
//!
//! Both sides take turns against one etcd, a process of its own, so that what else the machine does
//! hits both. A ratio is the median over the rounds, with the least and the greatest beside it.
//! Requests are counted by etcd. How soon callers know that a server comes or goes has a table of its
//! own, with the median and the p99 of all times.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench panics where it cannot go on, and takes the time"
)]

mod discover;
#[path = "../shared/median.rs"]
mod median;
mod moves;
#[path = "../shared/options.rs"]
mod options;
mod publish;
mod recover;
mod report;

use clap::Parser;
use switchboard_test_support::Etcd;

use self::{options::Options, report::Report};

/// Measures the registry beside raw etcd-client.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

#[tokio::main]
async fn main() {
    let Arguments { options } = Arguments::parse();
    let mut report = Report::new(options.json);
    let etcd = Etcd::start().await;
    publish::run(&etcd, options.rounds, &mut report).await;
    discover::run(&etcd, options.rounds, &mut report).await;
    moves::run(&etcd, options.rounds, &mut report).await;
    recover::run(&etcd, options.rounds.min(3), &mut report).await;
    report.print();
}
