//! Decides which endpoints are ejected, and when they are back.
//!
//! ```text
//!   Admitted ── compares badly, or failed many in a row ──> Ejected ── its time is over ──> OnTrial
//!      ^                                                     ^  │                           │  │
//!      │                                                     └──┼──── one call failed ──────┘  │
//!      └──────────────── a call on trial succeeded <────────────┴──────────────────────────────┘
//! ```
//!
//! - Endpoints are compared once an interval, as gRPC's A50 has it. A row of failures ejects too, while
//!   too few endpoints had calls enough to be compared: the breaker.
//! - No endpoint is ejected if that made them more than the largest share. One that is out already and
//!   fails its trial is not one more.
//! - A call on trial may take hours, as a stream does that has nothing to say yet, or never end. After as
//!   long as a first ejection lasts another one may try, and whichever ends first decides.
//! - While none that is admitted can be called, those that are ejected are, each call on trial: they
//!   answer or do not, and nobody else would.
//! - A new connection may be one to a new server. So a row ends with the connection, and an ejection
//!   lasts no longer than a first one then. It does not end at once: servers end connections by age,
//!   too, and one that hangs up whenever it fails would never be out.
//! - An endpoint that leaves is forgotten.
//!
//! Reads no clock and has no randomness of its own: `fleet.rs` has the one, `judge.rs` the other.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Breaker, Ejection,
    comparison::{Candidate, ROUNDING, Reason, by_failure_rate, by_success_rate},
    tally::{Counts, Gate, Tally},
};
use crate::{EndpointKey, builder::NEVER};

/// How all endpoints of a channel stand.
#[derive(Debug)]
pub(crate) struct Outliers {
    settings: Ejection,
    endpoints: BTreeMap<EndpointKey, Watched>,
    interval_ends: Instant,
    /// Whether enough endpoints had enough calls in the last interval.
    can_compare: bool,
}

#[derive(Debug)]
struct Watched {
    tally: Arc<Tally>,
    standing: Standing,
    /// How many times it was ejected, less one for each interval that went well since.
    times: u32,
    /// What was told of it when the interval began, or when it was readmitted.
    mark: Counts,
}

/// How an endpoint stands, in the order it is lived through.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Standing {
    /// It is called.
    Admitted,
    /// It is not called, unless nobody else can be.
    Ejected {
        /// When it was admitted last.
        since: Instant,
        /// When it would be over if it were the first.
        soonest: Instant,
        until: Instant,
        method: Method,
    },
    /// It gets one call, which decides.
    OnTrial {
        since: Instant,
        /// When another one may, if that has not ended.
        again: Instant,
        method: Method,
    },
}

/// What ejects, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Method {
    Comparison,
    Breaker(Breaker),
}

/// What has changed, for logs and pickers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    Ejected {
        endpoint: EndpointKey,
        reason: Reason,
        time: Duration,
        /// How many times it was, less one for each interval that went well since.
        times: u32,
    },
    /// Its time is over, or that of a call on trial which does not end.
    OnTrial { endpoint: EndpointKey },
    Readmitted {
        endpoint: EndpointKey,
        /// How long it was out.
        after: Duration,
    },
}

/// Which of the endpoints that can be called may be.
#[derive(Debug)]
pub(crate) struct Offer<T> {
    /// In the order given.
    pub(crate) targets: Vec<T>,
    /// Whether calls are let through that were not before, to one of the same endpoints as before: those
    /// who wait have to look again.
    pub(crate) is_wider: bool,
}

impl Outliers {
    pub(crate) fn new(settings: Ejection, now: Instant) -> Self {
        Self {
            settings,
            endpoints: BTreeMap::new(),
            interval_ends: later(now, settings.interval),
            can_compare: false,
        }
    }

    /// Takes in an endpoint, and returns what its calls write to. One that is known stays as it is.
    pub(crate) fn added(&mut self, endpoint: &EndpointKey, now: Instant) -> Arc<Tally> {
        if self.endpoints.is_empty() {
            self.interval_ends = later(now, self.settings.interval);
        }
        let long_row = self.settings.breaker.map(|it| it.consecutive_failures);
        let watched = self.endpoints.entry(endpoint.clone());
        let watched = watched.or_insert_with(|| Watched {
            tally: Arc::new(Tally::new(long_row)),
            standing: Standing::Admitted,
            times: 0,
            mark: Counts::default(),
        });
        watched.tally.clone()
    }

    /// Forgets an endpoint.
    pub(crate) fn removed(&mut self, endpoint: &EndpointKey) {
        self.endpoints.remove(endpoint);
    }

