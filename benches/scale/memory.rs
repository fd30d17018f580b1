//! What a connection takes that nobody uses.

use std::{env, fs, process::Command, sync::Arc, time::Duration};

use switchboard::{Channel, ChannelState, Condition};
use switchboard_test_support::Process;
use tokio::time::sleep;
use tonic::transport;

use crate::report::Report;

/// How connections are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kept {
    /// By a channel of tonic's each.
    Tonic,
    /// By one channel of ours.
    Switchboard,
}

/// Until what is said last is said.
const SETTLED: Duration = Duration::from_millis(500);

pub(crate) async fn run(addresses: &[String], report: &mut Report) {
    let tonic = each(Kept::Tonic, addresses).await;
    let ours = each(Kept::Switchboard, addresses).await;
    let ratio = ours.zip(tonic).map(|(ours, tonic)| ours / tonic);
    let count = addresses.len();
    report.figure(
        &format!("an idle connection of tonic's, of {count}"),
        tonic,
        "bytes",
        None,
    );
    report.figure(
        &format!("an idle endpoint of ours, of {count}"),
        ours,
        "bytes",
        None,
    );
    report.figure("its ratio to tonic's", ratio, "", Some(1.0));
}

/// Returns by how many bytes each endpoint grows a process that connects to it, where the system
/// tells.
async fn each(kept: Kept, addresses: &[String]) -> Option<f64> {
    let mut command = Command::new(env::current_exe().unwrap());
    let name = match kept {
        Kept::Tonic => "tonic",
        Kept::Switchboard => "switchboard",
    };
    command.args(["--keep", name]).args(addresses);
    let mut process = Process::spawn(command);
    let grown = process
        .wait_for_line(Duration::from_secs(60), |_| true)
        .await;
    let grown: f64 = grown.parse().ok()?;
    Some(grown / addresses.len() as f64)
}

/// Connects, and says by how many bytes that grew this process.
pub(crate) async fn keep(kept: Kept, addresses: &[String]) {
    let before = resident();
    let (mut plain, mut ours) = (Vec::new(), None);
    match kept {
        Kept::Tonic => {
            for address in addresses {
                let endpoint = transport::Endpoint::from_shared(format!("http://{address}"));
                plain.push(endpoint.unwrap().connect().await.unwrap());
            }
        }
        Kept::Switchboard => {
            let channel = Channel::balance(addresses.iter().map(String::as_str)).unwrap();
            let channel = channel.connect_lazy().unwrap();
            let mut states = channel.watch_state();
            let all = |state: &Arc<ChannelState>| {
                let mut endpoints = state.endpoints.iter();
                !state.endpoints.is_empty() && endpoints.all(|it| it.condition == Condition::Ready)
            };
            states.wait_for(all).await.unwrap();
            ours = Some(channel);
        }
    }
    sleep(SETTLED).await;
    match resident().zip(before) {
        Some((after, before)) => println!("{}", after - before),
        None => println!("unknown"),
    }
    drop((plain, ours));
}

/// Returns how many bytes of memory this process has, where the system tells: on Linux.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes << 10)
}
