//! Which of two endpoints is the better one for a call.
//!
//! It is the one whose calls cost less. But a server that fails its calls is rid of them fast, and looks as
//! though it had nothing to do: were it called for that, it would fail the calls of all others, too. So
//! **who fails more than the other is not called for costing less**: then it is chance which one is, by
//! their shares. However fast it fails, it gets its share and no more; and if it costs more, less.
//!
//! If all fail alike, none is preferred nor avoided for it.

use std::sync::Arc;

use super::Candidate;
use crate::{Load, chance::Draw};

/// What a picker knows of an endpoint.
#[derive(Debug)]
pub(super) struct Rival {
    share: f64,
    load: Arc<Load>,
}

/// One of two that are compared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) index: usize,
    pub(super) cost: f64,
    /// The share of its calls that fail.
    pub(super) failing: f64,
    /// The share of calls that it is to get, as in [`Candidate::share`].
    pub(super) share: f64,
}

/// How much more than the other one a server has to fail, as a share of calls, to be no longer called for
/// costing less. Without it, the one call in thousands that fails anywhere would decide who is called. One
/// that fails less than this attracts about as much more than its share.
const MARGIN: f64 = 0.05;

impl Rival {
    pub(super) fn all(candidates: &[Candidate]) -> Box<[Self]> {
        let rival = |it: &Candidate| Self {
            share: it.share(),
            load: it.load().clone(),
        };
        candidates.iter().map(rival).collect()
    }

    pub(super) fn load(&self) -> &Load {
        &self.load
    }

    /// Returns how many calls it would have in flight with one more, of those that are in flight if it had
    /// all of its share.
    pub(super) fn calls(&self) -> f64 {
        (self.load.calls_in_flight() as f64 + 1.0) / self.share
    }

    /// Returns how it stands in a comparison by this cost.
    pub(super) fn standing(&self, index: usize, cost: f64) -> Standing {
        Standing {
            index,
            cost,
            failing: self.load.failing(),
            share: self.share,
        }
    }
}

/// Returns the better one, and the other one. Of two that cost the same the first is better.
pub(super) fn compared(one: Standing, other: Standing, draw: &mut Draw) -> (Standing, Standing) {
    let (cheap, dear) = match other.cost < one.cost {
        true => (other, one),
        false => (one, other),
    };
    let fails_more = cheap.failing > dear.failing + MARGIN;
    match fails_more && !draw.happens(cheap.share / (cheap.share + dear.share)) {
        true => (dear, cheap),
        false => (cheap, dear),
    }
}

/// Tries all there are, from anywhere on: what comes after those that a policy prefers.
pub(super) fn whoever(count: usize, draw: &mut Draw, take: &mut dyn FnMut(usize) -> bool) {
    let start = draw.below(count);
    let mut all = (0..count).map(|skipped| (start + skipped) % count);
    all.find(|index| take(*index));
}
