//! A process: a registry of its own, and what is done with it until the process crashes or ends.

use std::time::Duration;

use fastrand::Rng;
use switchboard::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    jobs, members, replicas,
    script::Party,
    senders, subscribers,
    world::{World, name},
    writers,
};
use crate::script::Weather;

/// What a behaviour is given.
pub(super) struct Hands {
    pub(super) world: World,
    pub(super) party: Party,
    /// What it is called in this life.
    pub(super) name: String,
    pub(super) registry: Registry,
    pub(super) rng: Rng,
}

pub(super) struct Process {
    world: World,
    party: Party,
    life: usize,
    registry: Registry,
    rng: Rng,
    running: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Process {
    /// Makes one that does nothing yet.
    pub(super) fn new(world: &World, party: Party, rng: Rng) -> Self {
        Self {
            registry: world.registry(&name(party, 1)),
            world: world.clone(),
            party,
            life: 1,
            rng,
            running: None,
        }
    }

    pub(super) fn party(&self) -> Party {
        self.party
    }

    pub(super) fn name(&self) -> String {
        name(self.party, self.life)
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(super) fn begin(&mut self) {
        let hands = Hands {
            world: self.world.clone(),
            party: self.party,
            name: self.name(),
            registry: self.registry.clone(),
            rng: self.rng.fork(),
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let behave = async move {
            match hands.party {
                Party::Writer(_) => writers::behave(hands).await,
                Party::Replica(_) => replicas::behave(hands).await,
                Party::Sender(_) => senders::behave(hands).await,
                Party::Subscriber(_) => subscribers::behave(hands).await,
                Party::Member(_) => members::live(hands).await,
                Party::Follower(_) => members::follow(hands).await,
                Party::Reporter => jobs::report(hands).await,
                Party::Waiter => jobs::wait(hands).await,
            }
        };
        let task = self.world.tasks().spawn(async move {
            stopped.run_until_cancelled(behave).await;
        });
        self.running = Some((stop, task));
    }

    /// Ends all that it does. The registry stays.
    pub(super) async fn rest(&mut self) {
        let Some((stop, task)) = self.running.take() else {
            return;
        };
        stop.cancel();
        if let Err(error) = task.await {
            let name = self.name();
            self.world.violation(format!("{name} broke: {error}"));
        }
        self.world.state().members.remove(&members::id(self.party));
    }

    /// Dies, and begins another life.
    pub(super) async fn crash(&mut self) {
        self.world.bury(&self.name());
        self.rest().await;
        self.restart();
    }

    /// Closes its registry under all that it does, and begins another life.
    pub(super) async fn close(&mut self) {
        if matches!(self.party, Party::Member(_) | Party::Reporter) {
            // Two of them at a time would be another story.
            self.rest().await;
        }
        self.world.state().members.remove(&members::id(self.party));
        let (registry, world, name) = (self.registry.clone(), self.world.clone(), self.name());
        let running = self.running.take();
        self.world.tasks().spawn(async move {
            registry.close().await;
            // What is told that it is closed ends by itself, but for what the registry has no part in.
            tokio::time::sleep(Duration::from_secs(5)).await;
            if let Some((stop, task)) = running {
                stop.cancel();
                if let Err(error) = task.await {
                    world.violation(format!("{name} broke: {error}"));
                }
            }
            world.bury(&name);
            world.state().forget(&name);
        });
        self.restart();
    }

    fn restart(&mut self) {
        self.life += 1;
        self.registry = self.world.registry(&self.name());
        self.world.set_weather(&self.name(), Weather::Fair);
        self.begin();
    }

    /// Ends it for good: it is closed, or dropped.
    pub(super) fn end(self, is_closed: bool) {
        if is_closed {
            self.world.tasks().spawn(self.registry.close());
        }
    }
}
