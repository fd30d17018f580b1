//! Reads the store's history, every revision of it, and checks each.
//!
//! - No key is without a lease.
//! - No publication has two keys.
//! - None that is wanted, and has been there, is without one, but for a reason: its lease ended, by a
//!   fault or since etcd was out of reach, or another one of the same server has the key, or a
//!   stranger has taken it, and then it is back within a second.
//! - None that is not wanted has one, but for a reason: etcd is out of reach, or was until a moment
//!   ago, and what was on its way came late.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use switchboard_embedded::EmbeddedEtcd;

use crate::{
    health::Health,
    records::{self, Listed, Record, Records, service},
    script::Party,
    setting::Values,
    trace::Trace,
};

/// What a publication is to have in the store.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) party: Party,
    pub(crate) service: &'static str,
    pub(crate) wanted: Wanted,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    At {
        address: String,
        version: String,
    },
    /// Whether etcd has confirmed that it is gone.
    Absent {
        is_confirmed: bool,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Auditor {
    pub(crate) claims: BTreeMap<String, Claim>,
    /// Since the last wipe.
    history: BTreeMap<i64, Arc<Records>>,
    /// The histories before.
    wiped: Vec<BTreeMap<i64, Arc<Records>>>,
    /// The leases that were ended on purpose, or are left to their end.
    ended: BTreeSet<i64>,
    /// The keys that a stranger lays hands on, and when they are to be as before at the latest.
    meddled: BTreeMap<String, Duration>,
    /// The publications that were there, with the versions that were.
    seen: BTreeSet<(String, String)>,
    /// The last record that each key held.
    known: Records,
    pub(crate) setting: Values,
}

impl Auditor {
    /// Checks all revisions that are new, and notes since when servers are listed. Returns what must
    /// not be.
    pub(crate) fn audit(
        &mut self,
        etcd: &EmbeddedEtcd,
        health: &mut Health,
        now: Duration,
        trace: &Trace,
    ) -> Vec<String> {
        let mut violations = Vec::new();
        let mut last = self.current();
        let from = self.revision() + 1;
        for revision in from..=etcd.revision() {
            let keys = etcd.keys_at(revision);
            let keys = keys.expect("what is compacted was audited before");
            self.setting.read(revision, &keys);
            let records = Arc::new(records::read(&keys, &self.known));
            for (key, record) in last.iter() {
                if !records.contains_key(key) {
                    trace.write(format_args!("  {revision} - {record}"));
                }
            }
            for (key, record) in records.iter() {
                if last.get(key) != Some(record) {
                    trace.write(format_args!("  {revision} + {record}"));
                }
            }
            let found = self.check(&last, &records, health, now);
            // What is back has been put back, whatever becomes of it later.
            self.meddled
                .retain(|key, _| stands(&last, key) || !stands(&records, key));
            violations.extend(found.into_iter().map(|it| format!("at {revision}: {it}")));
            for (key, record) in records.iter().filter(|(_, it)| !it.is_spoiled) {
                let Record { who, version, .. } = record;
                self.seen.insert((who.clone(), version.clone()));
                self.known.insert(key.clone(), record.clone());
            }
            note_servers(&records, health, now);
            self.history.insert(revision, records.clone());
            last = records;
        }
        violations.extend(self.left_alone(health, now));
        violations
    }

    /// Looks whether what a stranger laid hands on is as it should be.
    fn left_alone(&mut self, health: &Health, now: Duration) -> Vec<String> {
        let is_due = |(_, right_by): &(&String, &Duration)| **right_by <= now;
        let due: Vec<String> = self
            .meddled
            .iter()
            .filter(is_due)
            .map(|it| it.0.clone())
            .collect();
        self.meddled.retain(|_, right_by| *right_by > now);
        let records = self.current();
        let mut violations = Vec::new();
        for key in due {
            let stands = records.get(&key).is_some_and(|record| !record.is_spoiled);
            let Some(Record { who, address, .. }) = self.known.get(&key) else {
                continue;
            };
            let is_wanted = self.claims.get(who).is_some_and(|claim| {
                // One that was to move meanwhile has no use for the key.
                let is_there =
                    matches!(&claim.wanted, Wanted::At { address: at, .. } if at == address);
                is_there && !health.is_hampered(claim.party, now)
            });
            if is_wanted && !stands {
                violations.push(format!("{who} is not put back: {key}"));
            }
        }
        violations
    }

    /// All that was there is gone, and revisions begin anew.
    pub(crate) fn wiped(&mut self, health: &mut Health, now: Duration) {
        self.wiped.push(std::mem::take(&mut self.history));
        self.setting.wiped();
        note_servers(&Records::new(), health, now);
    }

    /// What a backup had is there again, under leases that are left to their end: until then there may be what
    /// nobody wants any more.
    pub(crate) fn restored(&mut self, etcd: &EmbeddedEtcd, health: &mut Health, now: Duration) {
        self.wiped(health, now);
        let (revision, keys) = (etcd.revision(), etcd.keys());
        self.setting.read(revision, &keys);
        let records = records::read(&keys, &self.known);
        self.ended
            .extend(records.values().map(|record| record.lease));
        note_servers(&records, health, now);
        self.history.insert(revision, Arc::new(records));
    }

    pub(crate) fn was_wiped(&self) -> bool {
        !self.wiped.is_empty()
    }

    pub(crate) fn lease_ended(&mut self, lease: i64) {
        self.ended.insert(lease);
    }

    /// Returns whether a lease was ended on purpose, or is left to its end.
    pub(crate) fn has_ended(&self, lease: i64) -> bool {
        self.ended.contains(&lease)
    }

    pub(crate) fn meddled(&mut self, key: &str, right_by: Duration) {
        self.meddled.insert(key.to_owned(), right_by);
    }

    pub(crate) fn revision(&self) -> i64 {
        // What an etcd begins with.
        self.history
            .last_key_value()
            .map_or(1, |(revision, _)| *revision)
    }

    pub(crate) fn current(&self) -> Arc<Records> {
        let last = self.history.last_key_value();
        last.map(|(_, records)| records.clone()).unwrap_or_default()
    }

    pub(crate) fn has_seen(&self, who: &str, version: &str) -> bool {
        self.seen.contains(&(who.to_owned(), version.to_owned()))
    }

    /// Returns whether the records of a service were these, at that revision of some history.
    pub(crate) fn were(&self, service: &str, revision: i64, shown: &[Listed]) -> bool {
        let nothing = Arc::new(Records::new());
        let mut histories = self.wiped.iter().chain([&self.history]);
        histories.any(|history| {
            let at = history.range(..=revision).next_back();
            let records = at.map_or(&nothing, |(_, records)| records);
            records::are_shown(service, records, shown)
        })
    }

    fn check(
        &self,
        before: &Records,
        records: &Records,
        health: &Health,
        now: Duration,
    ) -> Vec<String> {
        let mut violations = Vec::new();
        let mut of: BTreeMap<&str, (&String, &Record)> = BTreeMap::new();
        for (key, record) in records {
            if record.is_spoiled {
                continue;
            }
            if record.lease == 0 {
                violations.push(format!("{key} without a lease"));
            }
            if self.ended.contains(&record.lease) {
                continue;
            }
            if let Some((other, _)) = of.insert(&record.who, (key, record)) {
                violations.push(format!("{} has two keys: {other} and {key}", record.who));
            }
        }
        for (who, claim) in &self.claims {
            if health.is_hampered(claim.party, now) {
                continue;
            }
            match (&claim.wanted, of.get(who.as_str())) {
                (Wanted::At { address, .. }, None) => {
                    let Some((was_at, was)) = before.iter().find(|(_, it)| it.who == *who) else {
                        continue;
                    };
                    let is_anothers = records.iter().any(|(key, record)| {
                        record.address == *address && service(key) == claim.service
                    });
                    let is_meddled = self.meddled.contains_key(was_at);
                    if !is_anothers && !is_meddled && !self.ended.contains(&was.lease) {
                        violations.push(format!("{who} has no key, and nothing was wrong"));
                    }
                }
                (Wanted::Absent { is_confirmed: true }, Some((key, _))) => {
                    violations.push(format!("{who} is gone and has a key: {key}"));
                }
                (Wanted::At { .. }, Some(_)) | (Wanted::Absent { .. }, _) => {}
            }
        }
        violations
    }

    /// Returns what the store must not hold, or must, once everything has settled.
    pub(crate) fn unsettled(&self) -> Vec<String> {
        let records = self.current();
        let mut wanted: BTreeMap<(&str, &str), Vec<(&String, &str)>> = BTreeMap::new();
        for (who, claim) in &self.claims {
            if let Wanted::At { address, version } = &claim.wanted {
                let place = (claim.service, address.as_str());
                wanted.entry(place).or_default().push((who, version));
            }
        }
        let mut unsettled = Vec::new();
        for (key, record) in records.iter() {
            if record.is_spoiled {
                // Nobody's, unless its place is wanted.
                continue;
            }
            let place = (service(key), record.address.as_str());
            match wanted.remove(&place) {
                Some(by) if by.contains(&(&record.who, &record.version)) => {}
                Some(by) => unsettled.push(format!("{record} (expected: one of {by:?})")),
                None => unsettled.push(format!("{record} (expected: nothing)")),
            }
        }
        unsettled.extend(wanted.into_iter().map(|((service, address), by)| {
            format!("nothing of {service} at {address} (expected: one of {by:?})")
        }));
        unsettled
    }
}

/// Returns whether a key holds a record that is of use.
fn stands(records: &Records, key: &str) -> bool {
    records.get(key).is_some_and(|record| !record.is_spoiled)
}

fn note_servers(records: &Records, health: &mut Health, now: Duration) {
    for server in 0..crate::script::SERVERS {
        let address = crate::servers::address(server);
        match records.values().any(|record| record.address == address) {
            true => health.listed(server, now),
            false => health.unlisted(server),
        }
    }
}
