//! Messages of two senders to two subscribers: each once and in order, though connections break.
//!
//!     cargo run --example topic
//!
//! Everybody has a connection of their own to an etcd in memory, as if they were processes. It takes a
//! few seconds, and fails if a message is lost in silence, told twice, or out of order.

use std::time::Duration;

use anyhow::{Context, ensure};
use switchboard::{
    Registry,
    coordination::{Start, Subscription, Topic, TopicError},
};
use switchboard_embedded::EmbeddedEtcd;
use tokio::time::sleep;

const EARLY: u64 = 3;
const EACH: u64 = 100;
const ALL: u64 = EARLY + 2 * EACH;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tokio::time::timeout(Duration::from_secs(60), show())
        .await
        .context("it takes too long")?
}

async fn show() -> anyhow::Result<()> {
    let etcd = EmbeddedEtcd::start();
    let (bakery, grocery) = (topic(&etcd).await?, topic(&etcd).await?);
    for number in 1..=EARLY {
        bakery.send(format!("bakery {number}")).await?;
    }
    println!("the bakery has sent {EARLY} messages, before anybody listens\n");

    let mut beginning = topic(&etcd).await?.subscribe(Start::Beginning).await?;
    let mut now = topic(&etcd).await?.subscribe(Start::Now).await?;
    println!("one subscribes from the beginning, one from now on; the bakery and the grocery");
    println!("send {EACH} more each, and every connection is broken ten times in between");
    let breaking = async {
        for _ in 0..10 {
            sleep(Duration::from_millis(100)).await;
            etcd.drop_connections();
        }
        Ok(())
    };
    let (_, _, (), all, since) = tokio::try_join!(
        send(&bakery, "bakery"),
        send(&grocery, "grocery"),
        breaking,
        read(&mut beginning, 1),
        read(&mut now, EARLY + 1),
    )?;
    println!("  from the beginning: {} messages", all.len());
    ensure!(all.len() as u64 == ALL && since == all[EARLY as usize..]);
    println!(
        "  from now on:        {} messages, the same ones",
        since.len()
    );
    for sender in ["bakery", "grocery"] {
        let own = since.iter().filter(|it| it.starts_with(sender));
        let sent = (1..=EACH).map(|number| format!("{sender} {number}"));
        ensure!(own.cloned().eq(sent), "each once, in the order sent");
    }

    println!("\nthe second one is cut off; 10 messages are sent, all but 2 of them are trimmed,");
    println!("and etcd forgets its history");
    etcd.drop_connections();
    for number in 1..=10 {
        grocery.send(format!("late {number}")).await?;
    }
    grocery.trim(ALL + 8).await?;
    ensure!(etcd.compact(etcd.revision()), "it has a history to forget");
    let (first, last) = (ALL + 1, ALL + 8);
    let told = now.next().await;
    ensure!(told == Err(TopicError::Gap { first, last }), "{told:?}");
    println!("  it is told: messages {first} to {last} are lost");
    for number in 9..=10 {
        let message = now.next().await?;
        ensure!(message.payload == format!("late {number}").as_bytes());
        let text = String::from_utf8_lossy(&message.payload);
        println!("  and goes on with message {}: {text}", message.sequence);
    }
    println!("\nnothing was lost in silence, and nothing was told twice.");
    Ok(())
}

/// Connects to etcd, as another process would, and names the topic.
async fn topic(etcd: &EmbeddedEtcd) -> anyhow::Result<Topic> {
    let registry = Registry::builder("etcd:2379")?.connector(etcd.connector());
    Ok(Topic::new(&registry.connect().await?, "deliveries")?)
}

async fn send(topic: &Topic, name: &str) -> anyhow::Result<()> {
    for number in 1..=EACH {
        topic.send(format!("{name} {number}")).await?;
        sleep(Duration::from_millis(8)).await;
    }
    Ok(())
}

/// Reads from this number on, up to the last one.
async fn read(subscription: &mut Subscription, from: u64) -> anyhow::Result<Vec<String>> {
    let mut payloads = Vec::new();
    for expected in from..=ALL {
        let message = subscription.next().await?;
        ensure!(message.sequence == expected, "{message:?}");
        payloads.push(String::from_utf8(message.payload)?);
    }
    Ok(payloads)
}
