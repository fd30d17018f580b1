//! Of some that are drawn, the one with the fewest calls in flight.

use super::{
    CallInfo, Candidate, PickError, Picker, Policy,
    rival::{self, Rival, Standing},
};
use crate::{
    ServiceConfigError,
    chance::{Chance, Draw},
};

/// Of some endpoints that are drawn by lot, the one with the fewest calls in flight (gRPC's A48).
///
/// It is the right one where calls differ in what they cost, or servers in how fast they are: a slow one has
/// more calls in flight, and so gets fewer. It looks at what this channel has in flight, not at what others
/// have, over all connections and for as long as the endpoint is known.
///
/// A server that fails its calls fast has few in flight, too. One that fails more of them than the other, by
/// five of a hundred, is not called for having fewer in flight, but by chance: it gets its share and no more.
/// ([`Ejection`](crate::Ejection) leaves it out altogether.) One that starts slowly
/// ([`SlowStart`](crate::SlowStart)) counts as busier, by as much as its share is smaller.
///
/// ```
/// use switchboard_resolver::{Channel, LeastRequest};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let channel = Channel::balance(["10.0.0.1:50051", "10.0.0.2:50051"])?
///     .policy(LeastRequest::default())
///     .connect_lazy()?;
/// # channel.close().await;
///
/// let builder = Channel::balance(["10.0.0.1:50051"])?.policy(LeastRequest { choices: 1 });
/// let error = builder.connect_lazy().unwrap_err();
/// assert_eq!(error.to_string(), "choiceCount: 1 (expected: from 2 to 10)");
/// # Ok(()) }
/// ```
///
/// By name it is `least_request`, or gRPC's `least_request_experimental`, with `{ "choiceCount": 2 }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeastRequest {
    /// How many are drawn, from 2 to 10; the same one may be drawn twice. 2: with one it would be chance
    /// alone, and with many all clients would find the same one idle, and overwhelm it together.
    pub choices: usize,
}

impl Default for LeastRequest {
    /// The better one of two.
    fn default() -> Self {
        Self { choices: 2 }
    }
}

impl Policy for LeastRequest {
    fn name(&self) -> &str {
        "least_request"
    }

    fn check(&self) -> Result<(), ServiceConfigError> {
        match self.choices {
            2..=10 => Ok(()),
            choices => Err(ServiceConfigError::value(
                "choiceCount",
                choices,
                "from 2 to 10",
            )),
        }
    }

    fn picker(&self, candidates: &[Candidate], seed: u64) -> Box<dyn Picker> {
        Box::new(Fewest {
            rivals: Rival::all(candidates),
            choices: self.choices,
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

/// Draws some, and prefers the one with the fewest calls in flight.
#[derive(Debug)]
struct Fewest {
    rivals: Box<[Rival]>,
    choices: usize,
    chance: Chance,
}

/// How often it is drawn again if the one that was drawn cannot be taken, before all are tried: who comes
/// after those would otherwise get all of their calls.
const DRAWS: usize = 3;

impl Fewest {
    fn drawn(&self, draw: &mut Draw) -> Standing {
        let index = draw.below(self.rivals.len());
        let rival = &self.rivals[index];
        rival.standing(index, rival.calls())
    }
}

impl Picker for Fewest {
    fn pick(&self, _: &CallInfo<'_>, take: &mut dyn FnMut(usize) -> bool) -> Result<(), PickError> {
        let count = self.rivals.len();
        if count == 0 {
            return Ok(());
        }
        let mut draw = self.chance.draw();
        for _ in 0..DRAWS {
            let mut best = self.drawn(&mut draw);
            for _ in 1..self.choices {
                let other = self.drawn(&mut draw);
                (best, _) = rival::compared(best, other, &mut draw);
            }
            if take(best.index) {
                return Ok(());
            }
        }
        rival::whoever(count, &mut draw, take);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
