use proptest::prelude::*;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(5);
const MILLI: Duration = Duration::from_millis(1);
const SERVING: Event = Event::Answered(1);
const NOT_SERVING: Event = Event::Answered(2);

/// A watch with a clock that only moves when told, and no jitter.
struct Driven {
    watch: Watch,
    now: Instant,
    rng: fastrand::Rng,
}

impl Driven {
    fn new() -> Self {
        let now = tokio::time::Instant::now().into_std();
        let backoff = Backoff {
            jitter: 0.0,
            ..Backoff::default()
        };
        Self {
            watch: Watch::new("greeter".into(), TIMEOUT, backoff, now),
            now,
            rng: fastrand::Rng::with_seed(1),
        }
    }

    fn on(&mut self, event: Event) -> Option<Verdict> {
        self.watch.handle(event, self.now, &mut self.rng)
    }

    /// What is told after an event, in a few words.
    fn told(&mut self, event: Event) -> String {
        match self.on(event) {
            None => "nothing".to_owned(),
            Some(Verdict::Healthy) => "healthy".to_owned(),
            Some(Verdict::Unwatched(illness)) => format!("unwatched: {illness}"),
            Some(Verdict::Unknown(illness)) => format!("unknown: {illness}"),
            Some(Verdict::Unhealthy(illness)) => format!("unhealthy: {illness}"),
        }
    }

    /// How long it waits after an event, and asks then.
    fn wait_after(&mut self, event: Event) -> Duration {
        self.on(event);
        let Step::WaitUntil(until) = self.watch.step() else {
            panic!("expected a wait, got {:?}", self.watch.step());
        };
        let wait = until - self.now;
        self.now = until;
        assert_eq!(self.on(Event::Elapsed), None);
        let until = self.now + TIMEOUT;
        assert_eq!(self.watch.step(), Step::Ask { until });
        wait
    }
}

fn broken() -> Event {
    Event::Broken("reset".to_owned())
}

#[test]
fn only_serving_is_healthy_and_whatever_else_is_told_as_it_came() {
    let mut driven = Driven::new();
    let until = driven.now + TIMEOUT;
    assert_eq!(driven.watch.step(), Step::Ask { until });
    for (status, told) in [
        (
            2,
            "unhealthy: health of service \"greeter\": NOT_SERVING (expected: SERVING)",
        ),
        (1, "healthy"),
        (
            3,
            "unhealthy: health of service \"greeter\": SERVICE_UNKNOWN (expected: SERVING)",
        ),
        (
            0,
            "unhealthy: health of service \"greeter\": UNKNOWN (expected: SERVING)",
        ),
        (
            -7,
            "unhealthy: health of service \"greeter\": status -7 (expected: 0 to 3)",
        ),
        (-7, "nothing"),
        (1, "healthy"),
        (1, "nothing"),
    ] {
        assert_eq!(driven.told(Event::Answered(status)), told);
        let until = (status != 1).then(|| driven.now + SILENCE);
        assert_eq!(driven.watch.step(), Step::Listen { until });
        driven.now += SECOND;
    }
}

#[test]
fn who_has_no_health_service_is_healthy_and_not_asked_again() {
    let mut driven = Driven::new();
    assert_eq!(driven.told(Event::Unimplemented), "healthy");
    assert_eq!(driven.watch.step(), Step::End);
    assert_eq!(driven.told(broken()), "nothing");
    assert_eq!(driven.watch.step(), Step::End);
}

#[test]
fn watches_that_bring_no_answer_are_opened_again_in_growing_intervals() {
    let mut driven = Driven::new();
    let waits: Vec<_> = [broken(), Event::Elapsed, Event::Ended, broken()]
        .into_iter()
        .map(|event| driven.wait_after(event).as_secs_f64())
        .collect();
    assert_eq!(waits, [1.0, 1.6, 2.56, 4.096]);
    // Any answer starts it over.
    driven.on(NOT_SERVING);
    assert_eq!(driven.wait_after(broken()), SECOND);
    driven.on(SERVING);
    assert_eq!(driven.wait_after(broken()), SECOND);
}

