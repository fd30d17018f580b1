//! What calls meet when one of four servers fails or grows slow, beside what they meet with tonic's own
//! channels.
//!
//! ```text
//! cargo bench --bench faults                                       a table
//! cargo bench --bench faults -- --json                             one object a line
//! cargo bench --bench faults -- --rounds 1 --seconds 2 --rate 500 --variant switchboard --fault slow
//!                                                                  a short one
//! ```
//!
//! Each server is a process of its own, which takes 2 ms for a call. Calls start on a schedule, whether
//! those before have ended or not, at half of the rate that the slowest variant reaches; each has a
//! deadline of 2 s. The one plain channel of tonic's is to the server that fails.
//! `docs/faults.md` says what came of it.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench panics where it cannot go on, and takes the time"
)]

mod arrivals;
mod black_hole;
mod conduct;
#[path = "../shared/cpu.rs"]
mod cpu;
mod fault;
#[allow(dead_code, reason = "some of it is for the bench of calls alone")]
#[path = "../shared/load.rs"]
mod load;
#[path = "../shared/options.rs"]
mod options;
mod outcome;
mod report;
mod serve;
mod servers;
#[allow(dead_code, reason = "some of it is for the bench of calls alone")]
#[path = "../shared/variant.rs"]
mod variant;

use std::time::Duration;

use clap::Parser;
use tokio::time::sleep;

use self::{
    arrivals::Arrivals,
    fault::{FAULTS, Fault},
    load::{Kind, Load},
    options::Options,
    outcome::{Outcome, Outcomes},
    report::Report,
    servers::Servers,
    variant::{CHOOSING, VARIANTS, Variant},
};

/// Measures what calls meet when a server fails.
#[derive(Parser)]
#[command(mut_arg("rounds", |it| it.default_value("3")))]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// How long calls go on after a server has failed. One that is frozen wakes after half of it.
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// How many calls start in a second, in place of half of what is measured first.
    #[arg(long)]
    rate: Option<u32>,
    /// Which faults, in place of all.
    #[arg(long)]
    fault: Vec<Fault>,
    /// Which variants, in place of all.
    #[arg(long)]
    variant: Vec<Variant>,
    /// Is a server at this address, for as long as it has an input.
    #[arg(long, hide = true)]
    serve: Option<String>,
}

/// How long calls go on before a server fails.
const BEFORE: Duration = Duration::from_secs(1);

#[tokio::main(worker_threads = 2)]
async fn main() {
    let arguments = Arguments::parse();
    if let Some(address) = &arguments.serve {
        return serve::serve(address).await;
    }
    let after = Duration::from_secs(arguments.seconds);
    let rate = match arguments.rate {
        Some(rate) => rate,
        None => capacity().await / 2,
    };
    let variants = match arguments.variant {
        some if !some.is_empty() => some,
        _ => measured().collect(),
    };
    let faults = match arguments.fault {
        some if !some.is_empty() => some,
        _ => FAULTS.to_vec(),
    };
    let mut report = Report::new(arguments.options.json, rate);
    for fault in faults {
        for variant in &variants {
            let mut outcomes = Outcomes::default();
            for _ in 0..arguments.options.rounds {
                outcomes.add(meet(fault, *variant, rate, after).await);
            }
            report.add(fault, *variant, &outcomes);
        }
    }
    report.print();
}

/// Returns the variants that differ in whom they call.
fn measured() -> impl Iterator<Item = Variant> {
    VARIANTS.into_iter().chain(CHOOSING)
}

/// Returns how many calls a second the slowest variant makes.
async fn capacity() -> u32 {
    let servers = Servers::start().await;
    let load = Load {
        kind: Kind::Unary,
        // As many as hide how long a call takes.
        in_flight: 256,
        bytes: 16,
        timeout: None,
    };
    let mut least = f64::INFINITY;
    for variant in measured() {
        let client = variant.connect(&servers.addresses()).await;
        // The first are not counted: connections open.
        load.make(&client, 4000).await;
        let cost = load.run(&client, Duration::from_secs(1)).await;
        least = least.min(cost.calls_per_s);
    }
    least as u32
}

/// Has a server fail under calls, and returns how they went.
async fn meet(fault: Fault, variant: Variant, rate: u32, after: Duration) -> Outcome {
    let mut servers = Servers::start().await;
    let client = variant.connect(&servers.addresses()).await;
    // A balancer of tonic's tells nobody when it has connected.
    sleep(Duration::from_millis(200)).await;
    let arrivals = Arrivals::start(client, rate, BEFORE + after);
    sleep(BEFORE).await;
    let failed = arrivals.elapsed();
    // What stands in the server's place goes when the round ends.
    let place = fault.strike(servers.first()).await;
    sleep(after / 2).await;
    fault.mend(servers.first());
    let calls = arrivals.all().await;
    drop(place);
    Outcome::of(&calls, failed, BEFORE + after)
}
