//! Decides how large a share of calls an endpoint gets that is new, or back.
//!
//! - A ramp begins when an endpoint is READY for the first time, or for the first time since it was failing
//!   or unhealthy. One whose connection was lost and replaced at once goes on as it was: servers end
//!   connections by age, too.
//! - A ramp has ten steps, counted from when it began. Nothing else begins it anew: no snapshot, no new
//!   picker, no other weight.
//! - Those that are READY within one step of each other begin together. So those of a channel that starts
//!   are alike, and a thousand that come back are not a thousand times ten changes.
//!
//! Reads no clock.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{BuildError, EndpointKey, builder::NEVER};

/// How an endpoint that is new, or back after it failed, gets its calls: few at first, and all of its
/// share after a while. Servers that have just started, with caches to fill and code to compile, are slow
/// or fail if they get all at once.
///
/// ```
/// use std::time::Duration;
/// use switchboard_resolver::SlowStart;
///
/// let slow_start = SlowStart { window: Duration::from_secs(60), ..SlowStart::default() };
/// assert_eq!(slow_start.min_share, 0.1);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowStart {
    /// How long it takes until an endpoint gets all of its share, in ten steps; 30 s. A shorter one ends
    /// before a server is warm; in a longer one the others do the work of one that is.
    pub window: Duration,
    /// How soon it gets much: after the part `t` of the window its share is `t` to the power of
    /// `1 / aggression`. 1, where it grows evenly; a greater one gives more at the beginning, and one below
    /// 1 less.
    pub aggression: f64,
    /// The smallest share, from 0 to 1; 0.1. Without it, an endpoint gets no calls in the first step, and
    /// nothing is warmed up by none.
    pub min_share: f64,
}

impl Default for SlowStart {
    /// 30 s, evenly, from 0.1 on.
    fn default() -> Self {
        Self {
            window: Duration::from_secs(30),
            aggression: 1.0,
            min_share: 0.1,
        }
    }
}

impl SlowStart {
    /// Refuses what makes no sense.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let aggression = self.aggression;
        let is_power = aggression.is_finite() && aggression > 0.0;
        let setting = "slow start aggression";
        BuildError::check(is_power, setting, &aggression, "more than 0")?;
        BuildError::check_positive("slow start window", self.window)?;
        BuildError::check_share("slow start min share", self.min_share)
    }

    /// Returns the share after as many steps.
    fn share(&self, steps: u32) -> f64 {
        if steps >= STEPS {
            return 1.0;
        }
        let part = f64::from(steps) / f64::from(STEPS);
        part.powf(1.0 / self.aggression).clamp(self.min_share, 1.0)
    }
}

/// How many steps a ramp has: more, and pickers are made more often; fewer, and each is a jump.
const STEPS: u32 = 10;

/// How far each endpoint of a channel has come.
#[derive(Debug)]
pub(crate) struct Ramps {
    settings: SlowStart,
    step: Duration,
    /// Of each that has been READY since it failed, when its ramp began, be it over or not.
    begun: BTreeMap<EndpointKey, Instant>,
}

impl Ramps {
    pub(crate) fn new(settings: SlowStart) -> Self {
        let step = settings.window.min(NEVER) / STEPS;
        Self {
            settings,
            step: step.max(Duration::from_nanos(1)),
            begun: BTreeMap::new(),
        }
    }

    /// Takes in that an endpoint is READY, and healthy as far as is known. To be told again changes
    /// nothing.
    pub(crate) fn ready(&mut self, endpoint: &EndpointKey, now: Instant) {
        if self.begun.contains_key(endpoint) {
            return;
        }
        let is_new = |at: &Instant| now.saturating_duration_since(*at) < self.step;
        let begun = self.begun.values().copied().filter(is_new).max();
        self.begun.insert(endpoint.clone(), begun.unwrap_or(now));
    }

    /// Takes in that an endpoint is failing or unhealthy, or is gone. Not that a connection was lost.
    pub(crate) fn failed(&mut self, endpoint: &EndpointKey) {
        self.begun.remove(endpoint);
    }

