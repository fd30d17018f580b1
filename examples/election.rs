//! Three cashiers, of whom one serves at a time: one resigns, one crashes, and a screen shows who it is.
//!
//!     cargo run --example election
//!
//! Each cashier has a runtime and a connection of its own to an etcd in memory, as if it were another
//! process. It takes a few seconds, and fails if two lead at once, or the screen is told wrongly.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use switchboard::{
    Registry,
    coordination::{Election, Leadership, Observer, ProclaimError},
};
use switchboard_embedded::EmbeddedEtcd;
use tokio::{runtime::Runtime, task::JoinHandle, time::Instant};

const ELECTION: &str = "/shop/cashier";

/// After how long a leader that has crashed is followed by the next. It is short so that nobody waits
/// long here: 10 s unless set.
const TTL: Duration = Duration::from_secs(3);

/// A cashier, in a process of its own.
struct Cashier {
    runtime: Runtime,
    election: JoinHandle<anyhow::Result<Leadership>>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tokio::time::timeout(Duration::from_secs(30), show())
        .await
        .context("it takes too long")?
}

async fn show() -> anyhow::Result<()> {
    let etcd = EmbeddedEtcd::start();
    let registry = connect(&etcd).await?;
    let mut screen = Election::new(&registry, ELECTION)?.observe();
    told(&mut screen, None).await?;

    println!("ada, bob and cyd stand for election");
    let ada = stand(&etcd, "ada")?;
    told(&mut screen, Some("ada")).await?;
    let bob = stand(&etcd, "bob")?;
    standing(&registry, 2).await?;
    let cyd = stand(&etcd, "cyd")?;
    standing(&registry, 3).await?;

    let leads = ada.election.await??;
    leads.proclaim("ada, at till 2").await?;
    told(&mut screen, Some("ada, at till 2")).await?;
    ensure!(!bob.election.is_finished() && !cyd.election.is_finished());

    println!("\nada resigns");
    let first = leads.token();
    leads.resign().await?;
    told(&mut screen, Some("bob")).await?;
    let leads = bob.election.await??;
    ensure!(leads.token() > first, "tokens grow");

    println!("\nbob crashes: it tells nobody, and its lease runs out");
    let crashed = Instant::now();
    bob.runtime.shutdown_background();
    told(&mut screen, Some("cyd")).await?;
    let took = crashed.elapsed();
    println!(
        "  that took {:.1} s; the TTL is {TTL:?}",
        took.as_secs_f64()
    );
    ensure!(took < TTL + Duration::from_secs(2), "{took:?}");

    println!("\nbob wakes up, and believes that it leads still");
    match leads.proclaim("bob, at till 1").await {
        Err(error @ ProclaimError::Lost(_)) => println!("  bob is told: {error}"),
        other => bail!("bob: {other:?}"),
    }

    println!("\ncyd goes home; there is nobody left");
    cyd.election.await??.resign().await?;
    told(&mut screen, None).await?;
    for cashier in [ada.runtime, cyd.runtime] {
        cashier.shutdown_background();
    }
    Ok(())
}

/// Waits until the screen is told something, and sees that it is this.
async fn told(screen: &mut Observer, expected: Option<&str>) -> anyhow::Result<()> {
    let leader = screen.next().await?;
    let value = leader.map(|leader| String::from_utf8_lossy(&leader.value).into_owned());
    println!("  screen: {}", value.as_deref().unwrap_or("closed"));
    ensure!(value.as_deref() == expected, "expected: {expected:?}");
    Ok(())
}

/// Stands for election, in a process of its own.
fn stand(etcd: &EmbeddedEtcd, name: &'static str) -> anyhow::Result<Cashier> {
    let runtime = Runtime::new()?;
    let etcd = etcd.clone();
    let election = runtime.spawn(async move {
        let registry = connect(&etcd).await?;
        Ok(Election::new(&registry, ELECTION)?.campaign(name).await?)
    });
    Ok(Cashier { runtime, election })
}

/// Waits until so many stand: who stands first leads first.
async fn standing(registry: &Registry, count: usize) -> anyhow::Result<()> {
    use switchboard::keys::{KeyRange, Selection};
    let all = Selection::of(KeyRange::Under(format!("{ELECTION}/")));
    while registry.keys().select(&all).await?.keys.len() < count {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn connect(etcd: &EmbeddedEtcd) -> anyhow::Result<Registry> {
    let registry = Registry::builder("etcd:2379")?.connector(etcd.connector());
    Ok(registry.ttl(TTL).connect().await?)
}
