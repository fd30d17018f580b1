//! Three workers that go when all of a set of keys are as they should be, at one moment.
//!
//!     cargo run --example conditions
//!
//! Each worker has a connection of its own to an etcd in memory, as if it were another process. It
//! takes a few seconds, and fails if one goes too early, or not at all.

use std::time::Duration;

use anyhow::{Context, ensure};
use etcd_client::{Channel, Client};
use switchboard::{Registry, coordination::Conditions};
use switchboard_embedded::EmbeddedEtcd;
use tokio::{task::JoinSet, time::sleep};

const SCHEMA: &str = "/shop/schema";
const CACHE: &str = "/shop/cache";
const MAINTENANCE: &str = "/shop/maintenance";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tokio::time::timeout(Duration::from_secs(30), show())
        .await
        .context("it takes too long")?
}

async fn show() -> anyhow::Result<()> {
    let etcd = EmbeddedEtcd::start();
    let mut operator = Client::from_channel(Channel::Tonic(etcd.channel()), None).await?;
    operator.put(MAINTENANCE, "until five", None).await?;

    println!("3 workers wait until");
    println!("  {SCHEMA} holds 7, {CACHE} holds warm, and {MAINTENANCE} is gone\n");
    let mut workers = JoinSet::new();
    for number in 1..=3 {
        let registry = Registry::builder("etcd:2379")?.connector(etcd.connector());
        workers.spawn(work(number, registry.connect().await?));
    }

    operator.put(SCHEMA, "7", None).await?;
    still_waiting(&mut workers, "the schema is 7").await?;
    operator.put(CACHE, "warm", None).await?;
    still_waiting(&mut workers, "the cache is warm").await?;
    // Each of them was met by now at some time, but never all of them at once.
    operator.put(SCHEMA, "6", None).await?;
    operator.delete(MAINTENANCE, None).await?;
    still_waiting(&mut workers, "the schema is 6 again, maintenance is over").await?;
    println!("the schema is 7, for good");
    operator.put(SCHEMA, "7", None).await?;

    while let Some(worker) = workers.join_next().await {
        let (number, revision) = worker??;
        println!("  worker {number} goes: all was so at revision {revision}");
        let held = etcd.keys_at(revision).context("it was reached")?;
        let held: Vec<_> = held.iter().map(|it| (&*it.key, &*it.value)).collect();
        let expected = [
            (CACHE.as_bytes(), "warm".as_bytes()),
            (SCHEMA.as_bytes(), "7".as_bytes()),
        ];
        ensure!(held == expected, "{held:?}");
    }
    println!("\nnobody went before all was so at one revision, and everybody went then.");
    Ok(())
}

/// Waits for the conditions; returns the revision at which all were met.
async fn work(number: u32, registry: Registry) -> anyhow::Result<(u32, i64)> {
    let conditions = Conditions::new(&registry)
        .holds(SCHEMA, "7")?
        .holds(CACHE, "warm")?
        .absent(MAINTENANCE)?;
    let met = conditions.met().await?;
    registry.close().await;
    Ok((number, met.revision))
}

/// Sees that nobody goes for a while, though `what`.
async fn still_waiting(
    workers: &mut JoinSet<anyhow::Result<(u32, i64)>>,
    what: &str,
) -> anyhow::Result<()> {
    sleep(Duration::from_millis(500)).await;
    let gone = workers.try_join_next();
    ensure!(gone.is_none(), "{what}, and one went: {gone:?}");
    println!("{what}: they wait");
    Ok(())
}
