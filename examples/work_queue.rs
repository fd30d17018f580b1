//! Two workers do orders. One of them is cut off in the middle: what it was doing is done by the other.
//!
//!     cargo run --example work_queue
//!
//! Everybody has a connection of their own to an etcd in memory, as if they were processes. It takes a
//! second, and fails if an order is not done, or stays.

use std::time::Duration;

use anyhow::{Context, ensure};
use switchboard::{
    Registry,
    coordination::{Claim, WorkQueue},
};
use switchboard_embedded::EmbeddedEtcd;
use tokio::time::timeout;

const ORDERS: [(u16, &str); 4] = [
    (20, "two apples"),
    (20, "a pear"),
    (10, "a fire extinguisher"),
    (20, "a melon"),
];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    timeout(Duration::from_secs(30), show())
        .await
        .context("it takes too long")?
}

async fn show() -> anyhow::Result<()> {
    let etcd = EmbeddedEtcd::start();
    let shop = orders(&connect(&etcd).await?)?;
    for (priority, order) in ORDERS {
        shop.push(priority, order).await?;
        println!("ordered, at priority {priority}: {order}");
    }

    let ada = connect(&etcd).await?;
    let begun = orders(&ada)?.claim().await?;
    println!("\nada begins: {}", text(&begun));
    println!("  she is cut off, and etcd lets her lease go");
    etcd.expire_lease(ada.keys().tenure().await?.lease());

    let eve = orders(&connect(&etcd).await?)?;
    let mut done = 0;
    while done < ORDERS.len() {
        let claim = eve.claim().await?;
        println!("eve does: {}", text(&claim));
        claim.ack().await?;
        done += 1;
    }
    ensure!(eve.try_claim().await?.is_none(), "all are done");

    let late = begun.ack().await.err().context("it is eve's")?;
    println!("\nada is back, and says that hers is done: {late}");
    Ok(())
}

fn orders(registry: &Registry) -> anyhow::Result<WorkQueue> {
    Ok(WorkQueue::new(registry, "orders")?)
}

fn text(claim: &Claim) -> String {
    String::from_utf8_lossy(claim.value()).into_owned()
}

async fn connect(etcd: &EmbeddedEtcd) -> anyhow::Result<Registry> {
    let registry = Registry::builder("etcd:2379")?.connector(etcd.connector());
    Ok(registry.connect().await?)
}
