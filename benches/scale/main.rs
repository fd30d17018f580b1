//! What a channel of many endpoints costs.
//!
//! ```text
//! cargo bench --bench scale                                      a table
//! cargo bench --bench scale -- --json                            one object a line
//! cargo bench --bench scale -- --rounds 3 --endpoints 100        a short one
//! ```
//!
//! The servers are one process with as many ports. Changes are counted in time of this process,
//! which does nothing else; memory in that of a process that connects and then waits.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench panics where it cannot go on, and takes the time"
)]

mod change;
#[path = "../shared/cpu.rs"]
mod cpu;
#[path = "../shared/median.rs"]
mod median;
mod memory;
#[path = "../shared/options.rs"]
mod options;
mod pick;
mod report;
#[path = "../shared/servers.rs"]
mod servers;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::{memory::Kept, options::Options, report::Report, servers::Servers};

/// Measures what a channel of many endpoints costs.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// How many endpoints there are.
    #[arg(long, default_value_t = 1000)]
    endpoints: usize,
    /// Is so many servers, until it is killed.
    #[arg(long, hide = true)]
    serve: Option<usize>,
    /// Connects to the servers that it is told of, and says how its memory grew.
    #[arg(long, hide = true)]
    keep: Option<Kept>,
    /// Where those are.
    #[arg(hide = true)]
    addresses: Vec<String>,
}

// One thread: what it does is the same each time.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments = Arguments::parse();
    allow_many_files();
    match arguments {
        Arguments {
            serve: Some(count), ..
        } => servers::serve(count).await,
        Arguments {
            keep: Some(kept), ..
        } => memory::keep(kept, &arguments.addresses).await,
        _ => measure(&arguments).await,
    }
}

async fn measure(arguments: &Arguments) {
    let rounds = arguments.options.rounds;
    let mut report = Report::new(arguments.options.json);
    let servers = Servers::start(arguments.endpoints).await;
    change::run(&servers.addresses, rounds, &mut report).await;
    memory::run(&servers.addresses, &mut report).await;
    drop(servers);
    pick::run(rounds, &mut report);
    report.print();
}

/// A connection is a file, and often fewer are allowed than may be asked for.
fn allow_many_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let most = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, most).unwrap();
}
