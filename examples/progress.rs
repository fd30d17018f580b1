//! A job that says how far it is, one who watches, and two who wait for its end.
//!
//!     cargo run --example progress
//!
//! Everybody has a connection of their own to an etcd in memory, as if they were processes. It takes a
//! few seconds, and fails if somebody is told wrongly.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use switchboard::{
    Registry,
    coordination::{Percent, Progress, ProgressError},
};
use switchboard_embedded::EmbeddedEtcd;
use tokio::time::sleep;

const JOB: &str = "import-42";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tokio::time::timeout(Duration::from_secs(30), show())
        .await
        .context("it takes too long")?
}

async fn show() -> anyhow::Result<()> {
    let etcd = EmbeddedEtcd::start();
    let (screen, waiting) = (connect(&etcd).await?, connect(&etcd).await?);
    let screen = Progress::follow(&screen, JOB).await?;
    let mut waiting = Progress::follow(&waiting, JOB).await?;
    ensure!(waiting.current().is_none(), "nothing is reported yet");
    println!("one watches {JOB}, one waits for its end; it has not begun\n");

    let done = async {
        waiting.wait(Percent::is_done).await?;
        println!("  who waited: it is done, I go on");
        Ok(())
    };
    tokio::try_join!(work(connect(&etcd).await?), watch(screen), done)?;

    println!("\nthe job's process has ended; one who asks only now");
    let late = connect(&etcd).await?;
    let percent = Progress::follow(&late, JOB).await?.current();
    ensure!(percent == Some(Percent::DONE), "{percent:?}");
    println!("  who is late: 100 %, it is done");

    match Progress::report(&late, JOB)?.reached(101).await {
        Err(ProgressError::Percent(error)) => println!("\n101 % there is not: {error}"),
        other => bail!("101 %: {other:?}"),
    }
    Ok(())
}

async fn connect(etcd: &EmbeddedEtcd) -> anyhow::Result<Registry> {
    let registry = Registry::builder("etcd:2379")?.connector(etcd.connector());
    Ok(registry.connect().await?)
}

/// Is the job, in a process of its own, which ends with it.
async fn work(registry: Registry) -> anyhow::Result<()> {
    let mut report = Progress::report(&registry, JOB)?;
    for percent in (0..=100).step_by(20) {
        sleep(Duration::from_millis(300)).await;
        println!("  the job: {percent} %");
        report.reached(percent).await?;
    }
    registry.close().await;
    Ok(())
}

/// Follows the job, step by step. A slow one would be told of the last step only.
async fn watch(mut progress: Progress) -> anyhow::Result<()> {
    let mut seen = progress.wait(|_| true).await?;
    println!("  who watches: {seen}");
    while !seen.is_done() {
        let next = progress.wait(|percent| percent != seen).await?;
        ensure!(next > seen, "reports arrive in order: {next} after {seen}");
        seen = next;
        println!("  who watches: {seen}");
    }
    Ok(())
}
