//! Decides what becomes of the connection to one endpoint.
//!
//! ```text
//!                      Connected                 Lost
//!   ┌──> Connecting ──────────────> Ready ──────────────────┐
//!   │        │                        ^   │ before it proved │
//!   │        │ DialFailed             │   │ its worth        │
//!   │        v          Connected     │   v                  │
//!   │   BackingOff <───> Redialing ───┘  BackingOff          │
//!   │            Elapsed, ResetBackoff: dial                 │
//!   │            DialFailed: wait longer                     │
//!   └────────────────────────────────────────────────────────┘
//!
//!   while Ready:  Silent ──> Suspect ── Heard ──> Ready
//!   where health is watched, Connected leads to what was, Connecting or Failing, and from there:
//!                 Unhealthy ──> Unhealthy ── Healthy ──> Ready ── HealthUnknown ──> Connecting
//!
//!   any of these ── Rest ──> Idle ── Wake: dial ──> Connecting
//!
//!   any of these ── Removed ──> Draining ── Drained ──> Gone
//!   Ready, Suspect ── Lost while not listed ──> Draining
//! ```
//!
//! - A connection that is lost is redialed at once: servers restart, and most are back.
//! - An endpoint that failed stays *failing* while it is redialed, until it is READY (gRPC's sticky
//!   TRANSIENT_FAILURE, A62): calls fail fast meanwhile instead of waiting for each attempt.
//! - Whether a connection is silent and what the server says of its health are two facts, of which
//!   neither changes the other. One that is not healthy, or not known to be, is not READY, and stays
//!   connected; lost, it is failing until it is READY again.
//! - A connection proves its worth by answering a call or by living as long as the first backoff.
//!   Losing one that did neither counts as a failed attempt, and the second in a row is backed off
//!   from; otherwise a server that accepts and hangs up would be dialed in a hot loop.
//! - The connection to an endpoint that is not listed any more is kept, and never replaced.
//! - The wait grows with each failure in a row and starts over once a connection has proved its
//!   worth.
//!
//! Never dials, sleeps or reads a clock: `endpoint_task.rs` does, as told.

use std::time::Instant;

use crate::{Backoff, state::Condition};

/// The state of one endpoint's connection.
#[derive(Debug)]
pub(crate) struct Subchannel {
    lifecycle: Lifecycle,
    backoff: Backoff,
    /// How many attempts failed since a connection last proved its worth.
    failures: u32,
    /// The endpoint is listed: a connection that is lost is replaced.
    is_listed: bool,
}

/// The states in the order they are lived through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lifecycle {
    Connecting,
    BackingOff,
    Redialing,
    Connected(Link),
    Idle,
    Draining,
    Gone,
}

/// What is known of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link {
    since: Instant,
    voice: Voice,
    health: Health,
}

/// Whether anything is heard on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Voice {
    Heard,
    Silent,
}

/// What the server says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    /// Nothing yet, or not any more; `has_failed` tells whether calls fail meanwhile, or wait.
    Unknown {
        has_failed: bool,
    },
    /// That it serves, or it is not asked.
    Healthy,
    Unhealthy,
}

/// What has happened to a subchannel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The dial succeeded: the server has spoken HTTP/2. If its health is watched, that is still to be
    /// known.
    Connected { is_watched: bool },
    /// The dial failed.
    DialFailed,
    /// Nothing is heard on the connection, although there should be.
    Silent,
    /// There is again.
    Heard,
    /// The server says that it serves, or cannot say.
    Healthy,
    /// It says otherwise, or nothing that makes sense.
    Unhealthy,
    /// What it said does not count any more, and it is asked again.
    HealthUnknown,
    /// The connection takes no more calls; `answered` tells whether it ever answered one.
    Lost { answered: bool },
    /// The wait is over.
    Elapsed,
    /// Somebody knows that the network is back.
    ResetBackoff,
    /// The channel is not called any more.
    Rest,
    /// It is called again.
    Wake,
    /// The endpoint is not listed any more, and its connection is kept.
    Vanished,
    /// It is listed again.
    Listed,
    /// The endpoint is no longer wanted.
    Removed,
    /// The last stream on its connections has ended.
    Drained,
}

/// What the performer must do next, in place of what it was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Dial,
    WaitUntil(Instant),
    Serve,
    Rest,
    Drain,
    End,
}

