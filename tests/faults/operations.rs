//! Registry operations while one of three members is dead, or stands still: each succeeds.

use std::time::Duration;

use futures::future::join_all;
use switchboard::{Instance, Registry};
use tokio::time::timeout;

use crate::{
    scene::{Dress, Scene, Seen},
    three,
};

/// How many there are while one member is away, in all.
const OPERATIONS: usize = 1_000;

/// How many registries share them.
const REGISTRIES: usize = 5;

/// More than any takes.
const LIMIT: Duration = Duration::from_secs(30);

/// Each member is killed in turn, and there are operations meanwhile.
pub(crate) async fn while_one_is_dead(scene: &mut Scene) -> Seen {
    let workers = Workers::start(&scene.dress).await;
    let seen = three::kill_each(scene, async || workers.work().await).await;
    workers.close().await;
    seen
}

/// Each member stands still in turn, and there are operations meanwhile.
pub(crate) async fn while_one_is_frozen(scene: &mut Scene) -> Seen {
    let workers = Workers::start(&scene.dress).await;
    let seen = three::freeze_each(scene, async || workers.work().await).await;
    workers.close().await;
    seen
}

/// Those who carry out operations, each with a registry of its own.
struct Workers(Vec<Registry>);

impl Workers {
    async fn start(dress: &Dress) -> Self {
        Self(join_all((0..REGISTRIES).map(|_| dress.registry())).await)
    }

    /// Carries out a third of all operations, none of which may fail.
    async fn work(&self) {
        let share = OPERATIONS / 3 / REGISTRIES + 1;
        let working = self.0.iter().enumerate();
        join_all(working.map(|(index, registry)| work(registry, index, share))).await;
    }

    async fn close(self) {
        join_all(self.0.into_iter().map(Registry::close)).await;
    }
}

/// Carries out so many operations at least, of all kinds, one after another.
async fn work(registry: &Registry, index: usize, least: usize) {
    // What meets a silent member first is a list for some, and a publication for others.
    if index.is_multiple_of(2) {
        succeeds("services", registry.services()).await;
    }
    let mut done = 0;
    while done < least {
        let service = format!("work-{index}-{done}");
        let instance = Instance::new(service.as_str(), "10.0.0.9:1").unwrap();
        let publisher = registry.publish(instance.clone()).unwrap();
        succeeds("publish", publisher.published()).await;
        let found = succeeds("discover", registry.discover(service.as_str())).await;
        assert_eq!(found.snapshot().instances().len(), 1);
        succeeds("update", publisher.update(instance.with_version("2"))).await;
        succeeds("pause", publisher.pause()).await;
        succeeds("resume", publisher.resume()).await;
        let services = succeeds("services", registry.services()).await;
        assert!(services.iter().any(|it| it.as_str() == service));
        succeeds("stop", publisher.stop()).await;
        done += 7;
    }
}

async fn succeeds<T, E: std::error::Error>(
    what: &str,
    work: impl Future<Output = Result<T, E>>,
) -> T {
    let done = timeout(LIMIT, work).await;
    let done = done.unwrap_or_else(|_| panic!("{what} takes {LIMIT:?}"));
    done.unwrap_or_else(|error| panic!("{what}: {error}"))
}
