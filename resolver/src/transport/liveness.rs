//! Decides whether the other end of a connection still lives.
//!
//! ```text
//!              silent, and pinged          the ping is not answered either
//!   Trusted ───────────────────> Asked ───────────────────────────> Suspect ──> Dead
//!      ^                           │                                   │  for too long
//!      └────── anything heard ─────┴───────────────────────────────────┘
//!
//!   any of these ── nothing of what we write is taken, for too long ──> Deaf
//! ```
//!
//! - It is *silent* once a call has had no sign of life for a while after it began, or nothing at all
//!   was heard for as long as a [`KeepAlive`] allows.
//! - One that speaks and never reads is *deaf*: pings say nothing of it, since they do not leave.
//!   Over TCP the kernel finds it, too, and over other byte streams nobody else.
//! - Pings are few: some servers, those in Go, close connections that ping more often than once in
//!   five minutes, and forgive two in between two answers to calls. So those that come sooner than
//!   that are counted, and there are at most two of them.
//! - A timer that fires late says nothing about the other end: it was this process that slept, and
//!   all silence is counted anew.
//!
//! Reads no clock and sends no ping: `connection.rs` does, as told.

use std::time::{Duration, Instant};

use super::KeepAlive;

/// The least silence that matters: less, and a busy server is taken for a dead one.
const LEAST_PATIENCE: Duration = Duration::from_millis(250);

/// How many round trips a server may take for an answer to a ping. Fewer, and one that is far away is
/// suspected; more, and a frozen one keeps its calls longer.
const ROUND_TRIPS: u32 = 4;

/// What round trip is believed at most: more, and a server that was slow for a while would be
/// trusted for long when it freezes.
const LONGEST_ROUND_TRIP: Duration = Duration::from_secs(1);

/// How many pings may come early, in between two answers to calls: grpc-go forgives two
/// (`maxPingStrikes`).
const EARLY_PINGS: u32 = 2;

/// How long a connection may be suspect before it is closed. Shorter, and a pause ends calls; longer,
/// and those without a deadline hang on a host that is gone.
const SUSPICION: Duration = Duration::from_secs(10);

/// How long a byte stream may take nothing of what is written. As the kernel has it for TCP
/// (`connector.rs`): shorter, and a pause ends calls; longer, and those without a deadline hang.
const DEAFNESS: Duration = Duration::from_secs(10);

/// How late a timer may fire: later, and this process itself did not run.
const LATE: Duration = Duration::from_millis(100);

/// How often a connection is pinged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pings {
    /// How far apart pings are that no server minds.
    pub(crate) min_interval: Duration,
    pub(crate) keep_alive: Option<KeepAlive>,
}

/// What is known of the other end.
#[derive(Debug)]
pub(super) struct Liveness {
    pings: Pings,
    state: State,
    /// When something was heard, as far as that was looked at.
    heard: Instant,
    /// Since when this process has run without a pause.
    awake: Instant,
    last_ping: Option<Instant>,
    early_pings: u32,
    round_trip: Duration,
    /// When it is to be looked again.
    due: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Trusted,
    Asked { at: Instant },
    Suspect { asked: Instant, since: Instant },
    Dead,
    Deaf,
}

/// What was seen since the last look.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// When something was read last.
    pub(super) heard: Option<Instant>,
    /// A call got an answer, or a part of one.
    pub(super) answered: bool,
    /// The answer to a ping was read.
    pub(super) pong: bool,
    pub(super) calls_in_flight: usize,
    /// When the first call began since something was read.
    pub(super) owed_since: Option<Instant>,
    /// Since when the byte stream has accepted nothing, although there is something to write.
    pub(super) held_since: Option<Instant>,
}

/// What to think of the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Trusted,
    Suspect,
    Dead,
    Deaf,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Advice {
    pub(super) health: Health,
    /// Send a ping.
    pub(super) ping: bool,
    /// Look again then, at the latest.
    pub(super) again: Option<Instant>,
}

impl Liveness {
    /// `round_trip` is how long it took the other end to answer for the first time.
    pub(super) fn new(pings: Pings, round_trip: Duration, now: Instant) -> Self {
        Self {
            pings,
            state: State::Trusted,
            heard: now,
            awake: now,
            last_ping: None,
            early_pings: 0,
            // The first answer may have had to wait for the server to start.
            round_trip: round_trip.min(LEAST_PATIENCE),
            due: None,
        }
    }

    /// Returns how long silence is nothing unusual.
    fn patience(&self) -> Duration {
        LEAST_PATIENCE.max(self.round_trip * ROUND_TRIPS)
    }

    /// Returns whether a ping is out that was not answered.
    pub(super) fn has_asked(&self) -> bool {
        self.state != State::Trusted
    }

