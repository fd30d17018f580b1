//! How often a call allocates, beside how often it does with tonic's own channels.
//!
//! ```text
//! cargo bench --bench allocations                a table
//! cargo bench --bench allocations -- --json      one object a line
//! ```
//!
//! One thread makes all calls of a variant, and nothing else is counted: the servers are a process
//! of their own. Counted are blocks that were allocated or moved, with those of the caller, which
//! are the same for all; of a long run without what a short one took, so that what comes once is
//! not counted.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench panics where it cannot go on"
)]

#[path = "../shared/cpu.rs"]
mod cpu;
#[allow(dead_code, reason = "some of it is for the bench of calls alone")]
#[path = "../shared/load.rs"]
mod load;
#[path = "../shared/options.rs"]
mod options;
#[path = "../shared/servers.rs"]
mod servers;
#[path = "../shared/variant.rs"]
mod variant;

use clap::Parser;
use comfy_table::Table;
use dhat::{HeapStats, Profiler};
use serde_json::json;

use self::{
    load::{Kind, Load, loads},
    options::Options,
    servers::Servers,
    variant::{Client, SERVERS, VARIANTS},
};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Counts what calls allocate.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Is so many servers, until it is killed.
    #[arg(long, hide = true)]
    serve: Option<usize>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments = Arguments::parse();
    match arguments.serve {
        Some(count) => servers::serve(count).await,
        None => compare(arguments.options.json).await,
    }
}

async fn compare(json: bool) {
    let mut table = Table::new();
    table.set_header(["case", "variant", "allocations", "ratio", "bytes", "ratio"]);
    let servers = Servers::start(SERVERS).await;
    // It counts for as long as it lives.
    let _profiler = Profiler::builder().testing().build();
    for load in loads() {
        let mut of_tonic = None;
        for variant in VARIANTS {
            let client = variant.connect(&servers.addresses).await;
            let allocated = per_call(load, &client).await;
            let of_tonic = *of_tonic.get_or_insert(allocated);
            let blocks = (allocated.blocks, allocated.blocks / of_tonic.blocks);
            let bytes = (allocated.bytes, allocated.bytes / of_tonic.bytes);
            if json {
                let line = json!({
                    "bench": "call",
                    "case": load.case(),
                    "variant": variant.name(),
                    "in_flight": load.in_flight,
                    "bytes": load.bytes,
                    "allocations_per_call": blocks.0,
                    "allocated_bytes_per_call": bytes.0,
                    "ratio_allocations": blocks.1,
                    "ratio_allocated_bytes": bytes.1,
                });
                println!("{line}");
            }
            table.add_row([
                format!(
                    "{}, {} at once, {} bytes",
                    load.case(),
                    load.in_flight,
                    load.bytes
                ),
                variant.name().to_owned(),
                format!("{:.1}", blocks.0),
                format!("{:.2}", blocks.1),
                format!("{:.0}", bytes.0),
                format!("{:.2}", bytes.1),
            ]);
        }
    }
    if !json {
        println!("{table}");
    }
}

/// What was allocated.
#[derive(Debug, Clone, Copy)]
struct Allocated {
    blocks: f64,
    bytes: f64,
}

async fn per_call(load: Load, client: &Client) -> Allocated {
    let (few, many) = match load.kind {
        Kind::Unary => (640, 3200),
        Kind::ServerStreaming { .. } => (20, 100),
    };
    let allocated_by = async |calls| {
        let before = HeapStats::get();
        load.make(client, calls).await;
        let after = HeapStats::get();
        let blocks = after.total_blocks - before.total_blocks;
        (
            blocks as f64,
            (after.total_bytes - before.total_bytes) as f64,
        )
    };
    // What grows to its size has done so.
    load.make(client, few).await;
    let of_few = allocated_by(few).await;
    let of_many = allocated_by(many).await;
    let calls = (many - few) as f64;
    Allocated {
        blocks: (of_many.0 - of_few.0) / calls,
        bytes: (of_many.1 - of_few.1) / calls,
    }
}
