//! What was pushed into queues, what became of it, and what must not have.

use std::collections::{BTreeMap, BTreeSet};

use switchboard_embedded::EmbeddedEtcd;

/// A queue, popped from both ends, and one with priorities.
pub(super) const QUEUES: [&str; 2] = ["/sim/queue", "/sim/jobs"];

/// What whoever has pushed it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Pushed,
    /// Nothing was pushed.
    Failed,
    /// Nobody knows; or whoever pushed it has not waited.
    Unknown,
}

#[derive(Debug, Default)]
struct Item {
    told: Option<Told>,
    /// Its key, if it was in the store.
    key: Option<String>,
    /// Whether it was there when all was wiped.
    is_wiped: bool,
    popped: u32,
}

#[derive(Debug, Default)]
pub(super) struct Items {
    /// Up to which revision all was seen.
    seen: i64,
    /// By their values, of which there is one each.
    all: BTreeMap<String, Item>,
    /// The keys of items of which nobody knows who has popped them.
    unknown: BTreeSet<String>,
    /// Who is popping, or has given up and may have an item.
    popping: BTreeSet<String>,
    /// How many were popping when they died.
    died: u64,
}

impl Items {
    /// Takes in all revisions that are new.
    pub(super) fn audit(&mut self, etcd: &EmbeddedEtcd) {
        for revision in self.seen + 1..=etcd.revision() {
            self.seen = revision;
            // What the first look at a history finds compacted has no items.
            for kv in etcd.keys_at(revision).unwrap_or_default() {
                let is_new = kv.mod_revision == revision;
                if is_new && QUEUES.iter().any(|queue| is_item(queue, &kv.key)) {
                    let item = self.all.entry(text(&kv.value)).or_default();
                    item.key = Some(text(&kv.key));
                }
            }
        }
    }

    /// The store is empty, and counts from 1 again. What was under way may come yet.
    pub(super) fn wiped(&mut self) {
        self.seen = 0;
        for item in self.all.values_mut() {
            item.is_wiped = true;
        }
    }

    /// Those of a process that died have taken along what they were popping.
    pub(super) fn forget(&mut self, process: &str) {
        let prefix = format!("{process}/");
        let before = self.popping.len();
        self.popping.retain(|who| !who.starts_with(&prefix));
        self.died += (before - self.popping.len()) as u64;
    }

    pub(super) fn told(&mut self, value: &str, told: Told) {
        self.all.entry(value.to_owned()).or_default().told = Some(told);
    }

    pub(super) fn begins(&mut self, who: &str) {
        self.popping.insert(who.to_owned());
    }

    /// Somebody has an item, or knows that it has none.
    pub(super) fn ends(&mut self, who: &str) {
        self.popping.remove(who);
    }

    /// Somebody has given up, and its handle with that.
    pub(super) fn gives_up(&mut self, who: &str) {
        self.died += u64::from(self.popping.remove(who));
    }

    /// Somebody has popped an item; returns what is wrong with that.
    pub(super) fn pops(&mut self, value: &str) -> Option<String> {
        let item = self.all.entry(value.to_owned()).or_default();
        item.popped += 1;
        match (item.popped, &item.key) {
            (1, Some(_)) => None,
            (1, None) => Some(format!("{value} is popped, and was not there")),
            _ => Some(format!("{value} is popped {} times", item.popped)),
        }
    }

    /// Nobody knows who has popped an item.
    pub(super) fn is_unknown(&mut self, key: String) {
        self.unknown.insert(key);
    }

    pub(super) fn popped(&self) -> u64 {
        self.all.values().map(|item| u64::from(item.popped)).sum()
    }

    /// Returns how many were in the store, and nobody has popped them.
    pub(super) fn lost(&self) -> u64 {
        self.missing().count() as u64
    }

    fn missing(&self) -> impl Iterator<Item = (&String, &Item)> {
        let there = self.all.iter().filter(|(_, item)| item.key.is_some());
        there.filter(|(_, item)| item.popped == 0 && !item.is_wiped)
    }

    /// Returns what is wrong, when all is popped.
    pub(super) fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (value, item) in &self.all {
            match item.told {
                Some(Told::Pushed) if item.key.is_none() => {
                    wrong.push(format!("{value} is told to be pushed, and never was"));
                }
                Some(Told::Failed) if item.key.is_some() => {
                    wrong.push(format!("{value} was pushed, and is told not to be"));
                }
                _ => {}
            }
        }
        let is_told = |item: &Item| {
            item.key
                .as_ref()
                .is_some_and(|key| self.unknown.contains(key))
        };
        let untold: Vec<_> = self.missing().filter(|(_, item)| !is_told(item)).collect();
        if untold.len() as u64 > self.died {
            let died = self.died;
            wrong.push(format!("{untold:?} are lost, and {died} have died popping"));
        }
        wrong
    }
}

/// Returns how many items are in the store.
pub(super) fn there(etcd: &EmbeddedEtcd) -> usize {
    let keys = etcd.keys();
    let is_any = |key: &[u8]| QUEUES.iter().any(|queue| is_item(queue, key));
    keys.iter().filter(|kv| is_any(&kv.key)).count()
}

fn is_item(queue: &str, key: &[u8]) -> bool {
    key.starts_with(format!("{queue}/").as_bytes())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
