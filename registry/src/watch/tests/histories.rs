//! What holds whatever happens: random histories of a range, followed.
//!
//! The model keeps all that each history ever held, so lists come in pages with changes,
//! compactions and wipes in between. Values number the histories: an entry tells which it is of, and
//! nothing else does, so that two histories often put another value under one key at one revision.

use std::{cell::RefCell, collections::BTreeSet};

use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed, TestRunner},
};

use super::{
    super::carried::GRACE,
    transitions::{self, Transition},
    *,
};

type Contents = BTreeMap<Vec<u8>, Entry<String>>;

/// One history: what each revision from 2 on did to the range, and how much of it is forgotten.
#[derive(Default)]
struct History {
    number: i64,
    revisions: Vec<Vec<Change<String>>>,
    compacted: i64,
    /// When its first whole list was read.
    listed: Option<Instant>,
}

/// Returns which history a value is of.
fn number_of(value: &str) -> i64 {
    let (_, number) = value.split_once(" of ").expect("all values say that");
    number.parse().expect("a number")
}

/// The keys of a page.
const MODEL_PAGE: usize = 2;

impl History {
    fn revision(&self) -> i64 {
        self.revisions.len() as i64 + 1
    }

    /// Returns what the range held then.
    fn contents(&self, revision: i64) -> Contents {
        let mut contents = Contents::new();
        let done = usize::try_from(revision - 1).expect("a revision");
        for change in self.revisions[..done].iter().flatten() {
            match change.clone() {
                Change::Put(put) => {
                    let (key, entry) = put.into_entry();
                    contents.insert(key, entry.expect("the model puts no garbage"));
                }
                Change::Delete { key, .. } => {
                    contents.remove(&key);
                }
            }
        }
        contents
    }

    /// Whether the key was there, and is no more.
    fn has_deleted(&self, key: &[u8]) -> bool {
        let mut changes = self.revisions.iter().flatten();
        changes
            .any(|change| matches!(change, Change::Delete { key: deleted, .. } if deleted == key))
    }

    /// Does all this in one revision. Keys that are not there are not deleted, and a transaction
    /// that does nothing has no revision.
    fn change(&mut self, writes: &BTreeMap<u8, Option<u8>>) {
        let (held, revision) = (self.contents(self.revision()), self.revision() + 1);
        let changes = writes.iter().filter_map(|(key, value)| {
            let key = key.to_string();
            match value {
                Some(value) => {
                    let value = format!("{value} of {}", self.number);
                    Some(Change::Put(put(&key, &value, revision)))
                }
                None => held
                    .contains_key(key.as_bytes())
                    .then(|| delete(&key, revision)),
            }
        });
        let changes: Vec<_> = changes.collect();
        if !changes.is_empty() {
            self.revisions.push(changes);
        }
    }

    fn page(&self, after: Option<Vec<u8>>, revision: i64) -> Page<String> {
        let mut rest: Vec<_> = self.contents(revision).into_iter().collect();
        rest.retain(|(key, _)| after.as_ref().is_none_or(|after| key > after));
        let more = rest.len() > MODEL_PAGE;
        rest.truncate(MODEL_PAGE);
        let entries = rest.into_iter().map(|(key, entry)| Put {
            key,
            value: Some(entry.value),
            revision: entry.revision,
            fingerprint: entry.fingerprint,
        });
        Page {
            revision: self.revision(),
            entries: entries.collect(),
            more,
        }
    }
}

#[derive(Debug, Clone)]
enum Happening {
    /// The next step is done; a watch delivers so many revisions at most.
    Answer(usize),
    Fail,
    /// etcd does not let us, and says so for the next step or ends the watch.
    Deny,
    /// The answer to the next step is larger than is read, if that is to list or to receive.
    Flood,
    Write(BTreeMap<u8, Option<u8>>),
    /// A revision that does nothing to the range.
    Elsewhere,
    Compact,
    Wipe,
    /// The token is refused, if a watch is being opened.
    RefuseToken,
    /// A member that lags opens the watch, if one is being opened.
    Lag,
    Reachable,
    Pass(u64),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let value = || proptest::option::weighted(0.7, 0u8..9);
    let happening = prop_oneof![
        24 => (1usize..4).prop_map(Happening::Answer),
        2 => Just(Happening::Fail),
        1 => Just(Happening::Deny),
        1 => Just(Happening::Flood),
        8 => proptest::collection::btree_map(0u8..6, value(), 1..3).prop_map(Happening::Write),
        1 => Just(Happening::Elsewhere),
        3 => Just(Happening::Compact),
        2 => Just(Happening::Wipe),
        1 => Just(Happening::RefuseToken),
        1 => Just(Happening::Lag),
        1 => Just(Happening::Reachable),
        3 => (1u64..6_000).prop_map(Happening::Pass),
    ];
    proptest::collection::vec(happening, 1..120)
}

