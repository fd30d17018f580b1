//! Each in its turn.
//!
//! A new picker starts anywhere: were it to start at the first, all clients that hear of a change
//! together would send their next calls to the same server.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{CallInfo, Candidate, PickError, Picker, Policy, Weighted};

/// Each endpoint in its turn, whatever its calls cost: the policy of a channel unless another is set.
///
/// It is the right one where servers are alike and calls are, too. One that starts slowly
/// ([`SlowStart`](crate::SlowStart)) leaves out some of its turns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoundRobin;

impl Policy for RoundRobin {
    fn name(&self) -> &str {
        "round_robin"
    }

    fn picker(&self, candidates: &[Candidate], seed: u64) -> Box<dyn Picker> {
        let are_alike = candidates
            .windows(2)
            .all(|it| it[0].share() == it[1].share());
        match are_alike {
            true => Box::new(Turns::new(candidates.len(), seed)),
            false => Box::new(Weighted::new(candidates.iter().map(Candidate::share), seed)),
        }
    }

    fn offers_all(&self) -> bool {
        true
    }
}

/// Hands out turns.
#[derive(Debug)]
struct Turns {
    count: usize,
    turn: AtomicUsize,
}

impl Turns {
    /// Makes one whose first turn is that of `start`, which may be any number.
    fn new(count: usize, start: u64) -> Self {
        // The remainder, so that a start near the greatest number does not break the turn when it
        // wraps.
        let turn = start.checked_rem(count as u64).unwrap_or(0);
        Self {
            count,
            turn: AtomicUsize::new(turn as usize),
        }
    }

    /// Tries indexes, from the next in turn on, until one can be taken, and returns it.
    fn pick(&self, mut take: impl FnMut(usize) -> bool) -> Option<usize> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut all = (0..self.count).map(|skipped| turn.wrapping_add(skipped) % self.count);
        all.find(|index| take(*index))
    }
}

impl Picker for Turns {
    fn pick(&self, _: &CallInfo<'_>, take: &mut dyn FnMut(usize) -> bool) -> Result<(), PickError> {
        self.pick(take);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(turns: &Turns, count: usize) -> String {
        let picks = (0..count).filter_map(|_| turns.pick(|_| true));
        picks.map(|index| ['a', 'b', 'c'][index]).collect()
    }

    #[test]
    fn each_target_has_its_turn_from_the_start_on() {
        assert_eq!(picks(&Turns::new(3, 1), 7), "bcabcab");
    }

    #[test]
    fn the_turn_does_not_stumble_however_great_the_start() {
        let turns = Turns::new(3, u64::MAX);
        let picks = picks(&turns, 300);
        assert!(
            ["abc", "bca", "cab"]
                .iter()
                .any(|turn| picks == turn.repeat(100))
        );
    }

    #[test]
    fn what_cannot_be_taken_is_skipped() {
        let turns = Turns::new(3, 0);
        for _ in 0..10 {
            assert_ne!(turns.pick(|it| it != 1), Some(1));
        }
        assert_eq!(turns.pick(|it| it == 2), Some(2));
    }

    #[test]
    fn nothing_to_take_is_no_pick() {
        assert_eq!(Turns::new(1, 0).pick(|_| false), None);
        assert_eq!(Turns::new(0, 5).pick(|_| true), None);
    }
}
