//! What the embedded etcd takes, in time beside a real one, and in memory.
//!
//! ```text
//! cargo bench --bench embedded                       a table, and what fits none
//! cargo bench --bench embedded -- --json             one object a line
//! cargo bench --bench embedded -- --seconds 600      whether memory grows, for ten minutes
//! ```
//!
//! Both servers are processes of their own on a port of loopback, with the same client on the same
//! machine; they take turns, so that what else the machine does hits both. The real one does not wait
//! for its disk. A ratio is the median over the rounds, with the least and the greatest beside it.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench panics where it cannot go on, and takes the time"
)]

mod capacity;
mod churn;
mod latency;
#[path = "../shared/median.rs"]
mod median;
#[path = "../shared/options.rs"]
mod options;
mod report;
mod served;

use std::time::Duration;

use clap::Parser;

use self::{options::Options, report::Report};

/// Measures the embedded etcd, beside a real one.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// For how long memory is watched.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Is the embedded etcd, until it is killed.
    #[arg(long, hide = true)]
    serve: bool,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    if arguments.serve {
        return served::serve().await;
    }
    let options = arguments.options;
    let mut report = Report::new(options.json);
    latency::run(options.rounds, &mut report).await;
    capacity::run(&mut report).await;
    churn::run(Duration::from_secs(arguments.seconds), &mut report).await;
    report.print();
}
