//! Elections by example, and by chance.

use super::*;
use proptest::prelude::*;

const PREFIX: &str = "/shop/cashier/";

fn kv(name: &str, created: i64, revision: i64) -> KeyValue {
    let mut kv = KeyValue::new(format!("{PREFIX}{name}"), format!("{name}@{revision}"));
    (kv.created, kv.revision) = (created, revision);
    kv
}

fn put(name: &str, created: i64, revision: i64) -> KeyEvent {
    KeyEvent::Put(kv(name, created, revision))
}

fn delete(name: &str, revision: i64) -> KeyEvent {
    let key = format!("{PREFIX}{name}").into_bytes();
    KeyEvent::Delete { key, revision }
}

fn leader(name: &str, token: i64, revision: i64) -> Leader {
    Leader {
        value: format!("{name}@{revision}").into(),
        token,
        revision,
    }
}

impl Leaders {
    fn held(&mut self, keys: &[KeyValue], revision: i64, continues: bool) -> Ruling {
        self.note(Noted::Held {
            revision,
            keys: keys.to_vec(),
            continues,
        })
    }

    fn changed(&mut self, events: Vec<KeyEvent>) -> Ruling {
        let revision = events[0].revision();
        self.note(Noted::Changed { revision, events })
    }
}

/// One who was told that `a` leads, and knows that `b` is next.
fn a_leads() -> Leaders {
    let mut leaders = Leaders::of(PREFIX.to_owned());
    let told = leaders.held(&[kv("a", 4, 4), kv("b", 6, 6)], 10, false);
    assert_eq!(told, Ruling::Tell(Some(leader("a", 4, 4))));
    leaders
}

#[test]
fn who_leads_or_that_nobody_does_is_told_at_once() {
    a_leads();
    let mut leaders = Leaders::of(PREFIX.to_owned());
    assert_eq!(leaders.held(&[], 10, false), Ruling::Tell(None));
    let told = leaders.changed(vec![put("a", 11, 11)]);
    assert_eq!(told, Ruling::Tell(Some(leader("a", 11, 11))));
}

#[test]
fn the_one_that_was_created_first_leads_whatever_its_name_is() {
    let mut leaders = Leaders::of(PREFIX.to_owned());
    let told = leaders.held(&[kv("a", 6, 6), kv("b", 4, 4)], 10, false);
    assert_eq!(told, Ruling::Tell(Some(leader("b", 4, 4))));
}

#[test]
fn who_leads_is_told_when_that_changes_and_not_when_others_do() {
    let mut leaders = a_leads();
    assert_eq!(leaders.changed(vec![put("c", 11, 11)]), Ruling::Nothing);
    assert_eq!(leaders.changed(vec![put("b", 6, 12)]), Ruling::Nothing);
    assert_eq!(leaders.changed(vec![delete("c", 13)]), Ruling::Nothing);
    let told = leaders.changed(vec![put("a", 4, 14)]);
    assert_eq!(told, Ruling::Tell(Some(leader("a", 4, 14))));
    let told = leaders.changed(vec![delete("a", 15)]);
    assert_eq!(told, Ruling::Tell(Some(leader("b", 6, 12))));
    assert_eq!(leaders.changed(vec![delete("b", 16)]), Ruling::Tell(None));
}

#[test]
fn what_happens_at_one_revision_is_one_change() {
    let mut leaders = a_leads();
    let told = leaders.changed(vec![delete("a", 11), delete("b", 11), put("c", 11, 11)]);
    assert_eq!(told, Ruling::Tell(Some(leader("c", 11, 11))));
}

#[test]
fn elections_below_are_others() {
    let mut leaders = a_leads();
    let told = leaders.changed(vec![put("x/y", 2, 11), delete("a", 11)]);
    assert_eq!(told, Ruling::Tell(Some(leader("b", 6, 6))));
    let other = KeyValue::new("/shop/cashiers", "");
    let mut leaders = Leaders::of(PREFIX.to_owned());
    assert_eq!(leaders.held(&[other], 10, false), Ruling::Tell(None));
}

#[test]
fn what_is_read_again_is_no_news() {
    let mut leaders = a_leads();
    let told = leaders.held(&[kv("a", 4, 4), kv("b", 6, 6)], 10, true);
    assert_eq!(told, Ruling::Nothing);
    let mut leaders = Leaders::of(PREFIX.to_owned());
    leaders.held(&[], 10, false);
    assert_eq!(leaders.held(&[], 10, true), Ruling::Nothing);
}

