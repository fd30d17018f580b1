//! How one of several endpoints is chosen for a call.
//!
//! A picker is an immutable snapshot of what may be called, with whatever its policy counts.
//! Picking takes no lock and waits for nothing.

mod round_robin;
mod weighted;

pub(crate) use self::{round_robin::RoundRobin, weighted::Weighted};

/// Chooses one of its targets for each call.
#[derive(Debug)]
pub(crate) enum Picker<T> {
    /// All are alike.
    RoundRobin(RoundRobin<T>),
    /// With the share of its turns that each takes, from 0 to 1.
    Weighted(Weighted<T>, Vec<f64>),
}

impl<T> Picker<T> {
    /// Makes a picker whose turns start at `start`, which may be any number. Without shares all are alike.
    pub(crate) fn new(targets: Vec<T>, shares: Option<Vec<f64>>, start: usize) -> Self {
        match shares {
            None => Self::RoundRobin(RoundRobin::new(targets, start)),
            Some(shares) => {
                let weighed = targets.into_iter().zip(shares.iter().copied());
                Self::Weighted(Weighted::new(weighed, start), shares)
            }
        }
    }

    /// Tries targets, from the next in turn on, until one can be taken.
    pub(crate) fn pick<'a, P>(&'a self, take: impl Fn(&'a T) -> Option<P>) -> Option<P> {
        match self {
            Self::RoundRobin(picker) => picker.pick(take),
            Self::Weighted(picker, _) => picker.pick(take),
        }
    }

    /// Returns all targets.
    pub(crate) fn targets(&self) -> &[T] {
        match self {
            Self::RoundRobin(picker) => picker.targets(),
            Self::Weighted(picker, _) => picker.targets(),
        }
    }

    /// Returns the shares, unless all targets are alike.
    pub(crate) fn shares(&self) -> Option<&[f64]> {
        match self {
            Self::RoundRobin(_) => None,
            Self::Weighted(_, shares) => Some(shares),
        }
    }
}
