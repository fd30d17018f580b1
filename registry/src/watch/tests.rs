//! Examples, and a model of etcd under which random histories are followed.

use proptest::prelude::*;

use super::*;

#[allow(
    clippy::disallowed_methods,
    reason = "a decider's test needs some instant to count from"
)]
fn an_instant() -> Instant {
    Instant::now()
}

const LEASE: i64 = 7;

fn cause() -> Cause {
    Cause::from(Box::<dyn std::error::Error + Send + Sync>::from(
        "etcd is away",
    ))
}

fn put(key: &str, value: &str, revision: i64) -> Put<String> {
    let value = Some(value)
        .filter(|value| *value != "garbage")
        .map(str::to_owned);
    Put {
        key: key.into(),
        value,
        revision,
        lease: LEASE,
    }
}

fn delete(key: &str, revision: i64) -> Change<String> {
    Change::Delete {
        key: key.into(),
        revision,
    }
}

struct Fixture {
    watch: Watch<String>,
    now: Instant,
    rng: fastrand::Rng,
}

impl Fixture {
    fn new() -> Self {
        Self {
            watch: Watch::new(),
            now: an_instant(),
            rng: fastrand::Rng::with_seed(5),
        }
    }

    /// A watch that is open, on a list of `a` at revision 10.
    fn watching() -> Self {
        let mut fixture = Self::new();
        fixture.next();
        fixture.page(10, vec![put("a", "1", 4)], false);
        assert_eq!(fixture.next(), Step::Open { from: 11 });
        fixture.watch.opened(10, fixture.now);
        fixture
    }

    fn next(&mut self) -> Step {
        self.watch.next(self.now, &mut self.rng)
    }

    fn page(&mut self, revision: i64, entries: Vec<Put<String>>, more: bool) {
        self.watch.page(
            Page {
                revision,
                entries,
                more,
            },
            self.now,
        );
    }

    fn events(&mut self, changes: Vec<Change<String>>) {
        self.watch.events(changes, self.now);
    }

    fn fail(&mut self) {
        self.watch.failed(cause(), self.now, &mut self.rng);
    }

    fn pass_the_wait(&mut self) {
        if let Step::WaitUntil(at) = self.next() {
            self.now = at;
        }
    }

    fn list(&self) -> Vec<(&str, &str)> {
        let text = |key: &'_ [u8]| std::str::from_utf8(key).unwrap().to_owned().leak() as &str;
        self.watch
            .entries()
            .iter()
            .map(|(key, entry)| (text(key), entry.value.as_str()))
            .collect()
    }

    fn is_stale(&self) -> bool {
        !matches!(self.watch.freshness(), Freshness::Fresh)
    }
}

#[test]
fn a_range_is_listed_and_then_watched_from_the_next_revision() {
    let mut fixture = Fixture::new();
    assert_eq!(
        fixture.next(),
        Step::List {
            after: None,
            revision: 0
        }
    );
    assert!(!fixture.watch.take_changed());
    fixture.page(10, vec![put("a", "1", 4)], false);
    assert!(fixture.watch.take_changed());
    assert_eq!(fixture.list(), [("a", "1")]);
    assert_eq!(fixture.next(), Step::Open { from: 11 });
}

#[test]
fn a_long_list_comes_in_pages_of_one_revision_and_shows_when_it_is_whole() {
    let mut fixture = Fixture::new();
    fixture.next();
    fixture.page(10, vec![put("a", "1", 4)], true);
    assert_eq!(
        fixture.next(),
        Step::List {
            after: Some(b"a".to_vec()),
            revision: 10
        }
    );
    assert!(!fixture.watch.take_changed() && fixture.list().is_empty());
    fixture.page(12, vec![put("b", "1", 5)], false);
    assert_eq!(fixture.list(), [("a", "1"), ("b", "1")]);
    assert_eq!(
        fixture.next(),
        Step::Open { from: 11 },
        "what came after the first page is still to be seen"
    );
}

#[test]
fn a_page_whose_revision_was_compacted_starts_the_list_again() {
    let mut fixture = Fixture::new();
    fixture.next();
    fixture.page(10, vec![put("a", "1", 4)], true);
    fixture.watch.list_compacted();
    assert_eq!(
        fixture.next(),
        Step::List {
            after: None,
            revision: 0
        }
    );
}

