mod fleet;
mod histories;

use self::fleet::{Fleet, SECOND, key, without_jitter};
use super::*;
use crate::{
    Endpoint,
    ejection::{Admission, FailureRate, Look, SuccessRate, Verdict},
};

/// The changes as text, with the times of ejections.
fn told(changes: &[Change]) -> Vec<String> {
    let told = changes.iter().map(|change| match change {
        Change::Ejected {
            endpoint,
            time,
            times,
            reason,
        } => format!("{endpoint} ejected for {time:?}, {times}: {reason}"),
        Change::OnTrial { endpoint } => format!("{endpoint} on trial"),
        Change::Readmitted { endpoint, after } => format!("{endpoint} readmitted after {after:?}"),
    });
    told.collect()
}

fn ejected(changes: &[Change]) -> usize {
    let is_ejected = |it: &&Change| matches!(it, Change::Ejected { .. });
    changes.iter().filter(is_ejected).count()
}

use Verdict::{Failure, Success};

#[test]
fn one_bad_of_five_with_volume_is_ejected_and_back_after_its_time_and_one_good_call() {
    let mut fleet = Fleet::new(5).warm_up();
    for port in 1..=5 {
        let failures = if port == 3 { 90 } else { 0 };
        assert_eq!(fleet.calls(port, 100, failures), []);
    }
    let changes = fleet.pass(10 * SECOND);
    let text = "a:3 ejected for 30s, 1: \
                success rate: 0.100 of 100 calls (expected: 0.136 or more, as others have)";
    assert_eq!(told(&changes), [text]);
    assert!(!fleet.is_offered(3) && fleet.tally(3).admit().is_none());
    assert_eq!(told(&fleet.pass(29 * SECOND)), [""; 0]);
    assert_eq!(told(&fleet.pass(SECOND)), ["a:3 on trial"]);
    assert!(fleet.is_offered(3));
    fleet.pass(5 * SECOND);
    let changes = fleet.call(3, Success);
    assert_eq!(told(&changes), ["a:3 readmitted after 35s"]);
    assert!(fleet.is_offered(3) && fleet.is_wider);
    assert_eq!(fleet.out(), [0; 0]);
}

/// Calls all of a fleet once each 100 ms, of which those of `bad` fail, for some intervals.
fn load(fleet: &mut Fleet, bad: &[usize], intervals: u32) -> Vec<Change> {
    let mut changes = Vec::new();
    for _ in 0..intervals * 100 {
        for port in 1..=fleet.tallies.len() {
            // Not more than one on trial, which ends at once.
            if fleet.is_offered(port) {
                let verdict = if bad.contains(&port) {
                    Failure
                } else {
                    Success
                };
                changes.extend(fleet.call(port, verdict));
            }
        }
        changes.extend(fleet.pass(SECOND / 10));
    }
    changes
}

#[test]
fn never_more_than_the_share_is_ejected() {
    for (endpoints, max_share, most) in [
        (5, 0.1, 1),
        (20, 0.1, 2),
        // Two of these would be more than a tenth.
        (19, 0.1, 1),
        (10, 0.3, 3),
        (100, 0.29, 29),
        (10, 0.0, 0),
    ] {
        let settings = Ejection {
            max_share,
            ..without_jitter(Ejection::default())
        };
        let mut fleet = Fleet::with(endpoints, settings).warm_up();
        let bad: Vec<_> = (1..=endpoints / 2).collect();
        load(&mut fleet, &bad, 4);
        let out = fleet.out();
        assert_eq!(out.len(), most, "{endpoints} x {max_share}");
        assert!(out.iter().all(|it| bad.contains(it)));
    }
}

#[test]
fn the_worst_is_ejected_first() {
    let mut fleet = Fleet::new(10).warm_up();
    for port in 1..=10 {
        let failures = [0, 89, 0, 95, 0, 91, 0, 0, 0, 0][port - 1];
        fleet.calls(port, 100, failures);
    }
    fleet.pass(10 * SECOND);
    assert_eq!(fleet.out(), [4]);
}

#[test]
fn clients_do_not_all_eject_the_same_of_those_that_are_equally_bad() {
    let ejected = (0..20).map(|seed| {
        let mut fleet = Fleet::new(10).warm_up();
        fleet.rng = fastrand::Rng::with_seed(seed);
        load(&mut fleet, &(1..=10).collect::<Vec<_>>(), 2);
        fleet.out()
    });
    let mut ejected: Vec<_> = ejected.collect();
    assert!(ejected.iter().all(|out| out.len() == 1));
    ejected.sort();
    ejected.dedup();
    assert!(ejected.len() > 3, "{ejected:?}");
}

