//! For the tests of deciders: which transitions a run has reached.

use std::{cell::RefCell, collections::BTreeMap};

type Name = &'static str;

/// The transitions of a run, each with how often it was seen.
#[derive(Debug, Default)]
pub(crate) struct Transitions(RefCell<BTreeMap<(Name, Name), u32>>);

impl Transitions {
    pub(crate) fn record(&self, before: Name, after: Name) {
        if before != after {
            *self.0.borrow_mut().entry((before, after)).or_default() += 1;
        }
    }

    /// Asserts that every transition of `table` was reached. A line of it is a state, an arrow, and
    /// the states that come after it; nothing, if none may.
    ///
    /// # Panics
    ///
    /// With what was missed, or what came after a state that nothing comes after.
    pub(crate) fn assert_reached(&self, table: &'static str) {
        let reached = self.0.borrow();
        for line in table.lines().filter(|line| !line.trim().is_empty()) {
            let (before, after) = line.split_once("->").expect("a state, an arrow, states");
            let before = before.trim();
            for after in after.split_whitespace() {
                let is_reached = reached.contains_key(&(before, after));
                assert!(
                    is_reached,
                    "never reached: {before} -> {after} in {reached:?}"
                );
            }
            let left = reached.keys().find(|(state, _)| *state == before);
            let is_end = after.trim().is_empty();
            assert!(!is_end || left.is_none(), "left an end: {left:?}");
        }
    }
}
