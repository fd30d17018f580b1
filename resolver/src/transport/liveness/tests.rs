use proptest::prelude::*;

use super::*;

const MILLIS: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);

const RARE: Pings = Pings {
    min_interval: Duration::from_secs(300),
    keep_alive: None,
};

/// A connection with a clock that only moves when told.
struct Driven {
    liveness: Liveness,
    now: Instant,
    owed_since: Option<Instant>,
    held_since: Option<Instant>,
    calls: usize,
    advice: Advice,
    pings: Vec<Instant>,
}

impl Driven {
    fn new(pings: Pings) -> Self {
        let now = tokio::time::Instant::now().into_std();
        let mut liveness = Liveness::new(pings, 10 * MILLIS, now);
        let advice = liveness.look(Seen::default(), now);
        Self {
            liveness,
            now,
            owed_since: None,
            held_since: None,
            calls: 0,
            advice,
            pings: Vec::new(),
        }
    }

    fn look(&mut self, seen: Seen) {
        self.advice = self.liveness.look(
            Seen {
                calls_in_flight: self.calls,
                owed_since: self.owed_since,
                held_since: self.held_since,
                ..seen
            },
            self.now,
        );
        if self.advice.ping {
            self.pings.push(self.now);
        }
    }

    fn call(&mut self) {
        self.calls += 1;
        self.owed_since.get_or_insert(self.now);
        self.look(Seen::default());
    }

    fn hears(&mut self, seen: Seen) {
        self.owed_since = None;
        self.look(Seen {
            heard: Some(self.now),
            ..seen
        });
    }

    fn answer(&mut self) {
        self.calls -= 1;
        self.hears(Seen {
            answered: true,
            ..Seen::default()
        });
    }

    fn pong(&mut self) {
        self.hears(Seen {
            pong: true,
            ..Seen::default()
        });
    }

    /// Lets time pass, and looks whenever that was asked for.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.advice.again.filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.look(Seen::default());
        }
        self.now = end;
    }

    fn health(&self) -> Health {
        self.advice.health
    }
}

#[test]
fn an_idle_connection_is_left_alone() {
    let mut driven = Driven::new(RARE);
    assert_eq!(driven.advice.again, None);
    driven.call();
    driven.answer();
    driven.pass(1000 * MINUTE);
    assert!(driven.pings.is_empty());
    assert_eq!(driven.health(), Health::Trusted);
}

#[test]
fn a_call_without_a_sign_of_life_has_it_pinged_then_suspect_then_dead() {
    let mut driven = Driven::new(RARE);
    driven.call();
    driven.pass(249 * MILLIS);
    assert_eq!(driven.pings.len(), 0);
    driven.pass(MILLIS);
    assert_eq!(driven.pings.len(), 1);
    driven.pass(249 * MILLIS);
    assert_eq!(driven.health(), Health::Trusted);
    driven.pass(MILLIS);
    assert_eq!(driven.health(), Health::Suspect);
    driven.pass(SUSPICION - MILLIS);
    assert_eq!(driven.health(), Health::Suspect);
    driven.pass(MILLIS);
    assert_eq!(driven.health(), Health::Dead);
    assert_eq!(driven.pings.len(), 1);
}

#[test]
fn whatever_is_heard_makes_it_trusted_again() {
    let mut driven = Driven::new(RARE);
    driven.call();
    driven.pass(510 * MILLIS);
    assert_eq!(driven.health(), Health::Suspect);
    driven.hears(Seen::default());
    assert_eq!(driven.health(), Health::Trusted);
    driven.pass(SUSPICION);
    assert_eq!(driven.health(), Health::Trusted);
}

#[test]
fn further_calls_do_not_put_it_off() {
    let mut driven = Driven::new(RARE);
    for _ in 0..50 {
        driven.call();
        driven.pass(10 * MILLIS);
    }
    assert_eq!(driven.pings.len(), 1);
    assert_eq!(driven.health(), Health::Suspect);
}

#[test]
fn who_answers_pings_may_take_its_time_for_a_call() {
    let mut driven = Driven::new(RARE);
    driven.call();
    driven.pass(250 * MILLIS);
    driven.pong();
    driven.pass(4 * MINUTE);
    assert_eq!(driven.pings.len(), 1);
    assert_eq!(driven.health(), Health::Trusted);
    // A ping that no server minds, since the call is still there.
    driven.pass(2 * MINUTE);
    assert_eq!(driven.pings.len(), 2);
}

#[test]
fn of_pings_that_come_early_there_are_two_between_two_answers() {
    let mut driven = Driven::new(RARE);
    for _ in 0..20 {
        driven.call();
        driven.pass(250 * MILLIS);
        driven.pong();
        driven.pass(100 * MILLIS);
    }
    // The first one is never early.
    assert_eq!(driven.pings.len(), 3);
    driven.answer();
    driven.call();
    driven.pass(250 * MILLIS);
    assert_eq!(driven.pings.len(), 4);
}

#[test]
fn a_far_server_has_four_round_trips_for_its_answer() {
    let mut driven = Driven::new(RARE);
    driven.call();
    driven.pass(250 * MILLIS + 200 * MILLIS);
    driven.pong();
    assert_eq!(driven.liveness.patience(), 800 * MILLIS);
    driven.call();
    driven.pass(799 * MILLIS);
    assert_eq!(driven.pings.len(), 1);
    driven.pass(MILLIS);
    assert_eq!(driven.pings.len(), 2);
}

#[test]
fn one_that_stood_still_is_not_taken_for_one_far_away() {
    let mut driven = Driven::new(RARE);
    for _ in 0..2 {
        driven.call();
        driven.pass(Duration::from_secs(1));
        assert_eq!(driven.health(), Health::Suspect);
        driven.pass(Duration::from_secs(5));
        driven.pong();
        assert_eq!(driven.health(), Health::Trusted);
        driven.answer();
    }
}

