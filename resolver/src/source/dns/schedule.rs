//! Decides when a name is looked up next.
//!
//! - After an answer: when the interval is over, give or take a tenth, so that clients that started
//!   together do not ask together.
//! - After a failure: sooner, in growing waits up to the interval.
//! - When asked to: as soon as the last lookup is `min_interval` ago, however often it is asked.
//!
//! Reads no clock.

use std::time::{Duration, Instant};

use crate::Backoff;

/// When a name is looked up next.
#[derive(Debug)]
pub(super) struct Schedule {
    interval: Duration,
    min_interval: Duration,
    /// How many lookups in a row have failed.
    failures: u32,
    next: Instant,
    /// Not sooner, whoever asks.
    earliest: Instant,
}

impl Schedule {
    /// The first lookup is due at once.
    pub(super) fn new(interval: Duration, min_interval: Duration, now: Instant) -> Self {
        Self {
            interval: interval.max(min_interval),
            min_interval,
            failures: 0,
            next: now,
            earliest: now,
        }
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Takes in that a lookup has ended; `random` is uniform in 0..1.
    pub(super) fn ended(&mut self, is_answered: bool, now: Instant, random: f64) {
        let backoff = |base, jitter| Backoff {
            base,
            cap: self.interval,
            jitter,
            ..Backoff::default()
        };
        let wait = if is_answered {
            self.failures = 0;
            backoff(self.interval, 0.1).delay(1, random)
        } else {
            self.failures = self.failures.saturating_add(1);
            backoff(self.min_interval, 0.2).delay(self.failures, random)
        };
        self.earliest = now + self.min_interval;
        self.next = self.earliest.max(now + wait);
    }

    /// Takes in that somebody doubts the last answer.
    pub(super) fn asked(&mut self) {
        self.next = self.next.min(self.earliest);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);
    const MIN_INTERVAL: Duration = Duration::from_secs(5);

    fn schedule() -> (Schedule, Instant) {
        let now = tokio::time::Instant::now().into_std();
        (Schedule::new(INTERVAL, MIN_INTERVAL, now), now)
    }

    #[test]
    fn an_answer_holds_for_the_interval_give_or_take_a_tenth() {
        let (mut schedule, now) = schedule();
        assert_eq!(schedule.next(), now);
        for (random, seconds) in [(0.0, 27), (0.5, 30), (1.0, 33)] {
            schedule.ended(true, now, random);
            assert_eq!(schedule.next() - now, Duration::from_secs(seconds));
        }
    }

    #[test]
    fn failures_are_tried_again_sooner_and_in_growing_waits() {
        let (mut schedule, now) = schedule();
        let mut wait = |is_answered| {
            schedule.ended(is_answered, now, 0.5);
            (schedule.next() - now).as_secs_f64()
        };
        let waits = [false, false, false, false, false, false].map(&mut wait);
        assert_eq!(waits, [5.0, 8.0, 12.8, 20.48, 30.0, 30.0]);
        assert_eq!([true, false].map(wait), [30.0, 5.0]);
    }

    #[test]
    fn who_asks_is_heard_once_the_last_lookup_is_long_enough_ago() {
        let (mut schedule, now) = schedule();
        schedule.ended(true, now, 0.5);
        schedule.asked();
        schedule.asked();
        assert_eq!(schedule.next() - now, MIN_INTERVAL);
        // And no later than it would have been looked up anyway.
        let mut often = Schedule::new(MIN_INTERVAL, INTERVAL, now);
        often.ended(true, now, 0.0);
        assert_eq!(often.next() - now, INTERVAL);
    }

    proptest! {
        #[test]
        fn lookups_are_never_closer_than_allowed_nor_further_apart_than_promised(
            steps in prop::collection::vec((any::<bool>(), 0.0f64..1.0, any::<bool>()), 1..50),
        ) {
            let (mut schedule, mut now) = schedule();
            for (is_answered, random, is_asked) in steps {
                schedule.ended(is_answered, now, random);
                if is_asked {
                    schedule.asked();
                }
                let wait = schedule.next() - now;
                prop_assert!(wait >= MIN_INTERVAL && wait <= INTERVAL.mul_f64(1.2), "{wait:?}");
                prop_assert!(!is_asked || wait == MIN_INTERVAL, "{wait:?}");
                now = schedule.next();
            }
        }
    }
}
