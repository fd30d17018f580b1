//! Four counters who share one number: with a lock none of them is lost in it, and without one some are.
//!
//!     cargo run --example lock
//!
//! Each counter has a connection of its own to an etcd in memory, as if it were another process. It takes
//! a few seconds, and fails if two have the lock at once.

use std::time::Duration;

use anyhow::{Context, ensure};
use switchboard::{
    Registry,
    coordination::Lock,
    keys::{Operation, Transaction},
};
use switchboard_embedded::EmbeddedEtcd;
use tokio::{task::JoinSet, time::sleep};

const LOCK: &str = "/shop/stocktaking";
const STOCK: &str = "/shop/stock";

const COUNTERS: u32 = 4;
const ROUNDS: u32 = 25;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tokio::time::timeout(Duration::from_secs(30), show())
        .await
        .context("it takes too long")?
}

async fn show() -> anyhow::Result<()> {
    let etcd = EmbeddedEtcd::start();
    println!(
        "{COUNTERS} counters add {ROUNDS} each, by reading the number and writing the next one"
    );
    let counted = count(&etcd, false).await?;
    println!("  without a lock: {counted}");
    let counted = count(&etcd, true).await?;
    println!("  with a lock:    {counted}");
    ensure!(counted == COUNTERS * ROUNDS, "two had the lock at once");

    let (here, there) = (connect(&etcd).await?, connect(&etcd).await?);
    let guard = Lock::new(&here, LOCK)?.lock().await?;
    println!("\none has the lock, with token {}", guard.token());
    let taken = Lock::new(&there, LOCK)?.try_lock().await?;
    ensure!(taken.is_none());
    println!("  another one tries: taken");

    println!("\nsomebody takes its lease away while it works");
    let lease = here.keys().tenure().await?.lease();
    let work = async {
        etcd.expire_lease(lease);
        sleep(Duration::from_secs(60)).await;
    };
    let lost = guard.hold(work).await.err().context("the work goes on")?;
    println!("  the work ends: {lost}");
    let next = Lock::new(&there, LOCK)?.lock().await?;
    println!("  another one has it, with token {}", next.token());
    ensure!(next.token() > guard.token(), "tokens grow");

    // Whatever was to be written under the lock is guarded by it.
    let write = |guard| {
        let write = Operation::put(STOCK, "0", None);
        Transaction::new().when(guard).then(write)
    };
    let late = here.keys().commit(write(guard.guard())).await?;
    let ours = there.keys().commit(write(next.guard())).await?;
    ensure!(!late.succeeded && ours.succeeded);
    println!("  what the first one writes now is refused");
    next.unlock().await?;
    Ok(())
}

/// Lets all count at once; returns what they have counted.
async fn count(etcd: &EmbeddedEtcd, with_a_lock: bool) -> anyhow::Result<u32> {
    let registry = connect(etcd).await?;
    write(&registry, 0).await?;
    let mut counters = JoinSet::new();
    for _ in 0..COUNTERS {
        let registry = connect(etcd).await?;
        counters.spawn(async move {
            let lock = Lock::new(&registry, LOCK)?;
            for _ in 0..ROUNDS {
                let guard = match with_a_lock {
                    true => Some(lock.lock().await?),
                    false => None,
                };
                let number = read(&registry).await?;
                tokio::task::yield_now().await;
                write(&registry, number + 1).await?;
                if let Some(guard) = guard {
                    guard.unlock().await?;
                }
            }
            registry.close().await;
            anyhow::Ok(())
        });
    }
    while let Some(counted) = counters.join_next().await {
        counted??;
    }
    read(&registry).await
}

async fn read(registry: &Registry) -> anyhow::Result<u32> {
    let held = registry.keys().read(STOCK, 0).await?.held;
    let number = held.context("there is a number")?.value;
    Ok(String::from_utf8(number)?.parse()?)
}

async fn write(registry: &Registry, number: u32) -> anyhow::Result<()> {
    let put = Operation::put(STOCK, number.to_string(), None);
    registry.keys().commit(Transaction::new().then(put)).await?;
    Ok(())
}

async fn connect(etcd: &EmbeddedEtcd) -> anyhow::Result<Registry> {
    let registry = Registry::builder("etcd:2379")?.connector(etcd.connector());
    Ok(registry.connect().await?)
}
