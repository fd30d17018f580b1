//! What its calls put on an endpoint, and how it answers them.
//!
//! Kept for as long as the channel knows the endpoint, so that a policy does not begin anew with each
//! picker, nor with each connection. Calls write here and pickers read, without a lock: of two calls that
//! end at the same moment one may be counted for a little more than the other.
//!
//! Reads no clock.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// What its calls put on an endpoint, and how it answers them, for [`Policy`](crate::Policy)s that look at
/// it: those of other policies are not measured.
#[derive(Debug, Default)]
pub struct Load {
    in_flight: AtomicUsize,
    /// What the times below are counted from, in nanoseconds: when it was first called.
    epoch: OnceLock<Instant>,
    /// When it was last called, and one more; 0 if it never was.
    called: AtomicU64,
    /// The latency, in nanoseconds; 0 if it has never answered.
    latency: AtomicU64,
    /// When that was last told.
    answered: AtomicU64,
    /// The bits of the share of calls that fail: at first none.
    failing: AtomicU64,
    /// When a call last ended with success or failure.
    ended: AtomicU64,
}

/// A call that counts as its endpoint's load until it is dropped.
#[derive(Debug)]
pub(crate) struct Burden {
    load: Arc<Load>,
    /// When it was sent, for as long as it is not answered.
    unanswered: Option<u64>,
}

/// How long it takes until an answer has lost about two thirds of its weight among latencies, which is about
/// kratos' number. With less, a single call is most of what is known; with more, a server that stood still for
/// a moment is avoided long after.
const LATENCY_DECAY: Duration = Duration::from_secs(1);

/// The same for success: go-zero's number. With less, a server that fails some of its calls counts as a good
/// one in between.
const SUCCESS_DECAY: Duration = Duration::from_secs(10);

/// The least weight of one call among those whose success is counted. Without it, a server that begins to
/// fail all calls at once would count as a good one for as long as a part of `SUCCESS_DECAY`, while the speed of
/// its failures attracts more of them.
const LEAST_WEIGHT: f64 = 0.01;

impl Load {
    /// Returns how many calls are in flight, over all connections of the endpoint. A stream is in flight
    /// until its end.
    pub fn calls_in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    /// Returns how long it takes to answer, of late; `None` before it has.
    ///
    /// It is the time to the headers of the response, not to its end: how long a stream goes on is its
    /// caller's choice. It is a mean in which what was a second ago has lost about two thirds of its
    /// weight: a single slow answer among many counts little, and not for long, and a server that has become
    /// slow is known within a fraction of a second. A call that fails counts if it took longer, and not if it was fast.
    pub fn latency(&self) -> Option<Duration> {
        let nanos = self.latency.load(Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// Returns the share of calls that succeed, of late, from 0 to 1: of those within some 10 s, or of the
    /// last hundred if that were more; 1 before any has ended.
    ///
    /// What counts as a failure is what [`FailureCodes`](crate::FailureCodes) has by default, and a lost
    /// connection. A call that its caller gives up counts as neither.
    pub fn success_rate(&self) -> f64 {
        1.0 - self.failing()
    }

    /// Returns when it was last called; `None` if it never was.
    pub fn last_call(&self) -> Option<Instant> {
        let since = self.called.load(Relaxed).checked_sub(1)?;
        Some(*self.epoch.get()? + Duration::from_nanos(since))
    }

    /// Returns the share of calls that fail.
    pub(crate) fn failing(&self) -> f64 {
        f64::from_bits(self.failing.load(Relaxed))
    }

    fn since_epoch(&self, now: Instant) -> u64 {
        let epoch = self.epoch.get_or_init(|| now);
        let since = now.saturating_duration_since(*epoch).as_nanos();
        // Centuries.
        u64::try_from(since).unwrap_or(u64::MAX)
    }

    /// Takes in that it has answered after so long.
    fn took(&self, latency: u64, now: u64) {
        let before = self.answered.swap(now, Relaxed);
        let known = self.latency.load(Relaxed);
        let next = match known {
            0 => latency,
            known => {
                let weight = weight(now.saturating_sub(before), LATENCY_DECAY);
                (known as f64 + weight * (latency as f64 - known as f64)) as u64
            }
        };
        self.latency.store(next.max(1), Relaxed);
    }

    /// Takes in that a call has failed after so long.
    fn failed_after(&self, latency: u64, now: u64) {
        let known = self.latency.load(Relaxed);
        if known > 0 && latency > known {
            self.took(latency, now);
        }
    }

    /// Takes in how a call ended.
    fn ended(&self, is_success: bool, now: u64) {
        let before = self.ended.swap(now, Relaxed);
        // Most calls succeed where all others did.
        if is_success && self.failing.load(Relaxed) == 0 {
            return;
        }
        let weight = weight(now.saturating_sub(before), SUCCESS_DECAY).max(LEAST_WEIGHT);
        let with_this = |bits| {
            let failing = f64::from_bits(bits);
            let this = if is_success { 0.0 } else { 1.0 };
            Some((failing + weight * (this - failing)).to_bits())
        };
        // It always has something to write.
        let _ = self.failing.fetch_update(Relaxed, Relaxed, with_this);
    }
}

/// Returns how much of what is known something counts for that comes so many nanoseconds after the last.
fn weight(elapsed: u64, decay: Duration) -> f64 {
    -(-(elapsed as f64) / decay.as_nanos() as f64).exp_m1()
}

impl Burden {
    /// Puts a call on an endpoint that is sent now.
    pub(crate) fn new(load: Arc<Load>, now: Instant) -> Self {
        let sent = load.since_epoch(now);
        load.in_flight.fetch_add(1, Relaxed);
        load.called.store(sent.saturating_add(1), Relaxed);
        Self {
            load,
            unanswered: Some(sent),
        }
    }

    /// Takes in that its response has begun.
    pub(crate) fn answered(&mut self, now: Instant) {
        if let Some(sent) = self.unanswered.take() {
            let now = self.load.since_epoch(now);
            self.load.took(now.saturating_sub(sent), now);
        }
    }

    /// Takes in how it ended. One that is dropped instead says nothing of its server.
    pub(crate) fn ended(mut self, is_success: bool, now: Instant) {
        let now = self.load.since_epoch(now);
        if let Some(sent) = self.unanswered.take() {
            let latency = now.saturating_sub(sent);
            match is_success {
                true => self.load.took(latency, now),
                false => self.load.failed_after(latency, now),
            }
        }
        self.load.ended(is_success, now);
    }
}

impl Drop for Burden {
    fn drop(&mut self) {
        self.load.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests;
