//! A list of prices that five read all the time, and two change now and then.
//!
//!     cargo run --example rw_lock
//!
//! Everybody has a connection of their own to an etcd in memory, as if they were processes. It takes a
//! few seconds, and fails if somebody reads what is half written.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use futures::future::{join_all, try_join_all};
use switchboard::{Registry, coordination::RwLock};
use switchboard_embedded::EmbeddedEtcd;
use tokio::time::sleep;

const NAME: &str = "/shop/prices";

/// What the lock protects: the prices of apples and pears, which are to be the same.
#[derive(Default)]
struct Prices {
    apples: AtomicU32,
    pears: AtomicU32,
    /// The largest token that has written.
    token: Mutex<i64>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tokio::time::timeout(Duration::from_secs(30), show())
        .await
        .context("it takes too long")?
}

async fn show() -> anyhow::Result<()> {
    let etcd = EmbeddedEtcd::start();
    let prices = Arc::new(Prices::default());
    let together = Arc::new((AtomicU32::new(0), AtomicU32::new(0)));
    println!("five read the prices, two change them\n");
    let read = join_all((0..5).map(|_| read(&etcd, &prices, &together)));
    let written = try_join_all((1..=2).map(|number| write(&etcd, &prices, number)));
    let (read, _) = tokio::join!(read, written);
    let read: Vec<u32> = read.into_iter().collect::<Result<_, _>>()?;
    let most = together.1.load(Ordering::SeqCst);
    ensure!(most > 1, "who reads shares the lock");
    println!(
        "\nread {} times, by up to {most} at once,",
        read.iter().sum::<u32>()
    );
    println!("and never while somebody wrote");

    let (here, elsewhere) = (connect(&etcd).await?, connect(&etcd).await?);
    let reader = RwLock::new(&here, NAME)?.read().await?;
    let lock = RwLock::new(&elsewhere, NAME)?;
    ensure!(lock.try_write().await?.is_none(), "somebody reads");
    println!("\nwho would write at once while somebody reads: not now");
    reader.unlock().await?;
    ensure!(lock.try_write().await?.is_some(), "nobody reads");
    println!("and when nobody does: has it");
    Ok(())
}

async fn connect(etcd: &EmbeddedEtcd) -> anyhow::Result<Registry> {
    let registry = Registry::builder("etcd:2379")?.connector(etcd.connector());
    Ok(registry.connect().await?)
}

/// Reads, over and over, until the last price is there; returns how often.
async fn read(
    etcd: &EmbeddedEtcd,
    prices: &Prices,
    together: &(AtomicU32, AtomicU32),
) -> anyhow::Result<u32> {
    let registry = connect(etcd).await?;
    let lock = RwLock::new(&registry, NAME)?;
    for count in 1.. {
        let guard = lock.read().await?;
        let now = together.0.fetch_add(1, Ordering::SeqCst) + 1;
        together.1.fetch_max(now, Ordering::SeqCst);
        let apples = prices.apples.load(Ordering::SeqCst);
        sleep(Duration::from_millis(20)).await;
        let pears = prices.pears.load(Ordering::SeqCst);
        ensure!(apples == pears, "half written: {apples} and {pears}");
        together.0.fetch_sub(1, Ordering::SeqCst);
        guard.unlock().await?;
        if pears == 6 {
            registry.close().await;
            return Ok(count);
        }
    }
    unreachable!("it ends with the last price")
}

/// Raises the prices three times.
async fn write(etcd: &EmbeddedEtcd, prices: &Prices, number: u32) -> anyhow::Result<()> {
    let registry = connect(etcd).await?;
    let lock = RwLock::new(&registry, NAME)?;
    for _ in 0..3 {
        sleep(Duration::from_millis(100)).await;
        let guard = lock.write().await?;
        {
            // Who has lost the lock and does not know it yet would have a smaller one.
            let mut last = prices.token.lock().expect("nobody panics");
            ensure!(*last < guard.token(), "a token that is out of date");
            *last = guard.token();
        }
        let price = prices.apples.fetch_add(1, Ordering::SeqCst) + 1;
        // Ends when the lock is lost.
        guard.hold(sleep(Duration::from_millis(50))).await?;
        prices.pears.store(price, Ordering::SeqCst);
        println!("  writer {number}: apples and pears are {price} now");
        guard.unlock().await?;
    }
    registry.close().await;
    Ok(())
}
