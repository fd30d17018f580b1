//! Who believes to hold a lock, what the store says of that, and what the lock protects.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use switchboard::coordination::LockGuard;
use switchboard_embedded::{EmbeddedEtcd, KeyValue};

/// What one has at a time: a lock, one whose line lies below that of the first, and an election.
pub(crate) const LINES: [&str; 3] = ["/sim/lock", "/sim/lock/inner", "/sim/election"];

/// Which of them is the election.
pub(crate) const ELECTION: usize = 2;

/// What one has at a time, and may lose.
pub(crate) trait Held: Send + Sync {
    fn token(&self) -> i64;
    fn is_held(&self) -> bool;
}

/// What somebody was told to have.
#[derive(Clone)]
struct Claim {
    who: String,
    line: usize,
    /// The store's life in which it was had.
    life: usize,
    /// Which acquisition this is, over all.
    number: u64,
    guard: Arc<dyn Held>,
}

/// The same, for whoever has it.
pub(crate) struct Holding<G> {
    claim: Claim,
    pub(crate) guard: Arc<G>,
}

/// What is behind a lock: it refuses a token that is smaller than one it has seen.
#[derive(Debug, Default)]
struct Resource {
    /// The largest token it has seen, and by which acquisition.
    last: (i64, u64),
}

#[derive(Default)]
pub(crate) struct Ledger {
    /// It begins another life with each wipe.
    life: usize,
    acquired: u64,
    /// How often each was had.
    had: [u64; LINES.len()],
    /// By their numbers, those that are believed to be held.
    claims: BTreeMap<u64, Claim>,
    resources: [Resource; LINES.len()],
    /// The revisions at which keys were created that somebody else has deleted, or may have.
    meddled: BTreeSet<i64>,
    pub(crate) refused: u64,
}

/// Why somebody believes to have a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Belief {
    /// It was just told so.
    Held,
    /// It was, some time ago.
    Stale,
}

impl<G> Holding<G> {
    /// Returns the store's life in which it was had.
    pub(crate) fn life(&self) -> usize {
        self.claim.life
    }
}

impl Ledger {
    /// Returns how often any was had.
    pub(crate) fn acquired(&self) -> u64 {
        self.acquired
    }

    /// Returns how often this one was had.
    pub(crate) fn had(&self, line: usize) -> u64 {
        self.had[line]
    }

    /// The store is empty, and counts from 1 again.
    pub(crate) fn wiped(&mut self) {
        self.life += 1;
        self.meddled.clear();
        self.resources = Default::default();
    }

