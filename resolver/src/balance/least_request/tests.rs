use std::{sync::Arc, time::Duration};

use http::Request;

use super::*;
use crate::{
    balance::simulation::{Simulation, bad, candidates, good},
    load::Burden,
};

const MILLI: Duration = Duration::from_millis(1);
const TWO: LeastRequest = LeastRequest { choices: 2 };

/// Where so many calls go of which none ends, if some cannot be taken.
fn picks(picker: &dyn Picker, count: usize, calls: usize, can_be: &[usize]) -> Vec<usize> {
    let request = Request::new(());
    let mut counts = vec![0; count];
    for _ in 0..calls {
        let take = &mut |index: usize| {
            let is_it = can_be.contains(&index);
            counts[index] += usize::from(is_it);
            is_it
        };
        picker.pick(&CallInfo::of(&request), take).unwrap();
    }
    counts
}

// The shares of those that are drawn by lot are bounded at five standard deviations, which chance exceeds
// once in millions; and as the seed is fixed, it is the same chance each time.

#[test]
fn a_slow_server_gets_fewer_calls() {
    for choices in [2, 3, 10] {
        let servers = [good(10), good(10), good(100), good(10)];
        let mut simulation = Simulation::new(&LeastRequest { choices }, &servers);
        let counts = simulation.run(10_000, MILLI);
        assert!(counts[2] < 1_300, "{choices}: {counts:?}");
        for good in [0, 1, 3] {
            assert!(counts[good].abs_diff(counts[0]) < 300, "{counts:?}");
        }
    }
}

#[test]
fn who_fails_fast_gets_its_share_and_no_more() {
    for choices in 2..=10 {
        for fails in [100, 10] {
            let servers = [good(20), good(20), bad(fails), good(20)];
            let mut simulation = Simulation::new(&LeastRequest { choices }, &servers);
            let counts = simulation.run(10_000, MILLI);
            // A quarter; 43 is one deviation.
            assert!(counts[2] <= 2_500 + 215, "{choices}, {fails}: {counts:?}");
        }
    }
    // It would get far more for having so little to do.
    let mut simulation = Simulation::new(&TWO, &[good(20), good(20), bad(0), good(20)]);
    assert!(simulation.run(10_000, MILLI)[2] > 4_000);
}

#[test]
fn who_begins_to_fail_is_known_after_a_few_calls() {
    let mut simulation = Simulation::new(&TWO, &[good(20), good(20), good(20), good(20)]);
    simulation.run(10_000, MILLI);
    simulation.servers[2] = bad(100);
    // It gets a quarter, and a few more until it is known; 9 is one deviation.
    let counts = simulation.run(400, MILLI);
    assert!(counts[2] <= 100 + 45, "{counts:?}");
}

#[test]
fn if_all_fail_alike_the_slow_one_still_gets_fewer() {
    let mut slow = good(100);
    slow.fails = 20;
    let mut fast = good(10);
    fast.fails = 20;
    let mut simulation = Simulation::new(&TWO, &[fast, slow, fast, fast]);
    let counts = simulation.run(10_000, MILLI);
    assert!(counts[1] < 1_500, "{counts:?}");
}

#[test]
fn a_failure_among_a_hundred_decides_nothing() {
    let mut busy = good(10);
    busy.fails = 1;
    let mut simulation = Simulation::new(&TWO, &[good(100), busy]);
    let counts = simulation.run(10_000, MILLI);
    assert!(counts[0] < 3_500, "{counts:?}");
}

#[test]
fn the_counts_survive_a_new_picker() {
    let candidates = candidates(2);
    let now = tokio::time::Instant::now().into_std();
    let _calls: Vec<_> = (0..5)
        .map(|_| Burden::new(Arc::clone(candidates[0].load()), now))
        .collect();
    for seed in 0..10 {
        // Only where the busy one was drawn twice.
        let counts = picks(&*TWO.picker(&candidates, seed), 2, 1_000, &[0, 1]);
        assert!(counts[0].abs_diff(250) < 70, "{counts:?}");
    }
}

#[test]
fn who_starts_slowly_counts_as_busier() {
    let mut slow_start = candidates(3);
    let endpoint = slow_start[1].endpoint().clone();
    slow_start[1] = Candidate::with(endpoint, 0.1, Arc::default());
    let mut simulation = Simulation::of(&TWO, &[good(30); 3], slow_start);
    let counts = simulation.run(10_000, MILLI);
    // Where it is drawn twice, and little more.
    assert!((1_000..1_500).contains(&counts[1]), "{counts:?}");
}

#[test]
fn what_cannot_be_taken_leaves_its_calls_to_all_others() {
    let picker = TWO.picker(&candidates(4), 1);
    let counts = picks(&*picker, 4, 9_000, &[0, 2, 3]);
    // All of them if each call was drawn again until it could be; those that were not, a few in a hundred,
    // go to whoever comes next.
    for index in [0, 2, 3] {
        assert!(counts[index].abs_diff(3_000) < 300, "{counts:?}");
    }
    assert_eq!(picks(&*picker, 4, 50, &[1]), [0, 50, 0, 0]);
    assert_eq!(picks(&*picker, 4, 50, &[]), [0; 4]);
    assert_eq!(picks(&*TWO.picker(&[], 1), 0, 50, &[]), Vec::<usize>::new());
    assert_eq!(picks(&*TWO.picker(&candidates(1), 1), 1, 50, &[0]), [50]);
}
