//! A process: a registry of its own, and what is done with it, until the process crashes or ends.

use std::time::Duration;

use fastrand::Rng;
use switchboard::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{candidates, consumers, contenders, observers, producers, script::Role, world::World};
use crate::{gate::Gate, script::Weather};

/// What a behaviour is given.
pub(super) struct Hands {
    pub(super) world: World,
    /// What it is called in this life of its process.
    pub(super) name: String,
    /// How many there are in its process.
    pub(super) many: usize,
    /// How many processes there are.
    pub(super) processes: usize,
    pub(super) registry: Registry,
    pub(super) rng: Rng,
}

pub(super) struct Process {
    world: World,
    index: usize,
    life: usize,
    role: Role,
    many: usize,
    processes: usize,
    registry: Registry,
    gate: Gate,
    rng: Rng,
    running: Vec<(CancellationToken, JoinHandle<()>)>,
}

impl Process {
    /// Makes one that does nothing yet.
    pub(super) fn new(world: &World, all: &[(Role, usize)], index: usize, rng: Rng) -> Self {
        let (role, many) = all[index];
        Self {
            role,
            many,
            processes: all.len(),
            registry: world.registry(&name(index, 1)),
            world: world.clone(),
            index,
            life: 1,
            gate: Gate::new(),
            rng,
            running: Vec::new(),
        }
    }

    pub(super) fn name(&self) -> String {
        name(self.index, self.life)
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(super) fn begin(&mut self) {
        for member in 0..self.many {
            let hands = Hands {
                world: self.world.clone(),
                name: format!("{}/{member}", self.name()),
                many: self.many,
                processes: self.processes,
                registry: self.registry.clone(),
                rng: self.rng.fork(),
            };
            let stop = CancellationToken::new();
            let stopped = stop.clone();
            let role = self.role;
            let behave = self.gate.through(async move {
                match role {
                    Role::Contend => contenders::behave(hands).await,
                    Role::Campaign => candidates::behave(hands).await,
                    Role::Observe => observers::behave(hands).await,
                    Role::Produce => producers::behave(hands).await,
                    Role::Consume => consumers::behave(hands).await,
                }
            });
            let task = self.world.tasks().spawn(async move {
                stopped.run_until_cancelled(behave).await;
            });
            self.running.push((stop, task));
        }
    }

    /// Stands still: what it does, and what the network hears of it. Its registry runs, and is deaf and
    /// dumb: what differs from a process that the system has stopped is that it knows what time it is.
    pub(super) fn freeze(&self) {
        self.gate.set_open(false);
        self.world.set_weather(&self.name(), Weather::Cut);
    }

    /// What it does stands still.
    pub(super) fn stall(&self) {
        self.gate.set_open(false);
    }

    /// Goes on as if nothing was.
    pub(super) fn thaw(&mut self) {
        self.world.set_weather(&self.name(), Weather::Fair);
        self.gate.set_open(true);
    }

    /// Ends all that it does. The registry stays.
    pub(super) async fn rest(&mut self) {
        let running = std::mem::take(&mut self.running);
        end(&self.world, &self.name(), running).await;
    }

    /// Dies, and begins another life.
    pub(super) async fn crash(&mut self) {
        self.world.bury(&self.name());
        self.rest().await;
        self.restart();
    }

    /// Closes its registry under all that it does, and begins another life.
    pub(super) fn close(&mut self) {
        let (registry, world, name) = (self.registry.clone(), self.world.clone(), self.name());
        let running = std::mem::take(&mut self.running);
        // One that stands still cannot.
        self.gate.set_open(true);
        self.world.tasks().spawn(async move {
            registry.close().await;
            // What is told that it is closed ends by itself.
            tokio::time::sleep(Duration::from_secs(5)).await;
            end(&world, &name, running).await;
            world.bury(&name);
        });
        self.restart();
    }

    fn restart(&mut self) {
        self.life += 1;
        self.gate = Gate::new();
        self.registry = self.world.registry(&self.name());
        self.begin();
    }

    /// Ends it for good: it is closed, or dropped.
    pub(super) fn end(self, is_closed: bool) {
        if is_closed {
            self.world.tasks().spawn(self.registry.close());
        }
    }
}

async fn end(world: &World, name: &str, running: Vec<(CancellationToken, JoinHandle<()>)>) {
    for (stop, _) in &running {
        stop.cancel();
    }
    for (_, task) in running {
        if let Err(error) = task.await {
            world.violation(format!("{name} broke: {error}"));
        }
    }
    world.state().forget(name);
}

/// What a process is called, in one of its lives.
fn name(index: usize, life: usize) -> String {
    format!("p{index}.{life}")
}
