//! Three accounts, four tellers who move money between them at the same time, and one who counts.
//!
//!     cargo run --example stm
//!
//! Everybody has a connection of their own to an etcd in memory, as if they were processes. It takes a
//! second, and fails if a cent is lost or made.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures::future::{try_join, try_join_all};
use switchboard::{
    Registry,
    coordination::{Stm, StmTransaction},
};
use switchboard_embedded::EmbeddedEtcd;

const ACCOUNTS: [&str; 3] = ["ada", "bob", "cyd"];
const EACH: i64 = 100;
const TRANSFERS: usize = 25;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tokio::time::timeout(Duration::from_secs(30), show())
        .await
        .context("it takes too long")?
}

async fn show() -> anyhow::Result<()> {
    let etcd = EmbeddedEtcd::start();
    let bank = connect(&etcd).await?;
    let open = bank.run(|mut tx| async move {
        ACCOUNTS
            .iter()
            .try_for_each(|name| tx.put(key(name), EACH.to_string()))
    });
    open.await?;
    println!("{}, with {EACH} each\n", ACCOUNTS.join(", "));

    let tellers = try_join_all((1..=4).map(async |number| {
        let runs = work(&connect(&etcd).await?).await?;
        println!("  teller {number}: {TRANSFERS} transfers, in {runs} runs");
        anyhow::Ok(runs)
    }));
    let (runs, audits) = try_join(tellers, audit(&connect(&etcd).await?)).await?;
    println!(
        "  who counts: {audits} times, and it was {} each time",
        sum()
    );
    let again = runs.iter().sum::<usize>() - 4 * TRANSFERS;
    println!("{again} runs met another one, were for nothing, and were done again\n");

    let before = etcd.revision();
    match transfer(&bank, "ada", "bob", 1_000).await {
        Err(error) => println!("1000 from ada to bob: {error}"),
        Ok(_) => bail!("it was paid"),
    }
    ensure!(etcd.revision() == before, "something was written");
    println!("and nothing was written; in the end there are {}", sum());
    ensure!(count(&bank).await? == sum());
    Ok(())
}

async fn connect(etcd: &EmbeddedEtcd) -> anyhow::Result<Stm> {
    let registry = Registry::builder("etcd:2379")?.connector(etcd.connector());
    Ok(Stm::new(&registry.connect().await?))
}

/// Moves money at random; returns how often that was tried.
async fn work(stm: &Stm) -> anyhow::Result<usize> {
    let mut runs = 0;
    for _ in 0..TRANSFERS {
        let from = fastrand::usize(0..3);
        let to = (from + fastrand::usize(1..3)) % 3;
        runs += transfer(stm, ACCOUNTS[from], ACCOUNTS[to], 1).await?;
    }
    Ok(runs)
}

/// Moves an amount, if it is there; returns how often that was tried.
async fn transfer(stm: &Stm, from: &str, to: &str, amount: i64) -> anyhow::Result<usize> {
    let mut runs = 0;
    stm.run(|mut tx| {
        runs += 1;
        async move {
            let (has, gets) = (balance(&mut tx, from).await?, balance(&mut tx, to).await?);
            if has < amount {
                bail!("{from} has {has}");
            }
            tx.put(key(from), (has - amount).to_string())?;
            tx.put(key(to), (gets + amount).to_string())?;
            Ok(())
        }
    })
    .await?;
    Ok(runs)
}

/// Counts, while all move.
async fn audit(stm: &Stm) -> anyhow::Result<usize> {
    const TIMES: usize = 10;
    for _ in 0..TIMES {
        let counted = count(stm).await?;
        ensure!(counted == sum(), "there are {counted}");
    }
    Ok(TIMES)
}

async fn count(stm: &Stm) -> anyhow::Result<i64> {
    stm.run(|mut tx| async move {
        let mut all = 0;
        for name in ACCOUNTS {
            all += balance(&mut tx, name).await?;
        }
        Ok(all)
    })
    .await
}

async fn balance(tx: &mut StmTransaction, name: &str) -> anyhow::Result<i64> {
    let value = tx.get(key(name)).await?.context("there is no account")?;
    Ok(String::from_utf8(value)?.parse()?)
}

fn key(name: &str) -> String {
    format!("/bank/accounts/{name}")
}

fn sum() -> i64 {
    ACCOUNTS.len() as i64 * EACH
}