#[test]
fn a_broken_watch_resumes_at_the_last_event_and_never_at_a_header_or_a_progress() {
    let mut fixture = Fixture::watching();
    let last = Change::Put(put("b", "1", 15));
    fixture.events(vec![last.clone()]);
    fixture.watch.progress(fixture.now);
    fixture.fail();
    assert!(fixture.is_stale());
    assert_eq!(
        fixture.list(),
        [("a", "1"), ("b", "1")],
        "the last snapshot stays"
    );
    fixture.pass_the_wait();
    assert_eq!(fixture.next(), Step::Open { from: 15 });
    fixture.watch.opened(40, fixture.now);
    assert!(fixture.is_stale(), "the history may be another one");
    fixture.events(vec![last, Change::Put(put("c", "1", 16))]);
    assert!(!fixture.is_stale());
    fixture.fail();
    fixture.pass_the_wait();
    assert_eq!(fixture.next(), Step::Open { from: 16 });
}

#[test]
fn a_history_without_the_last_event_is_another_one_and_listed() {
    let resumed = || {
        let mut fixture = Fixture::watching();
        fixture.fail();
        fixture.pass_the_wait();
        assert_eq!(fixture.next(), Step::Open { from: 4 });
        fixture.watch.opened(40, fixture.now);
        fixture
    };
    let list = Step::List {
        after: None,
        revision: 0,
    };
    let mut later = resumed();
    later.events(vec![Change::Put(put("a", "1", 20))]);
    assert_eq!(later.next(), list);
    let mut other_lease = resumed();
    other_lease.events(vec![Change::Put(Put {
        lease: 8,
        ..put("a", "1", 4)
    })]);
    assert_eq!(other_lease.next(), list);
    let mut silent = resumed();
    silent.now += SILENCE;
    assert_eq!(silent.next(), Step::AskProgress);
    silent.watch.asked(silent.now);
    silent.watch.progress(silent.now);
    assert_eq!(silent.next(), list);
}

#[test]
fn an_empty_range_is_listed_again_after_a_break() {
    let mut fixture = Fixture::watching();
    fixture.events(vec![delete("a", 11)]);
    fixture.fail();
    fixture.pass_the_wait();
    assert_eq!(
        fixture.next(),
        Step::List {
            after: None,
            revision: 0
        }
    );
}

#[test]
fn while_an_empty_range_can_be_listed_and_not_watched_the_waits_grow() {
    let mut fixture = Fixture::new();
    let end = fixture.now + Duration::from_secs(60);
    let mut lists = 0;
    while fixture.now < end {
        match fixture.next() {
            Step::List { .. } => {
                lists += 1;
                fixture.page(10, vec![], false);
            }
            Step::Open { .. } => {
                let why = Cancel::Other(cause());
                fixture.watch.cancelled(why, fixture.now, &mut fixture.rng);
            }
            Step::WaitUntil(at) => fixture.now = at,
            step => panic!("{step:?}"),
        }
    }
    assert!(lists < 30, "{lists} lists in a minute");
}

#[test]
fn events_that_were_seen_already_are_no_news() {
    let mut fixture = Fixture::watching();
    fixture.watch.take_changed();
    fixture.events(vec![delete("a", 10)]);
    assert!(!fixture.watch.take_changed());
    assert_eq!(fixture.list(), [("a", "1")]);
}

#[test]
fn compacted_history_is_listed_again_with_its_deletions_and_never_empty_in_between() {
    let mut fixture = Fixture::watching();
    fixture.events(vec![Change::Put(put("b", "1", 12))]);
    fixture
        .watch
        .cancelled(Cancel::Compacted, fixture.now, &mut fixture.rng);
    assert_eq!(
        fixture.next(),
        Step::List {
            after: None,
            revision: 0
        }
    );
    assert_eq!(fixture.list(), [("a", "1"), ("b", "1")]);
    fixture.page(50, vec![put("b", "2", 30)], false);
    assert_eq!(fixture.list(), [("b", "2")]);
}

#[test]
fn a_value_that_cannot_be_decoded_leaves_the_good_one() {
    let mut fixture = Fixture::watching();
    fixture.watch.take_changed();
    fixture.events(vec![
        Change::Put(put("a", "garbage", 12)),
        Change::Put(put("b", "garbage", 13)),
    ]);
    assert!(!fixture.watch.take_changed());
    fixture
        .watch
        .cancelled(Cancel::Compacted, fixture.now, &mut fixture.rng);
    fixture.page(
        50,
        vec![put("a", "garbage", 12), put("b", "garbage", 13)],
        false,
    );
    assert_eq!(fixture.list(), [("a", "1")]);
}

