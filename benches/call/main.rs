//! What a call costs, beside what it costs with tonic's own channels.
//!
//! ```text
//! cargo bench --bench call                       a table
//! cargo bench --bench call -- --json             one object a line
//! cargo bench --bench call -- --rounds 5         fewer rounds
//! ```
//!
//! Four servers in a process of their own, called in a closed loop; the variants take turns in each
//! round, so that what else the machine does hits all. A ratio is to one plain channel of tonic's:
//! the median over the rounds, with the least and the greatest beside it. One variant is grpc-go's
//! client, where Go is.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench panics where it cannot go on, and takes the time"
)]

#[path = "../shared/cpu.rs"]
mod cpu;
mod grpc_go;
#[path = "../shared/load.rs"]
mod load;
#[path = "../shared/median.rs"]
mod median;
#[path = "../shared/options.rs"]
mod options;
mod report;
#[path = "../shared/servers.rs"]
mod servers;
#[path = "../shared/variant.rs"]
mod variant;

use std::time::Duration;

use clap::Parser;

use self::{
    grpc_go::GrpcGo,
    load::{DEADLINE, Kind, Load, loads},
    options::Options,
    report::Report,
    servers::Servers,
    variant::{CHOOSING, COSTING, SERVERS, VARIANTS, Variant},
};

/// Measures what calls cost.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// For how many milliseconds each variant calls in each round.
    #[arg(long, default_value_t = 300)]
    millis: u64,
    /// Is so many servers, until it is killed.
    #[arg(long, hide = true)]
    serve: Option<usize>,
    /// Names the variants of our channel, for who counts instructions.
    #[arg(long, hide = true)]
    features: bool,
    /// Makes so many calls and nothing else, for who counts instructions.
    #[arg(long)]
    make: Option<usize>,
    /// How those calls are made.
    #[arg(long, default_value = "switchboard")]
    variant: Variant,
    /// How many of them at once.
    #[arg(long, default_value_t = 16)]
    in_flight: usize,
    /// How many servers they go to.
    #[arg(long, default_value_t = SERVERS)]
    endpoints: usize,
    /// How many bytes each carries.
    #[arg(long, default_value_t = 16)]
    bytes: usize,
    /// Whether they have a deadline.
    #[arg(long)]
    deadline: bool,
}

fn main() {
    let arguments = Arguments::parse();
    if arguments.features {
        let plain = VARIANTS.last().into_iter();
        for variant in plain.chain(&CHOOSING).chain(&COSTING) {
            println!("{}", variant.word());
        }
        return;
    }
    // Built with that feature, it measures what calls cost where they are counted.
    #[cfg(feature = "metrics")]
    let _recorder = metrics_exporter_prometheus::PrometheusBuilder::new()
        .install_recorder()
        .unwrap();
    let mut runtime = match arguments.make {
        // What one thread does is the same each time.
        Some(_) => tokio::runtime::Builder::new_current_thread(),
        None => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        match arguments {
            Arguments {
                serve: Some(count), ..
            } => servers::serve(count).await,
            Arguments {
                make: Some(calls), ..
            } => make(&arguments, calls).await,
            _ => compare(&arguments).await,
        }
    });
}

async fn make(arguments: &Arguments, calls: usize) {
    let servers = Servers::start(arguments.endpoints).await;
    let client = arguments.variant.connect(&servers.addresses).await;
    let load = Load {
        kind: Kind::Unary,
        in_flight: arguments.in_flight,
        bytes: arguments.bytes,
        timeout: arguments.deadline.then_some(DEADLINE),
    };
    load.make(&client, calls).await;
}

async fn compare(arguments: &Arguments) {
    let servers = Servers::start(SERVERS).await;
    let (mut names, mut clients) = (Vec::new(), Vec::new());
    for variant in VARIANTS {
        names.push(variant.name());
        clients.push(variant.connect(&servers.addresses).await);
    }
    let mut grpc_go = match GrpcGo::connect(&servers.addresses).await {
        Ok(grpc_go) => {
            names.push("grpc-go");
            Some(grpc_go)
        }
        Err(reason) => {
            eprintln!("grpc-go is left out: {reason}");
            None
        }
    };
    let mut report = Report::new(arguments.options.json, names);
    let time = Duration::from_millis(arguments.millis);
    for load in loads() {
        let mut rounds = Vec::new();
        for _ in 0..arguments.options.rounds {
            let mut costs = Vec::new();
            for client in &clients {
                costs.push(load.run(client, time).await);
            }
            if let Some(grpc_go) = &mut grpc_go {
                costs.push(grpc_go.run(load, time).await);
            }
            rounds.push(costs);
        }
        report.add(load, &rounds);
    }
    report.print();
}
