//! Sources of endpoints that need no registry: a fixed list, DNS, a file, and one for want of
//! another.

mod dns;
mod file;
mod fixed;
mod or_else;
mod readings;
mod teller;

use std::time::Duration;

pub use self::{
    dns::{Dns, DnsError},
    file::{FileError, WatchedFile},
    fixed::Fixed,
    or_else::OrElse,
};
use crate::builder::NEVER;

/// Intervals within what a source can keep: shorter ones than 100 ms are a hot loop, and no clock
/// can tell when `Duration::MAX` is over.
fn within_reason(interval: Duration) -> Duration {
    const SHORTEST: Duration = Duration::from_millis(100);
    interval.clamp(SHORTEST, NEVER)
}