#[test]
fn a_silent_watch_is_asked_and_then_given_up() {
    let mut fixture = Fixture::watching();
    assert_eq!(
        fixture.next(),
        Step::Receive {
            until: fixture.now + SILENCE
        }
    );
    fixture.now += SILENCE;
    assert_eq!(fixture.next(), Step::AskProgress);
    fixture.watch.asked(fixture.now);
    assert_eq!(
        fixture.next(),
        Step::Receive {
            until: fixture.now + ANSWER
        }
    );
    fixture.now += ANSWER;
    assert!(matches!(fixture.next(), Step::WaitUntil(_)));
    assert!(fixture.is_stale());
    fixture.pass_the_wait();
    assert_eq!(fixture.next(), Step::Open { from: 4 });
}

#[test]
fn an_answer_proves_life() {
    let mut fixture = Fixture::watching();
    fixture.now += SILENCE;
    fixture.watch.asked(fixture.now);
    fixture.watch.progress(fixture.now);
    assert_eq!(
        fixture.next(),
        Step::Receive {
            until: fixture.now + SILENCE
        }
    );
}

#[test]
fn a_refused_token_is_renewed_before_the_watch_is_opened_again() {
    let mut fixture = Fixture::watching();
    fixture
        .watch
        .cancelled(Cancel::Token, fixture.now, &mut fixture.rng);
    assert_eq!(fixture.next(), Step::LogIn);
    fixture.watch.logged_in();
    assert_eq!(fixture.next(), Step::Open { from: 4 });
}

#[test]
fn history_that_went_back_is_listed_again_only_when_a_majority_says_so() {
    let mut fixture = Fixture::watching();
    fixture.fail();
    fixture.pass_the_wait();
    fixture.watch.opened(3, fixture.now);
    assert_eq!(fixture.next(), Step::Confirm);
    assert!(fixture.is_stale());
    fixture.watch.confirmed(10, fixture.now, &mut fixture.rng);
    fixture.pass_the_wait();
    assert_eq!(fixture.next(), Step::Open { from: 4 }, "a member that lags");
    fixture.watch.opened(3, fixture.now);
    fixture.watch.confirmed(3, fixture.now, &mut fixture.rng);
    assert_eq!(
        fixture.next(),
        Step::List {
            after: None,
            revision: 0
        }
    );
    fixture.page(3, vec![], false);
    assert_eq!(fixture.next(), Step::Open { from: 4 });
    assert!(fixture.list().is_empty());
}

#[test]
fn a_first_list_that_fails_says_why_and_is_tried_again() {
    let mut fixture = Fixture::new();
    fixture.next();
    fixture.fail();
    assert!(matches!(
        fixture.watch.freshness(),
        Freshness::Unread { cause: Some(_) }
    ));
    assert!(matches!(fixture.next(), Step::WaitUntil(_)));
    fixture.watch.reachable();
    assert_eq!(
        fixture.next(),
        Step::List {
            after: None,
            revision: 0
        }
    );
}

#[test]
fn it_is_stale_since_it_was_last_heard_of() {
    let mut fixture = Fixture::watching();
    let heard = fixture.now;
    fixture.now += Duration::from_secs(2);
    fixture.fail();
    fixture.now += Duration::from_secs(2);
    fixture.fail();
    assert!(matches!(fixture.watch.freshness(), Freshness::Stale { since, .. } if *since == heard));
}

/// A history of one range: what each revision did, how much of it is forgotten, and how far its
/// watch has got.
#[derive(Default)]
struct Etcd {
    history: Vec<Change<String>>,
    compacted: i64,
    /// The next revision that the open watch delivers.
    delivers: Option<i64>,
    /// The lease of all its puts: no two histories share one.
    lease: i64,
}

impl Etcd {
    fn revision(&self) -> i64 {
        self.history.len() as i64 + 1
    }

    fn contents(&self) -> BTreeMap<Vec<u8>, Entry<String>> {
        let mut contents = BTreeMap::new();
        for change in &self.history {
            match change.clone() {
                Change::Put(put) => {
                    let Put {
                        key,
                        value,
                        revision,
                        lease,
                    } = put;
                    contents.insert(
                        key,
                        Entry {
                            value: value.unwrap(),
                            revision,
                            lease,
                        },
                    );
                }
                Change::Delete { key, .. } => {
                    contents.remove(&key);
                }
            }
        }
        contents
    }

