//! A group of workers: one joins, one leaves, one crashes, and the others know.
//!
//!     cargo run --example members
//!
//! Each worker has a runtime and a connection of its own to an etcd in memory, as if it were another
//! process. It takes a few seconds, and fails if somebody is told wrongly.

use std::time::Duration;

use anyhow::{Context, ensure};
use switchboard::{
    Registry,
    coordination::{Member, MemberChange, Members, Membership},
};
use switchboard_embedded::EmbeddedEtcd;
use tokio::{runtime::Runtime, time::Instant};

const GROUP: &str = "workers";

/// How long etcd keeps a member that has crashed. It is short so that nobody waits long here: 10 s
/// unless set.
const TTL: Duration = Duration::from_secs(3);

/// A worker, in a process of its own.
struct Worker {
    runtime: Runtime,
    membership: Membership,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tokio::time::timeout(Duration::from_secs(30), show())
        .await
        .context("it takes too long")?
}

async fn show() -> anyhow::Result<()> {
    let etcd = EmbeddedEtcd::start();
    let mut members = Members::follow(&connect(&etcd).await?, GROUP).await?;
    println!("one follows the group {GROUP:?}; there is nobody in it\n");
    ensure!(members.current().len() == 0);

    println!("3 workers join");
    let mut workers = Vec::new();
    for (id, zone) in [("ada", "a"), ("bob", "a"), ("cyd", "b")] {
        let member = Member::new(id)?.with_metadata("zone", zone);
        workers.push(start(&etcd, member.clone()).await?);
        told(&mut members, MemberChange::Joined(member)).await?;
    }
    let [ada, bob, cyd] = <[_; 3]>::try_from(workers).ok().context("3 workers")?;

    println!("\nada leaves");
    ada.membership.leave().await?;
    told(&mut members, MemberChange::Left(member("ada", "a")?)).await?;
    ada.runtime.shutdown_background();

    println!("bob moves to zone b");
    bob.membership.update(member("bob", "b")?).await?;
    told(&mut members, MemberChange::Updated(member("bob", "b")?)).await?;

    println!("\ncyd crashes: it tells nobody, and its lease runs out");
    let crashed = Instant::now();
    cyd.runtime.shutdown_background();
    told(&mut members, MemberChange::Left(member("cyd", "b")?)).await?;
    let took = crashed.elapsed();
    println!(
        "  that took {:.1} s; the TTL is {TTL:?}",
        took.as_secs_f64()
    );
    ensure!(took < TTL + Duration::from_secs(2), "{took:?}");

    println!("cyd is started again");
    let cyd = start(&etcd, member("cyd", "c")?).await?;
    told(&mut members, MemberChange::Joined(member("cyd", "c")?)).await?;

    let left: Vec<_> = members.current().map(|it| it.id().to_string()).collect();
    println!("\nin the end there are {}.", left.join(" and "));
    ensure!(left == ["bob", "cyd"]);
    for worker in [bob, cyd] {
        worker.membership.leave().await?;
        worker.runtime.shutdown_background();
    }
    Ok(())
}

fn member(id: &str, zone: &str) -> anyhow::Result<Member> {
    Ok(Member::new(id)?.with_metadata("zone", zone))
}

/// Waits until something has changed, and sees that it is this.
async fn told(members: &mut Members, expected: MemberChange) -> anyhow::Result<()> {
    let changes = members.changed().await?;
    ensure!(changes == [expected], "{changes:?}");
    for change in changes {
        match change {
            MemberChange::Joined(it) => println!("  {} has joined {:?}", it.id(), it.metadata()),
            MemberChange::Updated(it) => println!("  {} is now {:?}", it.id(), it.metadata()),
            MemberChange::Left(it) => println!("  {} has left", it.id()),
            other => println!("  {other:?}"),
        }
    }
    Ok(())
}

async fn connect(etcd: &EmbeddedEtcd) -> anyhow::Result<Registry> {
    let registry = Registry::builder("etcd:2379")?.connector(etcd.connector());
    Ok(registry.ttl(TTL).connect().await?)
}

/// Starts a worker, which joins the group. What ends with its runtime leaves nothing behind but what
/// is in etcd, as in a process that is killed.
async fn start(etcd: &EmbeddedEtcd, member: Member) -> anyhow::Result<Worker> {
    let runtime = Runtime::new()?;
    let etcd = etcd.clone();
    let joining = runtime.spawn(async move {
        let membership = Members::join(&connect(&etcd).await?, GROUP, member)?;
        membership.joined().await?;
        anyhow::Ok(membership)
    });
    let membership = joining.await??;
    Ok(Worker {
        runtime,
        membership,
    })
}