impl Subchannel {
    /// Makes a subchannel that is being dialed.
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self {
            lifecycle: Lifecycle::Connecting,
            backoff,
            failures: 0,
            is_listed: true,
        }
    }

    /// Makes one that is not dialed before it is woken.
    pub(crate) fn idle(backoff: Backoff) -> Self {
        Self {
            lifecycle: Lifecycle::Idle,
            ..Self::new(backoff)
        }
    }

    /// Returns the state as pickers see it.
    pub(crate) fn condition(&self) -> Condition {
        match self.lifecycle {
            Lifecycle::Connecting => Condition::Connecting,
            Lifecycle::BackingOff | Lifecycle::Redialing => Condition::Failing,
            Lifecycle::Connected(link) => link.condition(),
            Lifecycle::Idle => Condition::Idle,
            Lifecycle::Draining | Lifecycle::Gone => Condition::Draining,
        }
    }

    /// Takes in what has happened and says what to do next; `None` is to carry on.
    pub(crate) fn handle(
        &mut self,
        event: Event,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Option<Step> {
        use Lifecycle::*;
        let (lifecycle, step) = match (self.lifecycle, event) {
            (Connecting | Redialing, Event::Connected { is_watched }) => {
                let has_failed = self.lifecycle == Redialing;
                let link = Link {
                    since: now,
                    voice: Voice::Heard,
                    health: match is_watched {
                        true => Health::Unknown { has_failed },
                        false => Health::Healthy,
                    },
                };
                (Connected(link), Step::Serve)
            }
            (Connecting | Redialing, Event::DialFailed) => self.back_off(now, rng),
            (Draining | Gone, Event::Vanished | Event::Listed) => return None,
            (_, Event::Listed) => {
                self.is_listed = true;
                return None;
            }
            (Connected(_), Event::Vanished) => {
                self.is_listed = false;
                return None;
            }
            // Nothing is there to be kept.
            (_, Event::Vanished) => (Draining, Step::Drain),
            (Connected(_), Event::Lost { .. } | Event::Rest) if !self.is_listed => {
                (Draining, Step::Drain)
            }
            (Connected(link), Event::Lost { answered }) => {
                let since = link.since;
                let is_worth_it = answered || now.duration_since(since) >= self.backoff.base;
                let redialed = match link.has_failed() {
                    true => Redialing,
                    false => Connecting,
                };
                match (is_worth_it, self.failures) {
                    (true, _) => {
                        self.failures = 0;
                        (redialed, Step::Dial)
                    }
                    // A server may restart at any time, also right after we connected.
                    (false, 0) => {
                        self.failures = 1;
                        (redialed, Step::Dial)
                    }
                    (false, _) => self.back_off(now, rng),
                }
            }
            (
                Connected(link),
                Event::Silent
                | Event::Heard
                | Event::Healthy
                | Event::Unhealthy
                | Event::HealthUnknown,
            ) => (Connected(link.changed(event)?), Step::Serve),
            (BackingOff, Event::Elapsed) => (Redialing, Step::Dial),
            (BackingOff, Event::ResetBackoff) => {
                self.failures = 0;
                (Redialing, Step::Dial)
            }
            (Idle, Event::Wake) => (Connecting, Step::Dial),
            (Idle | Draining | Gone, Event::Rest) => return None,
            (_, Event::Rest) => {
                self.failures = 0;
                (Idle, Step::Rest)
            }
            (Draining | Gone, Event::Removed) => return None,
            (_, Event::Removed) => (Draining, Step::Drain),
            (Draining, Event::Drained) => (Gone, Step::End),
            _ => return None,
        };
        self.lifecycle = lifecycle;
        Some(step)
    }

    fn back_off(&mut self, now: Instant, rng: &mut fastrand::Rng) -> (Lifecycle, Step) {
        self.failures = self.failures.saturating_add(1);
        let until = now + self.backoff.delay(self.failures, rng.f64());
        (Lifecycle::BackingOff, Step::WaitUntil(until))
    }
}

impl Link {
    fn condition(&self) -> Condition {
        match (self.health, self.voice) {
            (Health::Unknown { has_failed: false }, _) => Condition::Connecting,
            (Health::Unknown { has_failed: true }, _) => Condition::Failing,
            (Health::Unhealthy, _) => Condition::Unhealthy,
            (Health::Healthy, Voice::Heard) => Condition::Ready,
            (Health::Healthy, Voice::Silent) => Condition::Suspect,
        }
    }

    /// Returns whether calls would fail while this is all there is.
    fn has_failed(&self) -> bool {
        match self.health {
            Health::Unknown { has_failed } => has_failed,
            Health::Unhealthy => true,
            Health::Healthy => false,
        }
    }

    /// Returns what is known after an event that ends nothing.
    fn changed(self, event: Event) -> Option<Self> {
        let (mut voice, mut health) = (self.voice, self.health);
        match (event, voice) {
            (Event::Silent, Voice::Heard) => voice = Voice::Silent,
            (Event::Heard, Voice::Silent) => voice = Voice::Heard,
            (Event::Healthy, _) => health = Health::Healthy,
            (Event::Unhealthy, _) => health = Health::Unhealthy,
            // One that is not healthy stays so until it says otherwise.
            (Event::HealthUnknown, _) if health == Health::Healthy => {
                health = Health::Unknown { has_failed: false };
            }
            _ => return None,
        }
        Some(Self {
            voice,
            health,
            ..self
        })
    }
}

#[cfg(test)]
mod tests;
