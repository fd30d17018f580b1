//! What coordination costs, beside what etcd-client costs that does the same by hand.
//!
//! ```text
//! cargo bench --bench coordination               a table
//! cargo bench --bench coordination -- --json     one object a line
//! ```
//!
//! Both sides take turns against one etcd, a process of its own, so that what else the machine does
//! hits both. A ratio is that of the medians over the rounds; beside it are the least and the greatest
//! of a round. Requests are counted by etcd.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench panics where it cannot go on, and takes the time"
)]

mod config;
#[path = "../shared/median.rs"]
mod median;
#[path = "../shared/options.rs"]
mod options;
mod report;
mod topic;

use clap::Parser;
use switchboard_test_support::Etcd;

use self::{options::Options, report::Report};

/// Measures coordination beside raw etcd-client.
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
    config::run(&etcd, options.rounds, &mut report).await;
    topic::run(&etcd, options.rounds, &mut report).await;
    report.print();
}
