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
//!   Ready ── Silent ──> Suspect ── Heard ──> Ready;  lost as from Ready
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
    Ready { since: Instant },
    Suspect { since: Instant },
    Idle,
    Draining,
    Gone,
}

/// What has happened to a subchannel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The dial succeeded: the server has spoken HTTP/2.
    Connected,
    /// The dial failed.
    DialFailed,
    /// Nothing is heard on the connection, although there should be.
    Silent,
    /// There is again.
    Heard,
    /// The connection that was READY takes no more calls; `answered` tells whether it ever answered
    /// one.
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
            Lifecycle::Ready { .. } => Condition::Ready,
            Lifecycle::Suspect { .. } => Condition::Suspect,
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
            (Connecting | Redialing, Event::Connected) => (Ready { since: now }, Step::Serve),
            (Connecting | Redialing, Event::DialFailed) => self.back_off(now, rng),
            (Ready { since }, Event::Silent) => (Suspect { since }, Step::Serve),
            (Suspect { since }, Event::Heard) => (Ready { since }, Step::Serve),
            (Draining | Gone, Event::Vanished | Event::Listed) => return None,
            (_, Event::Listed) => {
                self.is_listed = true;
                return None;
            }
            (Ready { .. } | Suspect { .. }, Event::Vanished) => {
                self.is_listed = false;
                return None;
            }
            // Nothing is there to be kept.
            (_, Event::Vanished) => (Draining, Step::Drain),
            (Ready { .. } | Suspect { .. }, Event::Lost { .. } | Event::Rest)
                if !self.is_listed =>
            {
                (Draining, Step::Drain)
            }
            (Ready { since } | Suspect { since }, Event::Lost { answered }) => {
                let is_worth_it = answered || now.duration_since(since) >= self.backoff.base;
                match (is_worth_it, self.failures) {
                    (true, _) => {
                        self.failures = 0;
                        (Connecting, Step::Dial)
                    }
                    // A server may restart at any time, also right after we connected.
                    (false, 0) => {
                        self.failures = 1;
                        (Connecting, Step::Dial)
                    }
                    (false, _) => self.back_off(now, rng),
                }
            }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A subchannel with a clock that only moves when told, and no jitter.
    struct Driven {
        subchannel: Subchannel,
        now: Instant,
        rng: fastrand::Rng,
    }

    impl Driven {
        fn new() -> Self {
            let backoff = Backoff {
                jitter: 0.0,
                ..Backoff::default()
            };
            Self {
                subchannel: Subchannel::new(backoff),
                now: tokio::time::Instant::now().into_std(),
                rng: fastrand::Rng::with_seed(1),
            }
        }

        fn on(&mut self, event: Event) -> Option<Step> {
            self.subchannel.handle(event, self.now, &mut self.rng)
        }

        fn wait_after(&mut self, event: Event) -> Duration {
            match self.on(event) {
                Some(Step::WaitUntil(until)) => until - self.now,
                other => panic!("expected a wait, got {other:?}"),
            }
        }

        fn condition(&self) -> Condition {
            self.subchannel.condition()
        }
    }

    #[test]
    fn the_wait_grows_with_each_failed_dial() {
        let mut driven = Driven::new();
        let waits: Vec<_> = (0..4)
            .map(|_| {
                let wait = driven.wait_after(Event::DialFailed);
                driven.on(Event::Elapsed);
                wait.as_secs_f64()
            })
            .collect();
        assert_eq!(waits, [1.0, 1.6, 2.56, 4.096]);
    }

    #[test]
    fn a_lost_connection_is_redialed_at_once_and_the_next_failed_dial_waits_the_first_wait() {
        let mut driven = Driven::new();
        for _ in 0..5 {
            driven.on(Event::DialFailed);
            driven.on(Event::Elapsed);
        }
        assert_eq!(driven.on(Event::Connected), Some(Step::Serve));
        driven.now += 60 * SECOND;
        assert_eq!(driven.on(Event::Lost { answered: false }), Some(Step::Dial));
        assert_eq!(driven.condition(), Condition::Connecting);
        assert_eq!(driven.wait_after(Event::DialFailed), SECOND);
    }

    #[test]
    fn a_server_that_accepts_and_hangs_up_is_backed_off_from_ever_longer() {
        let mut driven = Driven::new();
        driven.on(Event::Connected);
        driven.now += SECOND / 2;
        // It may have been about to restart.
        assert_eq!(driven.on(Event::Lost { answered: false }), Some(Step::Dial));
        assert_eq!(driven.condition(), Condition::Connecting);
        let waits: Vec<_> = (0..3)
            .map(|_| {
                driven.on(Event::Connected);
                driven.now += SECOND / 2;
                let wait = driven.wait_after(Event::Lost { answered: false });
                assert_eq!(driven.condition(), Condition::Failing);
                driven.on(Event::Elapsed);
                wait.as_secs_f64()
            })
            .collect();
        assert_eq!(waits, [1.6, 2.56, 4.096]);
    }

    #[test]
    fn a_short_connection_that_answered_a_call_is_redialed_at_once() {
        let mut driven = Driven::new();
        driven.on(Event::Connected);
        assert_eq!(driven.on(Event::Lost { answered: true }), Some(Step::Dial));
    }

    #[test]
    fn failing_stays_failing_through_every_redial_until_ready() {
        let mut driven = Driven::new();
        assert_eq!(driven.condition(), Condition::Connecting);
        for _ in 0..3 {
            driven.on(Event::DialFailed);
            assert_eq!(driven.condition(), Condition::Failing);
            assert_eq!(driven.on(Event::Elapsed), Some(Step::Dial));
            assert_eq!(driven.condition(), Condition::Failing);
        }
        driven.on(Event::Connected);
        assert_eq!(driven.condition(), Condition::Ready);
    }

    #[test]
    fn a_reset_of_the_backoff_redials_at_once_and_disturbs_nobody_else() {
        let mut driven = Driven::new();
        assert_eq!(driven.on(Event::ResetBackoff), None);
        driven.on(Event::DialFailed);
        driven.on(Event::Elapsed);
        driven.on(Event::DialFailed);
        assert_eq!(driven.on(Event::ResetBackoff), Some(Step::Dial));
        assert_eq!(driven.wait_after(Event::DialFailed), SECOND);
        driven.on(Event::Elapsed);
        driven.on(Event::Connected);
        assert_eq!(driven.on(Event::ResetBackoff), None);
    }

    #[test]
    fn once_removed_it_only_drains_and_ends() {
        let mut driven = Driven::new();
        driven.on(Event::DialFailed);
        assert_eq!(driven.on(Event::Removed), Some(Step::Drain));
        for event in [
            Event::Elapsed,
            Event::ResetBackoff,
            Event::Connected,
            Event::Removed,
        ] {
            assert_eq!(driven.on(event), None);
        }
        assert_eq!(driven.on(Event::Drained), Some(Step::End));
    }

    #[test]
    fn who_is_silent_is_suspect_until_it_is_heard_and_lost_as_if_it_were_not() {
        let mut driven = Driven::new();
        assert_eq!(driven.on(Event::Silent), None);
        driven.on(Event::Connected);
        assert_eq!(driven.on(Event::Silent), Some(Step::Serve));
        assert_eq!(driven.condition(), Condition::Suspect);
        assert_eq!(driven.on(Event::Silent), None);
        assert_eq!(driven.on(Event::Heard), Some(Step::Serve));
        assert_eq!(driven.condition(), Condition::Ready);
        driven.on(Event::Silent);
        driven.now += SECOND;
        assert_eq!(driven.on(Event::Lost { answered: false }), Some(Step::Dial));
    }

    #[test]
    fn who_rests_is_not_dialed_until_it_is_woken_and_then_begins_anew() {
        let mut driven = Driven::new();
        driven.on(Event::DialFailed);
        driven.on(Event::Elapsed);
        assert_eq!(driven.on(Event::Rest), Some(Step::Rest));
        assert_eq!(driven.condition(), Condition::Idle);
        for event in [Event::Rest, Event::ResetBackoff, Event::Elapsed] {
            assert_eq!(driven.on(event), None);
        }
        assert_eq!(driven.on(Event::Wake), Some(Step::Dial));
        assert_eq!(driven.condition(), Condition::Connecting);
        assert_eq!(driven.on(Event::Wake), None);
        assert_eq!(driven.wait_after(Event::DialFailed), SECOND);
    }

    #[test]
    fn who_vanished_keeps_its_connection_and_gets_no_other() {
        let mut driven = Driven::new();
        driven.on(Event::Connected);
        assert_eq!(driven.on(Event::Vanished), None);
        driven.on(Event::Silent);
        assert_eq!(driven.on(Event::Heard), Some(Step::Serve));
        assert_eq!(driven.on(Event::Listed), None);
        driven.now += SECOND;
        assert_eq!(driven.on(Event::Lost { answered: true }), Some(Step::Dial));
        // Where there is no connection, nothing is kept.
        assert_eq!(driven.on(Event::Vanished), Some(Step::Drain));

        let mut driven = Driven::new();
        driven.on(Event::Connected);
        driven.on(Event::Vanished);
        assert_eq!(driven.on(Event::Lost { answered: true }), Some(Step::Drain));
        assert_eq!(driven.on(Event::Listed), None);
        assert_eq!(driven.on(Event::Drained), Some(Step::End));
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => Just(Event::Connected),
            4 => Just(Event::DialFailed),
            4 => any::<bool>().prop_map(|answered| Event::Lost { answered }),
            4 => Just(Event::Elapsed),
            2 => Just(Event::Silent),
            2 => Just(Event::Heard),
            2 => Just(Event::ResetBackoff),
            1 => Just(Event::Rest),
            2 => Just(Event::Wake),
            1 => Just(Event::Vanished),
            2 => Just(Event::Listed),
            1 => Just(Event::Removed),
            1 => Just(Event::Drained),
        ]
    }

    proptest! {
        #[test]
        fn the_step_always_fits_the_condition(
            events in prop::collection::vec((any_event(), 0u64..3_000), 0..60),
        ) {
            let mut driven = Driven::new();
            let mut removed = false;
            let (mut vanished, mut has_vanished) = (false, false);
            for (event, passed) in events {
                driven.now += Duration::from_millis(passed);
                removed |= event == Event::Removed;
                let step = driven.on(event);
                let condition = driven.condition();
                vanished = event == Event::Vanished || vanished && event != Event::Listed;
                has_vanished |= vanished;
                let drains = condition == Condition::Draining;
                prop_assert!(drains || !removed);
                prop_assert!(!drains || removed || has_vanished);
                if vanished {
                    prop_assert!(drains || matches!(condition, Condition::Ready | Condition::Suspect));
                }
                match step {
                    Some(Step::Serve) => {
                        prop_assert!(matches!(condition, Condition::Ready | Condition::Suspect));
                    }
                    Some(Step::Dial) => {
                        prop_assert!(matches!(condition, Condition::Connecting | Condition::Failing));
                    }
                    Some(Step::WaitUntil(until)) => {
                        prop_assert_eq!(condition, Condition::Failing);
                        prop_assert!(until >= driven.now + SECOND && until <= driven.now + 120 * SECOND);
                    }
                    Some(Step::Rest) => prop_assert_eq!(condition, Condition::Idle),
                    Some(Step::Drain | Step::End) => prop_assert_eq!(condition, Condition::Draining),
                    None => {}
                }
            }
        }
    }
}
