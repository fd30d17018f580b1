//! Processes that publish instances of a service that nobody dials, and contend for a lock meanwhile.

use std::time::Duration;

use fastrand::Rng;
use switchboard::{Instance, PublicationStatus, PublishError, Publisher, Registry};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    auditor::Wanted,
    gate::Gate,
    holders::Holder,
    records::Record,
    script::{Order, Party, Place, SLOTS, Weather},
    trace::chain,
    world::World,
};

/// What they publish.
pub(crate) const SERVICE: &str = "ledger";

/// One of them, through all its lives.
pub(crate) struct PublishingProcess {
    world: World,
    party: Party,
    index: usize,
    ttl: Duration,
    /// How often it was started.
    life: usize,
    /// How many publications it began.
    begun: usize,
    registry: Registry,
    crash: CancellationToken,
    /// It wants nothing any more, whatever its publications were told last.
    over: CancellationToken,
    /// All that it does.
    gate: Gate,
    rng: Rng,
    slots: [Option<mpsc::UnboundedSender<Order>>; SLOTS],
    /// Who is published from each slot.
    names: [String; SLOTS],
}

impl PublishingProcess {
    pub(crate) fn start(world: &World, index: usize, ttl: Duration, rng: Rng) -> Self {
        let mut process = Self {
            registry: world.registry(&name(index, 1), ttl),
            world: world.clone(),
            party: Party::Publisher(index),
            index,
            ttl,
            life: 1,
            begun: 0,
            crash: CancellationToken::new(),
            over: CancellationToken::new(),
            gate: Gate::new(),
            rng,
            slots: Default::default(),
            names: Default::default(),
        };
        process.contend();
        process
    }

    /// What it is called on the network.
    pub(crate) fn name(&self) -> String {
        name(self.index, self.life)
    }

    pub(crate) fn order(&mut self, slot: usize, order: Order) {
        if let Some(orders) = &self.slots[slot]
            && orders.send(order.clone()).is_ok()
        {
            return;
        }
        // Nobody is there to be told anything else.
        if let Order::Publish { address } = order {
            self.begun += 1;
            self.world.count("publications");
            let who = format!("p{}.{}.{}", self.index, slot, self.begun);
            let (orders, told) = mpsc::unbounded_channel();
            let publication = Publication {
                world: self.world.clone(),
                party: self.party,
                who: who.clone(),
                address,
                version: 1,
                is_paused: false,
                over: self.over.clone(),
            };
            self.slots[slot] = Some(orders);
            self.names[slot] = who;
            self.spawn(publication.run(self.registry.clone(), told));
        }
    }

    /// Wants a lock beside what it publishes.
    fn contend(&mut self) {
        let holder = Holder {
            world: self.world.clone(),
            party: self.party,
            process: self.name(),
            registry: self.registry.clone(),
            over: self.over.clone(),
            rng: self.rng.fork(),
        };
        self.spawn(holder.contend());
    }

    /// Does something until it dies, while it does not stand still.
    fn spawn(&self, what: impl Future<Output = ()> + Send + 'static) {
        let (crash, what) = (self.crash.clone(), self.gate.through(what));
        self.world.tasks().spawn(async move {
            crash.run_until_cancelled(what).await;
        });
    }

    /// What it does stands still, or goes on as if nothing was.
    pub(crate) fn set_still(&self, is_still: bool) {
        self.gate.set_open(!is_still);
    }

    /// Dies, and begins another life.
    pub(crate) fn crash(&mut self) {
        self.world.bury(&self.name());
        self.want_nothing();
        self.crash.cancel();
        self.world.state().forget(&self.name());
        self.restart();
    }

    /// Closes its registry, and makes another one.
    pub(crate) fn close(&mut self) {
        self.begin_to_close();
        self.restart();
    }

    /// Closes its registry for good.
    pub(crate) fn end(self) {
        self.begin_to_close();
    }

    fn begin_to_close(&self) {
        self.want_nothing();
        // One that stands still cannot.
        self.gate.set_open(true);
        let (world, registry, name) = (self.world.clone(), self.registry.clone(), self.name());
        self.world.tasks().spawn(async move {
            registry.close().await;
            world.bury(&name);
            world.trace().write(format_args!("{name} closed"));
        });
    }

    fn want_nothing(&self) {
        self.over.cancel();
        let names = self.names.iter();
        names.for_each(|who| self.world.unclaim(who, false));
    }

    fn restart(&mut self) {
        self.life += 1;
        self.slots = Default::default();
        self.names = Default::default();
        (self.crash, self.over) = Default::default();
        self.gate = Gate::new();
        self.registry = self.world.registry(&self.name(), self.ttl);
        // Another process has other connections.
        let (world, name) = (&self.world, self.name());
        world.set_weather(self.party, &name, Place::Etcd, Weather::Fair);
        self.contend();
    }
}

