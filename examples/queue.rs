//! Three workers, of whom one is slow, and two who push jobs for them: each job is done once. Then the
//! urgent ones are popped first.
//!
//!     cargo run --example queue
//!
//! Everybody has a connection of their own to an etcd in memory, as if they were processes, and all
//! connections break several times. It takes a few seconds, and fails if a job is done twice, or is lost
//! in silence.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, ensure};
use switchboard::{
    Registry,
    coordination::{PopError, PriorityQueue, PushError, Queue},
};
use switchboard_embedded::EmbeddedEtcd;
use tokio::time::{sleep, timeout};

const JOBS: &str = "/shop/jobs";
const EACH: usize = 100;
const END: &[u8] = b"go home";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    timeout(Duration::from_secs(60), show())
        .await
        .context("it takes too long")?
}

async fn show() -> anyhow::Result<()> {
    let etcd = EmbeddedEtcd::start();
    println!("ada and bob push {EACH} jobs each; eve, fay and gus do them, and gus is slow");
    println!("every connection is broken ten times in between");
    let breaking = async {
        for _ in 0..10 {
            sleep(Duration::from_millis(60)).await;
            etcd.drop_connections();
        }
        Ok(())
    };
    let pushing = async {
        let (ada, bob) = (connect(&etcd).await?, connect(&etcd).await?);
        let pushed = tokio::try_join!(push(&ada, "ada"), push(&bob, "bob"), breaking)?;
        let queue = Queue::fifo(&ada, JOBS)?;
        for _ in 0..3 {
            // The last connection to break may be this one. One too many sends nobody home.
            while let Err(error) = queue.push(END).await {
                ensure!(matches!(error, PushError::Unknown { .. }), error);
            }
        }
        anyhow::Ok(pushed.0 + pushed.1)
    };
    let (doubtful, eve, fay, gus) = tokio::try_join!(
        pushing,
        work(connect(&etcd).await?, Duration::from_millis(2)),
        work(connect(&etcd).await?, Duration::from_millis(2)),
        work(connect(&etcd).await?, Duration::from_millis(40)),
    )?;
    let mut done = BTreeSet::new();
    let mut unknown = 0;
    for (name, worker) in [("eve", eve), ("fay", fay), ("gus", gus)] {
        println!("  {name} has done {} jobs", worker.done.len());
        unknown += worker.unknown;
        for job in worker.done {
            ensure!(done.insert(job.clone()), "{job} is done twice");
        }
    }
    println!(
        "  together {} of {}, none twice; {doubtful} may not have been pushed, {unknown} may be lost",
        done.len(),
        2 * EACH
    );
    ensure!(
        done.len() + doubtful + unknown >= 2 * EACH,
        "lost in silence"
    );

    println!("\nby priority, whoever came first:");
    let registry = connect(&etcd).await?;
    let mut queue = PriorityQueue::new(&registry, "/shop/errands")?;
    for (priority, errand) in [(50, "sweep"), (50, "count"), (1, "put out the fire")] {
        queue.push(priority, errand).await?;
    }
    let first = queue.pop().await?.value;
    ensure!(first == b"put out the fire");
    println!("  {}", String::from_utf8_lossy(&first));
    while let Some(item) = queue.try_pop().await? {
        println!("  {}", String::from_utf8_lossy(&item.value));
    }
    Ok(())
}

async fn connect(etcd: &EmbeddedEtcd) -> anyhow::Result<Registry> {
    let registry = Registry::builder("etcd:2379")?.connector(etcd.connector());
    Ok(registry.connect().await?)
}

/// Pushes jobs; returns of how many nobody knows whether they are pushed.
async fn push(registry: &Registry, name: &str) -> anyhow::Result<usize> {
    let queue = Queue::fifo(registry, JOBS)?;
    let mut doubtful = 0;
    for number in 0..EACH {
        match queue.push(format!("{name} {number}")).await {
            Ok(_) => {}
            Err(PushError::Unknown { .. }) => doubtful += 1,
            Err(error) => return Err(error.into()),
        }
        sleep(Duration::from_millis(4)).await;
    }
    Ok(doubtful)
}

#[derive(Default)]
struct Worker {
    done: Vec<String>,
    /// How many jobs nobody may have.
    unknown: usize,
}

/// Does jobs until it is told to go home.
async fn work(registry: Registry, each: Duration) -> anyhow::Result<Worker> {
    let mut queue = Queue::fifo(&registry, JOBS)?;
    let mut worker = Worker::default();
    loop {
        match queue.pop().await {
            Ok(item) if item.value == END => return Ok(worker),
            Ok(item) => worker.done.push(String::from_utf8(item.value)?),
            Err(PopError::Unknown { .. }) => worker.unknown += 1,
            Err(error) => return Err(error.into()),
        }
        sleep(each).await;
    }
}
