//! How one of several endpoints is chosen for a call.
//!
//! A [`Policy`] makes a [`Picker`] whenever the endpoints that may be called change. The picker is
//! immutable but for what it counts, and is asked by each call: it takes no lock and waits for nothing.
//! What has to outlast it, such as how fast an endpoint answers, is in the endpoint's [`Load`].

mod call_info;
mod candidate;
mod contained;
mod least_request;
pub(crate) mod named;
mod p2c_ewma;
mod ring_hash;
mod rival;
mod round_robin;
#[cfg(test)]
mod simulation;
mod weight;
mod weighted;
mod weighted_round_robin;

use std::fmt;

use crate::ServiceConfigError;

pub use self::{
    call_info::CallInfo, candidate::Candidate, least_request::LeastRequest, p2c_ewma::P2cEwma,
    ring_hash::RingHash, round_robin::RoundRobin, weighted_round_robin::WeightedRoundRobin,
};
pub(crate) use self::{call_info::Headers, contained::Contained, weighted::Weighted};

/// A load-balancing policy: which endpoint a call goes to, of those that may be called.
///
/// A channel has one ([`ChannelBuilder::policy`](crate::ChannelBuilder::policy)); unless set, it is
/// [`RoundRobin`].
pub trait Policy: fmt::Debug + Send + Sync + 'static {
    /// Returns what it is called, as in a configuration: `round_robin`.
    fn name(&self) -> &str;

    /// Refuses settings that make no sense: a channel is not made with them.
    ///
    /// # Errors
    ///
    /// Says what was given and what is expected.
    fn check(&self) -> Result<(), ServiceConfigError> {
        Ok(())
    }

    /// Makes a picker for endpoints that may be called, at least one, in the order of their addresses.
    ///
    /// It is called whenever they change, once for each group that calls are shared between
    /// ([`Split`](crate::Split), [`ZonePreference`](crate::ZonePreference)), on the task that all of a channel's
    /// changes pass through; and by the first call of a [`Filter`](crate::Filter), for those that match. `seed`
    /// is a random number, another one each time: pickers that all began with the first endpoint would
    /// send the first calls of all clients there, since all hear of a change together.
    ///
    /// # Panics
    ///
    /// One that panics is not asked again: the channel goes on with [`RoundRobin`], and goes on to panic when
    /// it is closed. (A [`Picker`] panics into the call that asks it.)
    fn picker(&self, candidates: &[Candidate], seed: u64) -> Box<dyn Picker>;

    /// Returns whether its pickers look at [`Candidate::load`]. Calls are not measured for policies that
    /// do not.
    fn reads_load(&self) -> bool {
        false
    }

    /// Returns whether its pickers offer the same endpoints to each call, in whatever order. Those that wait are
    /// woken one by one then, in their turn. Of a policy that does not say so, all are woken each time that an
    /// endpoint can take one more: the first of them might not be offered it, and the others would go on to
    /// wait for what is free.
    fn offers_all(&self) -> bool {
        false
    }
}

/// Chooses one of some endpoints for each call; made by a [`Policy`].
pub trait Picker: fmt::Debug + Send + Sync + 'static {
    /// Offers endpoints to `take`, by their index among the candidates, in the order in which the policy
    /// prefers them for this call, until `take` returns `true`: the call goes there.
    ///
    /// It returns `false` for one that cannot take this call: its connection was just lost, it has as many
    /// calls in flight as it allows, or the call has failed there before. A call that is taken by none
    /// waits until something changes, and asks again.
    ///
    /// # Errors
    ///
    /// The call lacks what the policy needs, and fails with that.
    fn pick(
        &self,
        call: &CallInfo<'_>,
        take: &mut dyn FnMut(usize) -> bool,
    ) -> Result<(), PickError>;
}

/// Why a policy does not choose an endpoint for a call. The call fails with INTERNAL, and this as its
/// message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {given} (expected: {expected})")]
pub struct PickError {
    what: String,
    given: String,
    expected: String,
}

impl PickError {
    /// Makes an error that says what it is about, what was given, and what is expected.
    pub fn new(
        what: impl Into<String>,
        given: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self {
            what: what.into(),
            given: given.into(),
            expected: expected.into(),
        }
    }
}
