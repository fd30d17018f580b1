//! Calls the greeters that etcd knows, in turn.
//!
//!     cargo run --example greeter_client -- --rate 100 --duration 10

use std::{
    collections::BTreeMap,
    error::Error,
    io::{self, IsTerminal},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use comfy_table::Table;
use hdrhistogram::Histogram;
use switchboard::{CallError, Channel, Registry, Target};
use switchboard_proto::{HelloReply, HelloRequest, greeter_client::GreeterClient};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};
use tonic::{Request, Status};

/// Calls the greeters that etcd knows, in turn.
#[derive(Parser)]
struct Arguments {
    /// etcd's endpoints, separated by commas.
    #[arg(long, default_value = "127.0.0.1:2379")]
    etcd: String,
    /// The name to call.
    #[arg(long, default_value = "greeter")]
    name: String,
    /// What to call, as one text, such as etcd:///greeter, instead of --etcd and --name.
    #[arg(long, conflicts_with_all = ["etcd", "name"])]
    target: Option<Target>,
    /// Calls a second.
    #[arg(long, default_value_t = 2.0, value_parser = rate)]
    rate: f64,
    /// For how many seconds; until Ctrl-C unless set.
    #[arg(long)]
    duration: Option<u64>,
    /// Prints nothing but the summary, as one JSON object.
    #[arg(long)]
    json: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    let is_rate = |rate: &f64| (0.001..=1e6).contains(rate);
    text.parse()
        .ok()
        .filter(is_rate)
        .ok_or_else(|| "expected: from 0.001 to 1000000".to_owned())
}

/// How long a call may take, from waiting for a server to its answer.
const DEADLINE: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();

    let channel = match arguments.target {
        Some(target) => switchboard::dial(target)?,
        None => {
            let registry = Registry::builder(arguments.etcd)?.connect_lazy()?;
            registry.dial(arguments.name)
        }
    };
    let channel = channel.connect_lazy()?;
    let end = arguments
        .duration
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let summary = call_steadily(channel, arguments.rate, end, arguments.json).await?;
    if arguments.json {
        println!("{}", summary.json());
    } else {
        println!("{}", summary.table());
    }
    Ok(if summary.failed() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Starts calls at a steady rate, whether or not earlier ones have ended.
async fn call_steadily(
    channel: Channel,
    rate: f64,
    end: Option<Instant>,
    quiet: bool,
) -> anyhow::Result<Summary> {
    let mut summary = Summary::default();
    let mut calls = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut over = std::pin::pin!(over(end));
    loop {
        tokio::select! {
            biased;
            () = &mut over => break,
            Some(call) = calls.join_next() => summary.add(call?, quiet)?,
            _ = ticks.tick() => {
                calls.spawn(call(channel.clone()));
            }
        }
    }
    while let Some(call) = calls.join_next().await {
        summary.add(call?, quiet)?;
    }
    Ok(summary)
}

async fn over(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => switchboard::terminate().await,
    }
}

/// One call, and how long it took.
struct Call {
    answer: Result<HelloReply, Status>,
    took: Duration,
}

async fn call(channel: Channel) -> Call {
    let mut request = Request::new(HelloRequest {
        name: "you".to_owned(),
    });
    request.set_timeout(DEADLINE);
    let start = Instant::now();
    let answer = GreeterClient::new(channel).say_hello(request).await;
    Call {
        answer: answer.map(tonic::Response::into_inner),
        took: start.elapsed(),
    }
}

/// What came of all calls, by server.
#[derive(Default)]
struct Summary {
    servers: BTreeMap<String, Server>,
    /// What the last call failed with, if it did: it is printed once, however often it is repeated.
    failing: Option<String>,
}

struct Server {
    calls: u64,
    failed: u64,
    micros: Histogram<u64>,
}

impl Server {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            calls: 0,
            failed: 0,
            micros: Histogram::new(3)?,
        })
    }
}

impl Summary {
    fn add(&mut self, call: Call, quiet: bool) -> anyhow::Result<()> {
        let (name, failed) = match &call.answer {
            Ok(reply) => {
                self.failing = None;
                if !quiet {
                    println!("{} from {}", reply.message, reply.served_by);
                }
                (reply.served_by.clone(), false)
            }
            Err(status) => {
                let failure = format!("{:?}: {}", status.code(), status.message());
                if !quiet && self.failing.as_ref() != Some(&failure) {
                    println!("failed: {failure}");
                }
                self.failing = Some(failure);
                (endpoint_of(status), true)
            }
        };
        let server = match self.servers.entry(name) {
            std::collections::btree_map::Entry::Occupied(server) => server.into_mut(),
            std::collections::btree_map::Entry::Vacant(server) => server.insert(Server::new()?),
        };
        server.calls += 1;
        server.failed += u64::from(failed);
        if !failed {
            server.micros.record(call.took.as_micros() as u64)?;
        }
        Ok(())
    }

    fn calls(&self) -> u64 {
        self.servers.values().map(|server| server.calls).sum()
    }

    fn failed(&self) -> u64 {
        self.servers.values().map(|server| server.failed).sum()
    }

    fn micros(&self) -> Histogram<u64> {
        let mut all = Histogram::new(3).expect("3 is a number of digits");
        for server in self.servers.values() {
            all.add(&server.micros)
                .expect("a histogram that resizes takes any other");
        }
        all
    }

    fn json(&self) -> serde_json::Value {
        let micros = self.micros();
        let answered = |server: &Server| server.calls - server.failed;
        let servers = self
            .servers
            .iter()
            .filter(|(_, server)| answered(server) > 0);
        let servers: BTreeMap<_, _> = servers
            .map(|(name, server)| (name, answered(server)))
            .collect();
        serde_json::json!({
            "calls": self.calls(),
            "failed": self.failed(),
            "servers": servers,
            "p50_us": micros.value_at_quantile(0.5),
            "p99_us": micros.value_at_quantile(0.99),
        })
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.set_header(["server", "calls", "errors", "median", "p99"]);
        let mut row = |name: &str, calls: u64, failed: u64, micros: &Histogram<u64>| {
            let at = |quantile| {
                format!(
                    "{:?}",
                    Duration::from_micros(micros.value_at_quantile(quantile))
                )
            };
            table.add_row([
                name.to_owned(),
                calls.to_string(),
                failed.to_string(),
                at(0.5),
                at(0.99),
            ]);
        };
        for (name, server) in &self.servers {
            row(name, server.calls, server.failed, &server.micros);
        }
        row("all", self.calls(), self.failed(), &self.micros());
        table
    }
}

/// Returns the server that a failed call was sent to, if it was sent.
fn endpoint_of(status: &Status) -> String {
    let error: Option<&CallError> =
        std::error::Error::source(status).and_then(<dyn Error>::downcast_ref);
    let endpoint = error.and_then(CallError::endpoint);
    endpoint.map_or("none".to_owned(), |endpoint| {
        endpoint.addresses()[0].to_string()
    })
}
