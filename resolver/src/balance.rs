//! How one of several endpoints is chosen for a call.
//!
//! A picker is an immutable snapshot of what may be called, with whatever its policy counts.
//! Picking takes no lock and waits for nothing.

mod round_robin;
mod weighted;

pub(crate) use round_robin::RoundRobin;
#[allow(unused_imports, reason = "the balancer does not use it yet")]
pub(crate) use weighted::Weighted;