#[test]
fn each_ejection_lasts_longer_up_to_the_longest_and_good_intervals_make_it_shorter() {
    let mut fleet = Fleet::new(5).warm_up();
    let changes = load(&mut fleet, &[2], 250);
    let times: Vec<_> = changes
        .iter()
        .filter_map(|it| match it {
            Change::Ejected { time, .. } => Some(time.as_secs()),
            _ => None,
        })
        .collect();
    let longest = [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300];
    assert_eq!(times[..11], longest);
    while !fleet.out().is_empty() {
        load(&mut fleet, &[], 1);
    }
    let times = fleet.outliers.endpoints[&key(2)].times;
    assert!(times > 5, "{times}");
    load(&mut fleet, &[], times);
    let changes = load(&mut fleet, &[2], 1);
    assert_eq!(ejected(&changes), 1);
    assert!(told(&changes)[0].starts_with("a:2 ejected for 30s, 1"));
}

#[test]
fn five_failures_in_a_row_eject_one_of_few_and_one_good_call_readmits_it() {
    let mut fleet = Fleet::new(3);
    assert_eq!(fleet.calls(1, 4, 4), []);
    fleet.call(1, Success);
    assert_eq!(fleet.calls(1, 4, 4), []);
    let changes = fleet.call(1, Failure);
    let text = "a:1 ejected for 5s, 1: 5 calls failed in a row";
    assert_eq!(told(&changes), [text]);
    assert!(!fleet.is_offered(1));
    assert_eq!(told(&fleet.pass(5 * SECOND)), ["a:1 on trial"]);
    let changes = fleet.call(1, Failure);
    let text = "a:1 ejected for 10s, 2: the call on trial failed";
    assert_eq!(told(&changes), [text]);
    assert_eq!(told(&fleet.pass(10 * SECOND)), ["a:1 on trial"]);
    let changes = fleet.call(1, Success);
    assert_eq!(told(&changes), ["a:1 readmitted after 15s"]);
    // The row of before is over.
    assert_eq!(fleet.calls(1, 4, 4), []);
    assert_eq!(ejected(&fleet.calls(1, 1, 1)), 1);
}

#[test]
fn the_breaker_waits_up_to_five_minutes_with_jitter() {
    let mut fleet = Fleet::with(2, Ejection::default());
    let mut times = Vec::new();
    fleet.calls(1, 5, 5);
    for _ in 0..12 {
        let Standing::Ejected { until, .. } = fleet.outliers.standing(&key(1)) else {
            panic!("it is not ejected");
        };
        times.push((until - fleet.now).as_secs_f64());
        fleet.pass(until - fleet.now);
        assert_eq!(ejected(&fleet.call(1, Failure)), 1);
    }
    for (time, middle) in times
        .iter()
        .zip([5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 200.0])
    {
        assert!((middle * 0.5..=middle * 1.5).contains(time), "{times:?}");
    }
    assert!(times.iter().all(|it| *it <= 300.0), "{times:?}");
}

#[test]
fn where_endpoints_can_be_compared_a_row_of_failures_ejects_nobody() {
    let mut fleet = Fleet::new(5).warm_up();
    assert_eq!(fleet.calls(1, 8, 8), []);
    fleet = fleet.warm_up();
    // As soon as there are too few calls for that, the row counts, also one that is old.
    fleet.calls(1, 6, 6);
    let changes = fleet.pass(10 * SECOND);
    assert_eq!(
        told(&changes),
        ["a:1 ejected for 5s, 1: 6 calls failed in a row"]
    );
}

#[test]
fn the_share_holds_for_the_breaker_of_a_larger_fleet_and_not_of_a_small_one() {
    let all_fail = |endpoints| {
        let mut fleet = Fleet::new(endpoints);
        for port in 1..=endpoints {
            if fleet.is_offered(port) {
                fleet.calls(port, 5, 5);
            }
        }
        fleet.out().len()
    };
    assert_eq!(all_fail(5), 1);
    assert_eq!(all_fail(20), 2);
    assert_eq!(all_fail(4), 4);
    assert_eq!(all_fail(1), 1);
}

