//! Which endpoints are left out although they are connected: those whose calls fail.
//!
//! ```text
//!   calls ── how they ended ──> Tally, one an endpoint ── read ──> Outliers: who is ejected, who is back
//!     │                           │                                  │
//!     └── picked ── admit? ───────┴── gate: open, closed, trials <───┘
//! ```
//!
//! What is here are the settings.

mod comparison;
mod judge;
mod outliers;
mod tally;
mod witness;

use std::time::Duration;

use crate::{Backoff, BuildError};

pub(crate) use self::{
    judge::Judge,
    outliers::Change,
    tally::{Admission, Verdict},
    witness::Witness,
};
use self::{
    outliers::Outliers,
    tally::{Look, Tally},
};

/// When an endpoint is left out because its calls fail, and for how long: gRPC's outlier detection
/// (A50), and for what that cannot judge, fewer than five endpoints or few calls, a breaker.
///
/// An ejected endpoint keeps its connection. When its time is over it gets one call on trial: if that
/// succeeds it is back, and if not it is ejected again, for longer. One that has no answer within
/// `base_time` does not keep others away: the next one may try, too, and the first to end decides. If all endpoints that are connected
/// are ejected, they are called all the same.
///
/// ```
/// use std::time::Duration;
/// use switchboard_resolver::{Breaker, Ejection};
///
/// let ejection = Ejection {
///     max_share: 0.3,
///     breaker: Some(Breaker { consecutive_failures: 3, ..Breaker::default() }),
///     ..Ejection::default()
/// };
/// assert_eq!(ejection.interval, Duration::from_secs(10));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ejection {
    /// How long calls are counted before endpoints are compared; 10 s, and 100 ms at least. In a shorter one few endpoints
    /// have calls enough to be judged; in a longer one a bad server fails calls for longer.
    pub interval: Duration,
    /// How long an endpoint is ejected for the first time, when it compares badly; as much longer as
    /// it was ejected times before, less one for each interval that went well since. 30 s. Shorter
    /// ones send calls on trial, which may fail, to a bad server more often.
    pub base_time: Duration,
    /// The longest time that this comes to; 300 s. Without it a server that was bad for an hour
    /// would be missed for hours once it is well.
    pub max_time: Duration,
    /// The largest share of endpoints that is ejected at a time, from 0 to 1; 0.1. One may always be,
    /// unless it is 0. Without it, calls that fail everywhere, for the fault of what all servers
    /// depend on, would leave a few servers with the load of all. What an endpoint is ejected for
    /// does not matter, except where [`Breaker::small_fleet`] says so.
    pub max_share: f64,
    /// Ejects who is worse than the others; unless `None`.
    pub success_rate: Option<SuccessRate>,
    /// Ejects who is bad, however the others are; unless `None`.
    pub failure_rate: Option<FailureRate>,
    /// Ejects who fails many calls in a row while neither of the others can judge; unless `None`.
    pub breaker: Option<Breaker>,
    /// The status codes that tell of a bad server.
    pub failure_codes: FailureCodes,
}

/// Compares the shares of calls that succeed (A50's success rate ejection).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SuccessRate {
    /// How many standard deviations below the mean is an outlier; 1.9. With fewer, the worst of many
    /// good servers is one; of five endpoints no single one can be further than 2 below.
    pub deviations: f64,
    /// How far below the mean it has to be in any case, as a share of calls; 0.05. Without it, a
    /// single failed call among a hundred ejects a server when the others had none: any difference is
    /// large where deviations are small. (A50 has no such number: 0 is as it has it.)
    pub margin: f64,
    /// How many endpoints must have had `min_calls`; 5. The mean of fewer is moved too far by the
    /// outlier itself.
    pub min_endpoints: usize,
    /// How many calls an endpoint must have had in an interval to be compared; 100. With fewer,
    /// chance makes outliers.
    pub min_calls: u64,
}

/// Looks at each endpoint's share of calls that fail (A50's failure percentage ejection).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FailureRate {
    /// The share of calls, from 0 to 1, of which more must not fail; 0.85. A lower one ejects servers
    /// that are as good as all the others when what all depend on fails.
    pub threshold: f64,
    /// How many endpoints must have had `min_calls`; 5. With fewer, each one ejected leaves the others
    /// much more to do, and the breaker judges.
    pub min_endpoints: usize,
    /// How many calls an endpoint must have had in an interval to be judged; 50. With fewer, a few that
    /// fail together are most of them.
    pub min_calls: u64,
}

/// Ejects an endpoint that fails many calls in a row. In use while neither of the comparisons can
/// judge: in the last interval, too few endpoints had enough calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Breaker {
    /// How many calls in a row; 5. Fewer, and some that a server failed by chance eject it; more, and
    /// as many more of its callers see it fail.
    pub consecutive_failures: u32,
    /// How long it is ejected: 5 s, twice as long each time after that, up to 200 s, and each half as
    /// long again or half as short by chance. Without growth, a server that stays bad gets a call
    /// every 5 s, to fail; without jitter, clients that found it bad together try it together.
    pub times: Backoff,
    /// With fewer endpoints than this, all of them may be ejected: 5. If [`Ejection::max_share`] held
    /// for so few, the second of two bad ones would go on failing its share of calls. (Those that are
    /// all ejected are called nevertheless.)
    pub small_fleet: usize,
}

