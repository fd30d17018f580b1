//! Three who count a shop's stock: they begin together, and nobody goes on before all are done.
//!
//!     cargo run --example double_barrier
//!
//! Everybody has a connection of their own to an etcd in memory, as if they were processes. It takes a
//! few seconds, and fails if somebody begins or ends too early.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use futures::future::try_join_all;
use switchboard::{
    Registry,
    coordination::{DoubleBarrier, EnterError},
};
use switchboard_embedded::EmbeddedEtcd;
use tokio::time::sleep;

const NAME: &str = "/shop/stocktaking";
const COUNT: usize = 3;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tokio::time::timeout(Duration::from_secs(30), show())
        .await
        .context("it takes too long")?
}

async fn show() -> anyhow::Result<()> {
    let etcd = EmbeddedEtcd::start();
    let (came, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    println!("two rounds, each of which {COUNT} begin together and end together\n");
    try_join_all((1..=COUNT).map(|number| count(&etcd, number, &came, &done))).await?;

    let registry = connect(&etcd).await?;
    let barrier = DoubleBarrier::new(&registry, NAME, 1)?;
    let inside = barrier.enter().await?;
    match barrier.enter().await {
        Err(error @ EnterError::Full(1)) => println!("\none too many: {error}"),
        other => bail!("one too many: {other:?}"),
    }
    inside.leave().await?;
    Ok(())
}

async fn connect(etcd: &EmbeddedEtcd) -> anyhow::Result<Registry> {
    let registry = Registry::builder("etcd:2379")?.connector(etcd.connector());
    Ok(registry.connect().await?)
}

/// Is one of them, in a process of its own.
async fn count(
    etcd: &EmbeddedEtcd,
    number: usize,
    came: &AtomicUsize,
    done: &AtomicUsize,
) -> anyhow::Result<()> {
    let registry = connect(etcd).await?;
    let barrier = DoubleBarrier::new(&registry, NAME, COUNT)?;
    for round in 1..=2 {
        sleep(Duration::from_millis(200) * number as u32).await;
        println!("  round {round}, {number}: I am here");
        came.fetch_add(1, Ordering::SeqCst);
        let inside = barrier.enter().await?;
        ensure!(came.load(Ordering::SeqCst) == COUNT * round, "all are here");
        println!("  round {round}, {number}: we begin");
        // Ends when the place inside is lost: then the others may have gone on.
        let work = sleep(Duration::from_millis(200) * (COUNT - number) as u32);
        inside.hold(work).await?;
        done.fetch_add(1, Ordering::SeqCst);
        inside.leave().await?;
        ensure!(done.load(Ordering::SeqCst) == COUNT * round, "all are done");
        println!("  round {round}, {number}: all are done");
    }
    registry.close().await;
    Ok(())
}