#[test]
fn while_all_are_ejected_all_are_called_and_a_success_readmits() {
    let mut fleet = Fleet::new(2);
    fleet.calls(1, 5, 5);
    assert_eq!(fleet.offered, [key(2)]);
    fleet.calls(2, 5, 5);
    assert_eq!(fleet.out(), [1, 2]);
    assert_eq!(fleet.offered, [key(1), key(2)]);
    // As many as come, and failures change nothing.
    let in_flight: Vec<_> = (0..3).map(|_| fleet.tally(1).admit().unwrap()).collect();
    assert_eq!(fleet.calls(1, 20, 20), []);
    drop(in_flight);
    let changes = fleet.call(2, Success);
    assert_eq!(told(&changes), ["a:2 readmitted after 0ns"]);
    assert_eq!(fleet.offered, [key(2)]);
}

#[test]
fn one_that_is_ejected_is_called_while_the_others_are_not_connected() {
    let mut fleet = Fleet::new(3);
    fleet.calls(1, 5, 5);
    fleet.only_ready(&[1]);
    assert!(fleet.is_wider);
    assert_eq!(fleet.offered, [key(1)]);
    assert!(fleet.tally(1).admit().is_some());
    fleet.only_ready(&[1, 3]);
    assert_eq!(fleet.offered, [key(3)]);
    assert!(fleet.tally(1).admit().is_none());
}

#[test]
fn one_on_trial_gets_one_call_at_a_time_unless_there_is_nobody_else() {
    let mut fleet = Fleet::new(2);
    fleet.calls(1, 5, 5);
    fleet.pass(5 * SECOND);
    let trial = fleet.tally(1).admit();
    assert!(matches!(trial, Some(Admission::Trial(_))));
    assert!(fleet.tally(1).admit().is_none());
    // A look at whatever else there is does not give a second one away.
    fleet.pass(20 * SECOND);
    assert!(fleet.tally(1).admit().is_none());
    fleet.only_ready(&[1]);
    assert!(fleet.is_wider && fleet.tally(1).admit().is_some());
}

#[test]
fn a_trial_that_does_not_end_lets_another_try_and_the_first_to_end_decides() {
    for verdict in [Success, Failure] {
        let mut fleet = Fleet::new(2);
        fleet.calls(1, 5, 5);
        assert_eq!(told(&fleet.pass(5 * SECOND)), ["a:1 on trial"]);
        // Nobody tries yet: nothing to tell.
        assert_eq!(fleet.pass(30 * SECOND), []);
        let first = fleet.tally(1).admit().unwrap();
        assert_eq!(fleet.pass(29 * SECOND), []);
        assert!(fleet.tally(1).admit().is_none());
        assert_eq!(told(&fleet.pass(SECOND)), ["a:1 on trial"]);
        let second = fleet.tally(1).admit().unwrap();
        assert!(fleet.tally(1).admit().is_none());
        assert_eq!(fleet.tally(1).ended(verdict, first), Look::Now);
        let is_ejected = ejected(&fleet.look()) == 1;
        assert_eq!(is_ejected, verdict == Failure);
        // The other one says nothing any more, whatever it was.
        assert_eq!(fleet.tally(1).ended(Success, second), Look::Later);
        assert_eq!(fleet.look(), []);
    }
}

#[test]
fn calls_that_began_before_the_ejection_say_nothing_after_it() {
    let mut fleet = Fleet::new(3);
    let before: Vec<_> = (0..20).map(|_| fleet.tally(1).admit().unwrap()).collect();
    fleet.calls(1, 5, 5);
    let mut before = before.into_iter();
    let mut end = |fleet: &Fleet, count: usize, verdict| {
        let ended = before.by_ref().take(count);
        ended.for_each(|it| assert_eq!(fleet.tally(1).ended(verdict, it), Look::Later));
    };
    end(&fleet, 5, Success);
    assert_eq!(fleet.look(), []);
    fleet.pass(5 * SECOND);
    end(&fleet, 5, Failure);
    assert_eq!(fleet.look(), []);
    fleet.call(1, Success);
    assert_eq!(fleet.out(), [0; 0]);
    // Readmitted: neither a row nor a part of one.
    end(&fleet, 10, Failure);
    assert_eq!(fleet.calls(1, 4, 4), []);
}