    /// Returns the share that each of some endpoints gets now, from 0 to 1; `None` if all are alike, and
    /// nothing has to be weighed.
    pub(crate) fn shares<'a>(
        &self,
        endpoints: impl IntoIterator<Item = &'a EndpointKey>,
        now: Instant,
    ) -> Option<Vec<f64>> {
        let share = |endpoint| match self.begun.get(endpoint) {
            Some(begun) => self.settings.share(self.steps(*begun, now)),
            // Not READY: it is called for want of others.
            None => 1.0,
        };
        let shares: Vec<_> = endpoints.into_iter().map(share).collect();
        shares.windows(2).any(|it| it[0] != it[1]).then_some(shares)
    }

    /// Returns when shares change next.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        let ends = self.begun.values().filter_map(|begun| {
            let steps = self.steps(*begun, now);
            (steps < STEPS).then(|| *begun + self.step * (steps + 1))
        });
        ends.min()
    }

    fn steps(&self, begun: Instant, now: Instant) -> u32 {
        let passed = now.saturating_duration_since(begun).as_nanos() / self.step.as_nanos();
        passed.min(STEPS.into()) as u32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Endpoint;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(port: usize) -> EndpointKey {
        let endpoint = Endpoint::new(format!("a:{port}").parse().unwrap());
        EndpointKey::of(&endpoint)
    }

    fn start() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn shares(ramps: &Ramps, ports: &[usize], now: Instant) -> Option<Vec<f64>> {
        let keys: Vec<_> = ports.iter().map(|port| key(*port)).collect();
        ramps.shares(&keys, now)
    }

    /// The share of one that began at `start`, beside one that is done.
    fn share(ramps: &mut Ramps, port: usize, now: Instant) -> f64 {
        let done = key(99);
        ramps.begun.insert(done.clone(), now - 1_000 * SECOND);
        let shares = ramps.shares([&key(port), &done], now);
        shares.map_or(1.0, |shares| shares[0])
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_with_what_was_expected() {
        let all = SlowStart::default();
        all.check().unwrap();
        for (settings, message) in [
            (
                SlowStart {
                    window: Duration::ZERO,
                    ..all
                },
                "slow start window: 0ns (expected: more than zero)",
            ),
            (
                SlowStart {
                    aggression: 0.0,
                    ..all
                },
                "slow start aggression: 0.0 (expected: more than 0)",
            ),
            (
                SlowStart {
                    min_share: f64::NAN,
                    ..all
                },
                "slow start min share: NaN (expected: from 0 to 1)",
            ),
        ] {
            assert_eq!(settings.check().unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn the_share_grows_in_ten_steps() {
        let (mut ramps, start) = (Ramps::new(SlowStart::default()), start());
        ramps.ready(&key(1), start);
        let seconds = [0, 2, 3, 6, 8, 9, 15, 29, 30, 300];
        let shares = seconds.map(|at| share(&mut ramps, 1, start + at * SECOND));
        assert_eq!(shares, [0.1, 0.1, 0.1, 0.2, 0.2, 0.3, 0.5, 0.9, 1.0, 1.0]);
    }

    #[test]
    fn aggression_gives_more_at_the_beginning() {
        let half_way = |aggression| {
            let settings = SlowStart {
                aggression,
                min_share: 0.0,
                ..SlowStart::default()
            };
            settings.share(5)
        };
        assert_eq!([0.5, 1.0].map(half_way), [0.25, 0.5]);
        assert!((half_way(2.0) - 0.5f64.sqrt()).abs() < 1e-9);
    }

    #[test]
    fn it_begins_anew_after_a_failure_and_not_after_a_lost_connection() {
        let (mut ramps, start) = (Ramps::new(SlowStart::default()), start());
        ramps.ready(&key(1), start);
        // Lost and READY again, or shown in another snapshot.
        let later = start + 15 * SECOND;
        ramps.ready(&key(1), later);
        assert_eq!(share(&mut ramps, 1, later), 0.5);
        ramps.failed(&key(1));
        let back = start + 100 * SECOND;
        ramps.ready(&key(1), back);
        assert_eq!(share(&mut ramps, 1, back), 0.1);
        assert_eq!(share(&mut ramps, 1, back + 30 * SECOND), 1.0);
    }

    #[test]
    fn those_that_are_all_new_are_alike() {
        let (mut ramps, start) = (Ramps::new(SlowStart::default()), start());
        let moment = SECOND / 10;
        for port in 1..=20 {
            ramps.ready(&key(port), start + moment * port as u32);
        }
        let all: Vec<_> = (1..=20).collect();
        for second in 0..40 {
            assert_eq!(shares(&ramps, &all, start + second * SECOND), None);
        }
        // One that comes when they are half way is not.
        let later = start + moment + 15 * SECOND;
        ramps.ready(&key(21), later);
        assert_eq!(
            shares(&ramps, &[1, 21, 2], later),
            Some(vec![0.5, 0.1, 0.5])
        );
        // Alone it has all there is.
        assert_eq!(shares(&ramps, &[21], later), None);
        assert_eq!(shares(&ramps, &[], later), None);
    }

    #[test]
    fn it_tells_when_the_next_step_is_until_there_is_none() {
        let (mut ramps, start) = (Ramps::new(SlowStart::default()), start());
        assert_eq!(ramps.next(start), None);
        ramps.ready(&key(1), start);
        let second = start + 10 * SECOND;
        ramps.ready(&key(2), second);
        let (mut now, mut steps) = (start, Vec::new());
        while let Some(next) = ramps.next(now) {
            steps.push((next - start).as_secs());
            now = next;
        }
        let of_both = [
            3, 6, 9, 12, 13, 15, 16, 18, 19, 21, 22, 24, 25, 27, 28, 30, 31, 34, 37, 40,
        ];
        assert_eq!(steps, of_both);
        ramps.ready(&key(3), now);
        ramps.failed(&key(3));
        assert_eq!(ramps.next(now), None);
    }

    #[test]
    fn windows_that_no_clock_can_tell_do_no_harm() {
        for window in [Duration::MAX, Duration::from_nanos(1)] {
            let settings = SlowStart {
                window,
                ..SlowStart::default()
            };
            let (mut ramps, start) = (Ramps::new(settings), start());
            ramps.ready(&key(1), start);
            assert!(ramps.next(start).is_some_and(|next| next > start));
            assert_eq!(ramps.next(start + NEVER), None);
        }
    }

    proptest! {
        #[test]
        fn shares_only_grow_and_are_whole_after_the_window(
            window in 1u64..100_000,
            (aggression, min_share) in (0.01f64..100.0, 0.0f64..=1.0),
            begins in prop::collection::vec(0u64..200_000, 1..10),
        ) {
            let window = Duration::from_millis(window);
            let mut ramps = Ramps::new(SlowStart { window, aggression, min_share });
            let start = start();
            let mut last = start;
            let mut begins = begins;
            begins.sort();
            for (begin, port) in begins.iter().zip(1..) {
                last = start + Duration::from_millis(*begin);
                ramps.ready(&key(port), last);
            }
            let ports: Vec<_> = (1..=begins.len()).collect();
            let (mut now, mut before) = (last, vec![0.0; ports.len()]);
            loop {
                if let Some(shares) = shares(&ramps, &ports, now) {
                    let grows = before.iter().zip(&shares).all(|(before, after)| before <= after);
                    prop_assert!(grows, "{:?} {:?}", before, shares);
                    prop_assert!(shares.iter().all(|it| (min_share..=1.0).contains(it)));
                    before = shares;
                }
                let Some(next) = ramps.next(now) else {
                    break;
                };
                prop_assert!(next > now);
                now = next;
            }
            prop_assert!(now <= last + window);
            prop_assert_eq!(shares(&ramps, &ports, now), None);
            for port in ports {
                prop_assert_eq!(share(&mut ramps, port, now), 1.0);
            }
        }
    }
}
