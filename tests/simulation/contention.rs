//! Locks, elections and queues, under faults.
//!
//! Each contender makes up what it does from chance of its own; a [script] has the faults. Besides
//! those of the network and of etcd, processes die, stand still and go on as if nothing was, and
//! somebody ends leases and deletes keys. When all faults have ended, everybody has what it wants
//! within 30 s. Then no key is left, and no task.
//!
//! Of 32 contenders in 14 processes one has a lock at a time; of 12 candidates in 8 one leads. The
//! [ledger](crate::ledger) checks:
//!
//! - Whoever is told to have it has its first key in the store, as long as the guard says that it
//!   is held, and nobody else's does: unless somebody else has deleted that key, or all.
//! - What it protects takes all that is written by those, and nothing of one before another.
//! - Work ends with it.
//!
//! Observers see every leader that the store's history had, by [reigns], once and in order, but where
//! history was lost; then they are told so. Of what 8 push into [queues](items), 8 pop nothing twice,
//! and what is lost are items of which that is told, or whoever popped them died.
//!
//! ```text
//! SWITCHBOARD_SEED=7 cargo test --test simulation contention
//! ```

mod candidates;
mod consumers;
mod contenders;
mod items;
mod observers;
mod process;
mod producers;
mod reigns;
mod script;
mod world;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use fastrand::Rng;
use tokio::{runtime::Handle, time::Instant};

use self::{
    process::Process,
    script::{Action, END, Scene, Script},
    world::World,
};
use crate::{
    ledger,
    run::{self, Outcome},
    script::EtcdFault,
    trace::Trace,
};

/// The runs of one scene.
struct Runs {
    /// How many seeds.
    seeds: u64,
    /// Seeds that have found something since the script last changed.
    regressions: &'static [u64],
    /// What is done in all of them together, at least: fewer, and they have tried nothing.
    least: u64,
}

const LOCKS: Runs = Runs {
    seeds: 150,
    regressions: &[],
    least: 10_000,
};

const ELECTIONS: Runs = Runs {
    seeds: 80,
    regressions: &[21],
    least: 5_000,
};

const QUEUES: Runs = Runs {
    seeds: 50,
    regressions: &[],
    least: 10_000,
};

/// How long everybody may wait once nothing is wrong any more: for a lease of one who is
/// gone, and for all the others.
const SETTLED: Duration = Duration::from_secs(30);

/// How long all may take to end.
const ENDED: Duration = Duration::from_secs(30);

/// What was done in all runs of a test.
struct Counts {
    led: AtomicU64,
    acquired: AtomicU64,
    refused: AtomicU64,
    popped: AtomicU64,
    lost: AtomicU64,
}

static COUNTS: Counts = Counts {
    led: AtomicU64::new(0),
    acquired: AtomicU64::new(0),
    refused: AtomicU64::new(0),
    popped: AtomicU64::new(0),
    lost: AtomicU64::new(0),
};

/// Runs a seed, in a runtime of its own, and counts what was done.
fn run_scene(scene: Scene, seed: u64, is_shown: bool, counts: Option<&Counts>) -> Outcome {
    run::within(seed, is_shown, async |trace| {
        let play = Play::begin(scene, seed, trace).await;
        let world = play.world.clone();
        let violations = play.play().await;
        if let Some(counts) = counts {
            let state = world.state();
            let count = |counter: &AtomicU64, more| counter.fetch_add(more, Ordering::Relaxed);
            match scene {
                Scene::Election => count(&counts.led, state.reigns.count()),
                _ => count(&counts.acquired, state.ledger.acquired()),
            };
            count(&counts.refused, state.ledger.refused);
            count(&counts.popped, state.items.popped());
            count(&counts.lost, state.items.lost());
        }
        violations
    })
}

struct Play {
    world: World,
    script: Script,
    rng: Rng,
    /// How many tasks there are without anybody, and with idle registries.
    empty: usize,
    idle: usize,
    processes: Vec<Process>,
}

impl Play {
    async fn begin(scene: Scene, seed: u64, trace: &Trace) -> Self {
        let all = scene.processes();
        let script = Script::of(seed, all.len());
        let world = World::new(trace.clone(), script.is_calm, script.way);
        let mut rng = Rng::with_seed(seed ^ 0x10c4);
        let empty = alive();
        let mut processes: Vec<_> = (0..all.len())
            .map(|index| Process::new(&world, &all, index, rng.fork()))
            .collect();
        for process in &processes {
            let tenure = process.registry().keys().tenure().await;
            tenure.expect("nothing is wrong yet");
        }
        // Leases are renewed by streams of their own.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let idle = alive();
        processes.iter_mut().for_each(Process::begin);
        Self {
            world,
            script,
            rng,
            empty,
            idle,
            processes,
        }
    }

