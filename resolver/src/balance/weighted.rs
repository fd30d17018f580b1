//! Each in its turn, and those with more weight in more of their turns: gRPC's static stride
//! scheduler (A58).
//!
//! Turns go round as in round robin. In the nth round a target takes its turn or leaves it out, so that
//! after any number of rounds it has taken its share of them: `weight * n` has crossed a multiple of the
//! greatest weight, or has not. That needs no more than one counter, and so no lock.
//!
//! It starts anywhere, as round robin does.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{CallInfo, PickError, Picker};

/// Hands out turns by weight.
#[derive(Debug)]
pub(crate) struct Weighted {
    /// Scaled, so that the greatest is `GREATEST`.
    weights: Box<[u16]>,
    /// The next turn. That it stumbles when it wraps is one turn in billions.
    turn: AtomicU32,
}

/// What the greatest weight is scaled to: who has it takes all of its turns.
const GREATEST: u16 = u16::MAX;

/// How far apart neighbours are in when they take their turns, so that targets of the same weight do not
/// all do in the same round.
const OFFSET: u64 = GREATEST as u64 / 2;

impl Weighted {
    /// Makes a picker whose turns start at `start`, which may be any number. Who has no weight, or one
    /// that is no positive number, is not picked, unless nobody has any: then all are alike.
    pub(crate) fn new(weights: impl IntoIterator<Item = f64>, start: u64) -> Self {
        Self {
            weights: scaled(weights.into_iter().collect()).into(),
            // Whichever bits they are: any start will do.
            turn: AtomicU32::new(start as u32),
        }
    }

    /// Tries indexes of weights, from the next turn that is taken on, until one can be taken, and returns
    /// it. What cannot be leaves its turns to all others, by their weights.
    pub(crate) fn pick(&self, mut take: impl FnMut(usize) -> bool) -> Option<usize> {
        let count = self.weights.len();
        // Who has the greatest weight takes a turn in every round: most picks need no more than one. One
        // turn more than two rounds, so that those who come here one after another go on from different
        // targets below.
        for _ in 0..2 * count + 1 {
            if let Some(index) = self.next_turn().filter(|index| take(*index)) {
                return Some(index);
            }
        }
        // Those with much weight cannot be taken: now whoever can.
        let turn = self.turn.load(Ordering::Relaxed) as usize;
        let all = (0..count).map(|skipped| (turn % count + skipped) % count);
        let mut weighty = all.filter(|index| self.weights[*index] > 0);
        weighty.find(|index| take(*index))
    }

    /// Returns whose turn is next, if it is taken.
    fn next_turn(&self) -> Option<usize> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = self.weights.len() as u32;
        let (round, index) = (turn.checked_div(count)?, turn % count);
        let (weight, greatest) = (u64::from(self.weights[index as usize]), u64::from(GREATEST));
        let position = (weight * u64::from(round) + u64::from(index) * OFFSET) % greatest;
        (position + weight >= greatest).then_some(index as usize)
    }
}

impl Picker for Weighted {
    fn pick(&self, _: &CallInfo<'_>, take: &mut dyn FnMut(usize) -> bool) -> Result<(), PickError> {
        self.pick(take);
        Ok(())
    }
}

/// Scales weights so that the greatest is `GREATEST`; what is little stays something.
fn scaled(weights: Vec<f64>) -> Vec<u16> {
    let weighs = |weight: f64| weight.is_finite() && weight > 0.0;
    let weights: Vec<_> = weights
        .into_iter()
        .map(|it| if weighs(it) { it } else { 0.0 })
        .collect();
    let greatest = weights.iter().copied().fold(0.0, f64::max);
    let scaled = weights.into_iter().map(|weight| {
        if greatest == 0.0 {
            return GREATEST;
        }
        let share = (weight / greatest * f64::from(GREATEST)).round();
        (share as u16).max(u16::from(weight > 0.0))
    });
    scaled.collect()
}

#[cfg(test)]
mod tests;
