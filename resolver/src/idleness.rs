//! Decides when a channel that nobody calls lets its connections go.
//!
//! A few times in the idle time it asks whether there were calls, so that a call only has to note that
//! it was there. The time is met, and outlasted by half of it at most.
//!
//! Reads no clock: `balancer.rs` does, and asks.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

/// How many times in the idle time it asks for calls: more, and an idle channel wakes often; fewer,
/// and it outlasts its time further.
const LOOKS: u32 = 4;

/// Whether a channel is called.
#[derive(Debug)]
pub(crate) struct Idleness {
    /// How far apart looks are.
    interval: Duration,
    /// How many looks in a row found no calls.
    uncalled: u32,
    /// `None` while the channel is idle.
    next: Option<Instant>,
}

impl Idleness {
    /// `timeout` is how long a channel is kept connected that is not called.
    pub(crate) fn new(timeout: Duration, now: Instant) -> Self {
        let interval = timeout / LOOKS;
        Self {
            interval,
            uncalled: 0,
            next: Some(now + interval),
        }
    }

    /// Returns when to look next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Takes in whether there were calls since the last look, or are some, and returns whether the
    /// channel is idle from now on.
    pub(crate) fn look(&mut self, is_called: bool, now: Instant) -> bool {
        self.uncalled = if is_called { 0 } else { self.uncalled + 1 };
        // The last call may have ended right after the look before the first of these.
        let is_idle = self.uncalled > LOOKS;
        self.next = match is_idle {
            true => None,
            false => Some(now + self.interval),
        };
        is_idle
    }

    /// Takes in that the idle channel is called.
    pub(crate) fn wake(&mut self, now: Instant) {
        self.uncalled = 0;
        self.next = Some(now + self.interval);
    }
}

/// What calls tell of themselves.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    is_called: AtomicBool,
    woken: Notify,
}

impl Activity {
    /// Notes that there is a call. What all calls read is written only if it has to be.
    pub(crate) fn note(&self) {
        if !self.is_called.load(Relaxed) {
            self.is_called.store(true, Relaxed);
        }
    }

    /// Returns whether there were calls since this was last asked.
    pub(crate) fn was_called(&self) -> bool {
        self.is_called.swap(false, Relaxed)
    }

    /// Says that a call waits for the idle channel.
    pub(crate) fn wake(&self) {
        self.woken.notify_one();
    }

    /// Waits for that.
    pub(crate) async fn woken(&self) {
        self.woken.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_idle_time_is_met_and_outlasted_by_half_at_most(
            (timeout, calls) in (4u64..4_000).prop_flat_map(|timeout| {
                // When calls end, in milliseconds after one another: never a whole idle time apart.
                (Just(timeout), prop::collection::vec(0..timeout, 0..20))
            }),
        ) {
            let start = tokio::time::Instant::now().into_std();
            let timeout = Duration::from_millis(timeout);
            let mut idleness = Idleness::new(timeout, start);
            let mut ends: Vec<Instant> = Vec::new();
            for after in calls {
                let last = ends.last().copied().unwrap_or(start);
                ends.push(last + Duration::from_millis(after));
            }
            let last = ends.last().copied().unwrap_or(start);
            let mut before = start;
            let idle_at = loop {
                let now = idleness.next().expect("not idle yet");
                let is_called = ends.iter().any(|end| before < *end && *end <= now);
                if idleness.look(is_called, now) {
                    break now;
                }
                before = now;
            };
            prop_assert!(idle_at >= last + timeout);
            prop_assert!(idle_at <= last + timeout * 3 / 2);
            prop_assert_eq!(idleness.next(), None);
            idleness.wake(idle_at);
            prop_assert!(idleness.next().is_some());
        }
    }
}
