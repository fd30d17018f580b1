use std::time::Duration;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const CONNECTED: Event = Event::Connected { is_watched: false };
const WATCHED: Event = Event::Connected { is_watched: true };

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
    assert_eq!(driven.on(CONNECTED), Some(Step::Serve));
    driven.now += 60 * SECOND;
    assert_eq!(driven.on(Event::Lost { answered: false }), Some(Step::Dial));
    assert_eq!(driven.condition(), Condition::Connecting);
    assert_eq!(driven.wait_after(Event::DialFailed), SECOND);
}

#[test]
fn a_server_that_accepts_and_hangs_up_is_backed_off_from_ever_longer() {
    let mut driven = Driven::new();
    driven.on(CONNECTED);
    driven.now += SECOND / 2;
    // It may have been about to restart.
    assert_eq!(driven.on(Event::Lost { answered: false }), Some(Step::Dial));
    assert_eq!(driven.condition(), Condition::Connecting);
    let waits: Vec<_> = (0..3)
        .map(|_| {
            driven.on(CONNECTED);
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
    driven.on(CONNECTED);
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
    driven.on(CONNECTED);
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
    driven.on(CONNECTED);
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
        CONNECTED,
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
    driven.on(CONNECTED);
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
fn who_is_watched_is_not_ready_before_its_health_is_known() {
    let mut driven = Driven::new();
    assert_eq!(driven.on(WATCHED), Some(Step::Serve));
    assert_eq!(driven.condition(), Condition::Connecting);
    assert_eq!(driven.on(Event::Healthy), Some(Step::Serve));
    assert_eq!(driven.condition(), Condition::Ready);
    assert_eq!(driven.on(Event::Unhealthy), Some(Step::Serve));
    assert_eq!(driven.condition(), Condition::Unhealthy);
    // Told again, for another reason.
    assert_eq!(driven.on(Event::Unhealthy), Some(Step::Serve));
    assert_eq!(driven.on(Event::HealthUnknown), None);
    driven.on(Event::Healthy);
    assert_eq!(driven.on(Event::HealthUnknown), Some(Step::Serve));
    assert_eq!(driven.condition(), Condition::Connecting);
}

#[test]
fn failing_stays_failing_until_the_health_is_known() {
    let mut driven = Driven::new();
    driven.on(Event::DialFailed);
    driven.on(Event::Elapsed);
    driven.on(WATCHED);
    assert_eq!(driven.condition(), Condition::Failing);
    driven.on(Event::Healthy);
    assert_eq!(driven.condition(), Condition::Ready);
}

#[test]
fn who_was_not_healthy_when_it_was_lost_is_failing_until_it_is_ready() {
    let mut driven = Driven::new();
    driven.on(WATCHED);
    driven.on(Event::Unhealthy);
    driven.now += SECOND;
    assert_eq!(driven.on(Event::Lost { answered: false }), Some(Step::Dial));
    assert_eq!(driven.condition(), Condition::Failing);
    driven.on(WATCHED);
    assert_eq!(driven.condition(), Condition::Failing);
    driven.now += SECOND;
    driven.on(Event::Lost { answered: false });
    assert_eq!(driven.condition(), Condition::Failing);
    driven.on(WATCHED);
    driven.on(Event::Healthy);
    driven.on(Event::Lost { answered: true });
    assert_eq!(driven.condition(), Condition::Connecting);
}

#[test]
fn silence_and_health_are_two_facts() {
    let mut driven = Driven::new();
    driven.on(WATCHED);
    driven.on(Event::Healthy);
    driven.on(Event::Silent);
    assert_eq!(driven.condition(), Condition::Suspect);
    driven.on(Event::Unhealthy);
    assert_eq!(driven.condition(), Condition::Unhealthy);
    driven.on(Event::Healthy);
    assert_eq!(driven.condition(), Condition::Suspect);
    driven.on(Event::Unhealthy);
    driven.on(Event::Heard);
    assert_eq!(driven.condition(), Condition::Unhealthy);
    driven.on(Event::Healthy);
    assert_eq!(driven.condition(), Condition::Ready);
}

#[test]
fn who_vanished_keeps_its_connection_and_gets_no_other() {
    let connected = Event::Connected { is_watched: false };
    let mut driven = Driven::new();
    driven.on(connected);
    assert_eq!(driven.on(Event::Vanished), None);
    driven.on(Event::Silent);
    assert_eq!(driven.on(Event::Heard), Some(Step::Serve));
    assert_eq!(driven.on(Event::Listed), None);
    driven.now += SECOND;
    assert_eq!(driven.on(Event::Lost { answered: true }), Some(Step::Dial));
    // Where there is no connection, nothing is kept.
    assert_eq!(driven.on(Event::Vanished), Some(Step::Drain));

    let mut driven = Driven::new();
    driven.on(connected);
    driven.on(Event::Vanished);
    assert_eq!(driven.on(Event::Lost { answered: true }), Some(Step::Drain));
    assert_eq!(driven.on(Event::Listed), None);
    assert_eq!(driven.on(Event::Drained), Some(Step::End));
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => any::<bool>().prop_map(|is_watched| Event::Connected { is_watched }),
        3 => Just(Event::Healthy),
        2 => Just(Event::Unhealthy),
        1 => Just(Event::HealthUnknown),
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

/// What is known of a connection, with no regard to anything else.
#[derive(Debug, Default)]
struct Facts {
    /// None while there is no connection; then what its server last said, if anything.
    health: Option<Option<bool>>,
    is_silent: bool,
}

impl Facts {
    fn note(&mut self, event: Event, step: Option<Step>) {
        match (event, step) {
            (Event::Connected { is_watched }, Some(Step::Serve)) => {
                self.health = Some((!is_watched).then_some(true));
                self.is_silent = false;
            }
            (Event::Silent, _) => self.is_silent = true,
            (Event::Heard, _) => self.is_silent = false,
            (_, Some(Step::Dial | Step::WaitUntil(_) | Step::Rest | Step::Drain)) => {
                self.health = None;
            }
            _ => {}
        }
        if let Some(health) = &mut self.health {
            match event {
                Event::Healthy => *health = Some(true),
                Event::Unhealthy => *health = Some(false),
                Event::HealthUnknown if *health == Some(true) => *health = None,
                _ => {}
            }
        }
    }
}

proptest! {
    #[test]
    fn who_is_ready_is_connected_and_healthy_and_heard(
        events in prop::collection::vec(any_event(), 0..60),
    ) {
        let mut driven = Driven::new();
        let mut facts = Facts::default();
        for event in events {
            let step = driven.on(event);
            facts.note(event, step);
            let condition = driven.condition();
            match (facts.health, facts.is_silent) {
                (Some(Some(true)), false) => prop_assert_eq!(condition, Condition::Ready),
                (Some(Some(true)), true) => prop_assert_eq!(condition, Condition::Suspect),
                (Some(Some(false)), _) => prop_assert_eq!(condition, Condition::Unhealthy),
                (Some(None) | None, _) => {
                    prop_assert!(!matches!(
                        condition,
                        Condition::Ready | Condition::Suspect | Condition::Unhealthy
                    ), "{:?}", condition);
                }
            }
        }
    }

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
            vanished = event == Event::Vanished || vanished && event != Event::Listed;
            has_vanished |= vanished;
            let step = driven.on(event);
            let condition = driven.condition();
            let drains = condition == Condition::Draining;
            prop_assert!(drains || !removed);
            prop_assert!(!drains || removed || has_vanished);
            // One that vanished is connected, or drains.
            if vanished && !drains {
                prop_assert!(matches!(driven.subchannel.lifecycle, Lifecycle::Connected(_)));
            }
            match step {
                Some(Step::Serve) => {
                    prop_assert!(!matches!(condition, Condition::Idle | Condition::Draining));
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