    /// Takes in what was seen and says what to do.
    pub(super) fn look(&mut self, seen: Seen, now: Instant) -> Advice {
        let slept = self.due.is_some_and(|due| now > due + LATE);
        if seen.answered {
            self.early_pings = 0;
        }
        if let Some(at) = seen.heard {
            self.hear(at, seen.pong, now);
        }
        if slept {
            self.start_over(now);
        }
        let deaf_at = seen.held_since.map(|at| at.max(self.awake) + DEAFNESS);
        if deaf_at.is_some_and(|at| at <= now) && self.state != State::Dead {
            self.state = State::Deaf;
        }
        let (ping, again) = match self.state {
            State::Trusted => match self.next_ping(seen, slept, now) {
                Some(at) if at <= now => {
                    self.ping(now);
                    (true, Some(now + self.patience()))
                }
                next => (false, next),
            },
            State::Asked { at } | State::Suspect { asked: at, .. } => (false, self.judge(at, now)),
            State::Dead | State::Deaf => (false, None),
        };
        let again = match self.state {
            State::Dead | State::Deaf => None,
            _ => [again, deaf_at].into_iter().flatten().min(),
        };
        self.due = again;
        Advice {
            health: self.health(),
            ping,
            again,
        }
    }

    fn health(&self) -> Health {
        match self.state {
            State::Trusted | State::Asked { .. } => Health::Trusted,
            State::Suspect { .. } => Health::Suspect,
            State::Dead => Health::Dead,
            State::Deaf => Health::Deaf,
        }
    }

    fn hear(&mut self, heard: Instant, pong: bool, now: Instant) {
        self.heard = heard;
        match self.state {
            State::Asked { at } if pong => {
                self.round_trip = now.saturating_duration_since(at).min(LONGEST_ROUND_TRIP);
            }
            State::Suspect { asked, .. } if pong => {
                // One that stood still is not as far away as that: what it does next would be
                // waited for four times as long. One that is has proved it after a few pings.
                let longest = self.patience() / ROUND_TRIPS * 2;
                self.round_trip = now.saturating_duration_since(asked).min(longest);
            }
            State::Dead | State::Deaf => return,
            _ => {}
        }
        self.state = State::Trusted;
    }

    fn start_over(&mut self, now: Instant) {
        self.heard = now;
        self.awake = now;
        self.state = match self.state {
            State::Asked { .. } => State::Asked { at: now },
            State::Suspect { .. } => State::Suspect {
                asked: now,
                since: now,
            },
            state => state,
        };
    }

    /// When the next ping is to be sent, as far as that is known.
    fn next_ping(&self, seen: Seen, slept: bool, now: Instant) -> Option<Instant> {
        let free = self.last_ping.map(|at| at + self.pings.min_interval);
        // Nobody minds the first one.
        let is_forgiven = self.early_pings < EARLY_PINGS;
        let silent = seen.owed_since.map(|owed| {
            let since = if slept { now } else { owed };
            let at = since + self.patience();
            match free {
                Some(free) if !is_forgiven => at.max(free),
                _ => at,
            }
        });
        let in_flight = seen.calls_in_flight > 0;
        let slow = in_flight.then(|| {
            let since = self.last_ping.map_or(self.heard, |at| at.max(self.heard));
            since + self.pings.min_interval
        });
        let keep_alive = self
            .pings
            .keep_alive
            .filter(|it| in_flight || it.while_idle);
        let kept = keep_alive.map(|it| self.heard + it.interval);
        [silent, slow, kept].into_iter().flatten().min()
    }

    fn ping(&mut self, now: Instant) {
        let is_early = self
            .last_ping
            .is_some_and(|at| now < at + self.pings.min_interval);
        if is_early {
            self.early_pings += 1;
        }
        self.last_ping = Some(now);
        self.state = State::Asked { at: now };
    }

    /// Decides on a ping without an answer. Returns when to look again.
    fn judge(&mut self, asked: Instant, now: Instant) -> Option<Instant> {
        let suspect_at = asked + self.patience();
        if let State::Asked { .. } = self.state
            && now >= suspect_at
        {
            self.state = State::Suspect { asked, since: now };
        }
        let dead_at = match self.state {
            State::Suspect { since, .. } => Some(since + SUSPICION),
            _ => None,
        };
        let given_up_at = self.pings.keep_alive.map(|it| asked + it.timeout);
        let dead_at = [dead_at, given_up_at].into_iter().flatten().min();
        if dead_at.is_some_and(|at| at <= now) {
            self.state = State::Dead;
            return None;
        }
        let suspect_at = (self.health() == Health::Trusted).then_some(suspect_at);
        [suspect_at, dead_at].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