    /// Somebody deletes these keys.
    pub(crate) fn meddled<'a>(&mut self, keys: impl IntoIterator<Item = &'a KeyValue>) {
        let created = keys.into_iter().map(|kv| kv.create_revision);
        self.meddled.extend(created);
    }

    /// Somebody is told to have it.
    pub(crate) fn take<G: Held + 'static>(
        &mut self,
        etcd: &EmbeddedEtcd,
        who: &str,
        line: usize,
        guard: G,
    ) -> Holding<G> {
        // What it was told may have been under way when all was wiped.
        let keys = etcd.keys();
        let is_first =
            first(&keys, LINES[line]).is_some_and(|kv| kv.create_revision == guard.token());
        let life = match self.life {
            0 => 0,
            life if is_first => life,
            life => life - 1,
        };
        self.acquired += 1;
        self.had[line] += 1;
        let guard = Arc::new(guard);
        let claim = Claim {
            who: who.to_owned(),
            line,
            life,
            number: self.acquired,
            guard: guard.clone(),
        };
        self.claims.insert(claim.number, claim.clone());
        Holding { claim, guard }
    }

    /// Somebody gives it back.
    pub(crate) fn give_back<G>(&mut self, holding: Holding<G>) -> G {
        self.claims.remove(&holding.claim.number);
        drop(holding.claim);
        Arc::into_inner(holding.guard).expect("nobody else has it")
    }

    /// Those of a process that died hold nothing.
    pub(crate) fn forget(&mut self, process: &str) {
        let prefix = format!("{process}/");
        self.claims.retain(|_, it| !it.who.starts_with(&prefix));
    }

    /// Returns who believes to hold a lock, and must be right; and what is wrong with that.
    ///
    /// A guard knows that it is lost before its lease can end, so that a key is there as long as its
    /// guard is held, unless somebody has deleted it, or all.
    pub(crate) fn audit(&self, etcd: &EmbeddedEtcd) -> Vec<String> {
        let mut wrong = Vec::new();
        let held = self.claims.values().filter(|it| self.trusts(it));
        let held: Vec<_> = held.filter(|it| it.guard.is_held()).collect();
        if held.is_empty() {
            return wrong;
        }
        let keys = etcd.keys();
        for (line, name) in LINES.iter().enumerate() {
            let held: Vec<_> = held.iter().filter(|it| it.line == line).collect();
            let first = first(&keys, name);
            for it in &held {
                let (who, token) = (&it.who, it.guard.token());
                if first.is_none_or(|kv| kv.create_revision != token) {
                    let first = first.map(|kv| (text(&kv.key), kv.create_revision));
                    wrong.push(format!(
                        "{who} holds {name} by {token}, and first is {first:?}"
                    ));
                }
            }
            if held.len() > 1 {
                let all: Vec<_> = held.iter().map(|it| &it.who).collect();
                wrong.push(format!("{name} is held by {all:?}"));
            }
        }
        wrong
    }

    /// Somebody writes to what a lock protects. Returns whether that was accepted, or what is wrong
    /// with it.
    pub(crate) fn write<G>(
        &mut self,
        holding: &Holding<G>,
        belief: Belief,
    ) -> Result<bool, String> {
        let holding = &holding.claim;
        let (who, token) = (&holding.who, holding.guard.token());
        let is_trusted = self.trusts(holding);
        if belief == Belief::Held && !holding.guard.is_held() {
            return Err(format!("{who} works with {token}, which is lost"));
        }
        if holding.life != self.life {
            // Tokens of an earlier life compare with nothing.
            return Ok(false);
        }
        let resource = &mut self.resources[holding.line];
        let (largest, by) = resource.last;
        if token < largest {
            self.refused += 1;
            return match belief {
                Belief::Held if is_trusted => Err(format!(
                    "{who} holds {token}, and {largest} was there before"
                )),
                _ => Ok(false),
            };
        }
        if token == largest && by != holding.number {
            return Err(format!("{who} has the token of another: {token}"));
        }
        resource.last = (token, holding.number);
        Ok(true)
    }

    /// Returns whether nobody has taken away by which it is held.
    pub(crate) fn is_trusted<G>(&self, holding: &Holding<G>) -> bool {
        self.trusts(&holding.claim)
    }

    /// Returns what is left of a lock that was given back, if anything is.
    pub(crate) fn left_behind(
        &self,
        etcd: &EmbeddedEtcd,
        life: usize,
        token: i64,
    ) -> Option<String> {
        let keys = etcd.keys();
        let kv = keys.iter().find(|kv| kv.create_revision == token)?;
        (life == self.life).then(|| format!("{} is there yet, by {token}", text(&kv.key)))
    }

    /// Whether a guard cannot be wrong for what was done to its key.
    fn trusts(&self, claim: &Claim) -> bool {
        claim.life == self.life && !self.meddled.contains(&claim.guard.token())
    }
}

/// Returns the keys of all lines.
pub(crate) fn lines(etcd: &EmbeddedEtcd) -> Vec<KeyValue> {
    let mut keys = etcd.keys();
    keys.retain(|kv| LINES.iter().any(|line| kv.key.starts_with(line.as_bytes())));
    keys
}

/// Returns who is first in a line.
pub(crate) fn first<'a>(keys: &'a [KeyValue], name: &str) -> Option<&'a KeyValue> {
    let of_line = keys.iter().filter(|kv| {
        let rest = kv.key.strip_prefix(format!("{name}/").as_bytes());
        rest.is_some_and(|rest| !rest.contains(&b'/'))
    });
    of_line.min_by_key(|kv| kv.create_revision)
}

fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

impl Held for LockGuard {
    fn token(&self) -> i64 {
        self.token()
    }

    fn is_held(&self) -> bool {
        self.is_held()
    }
}
