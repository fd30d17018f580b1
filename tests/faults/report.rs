//! What was measured, as a table.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use switchboard_test_support::Version;

use crate::{
    scene::Seen,
    table::{FAULTS, Fault},
};

/// What was measured of each fault, on each version.
#[derive(Clone, Default)]
pub(crate) struct Report(Arc<Mutex<BTreeMap<(Version, &'static str), Measured>>>);

#[derive(Clone, Copy)]
struct Measured {
    seen: Seen,
    calls: usize,
}

impl Report {
    pub(crate) fn note(&self, fault: &Fault, version: Version, seen: Seen, calls: usize) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert((version, fault.name), Measured { seen, calls });
    }

    /// Prints the table, if there is anything in it: the promise of each fault, and what was seen on
    /// each version.
    pub(crate) fn print(&self) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.is_empty() {
            return;
        }
        let mut versions: Vec<Version> = all.keys().map(|(version, _)| *version).collect();
        versions.dedup();
        let names = versions.iter().map(|version| format!(" {version} |"));
        println!("\n{}{}", HEADER, names.collect::<String>());
        println!("{RULE}{}", "--:|".repeat(versions.len()));
        let mut calls = 0;
        for fault in FAULTS {
            let cells = versions
                .iter()
                .map(|version| match all.get(&(*version, fault.name)) {
                    Some(measured) => {
                        calls += measured.calls;
                        let Seen {
                            publishers,
                            discoverers,
                        } = measured.seen;
                        format!(" {} / {} |", seconds(publishers), seconds(discoverers))
                    }
                    None => " – |".to_owned(),
                });
            let cells: String = cells.collect();
            println!("{}{cells}", fault.promise());
        }
        println!("\n{calls} calls were made.");
    }
}

/// The head of the table, up to what was measured.
pub(crate) const HEADER: &str =
    "| what befalls etcd | members | since | publishers | discoverers | lists | calls |";
const RULE: &str = "|---|--:|---|--:|--:|---|---|";

fn seconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64())
}