/// A watch and the etcd that it follows.
struct World<'a> {
    fixture: Fixture,
    history: History,
    /// The next revision that the open watch delivers.
    delivers: Option<i64>,
    /// Whether the watch was told that what it knows of an earlier history is compacted, or too
    /// large to be told.
    is_beyond_telling: bool,
    shown: Contents,
    heard: Heard,
    reached: &'a RefCell<BTreeSet<Transition>>,
}

/// What one hears who is to miss nothing.
#[derive(Default)]
struct Heard {
    /// The history, and the revision, with which it began, or began anew.
    begun: (i64, i64),
    /// How often it did.
    times: usize,
    /// How many keys there were.
    began_with: usize,
    changes: Vec<Change<String>>,
    last: i64,
}

impl Heard {
    fn listed(&mut self, history: i64, revision: i64, began_with: usize) {
        let times = self.times + 1;
        *self = Self {
            begun: (history, revision),
            times,
            began_with,
            changes: Vec::new(),
            last: revision,
        };
    }

    fn happened(&mut self, changes: Vec<Change<String>>) {
        let last = self.last;
        let news = changes.into_iter().filter(|it| it.revision() > last);
        self.changes.extend(news);
        self.last = self.changes.last().map_or(last, Change::revision);
    }
}

impl<'a> World<'a> {
    fn new(watch: Watch<String>, reached: &'a RefCell<BTreeSet<Transition>>) -> Self {
        Self {
            fixture: Fixture {
                watch,
                ..Fixture::new()
            },
            heard: Heard::default(),
            history: History::default(),
            delivers: None,
            is_beyond_telling: false,
            shown: Contents::new(),
            reached,
        }
    }

    /// Tells the watch something, and sees what becomes of it.
    fn tell(&mut self, input: &'static str, tell: impl FnOnce(&mut Fixture)) {
        let before = transitions::states(&self.fixture.watch);
        tell(&mut self.fixture);
        let after = transitions::states(&self.fixture.watch);
        let mut reached = self.reached.borrow_mut();
        reached.extend(transitions::between(before, input, after));
    }

