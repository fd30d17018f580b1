//! Chance, without a lock and without a generator: a counter, and a mixer that makes random numbers of it
//! (Steele, Lea and Flood's SplitMix). The same seed makes the same numbers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Random numbers for many calls.
#[derive(Debug)]
pub(crate) struct Chance(AtomicU64);

/// Those for one call.
#[derive(Debug)]
pub(crate) struct Draw(u64);

/// 2^64 divided by the golden ratio: numbers that are so far apart lie well spread.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// Begins another call's numbers.
    pub(crate) fn draw(&self) -> Draw {
        // Mixed: else one call's second number would be the next one's first.
        Draw(mixed(self.0.fetch_add(STEP, Relaxed)))
    }
}

impl Draw {
    /// Returns the next number, any.
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mixed(self.0)
    }

    /// Returns the next number, below `count`, which must not be 0.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.number()) * count as u128) >> 64) as usize
    }

    /// Returns the next number, uniform in 0..1.
    pub(crate) fn fraction(&mut self) -> f64 {
        // As many bits as the fraction of such a number has, so that it is never 1.
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns whether something happens that has this probability: 1 always does, and 0 never.
    pub(crate) fn happens(&mut self, probability: f64) -> bool {
        self.fraction() < probability
    }
}

fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_for_the_same_seed_and_another_for_each_call() {
        let numbers = |seed| {
            let chance = Chance::new(seed);
            [chance.draw(), chance.draw()].map(|mut it| [it.number(), it.number()])
        };
        assert_eq!(numbers(7), numbers(7));
        let mut all: Vec<_> = [numbers(7), numbers(8)].concat().concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 8);
    }

    /// The bounds are five standard deviations and more, and the seed is fixed: it comes out the same each
    /// time.
    #[test]
    fn all_are_as_likely_as_they_should_be() {
        let chance = Chance::new(1);
        let (mut counts, mut pairs, mut happened) = ([0_i32; 7], [0_i32; 49], 0_i32);
        for _ in 0..70_000 {
            let mut draw = chance.draw();
            let (one, other) = (draw.below(7), draw.below(7));
            counts[one] += 1;
            pairs[7 * one + other] += 1;
            happened += i32::from(draw.happens(0.25));
        }
        assert!(
            counts.iter().all(|it| (it - 10_000).abs() < 500),
            "{counts:?}"
        );
        assert!(pairs.iter().all(|it| (it - 1_429).abs() < 200), "{pairs:?}");
        assert!((happened - 17_500).abs() < 600, "{happened}");
        let mut draw = chance.draw();
        assert!((0..1_000).all(|_| draw.happens(1.0) && !draw.happens(0.0)));
    }
}
