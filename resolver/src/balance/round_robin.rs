//! Each in its turn.
//!
//! A new picker starts anywhere: were it to start at the first, all clients that hear of a change
//! together would send their next calls to the same server.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Hands out its targets in turn.
#[derive(Debug)]
pub(crate) struct RoundRobin<T> {
    targets: Box<[T]>,
    turn: AtomicUsize,
}

impl<T> RoundRobin<T> {
    /// Makes a picker whose first pick is the target at `start`, which may be any number.
    pub(crate) fn new(targets: impl IntoIterator<Item = T>, start: usize) -> Self {
        let targets: Box<[T]> = targets.into_iter().collect();
        // The remainder, so that a start near the greatest number does not break the turn when it
        // wraps.
        let turn = start.checked_rem(targets.len()).unwrap_or(0);
        Self {
            targets,
            turn: AtomicUsize::new(turn),
        }
    }

    /// Tries the targets, from the next in turn on, until one can be taken.
    pub(crate) fn pick<'a, P>(&'a self, take: impl Fn(&'a T) -> Option<P>) -> Option<P> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = self.targets.len();
        (0..count).find_map(|skipped| take(&self.targets[turn.wrapping_add(skipped) % count]))
    }

    /// Returns all targets.
    pub(crate) fn targets(&self) -> &[T] {
        &self.targets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(picker: &RoundRobin<char>, count: usize) -> String {
        (0..count).filter_map(|_| picker.pick(Some)).collect()
    }

    #[test]
    fn each_target_has_its_turn_from_the_start_on() {
        assert_eq!(picks(&RoundRobin::new(['a', 'b', 'c'], 1), 7), "bcabcab");
    }

    #[test]
    fn the_turn_does_not_stumble_however_great_the_start() {
        let picker = RoundRobin::new(['a', 'b', 'c'], usize::MAX);
        let picks = picks(&picker, 300);
        assert!(
            ["abc", "bca", "cab"]
                .iter()
                .any(|turn| picks == turn.repeat(100))
        );
    }

    #[test]
    fn what_cannot_be_taken_is_skipped() {
        let picker = RoundRobin::new(['a', 'b', 'c'], 0);
        for _ in 0..10 {
            assert_ne!(picker.pick(|it| (*it != 'b').then_some(*it)), Some('b'));
        }
        assert_eq!(picker.pick(|it| (*it == 'c').then_some(*it)), Some('c'));
    }

    #[test]
    fn nothing_to_take_is_no_pick() {
        assert_eq!(RoundRobin::new(['a'], 0).pick(|_| None::<char>), None);
        assert_eq!(RoundRobin::<char>::new([], 5).pick(Some), None);
    }
}
