//! Of two that are drawn, the one that answers sooner: by how long it takes, times how many calls wait.

use std::time::{Duration, Instant};

use super::{
    CallInfo, Candidate, PickError, Picker, Policy,
    rival::{self, Rival},
};
use crate::chance::{Chance, Draw};

/// Of two endpoints that are drawn by lot, the one that answers sooner: by its latency of late
/// ([`Load::latency`](crate::Load::latency)), times its calls in flight. go-zero's policy unless another is
/// set, and much like kratos'.
///
/// It is the right one where servers differ in how fast they are, and that changes: it sees a slow server by
/// its answers, where [`LeastRequest`](crate::LeastRequest) sees it by what waits there. It is the wrong one
/// where calls wait on purpose, such as for news: how long that takes is not how fast a server is. A stream
/// counts up to its response's headers.
///
/// - As in go-zero, two are drawn up to three times until both are healthy: more than half of their calls
///   succeed, of late.
/// - Two of whom neither takes twice as long as the other are compared by their calls in flight alone. Else a
///   difference of some microseconds would make one the winner of nearly all: go-zero takes the root of the
///   latency against that, with which one that is ten times as slow still gets some calls of a hundred.
/// - As there, one that loses is called nevertheless if it has not been for a second, and for longer than the
///   other: else it would never be known that it is fast again. With less than a call a second for each
///   endpoint, that makes it nearly a round robin.
/// - Other than there, a server that fails fast attracts nobody: its failures do not count as fast answers,
///   and one that fails more than the other by five calls of a hundred wins by chance alone, so that it gets
///   its share and no more. [`Ejection`](crate::Ejection) leaves it out altogether.
/// - Two of whom one has never answered are compared by their calls in flight. One that starts slowly
///   ([`SlowStart`](crate::SlowStart)) counts as slower, by as much as its share is smaller.
///
/// ```
/// use switchboard_resolver::{Channel, P2cEwma};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let channel = Channel::balance(["10.0.0.1:50051", "10.0.0.2:50051"])?
///     .policy(P2cEwma)
///     .connect_lazy()?;
/// # channel.close().await;
/// # Ok(()) }
/// ```
///
/// By name it is `p2c_ewma`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct P2cEwma;

impl Policy for P2cEwma {
    fn name(&self) -> &str {
        "p2c_ewma"
    }

    fn picker(&self, candidates: &[Candidate], seed: u64) -> Box<dyn Picker> {
        Box::new(Soonest {
            rivals: Rival::all(candidates),
            chance: Chance::new(seed),
        })
    }

    fn reads_load(&self) -> bool {
        true
    }

    fn offers_all(&self) -> bool {
        true
    }
}

/// Draws two, and prefers the one that answers sooner.
#[derive(Debug)]
struct Soonest {
    rivals: Box<[Rival]>,
    chance: Chance,
}

/// How often two are drawn until both are healthy: go-zero's number. With more, none of the unhealthy ones
/// would ever be called, and known to be well again.
const DRAWS: usize = 3;

/// Of whose calls this share fails, that one is unhealthy: go-zero's number.
const UNHEALTHY: f64 = 0.5;

/// After so long without a call one is called although it lost: go-zero's number. With less, slow servers get
/// more calls; with more, one that has become fast gets none for longer.
const FORCED_AFTER: Duration = Duration::from_secs(1);

/// Those that differ by less are as fast as each other. With less, chance would decide who is the faster one;
/// with more, one that is as much slower would get its whole share.
const ALIKE: u32 = 2;

/// What takes less is as fast.
const FASTEST: Duration = Duration::from_micros(1);

impl Soonest {
    /// Draws two that are not the same.
    fn pair(&self, draw: &mut Draw) -> (usize, usize) {
        let count = self.rivals.len();
        let (one, other) = (draw.below(count), draw.below(count - 1));
        (one, if other >= one { other + 1 } else { other })
    }

    /// Draws two that are healthy, if it finds them soon.
    fn healthy_pair(&self, draw: &mut Draw) -> (usize, usize) {
        let is_healthy = |index: usize| self.rivals[index].load().failing() < UNHEALTHY;
        let mut pair = self.pair(draw);
        for _ in 1..DRAWS {
            if is_healthy(pair.0) && is_healthy(pair.1) {
                break;
            }
            pair = self.pair(draw);
        }
        pair
    }

    /// Returns the one that is called, and the other one.
    fn ordered(&self, (one, other): (usize, usize), now: Instant, draw: &mut Draw) -> [usize; 2] {
        let rivals = [one, other].map(|index| &self.rivals[index]);
        let latencies = rivals.map(|it| it.load().latency());
        let factors = match latencies {
            [Some(one), Some(other)] if one >= ALIKE * other || other >= ALIKE * one => {
                [one, other].map(|it| it.max(FASTEST).as_secs_f64())
            }
            // They are alike, or how slow they are is not known.
            _ => [1.0, 1.0],
        };
        let one = rivals[0].standing(one, rivals[0].calls() * factors[0]);
        let other = rivals[1].standing(other, rivals[1].calls() * factors[1]);
        let (better, worse) = rival::compared(one, other, draw);
        match self.is_due(worse.index, better.index, now) {
            true => [worse.index, better.index],
            false => [better.index, worse.index],
        }
    }

    /// Returns whether one has to be called that has lost.
    fn is_due(&self, loser: usize, winner: usize, now: Instant) -> bool {
        let last_call = |index: usize| self.rivals[index].load().last_call();
        let Some(last) = last_call(loser) else {
            return true;
        };
        // The longer one, so that those who are all called rarely have turns.
        now.saturating_duration_since(last) > FORCED_AFTER
            && last_call(winner).is_some_and(|it| it > last)
    }
}

impl Picker for Soonest {
    fn pick(
        &self,
        call: &CallInfo<'_>,
        take: &mut dyn FnMut(usize) -> bool,
    ) -> Result<(), PickError> {
        let count = self.rivals.len();
        if count < 2 {
            (0..count).find(|index| take(*index));
            return Ok(());
        }
        let mut draw = self.chance.draw();
        let pair = self.healthy_pair(&mut draw);
        let ordered = self.ordered(pair, call.start(), &mut draw);
        if !ordered.into_iter().any(&mut *take) {
            rival::whoever(count, &mut draw, take);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