#[test]
fn who_leads_as_before_has_led_all_the_while() {
    let mut leaders = a_leads();
    let told = leaders.held(&[kv("a", 4, 4), kv("c", 30, 30)], 40, false);
    assert_eq!(told, Ruling::Nothing);
    let told = leaders.changed(vec![delete("a", 41)]);
    assert_eq!(told, Ruling::Tell(Some(leader("c", 30, 30))));
}

#[test]
fn what_may_be_missing_is_a_gap() {
    let another = [kv("b", 6, 6)];
    let again = [kv("a", 4, 30)];
    let anew = [kv("a", 30, 30)];
    for (keys, now) in [
        (&another[..], Some(leader("b", 6, 6))),
        (&again[..], Some(leader("a", 4, 30))),
        (&anew[..], Some(leader("a", 30, 30))),
        (&[], None),
    ] {
        assert_eq!(a_leads().held(keys, 40, false), Ruling::Gap(now));
    }
    let mut leaders = Leaders::of(PREFIX.to_owned());
    leaders.held(&[], 10, false);
    assert_eq!(leaders.held(&[], 11, false), Ruling::Gap(None));
}

/// What may be done to a key: a put or a delete, of a candidate or of something below.
#[derive(Debug, Clone)]
enum Write {
    Put(u8),
    Delete(u8),
    PutBelow(u8),
}

fn writes() -> impl Strategy<Value = Vec<Vec<Write>>> {
    let write = prop_oneof![
        4 => (0..5_u8).prop_map(Write::Put),
        4 => (0..5_u8).prop_map(Write::Delete),
        1 => (0..2_u8).prop_map(Write::PutBelow),
    ];
    prop::collection::vec(prop::collection::vec(write, 1..4), 1..60)
}

/// What the keys were at each revision, from 1 on, and what has brought that.
fn history(writes: Vec<Vec<Write>>) -> Vec<(Vec<KeyValue>, Vec<KeyEvent>)> {
    let mut keys = BTreeMap::<String, KeyValue>::new();
    let mut history = vec![(vec![], vec![])];
    for writes in writes {
        let revision = history.len() as i64 + 1;
        let mut touched = std::collections::BTreeSet::new();
        let mut events = Vec::new();
        for write in writes {
            let (name, is_put) = match write {
                Write::Put(key) => (key.to_string(), true),
                Write::Delete(key) => (key.to_string(), false),
                Write::PutBelow(key) => (format!("{key}/{key}"), true),
            };
            // etcd takes no two writes of a key in one transaction.
            if !touched.insert(name.clone()) {
                continue;
            }
            if is_put {
                let created = keys.get(&name).map_or(revision, |kv| kv.created);
                keys.insert(name.clone(), kv(&name, created, revision));
                events.push(put(&name, created, revision));
            } else if keys.remove(&name).is_some() {
                events.push(delete(&name, revision));
            }
        }
        if !events.is_empty() {
            history.push((keys.values().cloned().collect(), events));
        }
    }
    history
}

proptest! {
    /// Whatever happens, and wherever it is read anew: what is told is who led at each revision, and
    /// where something was missed, that is told first.
    #[test]
    fn every_leader_is_told_once_and_in_order_or_a_gap(
        writes in writes(),
        rereads in prop::collection::vec(prop::option::weighted(0.2, 0..5_usize), 60),
    ) {
        let history = history(writes);
        let who = |at: usize| first(PREFIX, &history[at].0).map(Leader::from);
        let mut leaders = Leaders::of(PREFIX.to_owned());
        let mut at = 0;
        prop_assert_eq!(leaders.held(&history[0].0, 1, false), Ruling::Tell(None));
        let mut told = None;
        for reread in rereads {
            match reread {
                None if at + 1 < history.len() => {
                    at += 1;
                    match leaders.changed(history[at].1.clone()) {
                        Ruling::Tell(leader) => {
                            prop_assert_ne!(&leader, &told);
                            told = leader;
                        }
                        ruling => prop_assert_eq!(ruling, Ruling::Nothing),
                    }
                }
                None => break,
                Some(skipped) => {
                    let before = at;
                    at = (at + skipped).min(history.len() - 1);
                    let ruling = leaders.held(&history[at].0, at as i64 + 1, at == before);
                    match ruling {
                        Ruling::Gap(leader) => {
                            prop_assert_ne!(at, before);
                            told = leader;
                        }
                        ruling => {
                            prop_assert_eq!(ruling, Ruling::Nothing);
                            for missed in before..=at {
                                prop_assert_eq!(who(missed), told.clone());
                            }
                        }
                    }
                }
            }
            prop_assert_eq!(&told, &who(at));
        }
    }
}