    async fn play(mut self) -> Vec<String> {
        for (at, action) in std::mem::take(&mut self.script.steps) {
            self.until(at).await;
            self.world.trace().write(format_args!("-- {action:?}"));
            self.act(action).await;
        }
        self.until(END).await;
        self.world.trace().write("-- all is right");
        self.world.over().cancel();
        self.settle().await;
        self.rest().await;
        self.close().await;
        std::mem::take(&mut self.world.state().violations)
    }

    async fn until(&self, at: Duration) {
        let end = self.world.moment(at);
        while Instant::now() < end {
            let look = Instant::now() + Duration::from_millis(100);
            tokio::time::sleep_until(end.min(look)).await;
            drop(self.world.state());
        }
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Crash(process) => self.processes[process].crash().await,
            Action::Close(process) => self.processes[process].close(),
            Action::Freeze(process) => self.processes[process].freeze(),
            Action::Stall(process) => self.processes[process].stall(),
            Action::Thaw(process) => self.processes[process].thaw(),
            Action::Link(process, weather) => {
                let name = self.processes[process].name();
                self.world.set_weather(&name, weather);
            }
            Action::Delete(which) => self.delete(which),
            Action::Etcd(fault) => self.befall_etcd(fault),
        }
    }

    /// Deletes one of the keys in line, as somebody who has nothing to do with it.
    fn delete(&self, which: usize) {
        let keys = ledger::lines(self.world.etcd());
        let Some(kv) = keys.get(which % keys.len().max(1)).cloned() else {
            return;
        };
        self.world.state().ledger.meddled([&kv]);
        let channel = etcd_client::Channel::Tonic(self.world.etcd().channel());
        self.world.tasks().spawn(async move {
            let deleting = async {
                let mut client = etcd_client::Client::from_channel(channel, None).await?;
                let unchanged = etcd_client::Compare::create_revision(
                    kv.key.clone(),
                    etcd_client::CompareOp::Equal,
                    kv.create_revision,
                );
                let delete = etcd_client::TxnOp::delete(kv.key, None);
                let txn = etcd_client::Txn::new().when([unchanged]).and_then([delete]);
                client.txn(txn).await
            };
            // If etcd does not do that now, nobody does.
            let _ = tokio::time::timeout(Duration::from_millis(500), deleting).await;
        });
    }

    fn befall_etcd(&self, fault: EtcdFault) {
        let etcd = self.world.etcd();
        match fault {
            EtcdFault::Freeze => etcd.freeze(),
            EtcdFault::Thaw => etcd.thaw(),
            EtcdFault::DropConnections => etcd.drop_connections(),
            EtcdFault::Restart => etcd.restart(),
            EtcdFault::ExpireLease(which) => {
                let keys = etcd.keys();
                let leases: Vec<_> = keys.iter().filter_map(|kv| kv.lease).collect();
                if !leases.is_empty() {
                    let lease = leases[which % leases.len()];
                    let of_it = keys.iter().filter(|kv| kv.lease == Some(lease));
                    self.world.state().ledger.meddled(of_it);
                    etcd.expire_lease(lease);
                }
            }
            EtcdFault::Compact(kept) => {
                // All history is seen before it is forgotten.
                let mut state = self.world.state();
                if etcd.compact(etcd.revision() - i64::from(kept)) {
                    state.reigns.compacted();
                }
            }
            EtcdFault::Wipe => {
                let mut state = self.world.state();
                etcd.wipe();
                state.ledger.wiped();
                state.items.wiped();
                state.reigns.wiped();
            }
            EtcdFault::ReadOnly(is_read_only) => etcd.read_only(is_read_only),
            EtcdFault::Refuse(calls, code) => etcd.refuse(calls as usize, code),
        }
    }

    /// Waits until everybody has what it wants.
    async fn settle(&self) {
        let mut at = END + Duration::from_millis(500);
        self.until(at).await;
        while !self.world.state().waiting.is_empty() {
            if at >= END + SETTLED {
                let waiting = self.world.state().waiting.clone();
                for (who, what) in waiting {
                    let after = format!("after {SETTLED:?}");
                    self.world.violation(format!("{after} {who} waits {what}"));
                }
                return;
            }
            at += Duration::from_millis(100);
            self.until(at).await;
        }
        self.world.trace().write("-- settled");
    }

    /// Ends what is done: no key is left, and no task but those of the registries.
    async fn rest(&mut self) {
        self.world.trace().write("-- all rest");
        for process in &mut self.processes {
            process.rest().await;
        }
        self.world.tasks().close();
        let tasks = tokio::time::timeout(ENDED, self.world.tasks().wait());
        if tasks.await.is_err() {
            self.world.violation(format!("not at rest in {ENDED:?}"));
        }
        let wrong = self.world.state().items.wrong();
        for wrong in wrong {
            self.world.violation(wrong);
        }
        let etcd = self.world.etcd();
        let left = async || ledger::lines(etcd).len();
        self.see_that_none_are_left("at rest", "keys in line", 0, left)
            .await;
        let tasks = async || alive();
        self.see_that_none_are_left("at rest", "tasks", self.idle, tasks)
            .await;
    }

    async fn close(&mut self) {
        self.world.trace().write("-- the end");
        for process in self.processes.drain(..) {
            process.end(self.rng.bool());
        }
        self.world.tasks().wait().await;
        let etcd = self.world.etcd();
        // Go's priority queues leave a key for each priority.
        let stays = |key: &[u8]| key.starts_with(b"__");
        let left = async || etcd.keys().iter().filter(|kv| !stays(&kv.key)).count();
        self.see_that_none_are_left("closed", "keys", 0, left).await;
        let tasks = async || alive();
        self.see_that_none_are_left("closed", "tasks", self.empty, tasks)
            .await;
    }

    async fn see_that_none_are_left(
        &self,
        when: &str,
        what: &str,
        expected: usize,
        count: impl AsyncFn() -> usize,
    ) {
        // What was told to end does so in its turn, and leases of who is gone in theirs.
        let mut rounds = 0;
        while count().await > expected && rounds < 100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            rounds += 1;
        }
        let left = count().await;
        if left > expected {
            let more = left - expected;
            let keys = self.world.etcd().keys();
            let keys: Vec<_> = keys
                .iter()
                .map(|kv| String::from_utf8_lossy(&kv.key))
                .collect();
            self.world.violation(format!(
                "{when}, and {more} {what} are left, beside {keys:?}"
            ));
        }
    }
}

