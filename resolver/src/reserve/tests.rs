use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::Endpoint;

const SECOND: Duration = Duration::from_secs(1);

fn key(number: usize) -> EndpointKey {
    EndpointKey::of(&Endpoint::new(format!("a:{}", number + 1).parse().unwrap()))
}

fn counts(listed: usize, ready: usize, reserved: usize) -> Counts {
    Counts {
        listed,
        ready,
        reserved,
    }
}

fn start() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[test]
fn what_vanished_is_let_go_once_the_source_was_right_for_long_enough_since_then() {
    let now = start();
    let mut reserve = Reserve::new(ReservePolicy::default());
    reserve.on_source(true, now);
    // That it was right before counts for nothing.
    assert!(reserve.vanish(&key(0), now + 100 * SECOND));
    assert_eq!(reserve.next(), Some(now + 140 * SECOND));
    assert_eq!(reserve.due(now + 139 * SECOND), []);
    reserve.on_source(false, now + 139 * SECOND);
    assert_eq!(reserve.next(), Some(now + 400 * SECOND), "the limit");
    reserve.on_source(true, now + 200 * SECOND);
    reserve.on_source(true, now + 210 * SECOND);
    assert_eq!(reserve.next(), Some(now + 240 * SECOND));
    assert_eq!(reserve.due(now + 240 * SECOND), [key(0)]);
    assert_eq!(reserve.next(), None);
}

#[test]
fn it_is_used_while_fewer_than_half_are_listed_and_ready() {
    use ReserveUse::{Unused, Used};
    let mut reserve = Reserve::new(ReservePolicy::default());
    for (counts, usage) in [
        (counts(4, 4, 0), Unused),
        (counts(3, 3, 1), Unused),
        (counts(2, 2, 2), Unused),
        (counts(2, 1, 2), Used),
        (counts(1, 1, 3), Used),
        (counts(1, 1, 1), Unused),
        (counts(1, 0, 1), Used),
        (counts(4, 0, 0), Unused),
        (counts(0, 0, 1), Used),
        (counts(0, 0, 0), Unused),
    ] {
        assert_eq!(reserve.assess(counts).1, usage, "{counts:?}");
    }
}

#[test]
fn an_empty_snapshot_is_the_last_set_or_nobody_as_was_chosen() {
    let mut reserve = Reserve::new(ReservePolicy::default());
    assert_eq!(
        reserve.read(true, 0),
        Reading::AsListed,
        "there is no set yet"
    );
    assert_eq!(reserve.read(true, 4), Reading::LastSet);
    assert_eq!(reserve.assess(counts(4, 4, 0)).1, ReserveUse::LastSet);
    assert_eq!(reserve.read(false, 4), Reading::AsListed);
    let back = (ReserveUse::LastSet, ReserveUse::Unused);
    assert_eq!(reserve.assess(counts(4, 4, 0)), back);

    let mut reserve = Reserve::new(ReservePolicy {
        empty: EmptyPolicy::Accept,
        ..ReservePolicy::default()
    });
    reserve.vanish(&key(0), start());
    assert_eq!(reserve.read(true, 4), Reading::Nobody);
    assert_eq!(reserve.next(), None);
}

#[derive(Debug, Clone)]
enum Step {
    Vanish(usize),
    Forget(usize),
    Source(bool),
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0usize..6).prop_map(Step::Vanish),
        (0usize..6).prop_map(Step::Forget),
        any::<bool>().prop_map(Step::Source),
        (1u64..60).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Each is kept for 40 s at least and 5 min at most, and let go at the first moment at which the
    /// source was right for 40 s.
    #[test]
    fn who_vanished_is_let_go_in_time(steps in prop::collection::vec(any_step(), 1..80)) {
        let mut now = start();
        let mut reserve = Reserve::new(ReservePolicy::default());
        let mut right_since = None;
        let mut vanished = BTreeMap::<EndpointKey, Instant>::new();
        for step in steps {
            match step {
                Step::Vanish(number) => {
                    vanished.entry(key(number)).or_insert_with(|| {
                        reserve.vanish(&key(number), now);
                        now
                    });
                }
                Step::Forget(number) => {
                    reserve.forget(&key(number));
                    vanished.remove(&key(number));
                }
                Step::Source(is_right) => {
                    reserve.on_source(is_right, now);
                    right_since = is_right.then(|| right_since.unwrap_or(now));
                }
                Step::Wait(seconds) => now += seconds as u32 * SECOND,
            }
            let gone: BTreeSet<_> = reserve.due(now).into_iter().collect();
            let over: BTreeSet<_> = vanished
                .iter()
                .filter(|(_, since)| {
                    let is_settled = right_since.is_some_and(|right: Instant| {
                        now.duration_since(right.max(**since)) >= 40 * SECOND
                    });
                    is_settled || now.duration_since(**since) >= 300 * SECOND
                })
                .map(|(key, _)| key.clone())
                .collect();
            prop_assert_eq!(&gone, &over);
            vanished.retain(|key, _| !gone.contains(key));
            prop_assert!(reserve.next().is_none_or(|next| next > now));
            prop_assert_eq!(reserve.next().is_some(), !vanished.is_empty());
        }
    }
}