fn name(index: usize, life: usize) -> String {
    format!("publisher-{index}.{life}")
}

/// One instance, from its publisher's beginning to its end.
struct Publication {
    world: World,
    party: Party,
    who: String,
    address: usize,
    version: usize,
    is_paused: bool,
    over: CancellationToken,
}

impl Publication {
    async fn run(mut self, registry: Registry, mut orders: mpsc::UnboundedReceiver<Order>) {
        if self.over.is_cancelled() {
            // It stood still before it began.
            return;
        }
        self.claim();
        let publisher = registry.publish(self.instance()).expect("it is valid");
        drop(registry);
        self.trace_status(&publisher);
        let published = publisher.published().await;
        self.done("publish", published);
        // Closed where the whole process goes.
        while let Some(order) = orders.recv().await {
            match order {
                Order::Pause => {
                    self.is_paused = true;
                    self.world.unclaim(&self.who, false);
                    let paused = publisher.pause().await;
                    self.gone("pause", paused);
                }
                Order::Resume => {
                    self.is_paused = false;
                    self.claim();
                    let resumed = publisher.resume().await;
                    self.done("resume", resumed);
                }
                Order::Update { address } => self.update(&publisher, address).await,
                Order::Publish { address } => self.update(&publisher, Some(address)).await,
                Order::Stop => {
                    orders.close();
                    self.world.unclaim(&self.who, false);
                    let stopped = publisher.stop().await;
                    return self.gone("stop", stopped);
                }
                Order::Drop => break,
            }
        }
        self.world.unclaim(&self.who, false);
    }

    async fn update(&mut self, publisher: &Publisher, address: Option<usize>) {
        self.version += 1;
        self.address = address.unwrap_or(self.address);
        if !self.is_paused {
            self.claim();
        }
        let updated = publisher.update(self.instance()).await;
        if !self.is_paused {
            self.done("update", updated);
        }
    }

    /// Says what it wants in the store, before it says so to the registry.
    fn claim(&self) {
        if self.over.is_cancelled() {
            return;
        }
        let wanted = Wanted::At {
            address: self.address(),
            version: self.version.to_string(),
        };
        self.world.claim(&self.who, self.party, SERVICE, wanted);
    }

    fn address(&self) -> String {
        format!("10.0.0.{}:50051", self.address + 1)
    }

    fn instance(&self) -> Instance {
        let instance = Instance::new(SERVICE, self.address()).expect("it is valid");
        let instance = instance.with_metadata("who", self.who.as_str());
        instance.with_version(self.version.to_string())
    }

    /// What is confirmed was in the store.
    fn done(&self, what: &str, outcome: Result<(), PublishError>) {
        self.trace(what, &outcome);
        if outcome.is_ok() {
            self.world.count("orders confirmed");
        }
        let version = self.version.to_string();
        let has_been = self.world.state().auditor.has_seen(&self.who, &version);
        if outcome.is_ok() && !has_been {
            let who = &self.who;
            self.world.violation(format!(
                "{what} of {who} v{version} is confirmed, and never was"
            ));
        }
    }

    /// What is confirmed to be gone is gone; what a stranger wrote over it is not ours to delete.
    fn gone(&self, what: &str, outcome: Result<(), PublishError>) {
        self.trace(what, &outcome);
        if outcome.is_err() {
            return;
        }
        self.world.count("orders confirmed");
        let state = self.world.state();
        let records = state.auditor.current();
        // What a backup has brought back goes with its lease.
        let ours = |record: &&Record| {
            record.who == self.who && !record.is_spoiled && !state.auditor.has_ended(record.lease)
        };
        let left = records.values().find(ours);
        drop(state);
        if let Some(record) = left {
            self.world
                .violation(format!("{what} is confirmed, and there is {record}"));
        }
        self.world.unclaim(&self.who, true);
    }

    fn trace(&self, what: &str, outcome: &Result<(), PublishError>) {
        let who = &self.who;
        self.world.trace().write(match outcome {
            Ok(()) => format!("{who} {what}: done"),
            Err(error) => format!("{who} {what}: {}", chain(error)),
        });
    }

    fn trace_status(&self, publisher: &Publisher) {
        let (mut status, trace, who) = (
            publisher.status(),
            self.world.trace().clone(),
            self.who.clone(),
        );
        self.world.tasks().spawn(async move {
            while status.changed().await.is_ok() {
                let shown = match &*status.borrow_and_update() {
                    PublicationStatus::Published { lease, .. } => {
                        format!("published under {lease:x}")
                    }
                    PublicationStatus::Retrying { cause } => format!("retrying: {}", chain(cause)),
                    other => format!("{other:?}"),
                };
                trace.write(format_args!("{who} is {shown}"));
            }
        });
    }
}
