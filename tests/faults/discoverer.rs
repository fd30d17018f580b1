//! Somebody who follows the greeters, and a service that comes and goes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use switchboard::{Channel, Instances, Registry};
use switchboard_test_support::eventually;
use tokio::task::JoinSet;

use crate::{
    fleet::{self, SIZE},
    scene::Dress,
};

/// The service that comes and goes.
pub(crate) const PROBE: &str = "probe";

pub(crate) struct Discoverer {
    registry: Registry,
    greeters: Instances,
    probes: Instances,
    /// Of the lists of greeters that it was shown, how many the shortest had.
    shortest: Arc<AtomicUsize>,
    /// Ends with it.
    _looking: JoinSet<()>,
}

impl Discoverer {
    pub(crate) async fn start(dress: &Dress) -> Self {
        let registry = dress.registry().await;
        let mut lists = registry.discover(fleet::SERVICE).await.unwrap();
        let shortest = Arc::new(AtomicUsize::new(lists.snapshot().instances().len()));
        let least = shortest.clone();
        let mut looking = JoinSet::new();
        looking.spawn(async move {
            while let Ok(list) = lists.changed().await {
                least.fetch_min(list.instances().len(), Ordering::Relaxed);
            }
        });
        Self {
            greeters: registry.discover(fleet::SERVICE).await.unwrap(),
            probes: registry.discover(PROBE).await.unwrap(),
            registry,
            shortest,
            _looking: looking,
        }
    }

    /// Connects a channel to the greeters.
    pub(crate) async fn channel(&self) -> Channel {
        self.registry.dial(fleet::SERVICE).connect().await.unwrap()
    }

    /// Waits until it is told that what it knows may be out of date.
    pub(crate) async fn stale(&self, limit: Duration) {
        eventually(
            limit,
            "it is told that its list may be out of date",
            async || self.greeters.staleness().map(drop).ok_or("it is fresh"),
        )
        .await;
    }

    /// Waits until it sees that a probe has come, or gone, and all greeters, and nothing is out of date.
    pub(crate) async fn sees(&self, limit: Duration, probe: &str, is_there: bool) {
        let what = format!("{probe} is seen to be there: {is_there}");
        eventually(limit, &what, async || {
            let (probes, greeters) = (self.probes.snapshot(), self.greeters.snapshot());
            let seen: Vec<String> = probes
                .instances()
                .map(|instance| instance.origins()[0].address().to_string())
                .collect();
            let stale = self.probes.staleness().or(self.greeters.staleness());
            let is_full = greeters.instances().len() == SIZE;
            if seen.iter().any(|it| it == probe) == is_there && is_full && stale.is_none() {
                return Ok(());
            }
            Err(format!(
                "{seen:?}, {} greeters, {stale:?}",
                greeters.instances().len()
            ))
        })
        .await;
    }

    /// Returns how many greeters the shortest of its lists had.
    pub(crate) fn shortest(&self) -> usize {
        self.shortest.load(Ordering::Relaxed)
    }

    pub(crate) async fn close(self) {
        self.registry.close().await;
    }
}
