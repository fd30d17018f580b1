use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// What happens to the two, in the order of the letters of a story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Snapshot(Which, usize),
    Stale(Which),
    Failed(Which),
    Fresh(Which),
    Ended(Which),
    PatienceOver,
}

use Event::{Ended, Failed, Fresh, PatienceOver, Snapshot, Stale};
use Which::{First, Second};

/// The endpoints of a source, `a:1` and so on for the first, `b:1` for the second.
fn endpoints(which: Which, count: usize) -> Vec<Endpoint> {
    let host = match which {
        First => "a",
        Second => "b",
    };
    let addresses = (1..=count).map(|port| format!("{host}:{port}").parse().unwrap());
    addresses.map(Endpoint::new).collect()
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn happen(choice: &mut Choice, event: Event) {
    let cause = |text: &str| Cause::from(Box::<dyn std::error::Error + Send + Sync>::from(text));
    match event {
        Snapshot(which, count) => {
            choice.said(which, Update::Snapshot(endpoints(which, count)));
        }
        Stale(which) => {
            let since = now() - Duration::from_secs(1);
            let cause = cause("is away");
            choice.said(which, Update::Stale { since, cause });
        }
        Failed(which) => choice.said(
            which,
            Update::Failed {
                cause: cause("has failed"),
            },
        ),
        Fresh(which) => choice.said(which, Update::Fresh),
        Ended(which) => choice.ended(which, now()),
        PatienceOver => choice.patience_is_over(),
    }
}

fn say(update: Update) -> String {
    match update {
        Update::Snapshot(endpoints) => {
            let shown: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
            format!("[{}]", shown.join(" "))
        }
        Update::Failed { cause } => format!("failed: {}", chain(&*cause)),
        Update::Stale { cause, .. } => format!("stale: {}", chain(&*cause)),
        Update::Fresh => "fresh".to_owned(),
    }
}

fn told(events: &[Event]) -> Vec<String> {
    let mut choice = Choice::default();
    let mut told = Vec::new();
    for event in events {
        happen(&mut choice, *event);
        told.extend(std::iter::from_fn(|| choice.next()).map(say));
    }
    told
}

#[test]
fn the_first_is_used_as_soon_as_it_has_endpoints() {
    let story = [Snapshot(Second, 1), Snapshot(First, 2), Snapshot(Second, 2)];
    assert_eq!(told(&story), ["[a:1 a:2]"]);
}

#[test]
fn the_second_is_used_at_once_when_the_first_has_failed_and_until_it_has_endpoints() {
    let story = [
        Failed(First),
        Snapshot(Second, 1),
        Stale(Second),
        Failed(First),
        Snapshot(First, 1),
        Fresh(Second),
    ];
    assert_eq!(
        told(&story),
        ["[b:1]", "stale: the second source: is away", "[a:1]"]
    );
}

#[test]
fn a_first_that_is_silent_is_waited_for_and_no_longer_than_the_patience() {
    assert_eq!(told(&[Snapshot(Second, 1)]), [""; 0]);
    let story = [Snapshot(Second, 1), PatienceOver, Snapshot(First, 1)];
    assert_eq!(told(&story), ["[b:1]", "[a:1]"]);
}

#[test]
fn a_first_that_is_stale_or_fails_or_ends_keeps_its_endpoints_in_use() {
    let story = [
        Snapshot(Second, 1),
        Snapshot(First, 1),
        Stale(First),
        Failed(First),
        Fresh(First),
        Ended(First),
        PatienceOver,
    ];
    assert_eq!(
        told(&story),
        [
            "[a:1]",
            "stale: the first source: is away",
            "failed: the first source: has failed",
            "fresh",
            "stale: the first source: it has ended"
        ]
    );
}

#[test]
fn a_first_without_endpoints_leaves_it_to_the_second_at_once() {
    let story = [
        Snapshot(Second, 1),
        Snapshot(First, 1),
        Snapshot(First, 0),
        Snapshot(First, 1),
    ];
    assert_eq!(told(&story), ["[a:1]", "[b:1]", "[a:1]"]);
    // Be it stale, it has none.
    let story = [Snapshot(First, 0), Stale(First), Snapshot(Second, 1)];
    assert_eq!(told(&story), ["[b:1]"]);
}

#[test]
fn a_second_that_is_needed_is_waited_for_too() {
    assert_eq!(
        told(&[Snapshot(First, 0), Snapshot(Second, 1)]),
        ["[b:1]"],
        "not first that there are none"
    );
    assert_eq!(told(&[Snapshot(First, 0), PatienceOver]), ["[]"]);
    assert_eq!(told(&[Snapshot(First, 0), Failed(Second)]), ["[]"]);
    assert_eq!(told(&[Failed(First)]), [""; 0]);
    let story = [Failed(First), PatienceOver];
    assert_eq!(told(&story), ["failed: the first source: has failed"]);
}

#[test]
fn if_neither_has_endpoints_an_empty_set_counts_and_otherwise_both_causes() {
    assert_eq!(told(&[Failed(First), Snapshot(Second, 0)]), ["[]"]);
    assert_eq!(told(&[Snapshot(First, 0), Snapshot(Second, 0)]), ["[]"]);
    assert_eq!(
        told(&[Failed(First), Ended(Second)]),
        ["failed: the first source: has failed; the second source: it has ended"]
    );
    assert_eq!(told(&[PatienceOver]), [""; 0]);
}

#[test]
fn who_is_used_again_says_how_it_is_by_then() {
    let story = [
        Failed(First),
        Snapshot(Second, 1),
        Snapshot(First, 1),
        Stale(Second),
        Snapshot(First, 0),
    ];
    assert_eq!(
        told(&story),
        [
            "[b:1]",
            "[a:1]",
            "[b:1]",
            "stale: the second source: is away"
        ]
    );
}

/// The rule once more, over whole histories: whose set is shown, `None` for what was shown before.
fn expected(history: &[Event]) -> Option<(Which, usize)> {
    let last = |which| {
        let mut sets = history.iter().filter_map(|event| match event {
            Snapshot(whose, count) if *whose == which => Some(*count),
            _ => None,
        });
        sets.next_back()
    };
    let has_answered = |which| {
        history.contains(&PatienceOver)
            || history.iter().any(|event| match event {
                Snapshot(whose, _) | Stale(whose) | Failed(whose) | Ended(whose) => *whose == which,
                Fresh(_) | PatienceOver => false,
            })
    };
    let is_filled = |which| last(which).is_some_and(|count| count > 0);
    if is_filled(First) || last(First) == Some(0) && !is_filled(Second) && has_answered(Second) {
        return Some((First, last(First)?));
    }
    let may_be_second = match last(First) {
        Some(_) => is_filled(Second),
        None => has_answered(First) && last(Second).is_some(),
    };
    may_be_second.then(|| last(Second).map(|count| (Second, count)))?
}

fn any_event() -> impl Strategy<Value = Event> {
    let which = || prop_oneof![Just(First), Just(Second)];
    prop_oneof![
        4 => (which(), 0usize..4).prop_map(|(which, count)| Snapshot(which, count)),
        2 => which().prop_map(Stale),
        2 => which().prop_map(Failed),
        2 => which().prop_map(Fresh),
        1 => which().prop_map(Ended),
        1 => Just(PatienceOver),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn what_is_shown_is_always_what_the_rule_says(history in prop::collection::vec(any_event(), 1..20)) {
        let mut choice = Choice::default();
        let (mut shown, mut is_fresh) = (None, false);
        for length in 1..=history.len() {
            let event = history[length - 1];
            happen(&mut choice, event);
            let before: Option<Vec<Endpoint>> = shown.clone();
            while let Some(update) = choice.next() {
                is_fresh = matches!(update, Update::Snapshot(_) | Update::Fresh);
                if let Update::Snapshot(endpoints) = update {
                    shown = Some(endpoints);
                }
            }
            match expected(&history[..length]) {
                None => prop_assert_eq!(&shown, &before, "nothing is decided: nothing changes"),
                Some((which, count)) => {
                    prop_assert_eq!(shown.as_ref(), Some(&endpoints(which, count)));
                    prop_assert_eq!(choice.used(), Some(which));
                    let is_right = matches!(choice.side(which).status, Status::Fresh);
                    prop_assert_eq!(is_fresh, is_right, "its health is that of the one in use");
                }
            }
        }
    }
}
