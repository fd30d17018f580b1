//! Everything at once, on this machine alone: three greeters, a caller, and an etcd in memory.
//!
//!     cargo run --example greeter
//!
//! One server is restarted, one is killed, and the calls go on. It takes a dozen seconds, and
//! fails if a call failed that should not have.

mod caller;
mod place;
mod rates;
mod screen;
mod script;
mod serve;
mod show;
mod tally;
mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use switchboard::Registry;
use switchboard_embedded::EmbeddedEtcd;
use tokio::time::Instant;

use crate::{serve::Serve, show::Show};

/// Shows three greeters, a caller, and an etcd in memory: one server is restarted, one is killed,
/// and the calls go on.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    /// Is one of the greeters; the example starts those itself.
    #[command(hide = true)]
    Serve(Serve),
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().part {
        Some(Part::Serve(serve)) => {
            serve.run().await?;
            Ok(ExitCode::SUCCESS)
        }
        None => show().await,
    }
}

async fn show() -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let stop = switchboard::terminate();
    println!("Three greeters, a caller and an etcd in memory, all on this machine.\n");
    let etcd = EmbeddedEtcd::start();
    let address = etcd.listen("127.0.0.1:0").await?;
    let registry = Registry::builder(format!("{address}"))?.connect().await?;
    let mut show = Show::start(address, &registry, start)?;
    let played = show.play(stop).await;
    let is_well = show.sum_up()?;
    let said = show.end().await?;
    if !said.is_empty() {
        eprintln!("the servers said:\n{said}");
    }
    registry.close().await;
    played?;
    Ok(match is_well {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