    fn next(&mut self) -> Step {
        let mut step = None;
        self.tell("time", |fixture| step = Some(fixture.next()));
        step.expect("there is always a step")
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Answer(most) => self.answer(most),
            Happening::Fail => {
                self.next();
                self.fail();
            }
            Happening::Write(writes) => self.history.change(&writes),
            Happening::Elsewhere => self.history.revisions.push(vec![]),
            Happening::Compact => self.history.compacted = self.history.revision(),
            Happening::Wipe => {
                self.history = History {
                    number: self.history.number + 1,
                    ..History::default()
                };
                self.is_beyond_telling = false;
                self.fail();
            }
            Happening::Deny => {
                if !matches!(self.next(), Step::WaitUntil(_)) {
                    self.delivers = None;
                    self.tell("denied", |it| it.watch.denied(cause(), it.now));
                }
            }
            Happening::Flood => {
                if matches!(self.next(), Step::List { .. } | Step::Receive { .. }) {
                    self.delivers = None;
                    self.is_beyond_telling |= self.knows_another_history();
                    self.tell("too large", Fixture::too_large);
                }
            }
            Happening::RefuseToken => {
                if matches!(self.next(), Step::Open { .. }) {
                    self.tell("refused", |it| {
                        it.watch.cancelled(Cancel::Token, it.now, &mut it.rng);
                    });
                }
            }
            Happening::Lag => {
                let behind = self.fixture.watch.revision() - 1;
                if matches!(self.next(), Step::Open { .. }) && behind > 0 {
                    self.tell("opened", |it| it.watch.opened(behind, it.now));
                }
            }
            Happening::Reachable => self.tell("reachable", |it| it.watch.reachable()),
            Happening::Pass(millis) => self.fixture.now += Duration::from_millis(millis),
        }
    }

    fn fail(&mut self) {
        self.delivers = None;
        self.tell("failed", Fixture::fail);
    }

    /// Whether the watch takes what another history held for what this one holds.
    fn knows_another_history(&self) -> bool {
        let mut known = self.fixture.watch.entries.values();
        known.any(|entry| number_of(&entry.value) != self.history.number)
    }

    /// Does the next step.
    fn answer(&mut self, most: usize) {
        let current = self.history.revision();
        match self.next() {
            Step::List { revision, .. } if revision != 0 && revision < self.history.compacted => {
                self.tell("compacted", |it| it.watch.list_compacted());
            }
            // Of revisions to come etcd says what it says of those that it has forgotten.
            Step::List { revision, .. } if revision > current && self.is_unbroken() => {
                self.tell("compacted", |it| it.watch.list_compacted());
            }
            Step::List { after, revision } => {
                assert!(revision <= current, "a list goes on in another history");
                let at = if revision == 0 { current } else { revision };
                let page = self.history.page(after, at);
                if !page.more {
                    self.history.listed.get_or_insert(self.fixture.now);
                }
                let input = if page.more { "page" } else { "last page" };
                let (is_whole, mut is_known) = (!page.more, false);
                self.tell(input, |it| is_known = it.watch.page(page, it.now));
                if is_whole && !is_known {
                    let watch = &self.fixture.watch;
                    let (revision, keys) = (watch.revision(), watch.entries.len());
                    self.heard.listed(self.history.number, revision, keys);
                }
            }
            Step::Open { from } if from < self.history.compacted => {
                self.is_beyond_telling |= self.knows_another_history();
                self.tell("opened", |it| it.watch.opened(current, it.now));
                self.tell("compacted", |it| {
                    it.watch.cancelled(Cancel::Compacted, it.now, &mut it.rng);
                });
            }
            Step::Open { from } => {
                // Revision 1 is before anything.
                self.delivers = Some(from.max(2));
                self.tell("opened", |it| it.watch.opened(current, it.now));
            }
            Step::Receive { until } => match self.delivers {
                Some(next) if next <= current => {
                    let last = (next + most as i64 - 1).min(current);
                    let range = next as usize - 2..last as usize - 1;
                    let changes = self.history.revisions[range].concat();
                    self.delivers = Some(last + 1);
                    if !changes.is_empty() {
                        let mut is_ours = false;
                        let brought = changes.clone();
                        self.tell("events", |it| {
                            is_ours = it.watch.events(brought, it.now);
                        });
                        if is_ours {
                            self.heard.happened(changes);
                        }
                    }
                }
                _ => self.fixture.now = until,
            },
            Step::AskProgress => {
                self.tell("asked", |it| it.watch.asked(it.now));
                // A watch that still catches up may answer as well, and any may be silent.
                if self.delivers.is_some() && most > 1 {
                    self.tell("progress", |it| it.watch.progress(it.now));
                }
            }
            Step::Confirm => self.tell("confirmed", |it| {
                it.watch.confirmed(current, it.now, &mut it.rng);
            }),
            Step::LogIn => self.tell("logged in", |it| it.watch.logged_in()),
            Step::WaitUntil(at) => self.fixture.now = at,
        }
    }

    /// Sees that what is shown now may be, and may follow what was shown before.
    fn check(&mut self) -> Result<(), TestCaseError> {
        let watch = &self.fixture.watch;
        let (is_fresh, carried) = (!self.fixture.is_stale(), watch.carried.entries());
        let shown: Contents = watch
            .entries()
            .into_iter()
            .map(|(key, entry)| (key.to_vec(), entry.clone()))
            .collect();
        prop_assert_eq!(
            shown.len(),
            watch.entries.len() + carried.len(),
            "no key is shown twice"
        );
        let was_held = |entry: &Entry<String>| {
            watch.revision > 0 && number_of(&entry.value) == self.history.number
        };
        if is_fresh || watch.entries.values().any(was_held) {
            let held = self.history.contents(watch.revision);
            prop_assert_eq!(&watch.entries, &held, "it is what etcd held");
        }
        if is_fresh {
            prop_assert!(carried.is_empty(), "what is carried over is not fresh");
        }
        for (key, entry) in &self.shown {
            if shown.contains_key(key) || self.is_beyond_telling {
                continue;
            }
            if number_of(&entry.value) == self.history.number {
                let held = self.history.contents(watch.revision);
                prop_assert!(
                    !held.contains_key(key),
                    "only what was deleted goes: {entry:?}"
                );
            } else {
                let is_over = |listed: &Instant| *listed + GRACE <= self.fixture.now;
                prop_assert!(
                    self.history.has_deleted(key)
                        || self.history.listed.as_ref().is_some_and(is_over),
                    "what another history held goes when the grace is over: {entry:?}"
                );
            }
        }
        self.shown = shown;
        Ok(())
    }

    fn is_unbroken(&self) -> bool {
        matches!(self.fixture.watch.resumption, Resumption::Unbroken { .. })
    }

    /// Sees that all was heard that has happened since it began.
    fn check_heard(&self) -> Result<(), TestCaseError> {
        let (history, revision) = self.heard.begun;
        if history != self.history.number {
            let is_of_it = |it: &Change<String>| matches!(it, Change::Put(put) if put.value.as_deref().map(number_of) == Some(history));
            let heard = &self.heard;
            let knows_it = heard.began_with > 0 || heard.changes.iter().any(is_of_it);
            prop_assert!(
                !knows_it,
                "another history passes for the one that was heard"
            );
            return Ok(());
        }
        let done = usize::try_from(revision - 1).expect("a revision");
        let happened = self.history.revisions[done..].concat();
        prop_assert_eq!(format!("{:?}", self.heard.changes), format!("{happened:?}"));
        Ok(())
    }

    /// Whether there is nothing left to be done.
    fn is_settled(&self) -> bool {
        matches!(self.fixture.watch.state, State::Watching { owes: None, .. })
            && self.delivers == Some(self.history.revision() + 1)
            && self.fixture.watch.carried.is_nothing()
    }
}

