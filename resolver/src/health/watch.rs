//! Decides what a server's health service means, and when it is asked again.
//!
//! ```text
//!              answered                 broke, and was good for a while: asked again at once
//!   ┌──> Asked ────────> Answering ──────────────────────────────────────────────┐
//!   │      │ ^               │ broke soon, or says too much                      │
//!   │      │ └───────────────┼───────────────────────────────────────────────────┘
//!   │      │ broke, or no    v
//!   │      │ answer      BackingOff
//!   │      └──────────────>  │ Elapsed
//!   └────────────────────────┘
//!
//!   Answering, and not healthy ── Elapsed: asked anew ──> Asked
//!   any of these ── Unimplemented ──> Over
//! ```
//!
//! - A server is trusted while its watch stands and SERVING was the last answer. One that breaks off
//!   says nothing any more.
//! - The wait grows with each watch in a row that brings no answer, and starts over with one that does
//!   (A17), unless it brings too many: otherwise a server that floods would be asked for more each
//!   second.
//! - A watch that is good for as long as the first backoff is opened again at once: proxies and servers
//!   end long streams. One that is not is waited for, or a server that answers and breaks off would be
//!   asked in a hot loop.
//! - One that is not healthy is asked anew now and then. No calls go there, and where nothing is sent,
//!   nobody finds out that a host is gone.
//! - Only what changes is told. Of changes and of answers there may be so many in a second: more, and
//!   the watch is ended and counts as broken.
//!
//! Reads no clock and calls nobody: `watching.rs` does, as told.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tonic_health::pb::health_check_response::ServingStatus;

use crate::Backoff;

/// How often a server's health may change within [`SECOND`]. More, and all who look at the channel
/// would be kept busy; fewer, and one that starts its parts one by one is blamed for it.
const MOST_CHANGES: u32 = 10;

/// How many answers there may be within [`SECOND`]: to read more costs time, and nobody who means it
/// says so much.
const MOST_ANSWERS: u32 = 1000;

const SECOND: Duration = Duration::from_secs(1);

/// How long a server that is not healthy may say nothing until it is asked anew. Shorter, and all of them
/// are asked all the time; longer, and one that is back on a new host is missed for as long.
const SILENCE: Duration = Duration::from_secs(30);

/// The watch on one server's health, over one connection.
#[derive(Debug)]
pub(super) struct Watch {
    service: Arc<str>,
    answer_timeout: Duration,
    backoff: Backoff,
    state: State,
    /// How many watches in a row were no good.
    failures: u32,
    /// What was told last.
    told: Option<Verdict>,
}

/// The states in the order they are lived through.
#[derive(Debug, Clone, Copy)]
enum State {
    Asked {
        at: Instant,
    },
    Answering {
        asked: Instant,
        /// When the last answer came.
        heard: Instant,
        pace: Pace,
    },
    BackingOff {
        until: Instant,
    },
    Over,
}

/// How much a server says.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// When the second began that is looked at.
    since: Instant,
    answers: u32,
    changes: u32,
}

/// What has happened to a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// The server has said so: a `ServingStatus`, or what should have been one.
    Answered(i32),
    /// It has ended the stream in good order.
    Ended,
    /// The stream broke, with this.
    Broken(String),
    /// The server has no health service.
    Unimplemented,
    /// The time is over that [`Step`] gave.
    Elapsed,
}

/// What the performer must do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Open a stream, and wait for its first answer until then.
    Ask {
        until: Instant,
    },
    /// Wait for its next answer, until then if there is such a time.
    Listen {
        until: Option<Instant>,
    },
    /// Wait until then, without a stream.
    WaitUntil(Instant),
    End,
}

/// What a server's health is, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Healthy,
    /// It counts as healthy, since it cannot be watched over this connection.
    Unwatched(Illness),
    /// It was healthy, and is asked again now.
    Unknown(Illness),
    Unhealthy(Illness),
}

/// Why a server is not known to be healthy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("health of {}: {symptom}", named(.service))]
pub(crate) struct Illness {
    service: Arc<str>,
    symptom: Symptom,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Symptom {
    #[error("{} (expected: SERVING)", .0.as_str_name())]
    Says(ServingStatus),
    #[error("status {0} (expected: 0 to 3)")]
    NoStatus(i32),
    #[error("no answer within {0:?}")]
    Silence(Duration),
    #[error("its watch ended (expected: to stay open)")]
    Ended,
    #[error("its watch broke: {0}")]
    Broken(String),
    #[error("more than {MOST_CHANGES} changes within {SECOND:?} (expected: fewer)")]
    Flaps,
    #[error(
        "more than {MOST_ANSWERS} answers within {SECOND:?} (expected: one each time it changes)"
    )]
    Floods,
    #[error("not watched: the server allows one stream at a time (expected: two or more)")]
    NoRoom,
}

fn named(service: &str) -> String {
    match service {
        "" => "the server".to_owned(),
        service => format!("service {service:?}"),
    }
}

impl Verdict {
    /// Returns what is to be shown of it.
    pub(crate) fn illness(&self) -> Option<&Illness> {
        match self {
            Self::Healthy => None,
            Self::Unwatched(illness) | Self::Unknown(illness) | Self::Unhealthy(illness) => {
                Some(illness)
            }
        }
    }
}

