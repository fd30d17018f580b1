//! How long to wait before the next attempt.

use std::time::Duration;

/// Exponential backoff with jitter, as in gRPC's connection backoff protocol.
///
/// ```
/// use std::time::Duration;
/// use switchboard_resolver::Backoff;
///
/// let backoff = Backoff { jitter: 0.0, ..Backoff::default() };
/// let waits = [1, 2, 3, 100].map(|attempt| backoff.delay(attempt, 0.5));
/// assert_eq!(waits, [1.0, 1.6, 2.56, 120.0].map(Duration::from_secs_f64));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The wait after the first failure.
    pub base: Duration,
    /// What each further failure multiplies the wait by.
    pub factor: f64,
    /// The longest wait, before jitter.
    pub cap: Duration,
    /// The share by which a wait is lengthened or shortened at random, from 0 to 1, so that
    /// clients that lost a server together do not return together.
    pub jitter: f64,
}

impl Backoff {
    /// Returns how long to wait after the `attempt`th failure in a row; the first is 1. `random` is
    /// uniform in 0..1, and chooses within the jitter.
    pub fn delay(&self, attempt: u32, random: f64) -> Duration {
        let exponent = attempt.saturating_sub(1).min(1_000) as i32;
        let grown = self.base.as_secs_f64() * self.factor.powi(exponent);
        let capped = grown.min(self.cap.as_secs_f64());
        let jittered = capped * (1.0 + self.jitter * (random * 2.0 - 1.0));
        // Only settings that make no sense, such as a negative factor, give what is not a duration.
        Duration::try_from_secs_f64(jittered).unwrap_or(self.cap)
    }
}

impl Default for Backoff {
    /// 1 s, x1.6, at most 120 s, 20 % jitter: the numbers of gRPC's `connection-backoff.md`.
    fn default() -> Self {
        Self {
            base: Duration::from_secs(1),
            factor: 1.6,
            cap: Duration::from_secs(120),
            jitter: 0.2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_stay_within_the_jitter() {
        let backoff = Backoff::default();
        let mut rng = fastrand::Rng::with_seed(7);
        for attempt in 1..200 {
            let middle = (1.6f64.powi(attempt as i32 - 1)).min(120.0);
            let wait = backoff.delay(attempt, rng.f64()).as_secs_f64();
            assert!(
                (middle * 0.8..=middle * 1.2).contains(&wait),
                "{attempt}: {wait}"
            );
        }
    }

    #[test]
    fn the_jitter_reaches_from_the_shortest_to_the_longest_wait() {
        let backoff = Backoff::default();
        let waits = [0.0, 0.5, 1.0].map(|random| backoff.delay(1, random));
        assert_eq!(waits, [0.8, 1.0, 1.2].map(Duration::from_secs_f64));
    }
}