#[test]
fn a_watch_that_was_good_for_a_while_is_opened_again_at_once() {
    let mut driven = Driven::new();
    driven.on(SERVING);
    driven.now += SECOND;
    assert_eq!(
        driven.told(broken()),
        "unknown: health of service \"greeter\": its watch broke: reset"
    );
    let until = driven.now + TIMEOUT;
    assert_eq!(driven.watch.step(), Step::Ask { until });
    assert_eq!(driven.told(SERVING), "healthy");
    // One who is not healthy is not waited for, however.
    driven.on(NOT_SERVING);
    driven.now += SECOND;
    assert_eq!(
        driven.told(Event::Ended),
        "unhealthy: health of service \"greeter\": its watch ended (expected: to stay open)"
    );
    let until = driven.now + TIMEOUT;
    assert_eq!(driven.watch.step(), Step::Ask { until });
}

#[test]
fn a_watch_that_answers_and_breaks_off_is_waited_for_and_not_trusted_meanwhile() {
    let mut driven = Driven::new();
    driven.on(SERVING);
    driven.now += SECOND - MILLI;
    assert_eq!(
        driven.told(broken()),
        "unhealthy: health of service \"greeter\": its watch broke: reset"
    );
    let until = driven.now + SECOND;
    assert_eq!(driven.watch.step(), Step::WaitUntil(until));
}

#[test]
fn who_does_not_answer_in_time_is_unhealthy() {
    let mut driven = Driven::new();
    driven.now += TIMEOUT;
    assert_eq!(
        driven.told(Event::Elapsed),
        "unhealthy: health of service \"greeter\": no answer within 5s"
    );
}

#[test]
fn who_is_not_healthy_is_asked_anew_and_nothing_is_told_of_it() {
    let mut driven = Driven::new();
    for _ in 0..3 {
        driven.on(NOT_SERVING);
        // What it repeats puts it off.
        driven.now += SILENCE / 2;
        driven.on(NOT_SERVING);
        let until = Some(driven.now + SILENCE);
        assert_eq!(driven.watch.step(), Step::Listen { until });
        driven.now += SILENCE;
        assert_eq!(driven.told(Event::Elapsed), "nothing");
        let until = driven.now + TIMEOUT;
        assert_eq!(driven.watch.step(), Step::Ask { until });
        assert_eq!(driven.told(NOT_SERVING), "nothing");
    }
    driven.on(Event::Elapsed);
    driven.now += TIMEOUT;
    assert_eq!(driven.wait_after(Event::Elapsed), SECOND);
}

#[test]
fn who_changes_too_often_is_not_listened_to_and_asked_ever_more_seldom() {
    let mut driven = Driven::new();
    let mut waits = Vec::new();
    for _ in 0..3 {
        let mut told = Vec::new();
        while let Step::Ask { .. } | Step::Listen { .. } = driven.watch.step() {
            let event = match told.len() % 2 {
                0 => SERVING,
                _ => NOT_SERVING,
            };
            told.push(driven.told(event));
            driven.now += MILLI;
        }
        assert_eq!(told.len(), MOST_CHANGES as usize + 1);
        assert_eq!(
            told.last().unwrap(),
            "unhealthy: health of service \"greeter\": more than 10 changes within 1s (expected: fewer)"
        );
        // A millisecond of it has passed.
        waits.push(driven.wait_after(SERVING).as_secs_f64());
    }
    let near = |(one, other): (&f64, &f64)| (one - other).abs() < 0.01;
    assert!(waits.iter().zip(&[1.0, 1.6, 2.56]).all(near), "{waits:?}");
}