impl Watch {
    /// Makes a watch that begins `now`.
    pub(super) fn new(
        service: Arc<str>,
        answer_timeout: Duration,
        backoff: Backoff,
        now: Instant,
    ) -> Self {
        Self {
            service,
            answer_timeout,
            backoff,
            state: State::Asked { at: now },
            failures: 0,
            told: None,
        }
    }

    /// Returns what to do until something happens.
    pub(super) fn step(&self) -> Step {
        match self.state {
            State::Asked { at } => Step::Ask {
                until: at + self.answer_timeout,
            },
            State::Answering { heard, .. } => Step::Listen {
                until: (self.told != Some(Verdict::Healthy)).then(|| heard + SILENCE),
            },
            State::BackingOff { until } => Step::WaitUntil(until),
            State::Over => Step::End,
        }
    }

    /// Takes in what has happened, and returns what is to be told of it, if that is anything new.
    pub(super) fn handle(
        &mut self,
        event: Event,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Option<Verdict> {
        let verdict = match (self.state, event) {
            (State::Asked { at }, Event::Answered(status)) => {
                let pace = Pace::new(now);
                self.answered(status, at, pace, now, rng)
            }
            (State::Answering { asked, pace, .. }, Event::Answered(status)) => {
                self.answered(status, asked, pace, now, rng)
            }
            (State::Asked { .. } | State::Answering { .. }, Event::Unimplemented) => {
                self.state = State::Over;
                Verdict::Healthy
            }
            (_, Event::Ended) => self.broke(Symptom::Ended, now, rng)?,
            (_, Event::Broken(how)) => self.broke(Symptom::Broken(how), now, rng)?,
            (State::Asked { .. }, Event::Elapsed) => {
                self.broke(Symptom::Silence(self.answer_timeout), now, rng)?
            }
            (State::Answering { .. }, Event::Elapsed) => {
                self.failures = 0;
                self.state = State::Asked { at: now };
                return None;
            }
            (State::BackingOff { .. }, Event::Elapsed) => {
                self.state = State::Asked { at: now };
                return None;
            }
            _ => return None,
        };
        self.is_new(&verdict).then(|| {
            self.told = Some(verdict.clone());
            verdict
        })
    }

    /// What is told of a server that is not watched since there is no stream for that.
    pub(super) fn no_room(&self) -> Verdict {
        Verdict::Unwatched(self.illness(Symptom::NoRoom))
    }

    fn answered(
        &mut self,
        status: i32,
        asked: Instant,
        mut pace: Pace,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Verdict {
        let verdict = match ServingStatus::try_from(status) {
            Ok(ServingStatus::Serving) => Verdict::Healthy,
            Ok(other) => Verdict::Unhealthy(self.illness(Symptom::Says(other))),
            Err(_) => Verdict::Unhealthy(self.illness(Symptom::NoStatus(status))),
        };
        match pace.note(self.is_new(&verdict), now) {
            Ok(()) => {
                let heard = now;
                self.state = State::Answering { asked, heard, pace };
                verdict
            }
            Err(symptom) => {
                if self.was_good(asked, now) {
                    self.failures = 0;
                }
                self.back_off(symptom, now, rng)
            }
        }
    }

    /// Takes in that the stream is over; `None` if there was none.
    fn broke(
        &mut self,
        symptom: Symptom,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Option<Verdict> {
        match self.state {
            State::BackingOff { .. } | State::Over => return None,
            State::Asked { .. } => {}
            State::Answering { asked, .. } => {
                self.failures = 0;
                if self.was_good(asked, now) {
                    self.state = State::Asked { at: now };
                    let illness = self.illness(symptom);
                    return Some(match self.told {
                        Some(Verdict::Healthy) => Verdict::Unknown(illness),
                        _ => Verdict::Unhealthy(illness),
                    });
                }
            }
        }
        Some(self.back_off(symptom, now, rng))
    }

    fn back_off(&mut self, symptom: Symptom, now: Instant, rng: &mut fastrand::Rng) -> Verdict {
        self.failures = self.failures.saturating_add(1);
        let until = now + self.backoff.delay(self.failures, rng.f64());
        self.state = State::BackingOff { until };
        Verdict::Unhealthy(self.illness(symptom))
    }

    /// Returns whether a watch that has brought answers did so for long enough.
    fn was_good(&self, asked: Instant, now: Instant) -> bool {
        now.saturating_duration_since(asked) >= self.backoff.base
    }

    fn is_new(&self, verdict: &Verdict) -> bool {
        self.told.as_ref() != Some(verdict)
    }

    fn illness(&self, symptom: Symptom) -> Illness {
        let service = self.service.clone();
        Illness { service, symptom }
    }
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            answers: 0,
            changes: 0,
        }
    }

    /// Takes in an answer.
    ///
    /// # Errors
    ///
    /// If it is one too many.
    fn note(&mut self, is_change: bool, now: Instant) -> Result<(), Symptom> {
        if now.saturating_duration_since(self.since) >= SECOND {
            *self = Self::new(now);
        }
        self.answers += 1;
        self.changes += u32::from(is_change);
        match () {
            () if self.changes > MOST_CHANGES => Err(Symptom::Flaps),
            () if self.answers > MOST_ANSWERS => Err(Symptom::Floods),
            () => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