/// Whatever happens: what is held was so at its revision; what is shown goes only when it is
/// deleted, or 10 s after the list of another history; and in the end exactly what etcd holds is
/// shown, and fresh.
#[test]
fn every_snapshot_was_true_or_is_carried_over_and_the_last_one_is_true() {
    live_through(RngSeed::Random, Watch::new);
}

/// Whatever happens: one who is to miss nothing hears all that has happened since its last list, once;
/// and it lists again only where etcd has forgotten something, or is another.
#[test]
fn an_unbroken_watch_misses_nothing_and_says_where_it_may() {
    live_through(RngSeed::Random, Watch::unbroken);
}

/// With the same histories each time: some transitions are so rare that others may miss them.
#[test]
fn every_transition_that_is_drawn_is_taken_and_no_other() {
    transitions::assert_all(&live_through(RngSeed::Fixed(1), Watch::new));
}

/// Follows many histories to their end. Returns the transitions that were taken on the way.
fn live_through(rng_seed: RngSeed, watch: fn() -> Watch<String>) -> BTreeSet<Transition> {
    let reached = RefCell::new(BTreeSet::new());
    let config = Config {
        cases: 20_000,
        rng_seed,
        source_file: Some(file!()),
        ..Config::default()
    };
    let ran = TestRunner::new(config).run(&happenings(), |happenings| {
        let mut world = World::new(watch(), &reached);
        let forgets =
            |it: &Happening| matches!(it, Happening::Compact | Happening::Wipe | Happening::Flood);
        let forgets = happenings.iter().any(forgets);
        for happening in happenings {
            world.happen(happening);
            world.check()?;
        }
        for _ in 0..400 {
            if world.is_settled() {
                break;
            }
            world.answer(3);
            world.check()?;
        }
        let held = world.history.contents(world.history.revision());
        prop_assert_eq!(&world.shown, &held);
        prop_assert!(!world.fixture.is_stale());
        if world.is_unbroken() {
            world.check_heard()?;
            prop_assert!(forgets || world.heard.times == 1, "it began anew");
        }
        Ok(())
    });
    ran.unwrap_or_else(|failure| panic!("{failure}"));
    reached.into_inner()
}
