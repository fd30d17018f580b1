use std::time::Duration;

use http::Request;

use super::*;
use crate::balance::simulation::{Simulation, bad, candidates, good};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

// Where chance decides, bounds are five standard deviations, which it exceeds once in millions; and as the
// seed is fixed, it is the same chance each time.

#[test]
fn a_slow_server_gets_fewer_calls() {
    let servers = [good(10), good(10), good(50), good(10)];
    let mut simulation = Simulation::new(&P2cEwma, &servers);
    let counts = simulation.run(10_000, MILLI);
    assert!(counts[2] < 1_000, "{counts:?}");
    for good in [0, 1, 3] {
        assert!(counts[good] > 2_500, "{counts:?}");
    }
}

#[test]
fn it_sees_a_slow_server_by_its_answers_even_if_nothing_waits() {
    let mut simulation = Simulation::new(&P2cEwma, &[good(1), good(20)]);
    let counts = simulation.run(1_000, 100 * MILLI);
    // Once a second, since it has to be tried.
    assert!((80..=110).contains(&counts[1]), "{counts:?}");
}

#[test]
fn who_is_hardly_slower_gets_hardly_less() {
    // A call in 100 ms: nothing waits, and without the band the fastest one would win each of its draws.
    let mut simulation = Simulation::new(&P2cEwma, &[good(10), good(11), good(15), good(19)]);
    let counts = simulation.run(10_000, 100 * MILLI);
    // A quarter each; 43 is one deviation.
    for count in &counts {
        assert!(count.abs_diff(2_500) <= 215, "{counts:?}");
    }
}

#[test]
fn who_fails_fast_gets_its_share_and_no_more() {
    for fails in [100, 60, 30, 10] {
        let servers = [good(20), good(20), bad(fails), good(20)];
        let mut simulation = Simulation::new(&P2cEwma, &servers);
        let counts = simulation.run(10_000, MILLI);
        // A quarter; 43 is one deviation.
        assert!(counts[2] <= 2_500 + 215, "{fails}: {counts:?}");
        let mut simulation = Simulation::new(&P2cEwma, &[good(20), bad(fails)]);
        let counts = simulation.run(10_000, MILLI);
        assert!(counts[1] <= 5_000 + 250, "{fails}: {counts:?}");
    }
    // It would get far more for answering so fast.
    let mut simulation = Simulation::new(&P2cEwma, &[good(20), good(20), bad(0), good(20)]);
    assert!(simulation.run(10_000, MILLI)[2] > 4_000);
}

#[test]
fn who_fails_more_than_half_is_drawn_less_often() {
    let share = |fails| {
        let servers = [good(20), good(20), bad(fails), good(20)];
        let mut simulation = Simulation::new(&P2cEwma, &servers);
        simulation.run(1_000, MILLI);
        simulation.run(10_000, MILLI)[2]
    };
    // Half of the pairs have it, of which an eighth is left after three draws, and half of these it wins.
    assert!(share(100) < 900, "{}", share(100));
    assert!(share(30) > 2_000, "{}", share(30));
}

#[test]
fn who_is_fast_again_is_called_again() {
    let mut simulation = Simulation::new(&P2cEwma, &[good(10), good(500)]);
    let counts = simulation.run(10_000, MILLI);
    assert!(counts[1] < 100, "{counts:?}");
    simulation.servers[1] = good(10);
    // After the time of some decays.
    simulation.run(60_000, MILLI);
    let counts = simulation.run(10_000, MILLI);
    assert!(counts[1] > 4_000, "{counts:?}");
}

#[test]
fn who_is_hardly_called_is_called_in_turn() {
    let mut simulation = Simulation::new(&P2cEwma, &[good(10), good(500)]);
    let counts = simulation.run(100, 2 * SECOND);
    assert_eq!(counts, [50, 50]);
}

#[test]
fn if_all_are_unhealthy_they_are_called() {
    let mut simulation = Simulation::new(&P2cEwma, &[bad(100); 3]);
    let counts = simulation.run(3_000, MILLI);
    for count in &counts {
        assert!(count.abs_diff(1_000) < 130, "{counts:?}");
    }
}

#[test]
fn all_are_alike_until_they_have_answered() {
    let mut simulation = Simulation::new(&P2cEwma, &[good(1_000_000); 4]);
    let counts = simulation.run(400, MILLI);
    // By their calls in flight.
    for count in &counts {
        assert!(count.abs_diff(100) <= 5, "{counts:?}");
    }
}

#[test]
fn what_cannot_be_taken_is_skipped() {
    let request = Request::new(());
    let pick = |count: usize, can_be: &[usize]| {
        let picker = P2cEwma.picker(&candidates(count), 3);
        let mut picked = None;
        let take = &mut |index| {
            picked = can_be.contains(&index).then_some(index);
            picked.is_some()
        };
        picker.pick(&CallInfo::of(&request), take).unwrap();
        picked
    };
    for index in 0..5 {
        assert_eq!(pick(5, &[index]), Some(index));
    }
    assert_eq!(pick(5, &[]), None);
    assert_eq!(pick(1, &[0]), Some(0));
    assert_eq!(pick(1, &[]), None);
    assert_eq!(pick(0, &[]), None);
}
