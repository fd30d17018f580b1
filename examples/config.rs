//! One configuration, three replicas: an update reaches them all, a bad one does no harm.
//!
//!     cargo run --example config
//!
//! Each replica has a connection of its own to an etcd in memory, as if it were another process. It
//! takes a moment, and fails if a replica has another value than it should.

use std::{error::Error, sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use etcd_client::{Channel, Client};
use serde::{Deserialize, Serialize};
use switchboard::{
    Registry,
    coordination::{Config, ConfigBuilder, ConfigError},
};
use switchboard_embedded::EmbeddedEtcd;

const KEY: &str = "/shop/limits.json";

/// What the replicas share: any type that serde reads.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Limits {
    calls: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tokio::time::timeout(Duration::from_secs(30), show())
        .await
        .context("it takes too long")?
}

async fn show() -> anyhow::Result<()> {
    let etcd = EmbeddedEtcd::start();
    let mut registries = Vec::new();
    let mut replicas = Vec::new();
    for _ in 0..3 {
        let registry = connect(&etcd).await?;
        replicas.push(limits(&registry)?.load().await?);
        registries.push(registry);
    }
    println!("3 replicas load {KEY}: there is none yet, so they have the default\n");
    all_have(&replicas, 0)?;

    println!("an operator stores 100 calls");
    let operator = connect(&etcd).await?;
    limits(&operator)?.store(&Limits { calls: 100 }).await?;
    all_change(&mut replicas).await?;
    all_have(&replicas, 100)?;

    println!("somebody makes a mistake: etcdctl put {KEY} '{{\"calls\": \"many\"}}'");
    let mut etcdctl = Client::from_channel(Channel::Tonic(etcd.channel()), None).await?;
    etcdctl.put(KEY, r#"{"calls": "many"}"#, None).await?;
    for replica in &replicas {
        let mut state = replica.state();
        let state = state.wait_for(|it| it.rejected.is_some()).await?;
        let invalid = state.rejected.as_deref().context("it was rejected")?;
        let cause = invalid.source().context("there is a reason")?;
        println!("  rejected: {invalid}: {cause}");
    }
    all_have(&replicas, 100)?;

    println!("it is put right: etcdctl put {KEY} '{{\"calls\": 200}}'");
    etcdctl.put(KEY, r#"{"calls": 200}"#, None).await?;
    all_change(&mut replicas).await?;
    all_have(&replicas, 200)?;
    let rejected = replicas
        .iter()
        .any(|it| it.state().borrow().rejected.is_some());
    ensure!(!rejected, "what is rejected is over");

    println!("every replica had every good value, and no bad one.");
    for registry in registries.into_iter().chain([operator]) {
        registry.close().await;
    }
    Ok(())
}

fn limits(registry: &Registry) -> Result<ConfigBuilder<Limits>, ConfigError> {
    Ok(Config::at(registry, KEY)?.default(Limits::default()))
}

async fn connect(etcd: &EmbeddedEtcd) -> anyhow::Result<Registry> {
    let registry = Registry::builder("etcd:2379")?.connector(etcd.connector());
    Ok(registry.connect().await?)
}

async fn all_change(replicas: &mut [Config<Limits>]) -> Result<(), ConfigError> {
    for replica in replicas {
        let _: Arc<Limits> = replica.changed().await?;
    }
    Ok(())
}

/// Says what each replica has, and sees that it is that.
fn all_have(replicas: &[Config<Limits>], calls: u32) -> anyhow::Result<()> {
    for (number, replica) in (1..).zip(replicas) {
        let current = replica.current();
        println!("  replica {number}: {} calls", current.calls);
        ensure!(*current == Limits { calls }, "expected: {calls} calls");
    }
    println!();
    Ok(())
}