#[test]
fn what_it_was_ejected_for_is_not_held_against_it_once_more() {
    // In one interval: failing, ejected by the breaker, readmitted, and compared at its end.
    let mut fleet = Fleet::new(5);
    fleet.pass(SECOND);
    let settings = &mut fleet.outliers.settings;
    settings.success_rate = Some(SuccessRate {
        min_calls: 20,
        ..SuccessRate::default()
    });
    fleet.calls(1, 5, 5);
    fleet.pass(5 * SECOND);
    fleet.call(1, Success);
    for port in 1..=5 {
        fleet.calls(port, 20, 0);
    }
    assert_eq!(fleet.pass(4 * SECOND), []);
    assert_eq!(fleet.passed(), 10 * SECOND);
}

#[test]
fn a_trial_that_is_lost_with_its_connection_is_followed_by_another_one_and_not_judged_twice() {
    let mut fleet = Fleet::new(2);
    fleet.calls(1, 5, 5);
    fleet.pass(5 * SECOND);
    let trial = fleet.tally(1).admit().unwrap();
    let _ = fleet.tally(1).ended(Verdict::Lost, trial);
    fleet.only_ready(&[2]);
    assert_eq!(ejected(&fleet.look()), 1);
    // It stays away for long.
    let changes = fleet.pass(60 * SECOND);
    assert_eq!(told(&changes), ["a:1 on trial"]);
    fleet.only_ready(&[1, 2]);
    let changes = fleet.call(1, Success);
    assert_eq!(told(&changes), ["a:1 readmitted after 65s"]);
}

#[test]
fn a_new_connection_ends_a_row_and_makes_an_ejection_as_short_as_a_first_one() {
    let mut fleet = Fleet::new(2);
    fleet.calls(1, 4, 4);
    fleet.outliers.reconnected(&key(1));
    assert_eq!(fleet.calls(1, 4, 4), []);
    fleet.calls(1, 1, 1);
    assert_eq!(fleet.out(), [1]);
    for wait in [5, 10, 20] {
        fleet.pass(wait * SECOND);
        fleet.call(1, Failure);
    }
    // For 40 s.
    fleet.pass(2 * SECOND);
    fleet.outliers.reconnected(&key(1));
    assert_eq!(fleet.look(), []);
    assert_eq!(told(&fleet.pass(3 * SECOND)), ["a:1 on trial"]);
    fleet.call(1, Failure);
    // For 80 s: a first one would be over.
    fleet.pass(20 * SECOND);
    fleet.outliers.reconnected(&key(1));
    assert!(fleet.outliers.next().unwrap() <= fleet.now);
    assert_eq!(told(&fleet.look()), ["a:1 on trial"]);
}

#[test]
fn one_that_leaves_and_comes_back_is_as_good_as_new() {
    let mut fleet = Fleet::new(2);
    fleet.calls(1, 5, 5);
    let old = fleet.tally(1).clone();
    fleet.remove(1);
    fleet.add(1);
    assert_eq!(fleet.out(), [0; 0]);
    assert!(fleet.is_offered(1) && !Arc::ptr_eq(&old, fleet.tally(1)));
    // One that is there already stays as it is.
    fleet.calls(1, 5, 5);
    fleet.add(1);
    assert_eq!(fleet.out(), [1]);
}

#[test]
fn nobody_to_watch_is_nothing_to_wait_for() {
    let mut fleet = Fleet::new(0);
    assert_eq!(fleet.outliers.next(), None);
    fleet.now += 100 * SECOND;
    fleet.add(1);
    assert_eq!(fleet.outliers.next(), Some(fleet.now + 10 * SECOND));
    fleet.remove(1);
    assert_eq!(fleet.outliers.next(), None);
}

#[test]
fn with_all_turned_off_nobody_is_ejected() {
    let off = Ejection {
        success_rate: None,
        failure_rate: None,
        breaker: None,
        ..Ejection::default()
    };
    let mut fleet = Fleet::with(8, off);
    assert_eq!(load(&mut fleet, &[1, 2], 3), []);
}

#[test]
fn times_that_no_clock_can_tell_do_no_harm() {
    let never = Ejection {
        interval: Duration::MAX,
        base_time: Duration::MAX,
        max_time: Duration::MAX,
        breaker: None,
        ..without_jitter(Ejection::default())
    };
    let mut fleet = Fleet::with(5, never);
    fleet.now += NEVER;
    for port in 1..=5 {
        fleet.calls(port, 100, if port == 1 { 99 } else { 0 });
    }
    assert_eq!(ejected(&fleet.look()), 1);
}