fn alive() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

#[test]
fn whatever_happens_one_has_a_lock_at_a_time() {
    let run = |seed, is_shown| run_scene(Scene::Locks, seed, is_shown, Some(&COUNTS));
    crate::survive(
        run,
        LOCKS.regressions,
        LOCKS.seeds,
        "contention::whatever_happens_one_has",
    );
    let (acquired, refused) = (
        COUNTS.acquired.load(Ordering::Relaxed),
        COUNTS.refused.load(Ordering::Relaxed),
    );
    println!("{acquired} acquisitions, and {refused} late writes refused");
    if crate::variable("SWITCHBOARD_SEED").is_none() {
        assert!(acquired >= LOCKS.least, "only {acquired} acquisitions");
        assert!(refused > 0, "no late write was refused");
    }
}

#[test]
fn whatever_happens_one_leads_at_a_time_and_all_are_told() {
    let run = |seed, is_shown| run_scene(Scene::Election, seed, is_shown, Some(&COUNTS));
    crate::survive(
        run,
        ELECTIONS.regressions,
        ELECTIONS.seeds,
        "contention::whatever_happens_one_leads",
    );
    let led = COUNTS.led.load(Ordering::Relaxed);
    println!("{led} leaders and proclamations");
    if crate::variable("SWITCHBOARD_SEED").is_none() {
        assert!(led >= ELECTIONS.least, "only {led} leaders");
    }
}

#[test]
fn whatever_happens_nothing_is_popped_twice() {
    let run = |seed, is_shown| run_scene(Scene::Queues, seed, is_shown, Some(&COUNTS));
    crate::survive(
        run,
        QUEUES.regressions,
        QUEUES.seeds,
        "contention::whatever_happens_nothing",
    );
    let (popped, lost) = (
        COUNTS.popped.load(Ordering::Relaxed),
        COUNTS.lost.load(Ordering::Relaxed),
    );
    println!("{popped} items popped, and {lost} lost on the way");
    if crate::variable("SWITCHBOARD_SEED").is_none() {
        assert!(popped >= QUEUES.least, "only {popped} items");
        assert!(
            lost > 0,
            "no item was lost: nothing is seen of how that is told"
        );
    }
}

#[test]
#[cfg_attr(
    not(tokio_unstable),
    ignore = "tokio's own chance follows a seed only with tokio_unstable"
)]
fn the_same_seed_of_contention_gives_the_same_trace() {
    crate::are_repeatable(|seed, is_shown| run_scene(Scene::Locks, seed, is_shown, None));
    crate::are_repeatable(|seed, is_shown| run_scene(Scene::Election, seed, is_shown, None));
    crate::are_repeatable(|seed, is_shown| run_scene(Scene::Queues, seed, is_shown, None));
}
