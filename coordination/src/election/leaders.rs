//! Decides who leads, and what whoever observes is told of that.
//!
//! ```text
//! known       read                                              ->
//! nothing     what is there                                     who leads, or nobody
//! anything    a change, and another leads, or proclaims         that one
//! anything    a change, and who leads does so as before         nothing
//! anything    what was there already                            nothing
//! a leader    what is there now, and it leads as before         nothing: nobody led in between
//! anything    what is there now, and any other                  a gap, then who leads
//! ```
//!
//! The candidate that was created first leads, and leads until it is gone. So where history is missing,
//! who leads by the same key as before has led all the while; it may have proclaimed meanwhile, unless
//! its key has not changed either.

use std::collections::BTreeMap;

use switchboard_registry::keys::{KeyEvent, KeyValue, Noted};

use crate::line::is_segment;

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leader {
    /// What it has proclaimed.
    pub value: Vec<u8>,
    /// Its fencing token, larger than those of all who led before. Where it is the same as before, so is
    /// the leader.
    pub token: i64,
    /// The revision of etcd that brought the proclamation.
    pub revision: i64,
}

/// The candidates, and what was told of them.
#[derive(Debug)]
pub(super) struct Leaders {
    /// Ends in `/`.
    prefix: String,
    /// By their keys.
    candidates: BTreeMap<Vec<u8>, KeyValue>,
    told: Told,
}

/// What was told last.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Nobody,
    /// The one of this key, created at `token`, and its proclamation of this revision.
    Leader {
        key: Vec<u8>,
        token: i64,
        revision: i64,
    },
}

/// What is to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    Nothing,
    /// Who leads now; `None` for nobody.
    Tell(Option<Leader>),
    /// That leaders or proclamations may be missing; after it, who leads now.
    Gap(Option<Leader>),
}

impl Leaders {
    pub(super) fn of(prefix: String) -> Self {
        Self {
            prefix,
            candidates: BTreeMap::new(),
            told: Told::Nothing,
        }
    }

    /// Takes in what has happened.
    pub(super) fn note(&mut self, noted: Noted) -> Ruling {
        match noted {
            Noted::Held {
                keys, continues, ..
            } => {
                self.candidates.clear();
                for kv in keys {
                    self.put(kv);
                }
                let is_first = self.told == Told::Nothing;
                match self.change() {
                    Some(leader) if is_first => Ruling::Tell(leader),
                    Some(leader) => Ruling::Gap(leader),
                    // Somebody may have come and gone.
                    None if self.told == Told::Nobody && !continues => Ruling::Gap(None),
                    None => Ruling::Nothing,
                }
            }
            Noted::Changed { events, .. } => {
                for event in events {
                    match event {
                        KeyEvent::Put(kv) => self.put(kv),
                        KeyEvent::Delete { key, .. } => {
                            self.candidates.remove(&key);
                        }
                        _ => {}
                    }
                }
                self.change().map_or(Ruling::Nothing, Ruling::Tell)
            }
            _ => Ruling::Nothing,
        }
    }

    fn put(&mut self, kv: KeyValue) {
        if is_candidate(&self.prefix, &kv.key) {
            self.candidates.insert(kv.key.clone(), kv);
        }
    }

    /// Returns who leads, if that is not what was told last, and takes it for told.
    fn change(&mut self) -> Option<Option<Leader>> {
        let first = first(&self.prefix, self.candidates.values());
        let now = match first {
            None => Told::Nobody,
            Some(kv) => Told::Leader {
                key: kv.key.clone(),
                token: kv.created,
                revision: kv.revision,
            },
        };
        if self.told == now {
            return None;
        }
        let leader = first.map(Leader::from);
        self.told = now;
        Some(leader)
    }
}

/// Returns the candidate that was created first.
pub(super) fn first<'a>(
    prefix: &str,
    keys: impl IntoIterator<Item = &'a KeyValue>,
) -> Option<&'a KeyValue> {
    let candidates = keys.into_iter().filter(|kv| is_candidate(prefix, &kv.key));
    candidates.min_by_key(|kv| kv.created)
}

/// Tells that a key is of a candidate, and not of an election below.
fn is_candidate(prefix: &str, key: &[u8]) -> bool {
    let rest = key.strip_prefix(prefix.as_bytes());
    rest.is_some_and(is_segment)
}

impl From<&KeyValue> for Leader {
    fn from(kv: &KeyValue) -> Self {
        Self {
            value: kv.value.clone(),
            token: kv.created,
            revision: kv.revision,
        }
    }
}

#[cfg(test)]
mod tests;
