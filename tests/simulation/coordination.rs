//! The coordination recipes, under the same faults: writers and 16 replicas of two configurations,
//! senders and subscribers of a topic, members and those who follow them, a job, and conditions.
//!
//! Each party is a process with a registry of its own, and makes up what it does from chance of its
//! own; a [script] has the faults. At every step [history] checks what is in the store, and each
//! party what it is told. When all faults have ended, everybody sees what is there within 30 s. Then
//! all handles go, and with them all tasks, before the registries do.
//!
//! ```text
//! SWITCHBOARD_SEED=7 cargo test --test simulation recipes
//! ```

mod account;
mod history;
mod jobs;
mod members;
mod process;
mod replicas;
mod script;
mod senders;
mod subscribers;
mod world;
mod writers;

use std::time::Duration;

use fastrand::Rng;
use tokio::{runtime::Handle, time::Instant};

use self::{
    process::Process,
    script::{Action, END, Party, Script},
    world::World,
};
use crate::{
    run::{self, Outcome},
    script::EtcdFault,
    trace::Trace,
};

/// How many seeds are run where nobody says how many.
const SEEDS: u64 = 500;

/// Seeds that have found something since the script last changed.
const REGRESSIONS: &[u64] = &[70, 74, 198, 293, 422, 596, 618, 771, 800];

/// How long everything may take to be as it should once nothing is wrong any more.
const SETTLED: Duration = Duration::from_secs(30);

/// How long it has to stay so.
const STABLE: Duration = Duration::from_secs(3);

/// How long all may take to end.
const ENDED: Duration = Duration::from_secs(30);

/// Runs a seed, in a runtime of its own.
fn run(seed: u64, is_shown: bool) -> Outcome {
    run::within(seed, is_shown, async |trace| {
        Play::begin(seed, trace).await.play().await
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
    async fn begin(seed: u64, trace: &Trace) -> Self {
        let script = Script::of(seed);
        let world = World::new(trace.clone(), script.is_calm);
        let mut rng = Rng::with_seed(seed ^ 0xc0de);
        let empty = alive();
        let mut processes: Vec<_> = Party::all()
            .map(|party| Process::new(&world, party, rng.fork()))
            .collect();
        let mut play = Self {
            world,
            script,
            rng,
            empty,
            idle: 0,
            processes: Vec::new(),
        };
        // The members' have a lease, which is theirs as long as the registry is.
        for process in processes.iter().filter(|it| !is_member(it)) {
            let read = process.registry().keys().read("/sim/any", 0).await;
            read.expect("nothing is wrong yet");
        }
        play.idle = alive();
        processes.iter_mut().for_each(Process::begin);
        play.processes = processes;
        play
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

    fn process(&mut self, party: Party) -> &mut Process {
        let mut processes = self.processes.iter_mut();
        let process = processes.find(|it| it.party() == party);
        process.expect("there is one of each")
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Crash(party) => {
                self.forget(party);
                self.process(party).crash().await;
            }
            Action::Close(party) => {
                self.forget(party);
                self.process(party).close().await;
            }
            Action::Link(party, weather) => {
                let name = self.process(party).name();
                self.world.set_weather(&name, weather);
            }
            Action::Etcd(fault) => self.befall_etcd(fault),
        }
    }

    /// Nobody waits for what one who is gone was to see.
    fn forget(&mut self, party: Party) {
        let name = self.process(party).name();
        self.world.state().forget(&name);
    }

    fn befall_etcd(&self, fault: EtcdFault) {
        let etcd = self.world.etcd();
        let mut state = self.world.state();
        match fault {
            EtcdFault::Freeze => etcd.freeze(),
            EtcdFault::Thaw => etcd.thaw(),
            EtcdFault::DropConnections => etcd.drop_connections(),
            EtcdFault::Restart => etcd.restart(),
            EtcdFault::ExpireLease(which) => {
                let keys = etcd.keys();
                let leases: Vec<_> = keys.iter().filter_map(|kv| kv.lease).collect();
                if !leases.is_empty() {
                    etcd.expire_lease(leases[which % leases.len()]);
                }
            }
            EtcdFault::Compact(kept) => {
                let revision = etcd.revision() - i64::from(kept);
                if etcd.compact(revision) {
                    state.history.now_mut().compacted = revision;
                }
            }
            EtcdFault::Wipe => {
                etcd.wipe();
                state.history.wiped();
            }
            EtcdFault::ReadOnly(is_read_only) => etcd.read_only(is_read_only),
            EtcdFault::Refuse(calls, code) => etcd.refuse(calls as usize, code),
        }
    }

    /// Waits until everything is as it should be, and sees that it stays so.
    async fn settle(&self) {
        let mut at = END + Duration::from_millis(500);
        self.until(at).await;
        while !self.world.state().waiting.is_empty() {
            if at >= END + SETTLED {
                return self.tell_who_waits("not settled");
            }
            at += Duration::from_millis(100);
            self.until(at).await;
        }
        self.world.trace().write("-- settled");
        self.until(at + STABLE).await;
        self.tell_who_waits("settled, and then");
    }

    fn tell_who_waits(&self, when: &str) {
        let waiting = self.world.state().waiting.clone();
        for (who, what) in waiting {
            self.world.violation(format!("{when}: {who} waits {what}"));
        }
    }

    /// Drops all handles but the registries: no task of theirs is left, and no watch at etcd.
    async fn rest(&mut self) {
        self.world.trace().write("-- all rest");
        for process in &mut self.processes {
            process.rest().await;
        }
        let (members, others): (Vec<_>, _) = self.processes.drain(..).partition(is_member);
        self.processes = others;
        for member in members {
            member.end(true);
        }
        self.world.tasks().close();
        if tokio::time::timeout(ENDED, self.world.tasks().wait())
            .await
            .is_err()
        {
            self.world.violation(format!("not at rest in {ENDED:?}"));
        }
        self.see_that_none_are_left("at rest", self.idle).await;
    }

    async fn close(&mut self) {
        self.world.trace().write("-- the end");
        for process in self.processes.drain(..) {
            process.end(self.rng.bool());
        }
        self.world.tasks().wait().await;
        self.see_that_none_are_left("closed", self.empty).await;
    }

    async fn see_that_none_are_left(&self, when: &str, expected: usize) {
        // Connections that were told to end do so in their turn.
        let mut rounds = 0;
        while alive() > expected && rounds < 100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            rounds += 1;
        }
        if alive() > expected {
            let more = alive() - expected;
            self.world
                .violation(format!("{when}, and {more} tasks are left"));
        }
    }
}

fn is_member(process: &Process) -> bool {
    matches!(process.party(), Party::Member(_))
}

fn alive() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

#[test]
fn whatever_happens_recipes_tell_what_is_in_etcd_in_order() {
    crate::survive(run, REGRESSIONS, SEEDS, "recipes");
}

#[test]
#[cfg_attr(
    not(tokio_unstable),
    ignore = "tokio's own chance follows a seed only with tokio_unstable"
)]
fn the_same_seed_of_recipes_gives_the_same_trace() {
    crate::are_repeatable(run);
}
