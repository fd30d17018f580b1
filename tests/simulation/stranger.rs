//! Somebody who writes where only publishers should.

use std::time::Duration;

use etcd_client::{Client, Error};

use crate::{script::Meddling, setting, world::World};

/// How long a record may stay as a stranger left it: a second, and a look at the store.
pub(crate) const PUT_BACK: Duration = Duration::from_millis(1100);

/// How long it is tried.
const PATIENCE: Duration = Duration::from_millis(500);

/// Lays hands on one of the records there are.
pub(crate) fn meddle(world: &World, how: Meddling, which: usize) {
    let records = world.state().auditor.current();
    let Some(key) = records.keys().nth(which % records.len().max(1)).cloned() else {
        return;
    };
    let world = world.clone();
    let tasks = world.tasks().clone();
    tasks.spawn(async move {
        world
            .state()
            .auditor
            .meddled(&key, world.now() + PATIENCE + PUT_BACK);
        let meddling = async {
            let mut client = client(&world).await?;
            match how {
                Meddling::Delete => client.delete(key.as_str(), None).await.map(drop),
                Meddling::Spoil => client.put(key.as_str(), "garbage", None).await.map(drop),
            }
        };
        let meddled = tokio::time::timeout(PATIENCE, meddling).await;
        let what = if matches!(meddled, Ok(Ok(()))) {
            world.count(match how {
                Meddling::Delete => "record deleted by a stranger",
                Meddling::Spoil => "record spoiled by a stranger",
            });
            "did"
        } else {
            "failed"
        };
        world
            .trace()
            .write(format_args!("a stranger {what}: {how:?} {key}"));
        world.state().auditor.meddled(&key, world.now() + PUT_BACK);
    });
}

/// Writes so many keys that are nobody else's.
pub(crate) fn grow(world: &World, by: usize) {
    let world = world.clone();
    let tasks = world.tasks().clone();
    tasks.spawn(async move {
        let growing = async {
            let mut client = client(&world).await?;
            for _ in 0..by {
                client.put("/a/strangers", "value", None).await?;
            }
            Ok::<_, Error>(())
        };
        let grown = tokio::time::timeout(PATIENCE, growing).await;
        let what = if matches!(grown, Ok(Ok(()))) {
            "did"
        } else {
            "failed"
        };
        world
            .trace()
            .write(format_args!("a stranger {what}: {by} keys"));
    });
}

/// Changes the setting that everybody follows.
pub(crate) fn configure(world: &World, value: u64) {
    let world = world.clone();
    let tasks = world.tasks().clone();
    tasks.spawn(async move {
        let configuring = async {
            let mut client = client(&world).await?;
            client.put(setting::KEY, value.to_string(), None).await
        };
        // If etcd does not do that now, nobody does.
        if let Ok(Ok(_)) = tokio::time::timeout(PATIENCE, configuring).await {
            world.count("settings written");
        }
    });
}

async fn client(world: &World) -> Result<Client, Error> {
    let channel = etcd_client::Channel::Tonic(world.etcd().channel());
    Client::from_channel(channel, None).await
}
