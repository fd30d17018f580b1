//! A publication and a small etcd that answers it.

mod examples;
mod histories;
mod turns;

use std::collections::BTreeMap;

use super::*;

const OURS: LeaseId = 7;
const THEIRS: LeaseId = 99;
/// In the place of ours.
const NEW: LeaseId = 8;

fn record(key: &str, value: &str) -> Record {
    Record {
        key: key.to_owned(),
        value: value.into(),
    }
}

fn held(id: LeaseId, now: Instant) -> lease::Standing {
    lease::Standing::Held {
        id,
        until: now + Duration::from_secs(10),
    }
}

fn cause() -> Cause {
    Cause::from(Box::<dyn std::error::Error + Send + Sync>::from(
        "etcd is away",
    ))
}

#[allow(
    clippy::disallowed_methods,
    reason = "a decider's test needs some instant to count from"
)]
fn an_instant() -> Instant {
    Instant::now()
}

/// A publication and a small etcd that answers it.
struct Fixture {
    publication: Publication,
    now: Instant,
    rng: fastrand::Rng,
    revision: i64,
    keys: BTreeMap<String, Found>,
    leases: Vec<LeaseId>,
    /// Whose turn the wanted key is.
    turn: Turn,
}

impl Fixture {
    fn new(id: IdKind) -> Self {
        let mut fixture = Self {
            publication: Publication::new(record("a", "1"), id),
            now: an_instant(),
            rng: fastrand::Rng::with_seed(3),
            revision: 1,
            keys: BTreeMap::new(),
            leases: vec![OURS, THEIRS],
            turn: Turn::Ours,
        };
        fixture.publication.session(held(OURS, fixture.now), None);
        fixture
    }

    fn published() -> Self {
        let mut fixture = Self::new(IdKind::Derived);
        fixture.settle();
        assert!(matches!(
            fixture.publication.status(),
            Status::Published { lease: OURS }
        ));
        fixture
    }

    fn next(&mut self) -> Step {
        let wants = self.publication.claims().is_some();
        self.publication
            .turn(if wants { self.turn } else { Turn::Next });
        self.publication.next(self.now)
    }

    /// Someone else writes.
    fn put(&mut self, key: &str, value: &str, lease: LeaseId, same_server: bool) {
        self.revision += 1;
        let found = Found {
            value: value.into(),
            lease,
            revision: self.revision,
            same_server,
        };
        self.keys.insert(key.to_owned(), found);
    }

    fn delete(&mut self, key: &str) {
        self.revision += 1;
        self.keys.remove(key);
    }

    fn lose_lease(&mut self, lease: LeaseId) {
        self.revision += 1;
        self.leases.retain(|id| *id != lease);
        self.keys.retain(|_, found| found.lease != lease);
    }

    /// The session was told that its lease is gone, and has another one.
    fn replace_lease(&mut self) {
        let mut former = Former::default();
        former.add(OURS);
        self.leases.push(NEW);
        self.publication.had(former);
        self.publication.session(lease::Standing::Absent, None);
        self.publication.session(held(NEW, self.now), None);
    }

    fn see(&mut self, key: &str) {
        let revision = self
            .keys
            .get(key)
            .map_or(self.revision, |found| found.revision);
        self.publication.seen(
            key.to_owned(),
            self.keys.get(key).cloned(),
            revision,
            self.now,
        );
    }

    fn look(&self, keys: &[String]) -> Vec<(String, Option<Found>)> {
        keys.iter()
            .map(|key| (key.clone(), self.keys.get(key).cloned()))
            .collect()
    }

    /// What etcd makes of a write: whether it was applied.
    fn apply(&mut self, write: &Write) -> bool {
        let unchanged = write.put.as_ref().is_none_or(|put| {
            self.keys
                .get(&put.record.key)
                .map_or(0, |found| found.revision)
                == put.if_revision
        });
        let ours = write.delete.iter().all(|key| {
            self.keys
                .get(key)
                .is_some_and(|found| found.lease == write.lease)
        });
        if !unchanged || !ours {
            return false;
        }
        self.revision += 1;
        for key in &write.delete {
            self.keys.remove(key);
        }
        if let Some(put) = &write.put {
            let found = Found {
                value: put.record.value.clone(),
                lease: write.lease,
                revision: self.revision,
                same_server: true,
            };
            self.keys.insert(put.record.key.clone(), found);
        }
        true
    }

    /// Performs a step as etcd would.
    fn answer(&mut self, step: Step) {
        match step {
            Step::Read { keys } => {
                self.publication
                    .found(self.look(&keys), self.revision, self.now)
            }
            Step::Write(write) if write.put.is_some() && !self.leases.contains(&write.lease) => {
                self.publication
                    .lease_gone(write.lease, cause(), self.now, &mut self.rng);
            }
            Step::Write(write) => {
                if self.apply(&write) {
                    self.publication.written(write, self.revision);
                } else {
                    let put = write.put.iter().map(|put| put.record.key.clone());
                    let keys: Vec<_> = put.chain(write.delete.clone()).collect();
                    self.publication
                        .found(self.look(&keys), self.revision, self.now);
                }
            }
            Step::WaitUntil(at) => self.now = at,
            Step::Wait | Step::Done => {}
        }
    }

    fn fail(&mut self, step: &Step) {
        self.publication
            .failed(step, cause(), self.now, &mut self.rng);
    }

    fn pass_the_wait(&mut self) {
        match self.next() {
            Step::WaitUntil(at) => self.now = at,
            step => panic!("it does not wait: {step:?}"),
        }
    }

    /// Performs steps until there is nothing to do but wait.
    fn settle(&mut self) {
        for _ in 0..20 {
            match self.next() {
                Step::Wait | Step::Done | Step::WaitUntil(_) => return,
                step => self.answer(step),
            }
        }
        panic!("no end: {:?}", self.publication);
    }

    fn values(&self) -> Vec<(&str, &str, LeaseId)> {
        let text =
            |found: &Found| std::str::from_utf8(&found.value).unwrap().to_owned().leak() as &str;
        self.keys
            .iter()
            .map(|(key, found)| (key.as_str(), text(found), found.lease))
            .collect()
    }
}
