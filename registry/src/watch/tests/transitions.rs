//! The transitions of the module's diagrams.

use std::collections::BTreeSet;

use super::*;

/// In which state, told what, into which state.
pub(super) type Transition = (&'static str, &'static str, &'static str);

/// The states of the watch and of what it carries over.
pub(super) fn states<T>(watch: &Watch<T>) -> [&'static str; 2] {
    let state = match &watch.state {
        State::Listing { revision: 0, .. } => "Listing",
        State::Listing { .. } => "Listing further",
        State::Opening { at: None } => "Opening after the list",
        State::Opening { at: Some(_) } => "Opening at a put",
        State::Watching {
            owes: Some(Owed::Due(_)),
            ..
        } => "Watching, owed a put",
        State::Watching {
            owes: Some(Owed::Overdue(_)),
            ..
        } => "Watching, overdue",
        State::Watching { owes: None, .. } => "Watching",
        State::Confirming => "Confirming",
        State::LoggingIn => "LoggingIn",
    };
    let carried = match watch.carried.until() {
        _ if watch.carried.is_nothing() => "Nothing",
        None => "Waiting",
        Some(_) => "Counting",
    };
    [state, carried]
}

/// Returns the transitions that this was. Of what is carried over, only those that change it.
pub(super) fn between(
    before: [&'static str; 2],
    input: &'static str,
    after: [&'static str; 2],
) -> impl Iterator<Item = Transition> {
    let watch = (before[0], input, after[0]);
    let carried = (before[1], input, after[1]);
    // Time that passes, and etcd that can be reached, mostly change nothing.
    let is_drawn = watch.0 != watch.2 || !matches!(input, "time" | "reachable");
    let watch = Some(watch).filter(|_| is_drawn);
    let carried = Some(carried).filter(|it| it.0 != it.2);
    watch.into_iter().chain(carried)
}

/// Sees that these are all there are.
pub(super) fn assert_all(reached: &BTreeSet<Transition>) {
    let drawn: BTreeSet<Transition> = DRAWN.iter().copied().collect();
    let missed: Vec<_> = drawn.difference(reached).collect();
    let new: Vec<_> = reached.difference(&drawn).collect();
    assert!(
        missed.is_empty() && new.is_empty(),
        "never taken: {missed:#?}\nnot drawn: {new:#?}"
    );
}

/// Those of the watch, and those of what it carries over.
#[rustfmt::skip]
const DRAWN: &[Transition] = &[
    ("Listing", "failed", "Listing"),
    ("Listing", "page", "Listing further"),
    ("Listing", "last page", "Opening after the list"),
    ("Listing", "failed", "Opening at a put"),
    ("Listing", "denied", "Listing"),
    ("Listing", "denied", "Opening at a put"),
    ("Listing", "too large", "Listing"),
    ("Listing further", "compacted", "Listing"),
    ("Listing further", "failed", "Listing"),
    ("Listing further", "page", "Listing further"),
    ("Listing further", "last page", "Opening after the list"),
    ("Listing further", "failed", "Opening at a put"),
    ("Listing further", "denied", "Listing"),
    ("Listing further", "denied", "Opening at a put"),
    ("Listing further", "too large", "Listing"),
    ("Opening after the list", "failed", "Listing"),
    ("Opening after the list", "failed", "Opening at a put"),
    ("Opening after the list", "opened", "Watching"),
    ("Opening after the list", "opened", "Confirming"),
    ("Opening after the list", "refused", "LoggingIn"),
    ("Opening after the list", "denied", "Listing"),
    ("Opening after the list", "denied", "Opening at a put"),
    ("Opening at a put", "failed", "Opening at a put"),
    ("Opening at a put", "opened", "Watching, owed a put"),
    ("Opening at a put", "opened", "Confirming"),
    ("Opening at a put", "refused", "LoggingIn"),
    ("Opening at a put", "denied", "Opening at a put"),
    ("Watching, owed a put", "compacted", "Listing"),
    ("Watching, owed a put", "events", "Listing"),
    ("Watching, owed a put", "failed", "Opening at a put"),
    ("Watching, owed a put", "time", "Opening at a put"),
    ("Watching, owed a put", "asked", "Watching, owed a put"),
    ("Watching, owed a put", "events", "Watching"),
    ("Watching, owed a put", "denied", "Opening at a put"),
    ("Watching, owed a put", "progress", "Watching, overdue"),
    ("Watching, owed a put", "too large", "Listing"),
    ("Watching, overdue", "asked", "Watching, overdue"),
    ("Watching, overdue", "denied", "Opening at a put"),
    ("Watching, overdue", "events", "Listing"),
    ("Watching, overdue", "failed", "Opening at a put"),
    ("Watching, overdue", "progress", "Listing"),
    ("Watching, overdue", "time", "Opening at a put"),
    ("Watching, overdue", "too large", "Listing"),
    ("Watching, overdue", "events", "Watching"),
    ("Watching", "compacted", "Listing"),
    ("Watching", "failed", "Listing"),
    ("Watching", "time", "Listing"),
    ("Watching", "failed", "Opening at a put"),
    ("Watching", "time", "Opening at a put"),
    ("Watching", "asked", "Watching"),
    ("Watching", "events", "Watching"),
    ("Watching", "progress", "Watching"),
    ("Watching", "denied", "Listing"),
    ("Watching", "denied", "Opening at a put"),
    ("Watching", "too large", "Listing"),
    ("Confirming", "compacted", "Listing"),
    ("Confirming", "confirmed", "Listing"),
    ("Confirming", "failed", "Listing"),
    ("Confirming", "confirmed", "Opening at a put"),
    ("Confirming", "failed", "Opening at a put"),
    ("Confirming", "denied", "Listing"),
    ("Confirming", "denied", "Opening at a put"),
    ("LoggingIn", "failed", "Listing"),
    ("LoggingIn", "logged in", "Listing"),
    ("LoggingIn", "failed", "Opening at a put"),
    ("LoggingIn", "logged in", "Opening at a put"),
    ("LoggingIn", "denied", "Listing"),
    ("LoggingIn", "denied", "Opening at a put"),

    ("Nothing", "confirmed", "Waiting"),
    ("Nothing", "events", "Waiting"),
    ("Nothing", "progress", "Waiting"),
    ("Nothing", "last page", "Counting"),
    ("Waiting", "events", "Nothing"),
    ("Waiting", "last page", "Nothing"),
    ("Waiting", "events", "Counting"),
    ("Waiting", "last page", "Counting"),
    ("Counting", "events", "Nothing"),
    ("Counting", "last page", "Nothing"),
    ("Counting", "time", "Nothing"),
    ("Counting", "failed", "Waiting"),
    ("Counting", "time", "Waiting"),
    ("Counting", "denied", "Waiting"),
    ("Counting", "progress", "Waiting"),
    ("Counting", "too large", "Waiting"),
];