    /// Takes in that an endpoint has a new connection.
    pub(crate) fn reconnected(&mut self, endpoint: &EndpointKey) {
        let Some(watched) = self.endpoints.get_mut(endpoint) else {
            return;
        };
        watched.tally.end_row();
        if let Standing::Ejected { soonest, until, .. } = &mut watched.standing {
            *until = (*until).min(*soonest);
        }
    }

    #[cfg(test)]
    fn standing(&self, endpoint: &EndpointKey) -> Standing {
        match self.endpoints.get(endpoint) {
            Some(watched) => watched.standing,
            None => Standing::Admitted,
        }
    }

    /// Returns when to look next, if no call asks for it before.
    pub(crate) fn next(&self) -> Option<Instant> {
        let ends = self.endpoints.values().filter_map(|it| match it.standing {
            Standing::Ejected { until, .. } => Some(until),
            Standing::OnTrial { again, .. } => Some(again),
            Standing::Admitted => None,
        });
        let is_any = !self.endpoints.is_empty();
        ends.chain(is_any.then_some(self.interval_ends)).min()
    }

    /// Takes in what calls have told, and that time has passed. Calls go on as before until the
    /// endpoints are [offered](Self::offer) again.
    pub(crate) fn look(&mut self, now: Instant, rng: &mut fastrand::Rng) -> Vec<Change> {
        let mut changes = Vec::new();
        self.end_trials(now, rng, &mut changes);
        if now >= self.interval_ends {
            self.interval_ends = later(now, self.settings.interval);
            self.compare(now, rng, &mut changes);
        }
        self.break_rows(now, rng, &mut changes);
        changes
    }

    /// Opens and closes the gates of endpoints that can be called now, and returns those that may be.
    pub(crate) fn offer<T>(&self, ready: Vec<T>, key: impl Fn(&T) -> &EndpointKey) -> Offer<T> {
        let watched = |it: &T| self.endpoints.get(key(it));
        let watched: Vec<_> = ready.iter().map(watched).collect();
        let is_admitted =
            |it: &Option<&Watched>| it.is_none_or(|it| it.standing == Standing::Admitted);
        let has_admitted = watched.iter().any(is_admitted);
        let mut is_wider = false;
        let mut targets = Vec::with_capacity(ready.len());
        for (target, watched) in ready.into_iter().zip(watched) {
            let gate = match watched.map(|it| it.standing) {
                None | Some(Standing::Admitted) => Gate::Open,
                _ if !has_admitted => Gate::AnyTrial,
                Some(Standing::Ejected { .. }) => Gate::Closed,
                Some(Standing::OnTrial { .. }) => Gate::OneTrial,
            };
            is_wider |= watched.is_some_and(|it| it.tally.set(gate));
            if gate != Gate::Closed {
                targets.push(target);
            }
        }
        Offer { targets, is_wider }
    }

    /// Readmits those whose calls on trial succeeded, ejects those again whose calls failed, and puts
    /// those on trial whose time is over.
    fn end_trials(&mut self, now: Instant, rng: &mut fastrand::Rng, changes: &mut Vec<Change>) {
        let settings = self.settings;
        for (key, watched) in &mut self.endpoints {
            let endpoint = key.clone();
            match (watched.standing, watched.tally.outcome()) {
                (Standing::Ejected { since, .. } | Standing::OnTrial { since, .. }, Some(true)) => {
                    watched.readmit();
                    let after = now.saturating_duration_since(since);
                    changes.push(Change::Readmitted { endpoint, after });
                }
                (Standing::OnTrial { since, method, .. }, Some(false)) => {
                    let time = watched.eject(since, method, &settings, now, rng);
                    changes.push(Change::Ejected {
                        endpoint,
                        reason: Reason::Trial,
                        time,
                        times: watched.times,
                    });
                }
                (
                    Standing::Ejected {
                        since,
                        until,
                        method,
                        ..
                    },
                    _,
                ) if until <= now => {
                    watched.try_out(since, method, &settings, now);
                    changes.push(Change::OnTrial { endpoint });
                }
                (
                    Standing::OnTrial {
                        since,
                        again,
                        method,
                    },
                    None,
                ) if again <= now => {
                    watched.try_out(since, method, &settings, now);
                    if watched.tally.let_another_try() {
                        changes.push(Change::OnTrial { endpoint });
                    }
                }
                _ => {}
            }
        }
    }

