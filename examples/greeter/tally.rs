//! What came of the calls, and whether that is well.
//!
//! Calls that were in flight on the server that is killed may fail. Every other failure counts
//! against us.

use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::script::{Incident, SERVERS};

/// A call that has ended.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// The server that it was sent to, if it was sent.
    pub(crate) server: Option<usize>,
    pub(crate) began: Instant,
    pub(crate) took: Duration,
    /// What happened meanwhile.
    pub(crate) during: Option<Incident>,
    pub(crate) failure: Option<Failure>,
}

/// Why a call failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) cause: String,
    /// Whether it had been sent when its connection broke.
    pub(crate) interrupted: bool,
}

/// What came of some calls.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) calls: u64,
    pub(crate) failed: u64,
    micros: Histogram<u64>,
}

impl Figures {
    fn new() -> Self {
        Self {
            calls: 0,
            failed: 0,
            micros: Histogram::new(3).expect("3 is a number of digits"),
        }
    }

    fn add(&mut self, call: &Call) {
        self.calls += 1;
        if call.failure.is_some() {
            self.failed += 1;
        } else {
            self.micros.saturating_record(call.took.as_micros() as u64);
        }
    }

    /// Returns how long the given part of the answered calls took at most.
    pub(crate) fn latency(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.micros.value_at_quantile(quantile))
    }
}

/// What an incident cost.
#[derive(Debug, Clone)]
pub(crate) struct Cost {
    pub(crate) figures: Figures,
    /// How long after its start the server was called again; `None` until it is.
    pub(crate) called_again: Option<Duration>,
}

/// The server that was killed.
#[derive(Debug)]
struct Killed {
    server: usize,
    /// When the channel knew, so that no later call is sent there.
    noticed: Option<Instant>,
}

/// What came of all calls.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) all: Figures,
    pub(crate) calm: Figures,
    pub(crate) servers: [Figures; SERVERS],
    costs: [Cost; Incident::ALL.len()],
    killed: Option<Killed>,
    /// Failures that the crash excuses.
    in_flight: u64,
    /// The first of the others.
    first: Option<String>,
}

/// Whether what came of the calls is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No call failed.
    NoneFailed,
    /// So many failed, all of them in flight on the server that was killed.
    InFlightOnly(u64),
    /// So many failed that should not have; for the first of them, why.
    Failed(u64, String),
}

impl Verdict {
    pub(crate) fn is_well(&self) -> bool {
        !matches!(self, Self::Failed(..))
    }
}

impl Tally {
    pub(crate) fn new() -> Self {
        let cost = || Cost {
            figures: Figures::new(),
            called_again: None,
        };
        Self {
            all: Figures::new(),
            calm: Figures::new(),
            servers: std::array::from_fn(|_| Figures::new()),
            costs: Incident::ALL.map(|_| cost()),
            killed: None,
            in_flight: 0,
            first: None,
        }
    }

    /// Notes that a server is killed.
    pub(crate) fn kill(&mut self, server: usize) {
        let noticed = None;
        self.killed = Some(Killed { server, noticed });
    }

    /// Notes that the channel knows.
    pub(crate) fn notice(&mut self, now: Instant) {
        if let Some(killed) = &mut self.killed {
            killed.noticed.get_or_insert(now);
        }
    }

    /// Notes that a server is called again.
    pub(crate) fn call_again(&mut self, incident: Incident, after: Duration) {
        self.costs[incident as usize].called_again = Some(after);
    }

    pub(crate) fn add(&mut self, call: &Call) {
        self.all.add(call);
        match call.during {
            Some(incident) => self.costs[incident as usize].figures.add(call),
            None => self.calm.add(call),
        }
        if let Some(server) = call.server {
            self.servers[server].add(call);
        }
        match &call.failure {
            None => {}
            Some(failure) if failure.interrupted && self.was_killed_under(call) => {
                self.in_flight += 1;
            }
            Some(failure) => {
                self.first.get_or_insert_with(|| failure.cause.clone());
            }
        }
    }

    pub(crate) fn cost(&self, incident: Incident) -> &Cost {
        &self.costs[incident as usize]
    }

    pub(crate) fn verdict(&self) -> Verdict {
        match (&self.first, self.in_flight) {
            (Some(first), excused) => Verdict::Failed(self.all.failed - excused, first.clone()),
            (None, 0) => Verdict::NoneFailed,
            (None, excused) => Verdict::InFlightOnly(excused),
        }
    }

    fn was_killed_under(&self, call: &Call) -> bool {
        self.killed.as_ref().is_some_and(|killed| {
            call.server == Some(killed.server)
                && killed.noticed.is_none_or(|noticed| call.began < noticed)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(server: usize, began: Instant, failure: Option<Failure>) -> Call {
        Call {
            server: Some(server),
            began,
            took: Duration::from_millis(1),
            during: None,
            failure,
        }
    }

    fn interrupted() -> Option<Failure> {
        Some(Failure {
            cause: "connection reset".to_owned(),
            interrupted: true,
        })
    }

    fn failed(number: u64) -> Verdict {
        Verdict::Failed(number, "connection reset".to_owned())
    }

    #[test]
    fn calls_that_are_answered_are_well() {
        let mut tally = Tally::new();
        tally.add(&call(0, Instant::now(), None));
        assert_eq!(tally.verdict(), Verdict::NoneFailed);
        assert!(tally.verdict().is_well());
    }

    #[test]
    fn a_call_in_flight_on_the_killed_server_may_fail() {
        let now = Instant::now();
        let mut tally = Tally::new();
        tally.kill(1);
        tally.add(&call(1, now, interrupted()));
        assert_eq!(tally.verdict(), Verdict::InFlightOnly(1));
        assert!(tally.verdict().is_well());
    }

    #[test]
    fn no_other_call_may_fail() {
        let now = Instant::now();
        let mut tally = Tally::new();
        tally.add(&call(1, now, interrupted()));
        assert_eq!(tally.verdict(), failed(1), "before it was killed");
        tally.kill(1);
        tally.add(&call(0, now, interrupted()));
        assert_eq!(tally.verdict(), failed(2), "on another server");
        let unsent = interrupted().map(|failure| Failure {
            interrupted: false,
            ..failure
        });
        tally.add(&call(1, now, unsent));
        assert_eq!(tally.verdict(), failed(3), "not in flight");
        tally.notice(now);
        tally.notice(now + Duration::from_secs(1));
        tally.add(&call(1, now, interrupted()));
        assert_eq!(tally.verdict(), failed(4), "sent when it was known");
        let earlier = now - Duration::from_millis(1);
        tally.add(&call(1, earlier, interrupted()));
        assert_eq!(tally.verdict(), failed(4), "that one is excused");
        assert!(!tally.verdict().is_well());
    }

    #[test]
    fn an_incident_is_charged_for_the_calls_of_its_time() {
        let now = Instant::now();
        let mut tally = Tally::new();
        tally.add(&call(0, now, None));
        let during = Some(Incident::Crash);
        tally.add(&Call {
            during,
            ..call(0, now, None)
        });
        tally.add(&Call {
            during,
            ..call(2, now, interrupted())
        });
        let charged = |figures: &Figures| (figures.calls, figures.failed);
        assert_eq!(charged(&tally.cost(Incident::Crash).figures), (2, 1));
        assert_eq!(charged(&tally.cost(Incident::Restart).figures), (0, 0));
        assert_eq!(charged(&tally.calm), (1, 0));
        assert_eq!(charged(&tally.servers[0]), (2, 0));
    }
}
