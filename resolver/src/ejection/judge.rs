//! What the balancer asks and tells of its endpoints' calls.

use std::{sync::Arc, time::Instant};

use tokio::sync::Notify;

use super::{Change, Ejection, Outliers, Witness};
use crate::{endpoint_set::EndpointKey, transport::Vacancy, view::Target};

/// Judges a channel's endpoints by how their calls end.
#[derive(Debug)]
pub(crate) struct Judge {
    settings: Ejection,
    outliers: Outliers,
    rng: fastrand::Rng,
    /// Told by calls that something is to be looked at now.
    asked: Arc<Notify>,
    vacancy: Arc<Vacancy>,
}

impl Judge {
    pub(crate) fn new(
        settings: Ejection,
        rng: fastrand::Rng,
        vacancy: Arc<Vacancy>,
        now: Instant,
    ) -> Self {
        Self {
            settings,
            outliers: Outliers::new(settings, now),
            rng,
            asked: Arc::default(),
            vacancy,
        }
    }

    /// Takes in an endpoint, and returns where its calls tell how they ended.
    pub(crate) fn added(&mut self, endpoint: &EndpointKey, now: Instant) -> Witness {
        let tally = self.outliers.added(endpoint, now);
        let codes = self.settings.failure_codes;
        Witness::new(tally, codes, self.asked.clone(), self.vacancy.clone())
    }

    /// Forgets an endpoint.
    pub(crate) fn removed(&mut self, endpoint: &EndpointKey) {
        self.outliers.removed(endpoint);
    }

    /// Takes in that an endpoint has a new connection.
    pub(crate) fn reconnected(&mut self, endpoint: &EndpointKey) {
        self.outliers.reconnected(endpoint);
    }

    /// Waits until a call asks for a look. Cancel safe.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Returns when to look, if no call asks for it before.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.outliers.next()
    }

    /// Takes in what calls have told, and that time has passed.
    pub(crate) fn look(&mut self, now: Instant) -> Vec<Change> {
        let changes = self.outliers.look(now, &mut self.rng);
        let is_turn = |it: &&Change| matches!(it, Change::OnTrial { .. });
        // Those who wait are told of a turn as of a slot: where one tries beside another, nothing else
        // changes.
        for _ in changes.iter().filter(is_turn) {
            self.vacancy.announce();
        }
        changes
    }

    /// Returns those of the targets that may be called, and whether more calls are let through to
    /// them than before.
    pub(crate) fn offer(&self, ready: Vec<Arc<Target>>) -> (Vec<Arc<Target>>, bool) {
        let offer = self.outliers.offer(ready, |it| it.endpoint.key());
        (offer.targets, offer.is_wider)
    }
}