    /// Compares the endpoints by their calls of the last interval.
    fn compare(&mut self, now: Instant, rng: &mut fastrand::Rng, changes: &mut Vec<Change>) {
        let mut counts = BTreeMap::new();
        for (key, watched) in &mut self.endpoints {
            let total = watched.tally.counts();
            let counted = total.since(watched.mark);
            watched.mark = total;
            if watched.standing == Standing::Admitted {
                counts.insert(key.clone(), counted);
            }
        }
        let by_success = self.settings.success_rate;
        let by_success = by_success.map(|it| by_success_rate(&it, &counts));
        let by_failure = self.settings.failure_rate;
        let by_failure = by_failure.map(|it| by_failure_rate(&it, &counts));
        let judged = [by_success, by_failure];
        self.can_compare = judged.iter().flatten().any(Option::is_some);
        for candidates in judged.into_iter().flatten().flatten() {
            self.eject(candidates, Method::Comparison, now, rng, changes);
        }
        for watched in self.endpoints.values_mut() {
            if watched.standing == Standing::Admitted {
                watched.times = watched.times.saturating_sub(1);
            }
        }
    }

    /// Ejects those that failed many calls in a row, if nothing else judges.
    fn break_rows(&mut self, now: Instant, rng: &mut fastrand::Rng, changes: &mut Vec<Change>) {
        let Some(breaker) = self.settings.breaker.filter(|_| !self.can_compare) else {
            return;
        };
        let candidates = self.endpoints.iter().filter_map(|(key, watched)| {
            let row = watched.tally.row();
            (row >= breaker.consecutive_failures).then(|| Candidate {
                key: key.clone(),
                merit: -f64::from(row),
                reason: Reason::Row(row),
            })
        });
        let candidates = candidates.collect();
        self.eject(candidates, Method::Breaker(breaker), now, rng, changes);
    }

    /// Ejects as many as there is room for, the worst ones first.
    fn eject(
        &mut self,
        mut candidates: Vec<Candidate>,
        method: Method,
        now: Instant,
        rng: &mut fastrand::Rng,
        changes: &mut Vec<Change>,
    ) {
        // Of those that are equally bad any: were it the first, all clients would eject the same.
        rng.shuffle(&mut candidates);
        candidates.sort_by(|one, other| one.merit.total_cmp(&other.merit));
        let mut room = self.room(method);
        for Candidate { key, reason, .. } in candidates {
            let Some(watched) = self.endpoints.get_mut(&key) else {
                continue;
            };
            if room == 0 || watched.standing != Standing::Admitted {
                continue;
            }
            room -= 1;
            let time = watched.eject(now, method, &self.settings, now, rng);
            changes.push(Change::Ejected {
                endpoint: key,
                reason,
                time,
                times: watched.times,
            });
        }
    }

    /// Returns how many more endpoints may be ejected.
    fn room(&self, method: Method) -> usize {
        let fleet = self.endpoints.len();
        if let Method::Breaker(breaker) = method
            && fleet < breaker.small_fleet
        {
            return fleet;
        }
        let share = self.settings.max_share;
        let most = match (share * fleet as f64 + ROUNDING).floor() as usize {
            0 if share > 0.0 => 1,
            most => most,
        };
        let is_out = |it: &&Watched| it.standing != Standing::Admitted;
        most.saturating_sub(self.endpoints.values().filter(is_out).count())
    }
}

impl Watched {
    /// Ejects it, which is out `since` then, and returns for how long.
    fn eject(
        &mut self,
        since: Instant,
        method: Method,
        settings: &Ejection,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Duration {
        self.times = self.times.saturating_add(1);
        // It may not be offered for long, if its connection is lost too, and what is told of it until
        // then is old.
        self.tally.set(Gate::Closed);
        let (soonest, time) = match method {
            Method::Comparison => {
                let grown = settings.base_time.saturating_mul(self.times);
                (settings.base_time, grown.min(settings.max_time))
            }
            Method::Breaker(breaker) => {
                let times = breaker.times;
                (times.base, times.delay(self.times, rng.f64()))
            }
        };
        self.standing = Standing::Ejected {
            since,
            soonest: later(now, soonest),
            until: later(now, time),
            method,
        };
        time
    }

    /// Puts it on trial, or lets another call try.
    fn try_out(&mut self, since: Instant, method: Method, settings: &Ejection, now: Instant) {
        self.standing = Standing::OnTrial {
            since,
            again: later(now, settings.base_time),
            method,
        };
    }

    /// Readmits it. What was told before says nothing of what it is like from now on.
    fn readmit(&mut self) {
        self.standing = Standing::Admitted;
        self.mark = self.tally.counts();
        self.tally.end_row();
    }
}

/// A time that no clock can tell is as good as never.
fn later(now: Instant, after: Duration) -> Instant {
    now + after.min(NEVER)
}

impl Change {
    /// Returns whose standing has changed.
    pub(crate) fn endpoint(&self) -> &EndpointKey {
        match self {
            Self::Ejected { endpoint, .. }
            | Self::OnTrial { endpoint }
            | Self::Readmitted { endpoint, .. } => endpoint,
        }
    }
}

#[cfg(test)]
mod tests;
