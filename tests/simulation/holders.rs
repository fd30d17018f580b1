//! Those who publish also contend for a lock, under the lease of their publications.
//!
//! The [ledger](crate::ledger) sees that one has it at a time. Nobody loses it, and nobody fails to get it, but
//! for a reason. When all faults have ended, each has it once more.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use switchboard::{
    Registry,
    coordination::{Failure, Lock, LockError, LockGuard, Lost},
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    ledger::{Belief, Holding, LINES},
    script::Party,
    trace::chain,
    world::World,
};

/// Which of the ledger's lines they stand in.
const LINE: usize = 0;

/// One who wants the lock, in one life of its process.
pub(crate) struct Holder {
    pub(crate) world: World,
    pub(crate) party: Party,
    /// What its process is called in this life.
    pub(crate) process: String,
    pub(crate) registry: Registry,
    /// Its process is about to close its registry.
    pub(crate) over: CancellationToken,
    pub(crate) rng: Rng,
}

/// What came of an attempt.
enum Attempt {
    Had(LockGuard),
    Not,
    Closed,
}

impl Holder {
    /// Has the lock again and again, and once more when nothing is wrong any more.
    pub(crate) async fn contend(mut self) {
        let (world, name) = (self.world.clone(), self.name());
        // It is not done before it has had it then.
        world.state().waits(&name, Some("for the lock"));
        self.contend_to_the_end().await;
        world.state().waits(&name, None);
    }

    async fn contend_to_the_end(&mut self) {
        let world = self.world.clone();
        let lock = Lock::new(&self.registry, LINES[LINE]).expect("a name");
        while !world.over().is_cancelled() {
            let wait = Duration::from_millis(self.rng.u64(0..1_500));
            let _ = timeout(wait, world.over().cancelled()).await;
            match self.attempt(&lock).await {
                Attempt::Had(guard) => drop(self.have(guard).await),
                Attempt::Not => {}
                Attempt::Closed => return,
            }
        }
        loop {
            let was_held = match self.insist(&lock).await {
                Attempt::Had(guard) => self.have(guard).await,
                Attempt::Not => false,
                Attempt::Closed => return,
            };
            if was_held {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn name(&self) -> String {
        format!("{}/lock", self.process)
    }

    /// Tries to have the lock, in one of the ways there are.
    async fn attempt(&mut self, lock: &Lock) -> Attempt {
        let (began, limit) = (self.world.now(), self.rng.u64(0..3_000));
        let locked = match self.rng.u32(..8) {
            0..4 => return self.insist(lock).await,
            4 => lock.try_lock().await,
            5 => {
                let limit = Duration::from_millis(limit);
                lock.lock_within(limit).await.map(Some)
            }
            // Given up half way.
            _ => match timeout(Duration::from_millis(limit / 20), lock.lock()).await {
                Ok(locked) => locked.map(Some),
                Err(_) => Ok(None),
            },
        };
        self.judge(began, locked)
    }

    /// Waits for the lock as long as it takes.
    async fn insist(&self, lock: &Lock) -> Attempt {
        let began = self.world.now();
        let locked = lock.lock().await.map(Some);
        self.judge(began, locked)
    }

    /// Notes what came of an attempt, and whether that may be.
    fn judge(&self, began: Duration, locked: Result<Option<LockGuard>, LockError>) -> Attempt {
        match locked {
            Ok(Some(guard)) => Attempt::Had(guard),
            Ok(None) | Err(LockError::TimedOut(_)) => Attempt::Not,
            Err(LockError::Etcd(Failure::Closed)) if self.over.is_cancelled() => Attempt::Closed,
            Err(error) => {
                let what = format!("{} cannot lock: {}", self.name(), chain(&error));
                self.world.excused(self.party, began, what);
                Attempt::Not
            }
        }
    }

    /// Works under the lock, and gives it back. Returns whether it was held all the time.
    async fn have(&mut self, guard: LockGuard) -> bool {
        let (world, began) = (self.world.clone(), self.world.now());
        let holding = {
            let mut state = world.state();
            state.ledger.take(world.etcd(), &self.name(), LINE, guard)
        };
        let (life, token) = (holding.life(), holding.guard.token());
        world.count("locks had");
        world
            .trace()
            .write(format_args!("{} has the lock by {token}", self.name()));
        // It is looked at now that it is had.
        drop(world.state());
        let (steps, longest) = (
            self.rng.u32(1..=4),
            if self.rng.u32(..12) == 0 { 3_000 } else { 60 },
        );
        let spans: Vec<_> = (0..steps).map(|_| self.rng.u64(1..longest)).collect();
        let guard: Arc<LockGuard> = holding.guard.clone();
        let worked = guard.hold(self.work(&holding, &spans)).await;
        drop(guard);
        let is_trusted = world.state().ledger.is_trusted(&holding);
        let guard = world.state().ledger.give_back(holding);
        let ended = match worked {
            Ok(()) => guard.unlock().await,
            Err(lost) => Err(lost),
        };
        if let Err(lost) = ended {
            self.lost_it(lost, is_trusted, began);
            return false;
        }
        let wrong = {
            let state = world.state();
            state.ledger.left_behind(world.etcd(), life, token)
        };
        if let Some(wrong) = wrong {
            world.violation(format!("{} has unlocked, and {wrong}", self.name()));
        }
        true
    }

    /// Writes to what the lock protects, step by step.
    async fn work(&self, holding: &Holding<LockGuard>, spans: &[u64]) {
        for span in spans {
            self.write(holding);
            sleep(Duration::from_millis(*span)).await;
        }
        self.write(holding);
    }

    fn write(&self, holding: &Holding<LockGuard>) {
        let written = self.world.state().ledger.write(holding, Belief::Held);
        match written {
            Ok(true) => {}
            Ok(false) => {
                let (name, token) = (self.name(), holding.guard.token());
                let trace = self.world.trace();
                trace.write(format_args!("{name} is refused with {token}"));
            }
            Err(wrong) => self.world.violation(wrong),
        }
    }

    /// Notes that the lock was lost, and whether that may be.
    fn lost_it(&self, lost: Lost, is_trusted: bool, began: Duration) {
        self.world.count("locks lost");
        let what = format!("{} has lost the lock: {lost}", self.name());
        match is_trusted && !self.over.is_cancelled() {
            true => self.world.excused(self.party, began, what),
            // Its key was taken away, or the registry is being closed.
            false => self.world.trace().write(what),
        }
    }
}