#[test]
fn one_that_is_further_away_than_it_was_is_known_to_be_after_two_pings() {
    let mut driven = Driven::new(RARE);
    let mut healths = Vec::new();
    for _ in 0..3 {
        driven.call();
        driven.pass(driven.liveness.patience());
        driven.pass(300 * MILLIS);
        healths.push(driven.health());
        driven.pong();
        driven.answer();
    }
    assert_eq!(healths, [Health::Suspect, Health::Trusted, Health::Trusted]);
}

#[test]
fn a_process_that_did_not_run_suspects_nobody() {
    let mut driven = Driven::new(RARE);
    driven.call();
    // Asleep before the ping.
    driven.now += 2000 * MILLIS;
    driven.look(Seen::default());
    assert_eq!((driven.pings.len(), driven.health()), (0, Health::Trusted));
    driven.pass(250 * MILLIS);
    assert_eq!(driven.pings.len(), 1);
    // And after it.
    driven.now += 2000 * MILLIS;
    driven.look(Seen::default());
    assert_eq!(driven.health(), Health::Trusted);
    driven.pass(249 * MILLIS);
    assert_eq!(driven.health(), Health::Trusted);
    driven.pass(MILLIS);
    assert_eq!(driven.health(), Health::Suspect);
    // And while it is suspect.
    driven.now += 2 * SUSPICION;
    driven.look(Seen::default());
    assert_eq!(driven.health(), Health::Suspect);
}

#[test]
fn who_speaks_and_takes_nothing_is_deaf_after_a_while() {
    let mut driven = Driven::new(RARE);
    driven.call();
    driven.held_since = Some(driven.now);
    driven.look(Seen::default());
    for _ in 0..99 {
        driven.pass(100 * MILLIS);
        driven.hears(Seen::default());
        assert_eq!(driven.health(), Health::Trusted);
    }
    driven.pass(100 * MILLIS);
    assert_eq!(driven.health(), Health::Deaf);
    driven.hears(Seen::default());
    assert_eq!((driven.health(), driven.advice.again), (Health::Deaf, None));
}

#[test]
fn who_takes_something_now_and_then_is_not_deaf() {
    let mut driven = Driven::new(RARE);
    driven.call();
    for _ in 0..10 {
        driven.held_since = Some(driven.now);
        driven.hears(Seen::default());
        driven.pass(DEAFNESS - MILLIS);
        driven.hears(Seen::default());
        assert_eq!(driven.health(), Health::Trusted);
    }
    driven.held_since = None;
    driven.pass(DEAFNESS);
    assert_eq!(driven.health(), Health::Trusted);
}

#[test]
fn a_process_that_did_not_run_takes_nobody_for_deaf() {
    let mut driven = Driven::new(RARE);
    driven.held_since = Some(driven.now);
    driven.look(Seen::default());
    driven.now += 2 * DEAFNESS;
    driven.look(Seen::default());
    assert_eq!(driven.health(), Health::Trusted);
    // Nor when it is looked again, for whatever reason.
    driven.pass(DEAFNESS - MILLIS);
    driven.hears(Seen::default());
    assert_eq!(driven.health(), Health::Trusted);
    driven.pass(MILLIS);
    assert_eq!(driven.health(), Health::Deaf);
}

#[test]
fn keep_alive_pings_after_silence_and_gives_up_in_its_own_time() {
    let keep_alive = KeepAlive {
        interval: Duration::from_secs(6),
        timeout: Duration::from_secs(3),
        while_idle: true,
    };
    let mut driven = Driven::new(Pings {
        min_interval: Duration::from_secs(6),
        keep_alive: Some(keep_alive),
    });
    let start = driven.now;
    driven.pass(6000 * MILLIS);
    driven.pong();
    driven.pass(6000 * MILLIS);
    let pinged: Vec<_> = driven.pings.iter().map(|at| *at - start).collect();
    assert_eq!(pinged, [6000 * MILLIS, 12_000 * MILLIS]);
    driven.pass(2999 * MILLIS);
    assert_eq!(driven.health(), Health::Suspect);
    driven.pass(MILLIS);
    assert_eq!(driven.health(), Health::Dead);
}

#[test]
fn keep_alive_leaves_idle_connections_alone_unless_told() {
    let keep_alive = KeepAlive {
        interval: Duration::from_secs(6),
        timeout: Duration::from_secs(3),
        while_idle: false,
    };
    let mut driven = Driven::new(Pings {
        min_interval: Duration::from_secs(6),
        keep_alive: Some(keep_alive),
    });
    driven.pass(MINUTE);
    assert!(driven.pings.is_empty());
}

proptest! {
    /// Whatever happens, no server has a reason to close the connection for its pings.
    #[test]
    fn pings_are_never_too_many(
        happenings in prop::collection::vec((0..4u8, 1..2000u64), 1..200),
    ) {
        let mut driven = Driven::new(RARE);
        let (mut strikes, mut last) = (0, None::<Instant>);
        for (what, millis) in happenings {
            let before = driven.pings.len();
            match what {
                0 => driven.call(),
                1 if driven.calls > 0 => driven.answer(),
                2 => driven.pong(),
                _ => driven.pass(Duration::from_millis(millis * 10)),
            }
            for at in &driven.pings[before..] {
                if last.is_some_and(|last| *at < last + RARE.min_interval) {
                    strikes += 1;
                }
                last = Some(*at);
            }
            prop_assert!(strikes <= 2, "{strikes} early pings");
            if what == 1 {
                strikes = 0;
            }
            if driven.health() == Health::Dead {
                break;
            }
        }
    }
}
