//! What this process has had of the processors.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time that this process has had, of all processors.
pub(crate) fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
