//! What holds whatever happens: random histories of a range, followed.

use proptest::prelude::*;

use super::*;

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
