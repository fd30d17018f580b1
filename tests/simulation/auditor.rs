//! Reads the store's history, every revision of it, and checks each.
//!
//! - No key is without a lease.
//! - No publication has two keys.
//! - None that is wanted, and has been there, is without one, but for a reason: its lease ended, by a
//!   fault or since etcd was out of reach, or another one of the same server has the key.
//! - None that is not wanted has one, but for a reason: etcd is out of reach, or was until a moment
//!   ago, and what was on its way came late.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use switchboard_embedded::{EmbeddedEtcd, KeyValue};

use crate::{health::Health, script::Party, trace::Trace};

const PREFIX: &str = "/microservices/";

/// A record, as it lies in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Which publication it is of; its metadata says so.
    pub(crate) who: String,
    pub(crate) version: String,
    /// Where it can be dialed.
    pub(crate) address: String,
    pub(crate) lease: i64,
}

/// All records at one revision, by key.
pub(crate) type Records = BTreeMap<String, Record>;

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
    /// The leases that were ended on purpose.
    ended: BTreeSet<i64>,
    /// The publications that were there, with the versions that were.
    seen: BTreeSet<(String, String)>,
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
            let records = Arc::new(records(&keys));
            for (key, record) in last.iter() {
                if records.get(key) != Some(record) && !records.contains_key(key) {
                    trace.write(format_args!("  {revision} - {record}"));
                }
            }
            for (key, record) in records.iter() {
                if last.get(key) != Some(record) {
                    trace.write(format_args!("  {revision} + {record}"));
                }
            }
            let found = self.check(&last, &records, health, now);
            violations.extend(found.into_iter().map(|it| format!("at {revision}: {it}")));
            for record in records.values() {
                self.seen
                    .insert((record.who.clone(), record.version.clone()));
            }
            note_servers(&records, health, now);
            self.history.insert(revision, records.clone());
            last = records;
        }
        violations
    }

    /// All that was there is gone, and revisions begin anew.
    pub(crate) fn wiped(&mut self, health: &mut Health, now: Duration) {
        self.wiped.push(std::mem::take(&mut self.history));
        note_servers(&Records::new(), health, now);
    }

    pub(crate) fn lease_ended(&mut self, lease: i64) {
        self.ended.insert(lease);
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
    pub(crate) fn were(&self, service: &str, revision: i64, records: &[Listed]) -> bool {
        let histories = self.wiped.iter().chain([&self.history]);
        let mut found = histories.filter_map(|history| {
            let at = history.range(..=revision).next_back();
            let at = at
                .map(|(_, records)| listed(service, records))
                .unwrap_or_default();
            Some(at == records)
        });
        found.any(|is_so| is_so)
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
            if record.lease == 0 {
                violations.push(format!("{key} without a lease"));
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
                    let Some(was) = before.values().find(|record| record.who == *who) else {
                        continue;
                    };
                    let is_anothers = records.iter().any(|(key, record)| {
                        record.address == *address && service(key) == claim.service
                    });
                    if !is_anothers && !self.ended.contains(&was.lease) {
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

/// A record as those who follow see it: the publication, its version and its address.
pub(crate) type Listed = (String, String, String);

/// The records of a service, in the order of their keys.
pub(crate) fn listed(service: &str, records: &Records) -> Vec<Listed> {
    let of_service = records
        .iter()
        .filter(|(key, _)| self::service(key) == service);
    of_service
        .map(|(_, it)| (it.who.clone(), it.version.clone(), it.address.clone()))
        .collect()
}

fn service(key: &str) -> &str {
    let rest = key.strip_prefix(PREFIX).unwrap_or(key);
    rest.split('/').next().unwrap_or(rest)
}

fn records(keys: &[KeyValue]) -> Records {
    keys.iter()
        .map(|it| {
            let key = String::from_utf8(it.key.clone()).expect("keys are text");
            let value: serde_json::Value =
                serde_json::from_slice(&it.value).expect("values are kratos'");
            let text = |value: &serde_json::Value| value.as_str().unwrap_or("?").to_owned();
            let address = text(&value["endpoints"][0]);
            let record = Record {
                who: text(&value["metadata"]["who"]),
                version: text(&value["version"]),
                address: address.trim_start_matches("grpc://").to_owned(),
                lease: it.lease.unwrap_or(0),
            };
            (key, record)
        })
        .collect()
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

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            who,
            version,
            address,
            lease,
        } = self;
        write!(f, "{who} v{version} at {address} under {lease:x}")
    }
}
