//! Three replicas that wait until the schema is new, and one who makes it new and lets them go.
//!
//!     cargo run --example barrier
//!
//! Everybody has a connection of their own to an etcd in memory, as if they were processes. etcd starts
//! again in between, and nobody goes too early. It takes a second, and fails if somebody does.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use switchboard::{
    Registry,
    coordination::{Barrier, BarrierError},
};
use switchboard_embedded::EmbeddedEtcd;
use tokio::time::{sleep, timeout};

const NAME: &str = "/shop/opening";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    timeout(Duration::from_secs(30), show())
        .await
        .context("it takes too long")?
}

async fn show() -> anyhow::Result<()> {
    let etcd = EmbeddedEtcd::start();
    let migration = Barrier::new(&connect(&etcd).await?, NAME)?;
    migration.hold().await?;
    println!("the migration holds the barrier");
    match Barrier::new(&connect(&etcd).await?, NAME)?.hold().await {
        Err(BarrierError::Held(_)) => println!("another migration is refused: it is held already"),
        other => bail!("two hold it: {other:?}"),
    }

    let is_new = AtomicBool::new(false);
    let replica = async |number: u8| {
        let barrier = Barrier::new(&connect(&etcd).await?, NAME)?;
        println!("  replica {number} waits");
        barrier.wait().await?;
        ensure!(is_new.load(Ordering::SeqCst), "replica {number} went early");
        println!("  replica {number} goes on");
        anyhow::Ok(())
    };
    let migrate = async {
        sleep(Duration::from_millis(300)).await;
        println!("etcd starts again");
        etcd.restart();
        sleep(Duration::from_millis(300)).await;
        is_new.store(true, Ordering::SeqCst);
        println!("the schema is new; the migration releases the barrier");
        migration.release().await?;
        Ok(())
    };
    tokio::try_join!(replica(1), replica(2), replica(3), migrate)?;

    replica(4).await?;
    println!("it came late and did not have to wait");
    Ok(())
}

async fn connect(etcd: &EmbeddedEtcd) -> anyhow::Result<Registry> {
    let registry = Registry::builder("etcd:2379")?.connector(etcd.connector());
    Ok(registry.connect().await?)
}