#[test]
fn who_says_the_same_too_often_is_not_listened_to_either() {
    let mut driven = Driven::new();
    assert_eq!(driven.told(SERVING), "healthy");
    for _ in 1..MOST_ANSWERS {
        assert_eq!(driven.told(SERVING), "nothing");
    }
    assert_eq!(
        driven.told(SERVING),
        "unhealthy: health of service \"greeter\": more than 1000 answers within 1s (expected: one each time it changes)"
    );
    assert!(matches!(driven.watch.step(), Step::WaitUntil(_)));
}

#[test]
fn many_answers_over_a_long_time_are_well() {
    let mut driven = Driven::new();
    driven.on(SERVING);
    for _ in 0..10 * MOST_ANSWERS {
        driven.now += 2 * MILLI;
        assert_eq!(driven.told(SERVING), "nothing");
    }
}

#[test]
fn the_server_as_a_whole_is_called_so() {
    let mut driven = Driven::new();
    driven.watch.service = "".into();
    assert_eq!(
        driven.told(NOT_SERVING),
        "unhealthy: health of the server: NOT_SERVING (expected: SERVING)"
    );
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(SERVING),
        2 => Just(NOT_SERVING),
        1 => any::<i32>().prop_map(Event::Answered),
        2 => Just(broken()),
        1 => Just(Event::Ended),
        3 => Just(Event::Elapsed),
        1 => prop::bool::weighted(0.1).prop_map(|it| match it {
            true => Event::Unimplemented,
            false => broken(),
        }),
    ]
}

proptest! {
    /// Whatever a server does: it is healthy only by its last answer on a stream that stands, or if it
    /// has no health service; the same is never told twice; and what is told and what is asked stay
    /// few.
    #[test]
    fn who_counts_as_healthy_says_so_on_a_stream_that_stands(
        events in prop::collection::vec((any_event(), 0u64..2_000), 0..200),
    ) {
        let mut driven = Driven::new();
        let (mut told, mut last_answer) = (None, broken());
        let (mut news, mut asked, start) = (0u64, 1u64, driven.now);
        for (event, passed) in events {
            let before = driven.watch.step();
            driven.now += Duration::from_millis(passed);
            if matches!((before, &event), (Step::Ask { .. } | Step::Listen { .. }, Event::Answered(_))) {
                last_answer = event.clone();
            }
            if let (Event::Elapsed, Step::Listen { until }) = (&event, before) {
                match until {
                    Some(until) => driven.now = driven.now.max(until),
                    None => continue,
                }
            }
            let verdict = driven.on(event);
            if let Some(verdict) = verdict {
                prop_assert_ne!(Some(&verdict), told.as_ref());
                told = Some(verdict);
                news += 1;
            }
            let after = driven.watch.step();
            asked += u64::from(before != after && matches!(after, Step::Ask { .. }));
            match (&told, after) {
                (Some(Verdict::Healthy), Step::Listen { until: None }) => prop_assert_eq!(&last_answer, &SERVING),
                (Some(Verdict::Healthy), after) => prop_assert_eq!(after, Step::End),
                (Some(Verdict::Unknown(_)), after) => {
                    prop_assert!(matches!(after, Step::Ask { .. }), "{after:?}");
                }
                (Some(Verdict::Unwatched(_)), _) => prop_assert!(false, "there is room"),
                (Some(Verdict::Unhealthy(_)), after) => prop_assert_ne!(after, Step::End),
                (None, after) => prop_assert!(matches!(after, Step::Ask { .. }), "{after:?}"),
            }
            if let Step::WaitUntil(until) = after {
                prop_assert!(until <= driven.now + Duration::from_secs(120));
            }
        }
        let seconds = (driven.now - start).as_secs() + 1;
        // A stream lasts a second, or is waited for as long.
        prop_assert!(asked <= seconds + 1, "asked {asked} times in {seconds} s");
        prop_assert!(news <= (seconds + 1) * 2 * u64::from(MOST_CHANGES + 2), "told {news} times");
    }
}