    fn change(&mut self, key: u8, value: Option<u8>) {
        let revision = self.revision() + 1;
        self.history.push(match value {
            Some(value) => Change::Put(Put {
                lease: self.lease,
                ..put(&key.to_string(), &value.to_string(), revision)
            }),
            None => delete(&key.to_string(), revision),
        });
    }
}

#[derive(Debug, Clone)]
enum Event {
    Answer(usize),
    Fail,
    Change(u8, Option<u8>),
    Compact,
    Wipe,
    Token,
    Pass(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        10 => (1usize..4).prop_map(Event::Answer),
        2 => Just(Event::Fail),
        8 => (0u8..5, proptest::option::weighted(0.7, 0u8..9)).prop_map(|(key, value)| Event::Change(key, value)),
        1 => Just(Event::Compact),
        1 => Just(Event::Wipe),
        1 => Just(Event::Token),
        3 => (1u64..4_000).prop_map(Event::Pass),
    ];
    proptest::collection::vec(event, 1..120)
}

/// Performs one step, of which a watch delivers at most `most` revisions.
fn answer(fixture: &mut Fixture, etcd: &mut Etcd, most: usize) {
    let (now, current) = (fixture.now, etcd.revision());
    match fixture.next() {
        Step::List { after, revision } => {
            if revision != 0 && revision < etcd.compacted {
                return fixture.watch.list_compacted();
            }
            // Pages of two keys, of the current contents: the model keeps no old ones, so it lists
            // in one go if asked to.
            assert!(after.is_none());
            let entries = etcd.contents().into_iter().map(
                |(
                    key,
                    Entry {
                        value,
                        revision,
                        lease,
                    },
                )| Put {
                    key,
                    value: Some(value),
                    revision,
                    lease,
                },
            );
            let page = Page {
                revision: current,
                entries: entries.collect(),
                more: false,
            };
            fixture.watch.page(page, now);
        }
        Step::Open { from } if from <= etcd.compacted => {
            fixture.watch.opened(current, now);
            fixture
                .watch
                .cancelled(Cancel::Compacted, now, &mut fixture.rng);
        }
        Step::Open { from } => {
            etcd.delivers = Some(from);
            fixture.watch.opened(current, now);
        }
        Step::Receive { until } => match etcd.delivers {
            Some(next) if next <= current => {
                let until = (next + most as i64 - 1).min(current);
                let range = next as usize - 2..until as usize - 1;
                etcd.delivers = Some(until + 1);
                fixture.watch.events(etcd.history[range].to_vec(), now);
            }
            _ => fixture.now = until,
        },
        Step::AskProgress => {
            fixture.watch.asked(now);
            if etcd.delivers.is_some_and(|next| next > current) {
                fixture.watch.progress(now);
            }
        }
        Step::Confirm => fixture.watch.confirmed(current, now, &mut fixture.rng),
        Step::LogIn => fixture.watch.logged_in(),
        Step::WaitUntil(at) => fixture.now = at,
    }
}

proptest! {
    /// Whatever happens, every snapshot is what etcd held at some revision, none is skipped back in a history that goes on,
    /// and in the end the last one is what etcd holds.
    #[test]
    fn every_snapshot_was_true_and_the_last_one_is(events in events()) {
        let mut fixture = Fixture::new();
        let mut etcd = Etcd::default();
        for event in events {
            match event {
                Event::Answer(most) => answer(&mut fixture, &mut etcd, most),
                Event::Fail => {
                    fixture.next();
                    etcd.delivers = None;
                    fixture.fail();
                }
                Event::Change(key, value) => etcd.change(key, value),
                Event::Compact => etcd.compacted = etcd.revision(),
                Event::Wipe => {
                    etcd = Etcd { lease: etcd.lease + 1, ..Etcd::default() };
                    fixture.fail();
                }
                Event::Token => {
                    if matches!(fixture.next(), Step::Open { .. }) {
                        fixture.watch.cancelled(Cancel::Token, fixture.now, &mut fixture.rng);
                    }
                }
                Event::Pass(millis) => fixture.now += Duration::from_millis(millis),
            }
            let held = fixture.watch.revision();
            if held > 0 && held <= etcd.revision() && !fixture.is_stale() {
                let history = etcd.history[..held as usize - 1].to_vec();
                let then = Etcd { history, ..Etcd::default() };
                prop_assert_eq!(fixture.watch.entries(), &then.contents());
            }
        }
        for _ in 0..400 {
            answer(&mut fixture, &mut etcd, 3);
        }
        prop_assert_eq!(fixture.watch.entries(), &etcd.contents());
        prop_assert!(!fixture.is_stale());
    }
}
