//! How often each thing happened, over all runs of a test: a fault that never came has found nothing.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
};

/// The faults there are, as the table has them.
const FAULTS: [&str; 21] = [
    "etcd frozen",
    "etcd's connections dropped",
    "etcd restarted",
    "etcd wiped",
    "etcd read-only",
    "etcd refusing requests",
    "history compacted",
    "lease ended",
    "record deleted by a stranger",
    "record spoiled by a stranger",
    "link cut",
    "link slow",
    "link refusing",
    "link reset",
    "party cut off",
    "party standing still",
    "publishing process crashed",
    "registry closed under its publications",
    "server stopped",
    "server crashed",
    "server restarted in its turn",
];

/// How often each thing happened, by what it is called.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    /// Counts nothing yet.
    pub(crate) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Something happened, so many times.
    pub(crate) fn add(&mut self, what: &'static str, times: u64) {
        *self.0.entry(what).or_default() += times;
    }

    /// Adds what happened in another run.
    pub(crate) fn add_all(&mut self, other: &Self) {
        for (what, times) in &other.0 {
            self.add(what, *times);
        }
    }

    /// Returns how often this happened.
    pub(crate) fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    /// Returns the faults that never came.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let never = |fault: &&str| !self.0.contains_key(fault);
        FAULTS.into_iter().filter(never).collect()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "faults")?;
        for fault in FAULTS {
            let times = self.of(fault);
            writeln!(f, "  {times:>9} {fault}")?;
        }
        writeln!(f, "beside")?;
        for (what, times) in self.0.iter().filter(|(what, _)| !FAULTS.contains(what)) {
            writeln!(f, "  {times:>9} {what}")?;
        }
        Ok(())
    }
}

/// Prints what was counted when it is dropped: also where a test fails.
pub(crate) struct PrintedAtLast(pub(crate) &'static Mutex<Counts>);

impl Drop for PrintedAtLast {
    fn drop(&mut self) {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        println!("{counts}");
    }
}