/// The status codes of gRPC that tell of a bad server.
///
/// By default those by which servers and what is between say that they failed: UNKNOWN (2),
/// DEADLINE_EXCEEDED (4), INTERNAL (13), UNAVAILABLE (14) and DATA_LOSS (15). All others are an
/// answer: a caller that asks for what is not there must not eject the server that says so. (A50 counts
/// everything but OK as failed.)
///
/// ```
/// use switchboard_resolver::FailureCodes;
///
/// let codes = FailureCodes::default();
/// assert!(codes.contains(14) && !codes.contains(5));
/// assert!(FailureCodes::new([8, 14]).contains(8));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureCodes(u32);

const UNKNOWN: i32 = 2;
const DEADLINE_EXCEEDED: i32 = 4;
const INTERNAL: i32 = 13;
const UNAVAILABLE: i32 = 14;
const DATA_LOSS: i32 = 15;
/// The last code there is, UNAUTHENTICATED.
const LAST: i32 = 16;

impl FailureCodes {
    /// Makes the set of these codes. 0, which is OK, never tells of a bad server and is left out.
    pub fn new(codes: impl IntoIterator<Item = i32>) -> Self {
        let bits = codes.into_iter().filter(|code| *code != 0).map(bit);
        Self(bits.fold(0, |all, bit| all | bit))
    }

    /// Returns whether a call that ended with this code tells of a bad server. A code that gRPC does
    /// not have counts as UNKNOWN.
    pub fn contains(&self, code: i32) -> bool {
        self.0 & bit(code) != 0
    }

    /// Returns what the end of a call with this code says of its server.
    pub(crate) fn verdict(&self, code: i32) -> Verdict {
        match self.contains(code) {
            true => Verdict::Failure,
            false => Verdict::Success,
        }
    }
}

fn bit(code: i32) -> u32 {
    match code {
        0..=LAST => 1 << code,
        _ => 1 << UNKNOWN,
    }
}

impl Default for FailureCodes {
    /// UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE and DATA_LOSS.
    fn default() -> Self {
        let faults = [UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS];
        Self::new(faults)
    }
}

impl Default for Ejection {
    /// A50's numbers, and the breaker.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            base_time: Duration::from_secs(30),
            max_time: Duration::from_secs(300),
            max_share: 0.1,
            success_rate: Some(SuccessRate::default()),
            failure_rate: Some(FailureRate::default()),
            breaker: Some(Breaker::default()),
            failure_codes: FailureCodes::default(),
        }
    }
}

impl Default for SuccessRate {
    /// 1.9 deviations and 0.05 below the mean, of five endpoints with 100 calls at least.
    fn default() -> Self {
        Self {
            deviations: 1.9,
            margin: 0.05,
            min_endpoints: 5,
            min_calls: 100,
        }
    }
}

impl Default for FailureRate {
    /// More than 0.85, where five endpoints had 50 calls at least.
    fn default() -> Self {
        Self {
            threshold: 0.85,
            min_endpoints: 5,
            min_calls: 50,
        }
    }
}

impl Default for Breaker {
    /// Five failures in a row, for 5 s to 300 s; fewer than five endpoints may all be ejected.
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            times: Backoff {
                base: Duration::from_secs(5),
                factor: 2.0,
                // With the jitter, 300 s at most.
                cap: Duration::from_secs(200),
                jitter: 0.5,
            },
            small_fleet: 5,
        }
    }
}

const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

impl Ejection {
    /// Refuses what makes no sense.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let (check, positive) = (BuildError::check, BuildError::check_positive);
        let share = BuildError::check_share;
        let at_least_one = |setting, count: u64| check(count > 0, setting, &count, "1 or more");
        // A shorter one, such as 1 ns, would keep the balancer busy with looking.
        let is_interval = self.interval >= SHORTEST_INTERVAL;
        let expected = "100 ms or more";
        check(is_interval, "ejection interval", &self.interval, expected)?;
        positive("ejection base time", self.base_time)?;
        let is_longest = self.max_time >= self.base_time;
        check(
            is_longest,
            "ejection max time",
            &self.max_time,
            "the base time or more",
        )?;
        share("ejection max share", self.max_share)?;
        if let Some(rate) = &self.success_rate {
            let deviations = rate.deviations;
            let is_distance = deviations.is_finite() && deviations >= 0.0;
            check(
                is_distance,
                "success rate deviations",
                &deviations,
                "0 or more",
            )?;
            share("success rate margin", rate.margin)?;
            at_least_one("success rate min endpoints", rate.min_endpoints as u64)?;
            at_least_one("success rate min calls", rate.min_calls)?;
        }
        if let Some(rate) = &self.failure_rate {
            share("failure rate threshold", rate.threshold)?;
            at_least_one("failure rate min endpoints", rate.min_endpoints as u64)?;
            at_least_one("failure rate min calls", rate.min_calls)?;
        }
        if let Some(breaker) = &self.breaker {
            let failures = breaker.consecutive_failures;
            at_least_one("breaker consecutive failures", failures.into())?;
            let Backoff {
                base,
                factor,
                cap,
                jitter,
            } = breaker.times;
            positive("breaker base time", base)?;
            let grows = factor.is_finite() && factor >= 1.0;
            check(grows, "breaker factor", &factor, "1 or more")?;
            check(cap >= base, "breaker cap", &cap, "the base time or more")?;
            share("breaker jitter", jitter)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
