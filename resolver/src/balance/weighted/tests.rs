use std::sync::atomic::AtomicUsize;

use proptest::prelude::*;

use super::*;

fn picker(weights: &[f64], start: u64) -> Weighted {
    Weighted::new(weights.iter().copied(), start)
}

/// How many of some picks went to each target, if only some can be taken.
fn picks(picker: &Weighted, picks: usize, can_be: impl Fn(usize) -> bool) -> Vec<usize> {
    let mut counts = vec![0; picker.weights.len()];
    for _ in 0..picks {
        let picked = picker.pick(&can_be);
        counts[picked.expect("one can be taken")] += 1;
    }
    counts
}

fn anybody(_: usize) -> bool {
    true
}

#[test]
fn shares_are_those_of_the_weights_from_whatever_start() {
    for start in [0, 1, 77_777, u64::from(u32::MAX) - 5_000, u64::MAX] {
        let counts = picks(&picker(&[1.0, 3.0], start), 10_000, anybody);
        assert!(counts[0].abs_diff(2_500) <= 10, "{start}: {counts:?}");
        let counts = picks(&picker(&[1.0, 2.0, 3.0, 4.0], start), 10_000, anybody);
        for (index, count) in counts.iter().enumerate() {
            assert!(
                count.abs_diff((index + 1) * 1_000) <= 10,
                "{start}: {counts:?}"
            );
        }
    }
}

#[test]
fn equal_weights_are_round_robin() {
    let picker = picker(&[7.5; 3], 1);
    let picks: Vec<_> = (0..7).filter_map(|_| picker.pick(anybody)).collect();
    assert_eq!(picks, [1, 2, 0, 1, 2, 0, 1]);
}

#[test]
fn turns_are_interleaved_and_come_not_all_at_once() {
    let picker = picker(&[1.0, 1.0, 2.0], 0);
    let picks: Vec<_> = (0..400).filter_map(|_| picker.pick(anybody)).collect();
    // Never three times the same, nor four without one of the light ones.
    assert!(picks.windows(3).all(|it| it != [2, 2, 2]));
    for index in [0, 1] {
        assert!(picks.windows(6).all(|it| it.contains(&index)), "{picks:?}");
    }
}

#[test]
fn new_pickers_start_anywhere() {
    let first = |start| picker(&[1.0, 1.0, 2.0], start).pick(anybody);
    let firsts: Vec<_> = (0..12).filter_map(first).collect();
    assert!((0..3).all(|index| firsts.contains(&index)), "{firsts:?}");
}

#[test]
fn who_has_no_weight_is_never_picked_while_another_has_some() {
    let picker = picker(&[0.0, 1.0, f64::NAN, -1.0, f64::INFINITY, 1.0], 3);
    assert_eq!(picks(&picker, 1_000, anybody), [0, 500, 0, 0, 0, 500]);
    // Nor if the others cannot be taken.
    assert_eq!(picker.pick(|it| it == 0), None);
    assert_eq!(
        picks(&picker, 10, |it| it == 1 || it == 0),
        [0, 10, 0, 0, 0, 0]
    );
}

#[test]
fn if_nobody_has_weight_all_are_alike() {
    assert_eq!(picks(&picker(&[0.0, 0.0], 0), 10, anybody), [5, 5]);
    assert_eq!(picks(&picker(&[f64::NAN], 0), 10, anybody), [10]);
}

#[test]
fn nothing_to_take_is_no_pick() {
    assert_eq!(picker(&[], 5).pick(anybody), None);
    assert_eq!(picker(&[1.0, 1e9], 5).pick(|_| false), None);
}

#[test]
fn weights_may_be_as_far_apart_as_they_like() {
    let counts = picks(&picker(&[1e-300, 1e300], 9), 65_536 * 2, anybody);
    // The least that there is.
    assert_eq!(counts[0], 2);
    let counts = picks(
        &picker(&[f64::MIN_POSITIVE, f64::MIN_POSITIVE * 3.0], 9),
        400,
        anybody,
    );
    assert!(counts[0].abs_diff(100) <= 1, "{counts:?}");
    // One of a thousand has nearly all.
    let mut weights = vec![1.0; 1_000];
    weights[500] = 9_000.0;
    let counts = picks(&picker(&weights, 9), 10_000, anybody);
    assert!(counts[500].abs_diff(9_000) <= 100, "{}", counts[500]);
}

#[test]
fn what_cannot_be_taken_leaves_its_turns_to_all_others() {
    let counts = picks(&picker(&[1.0; 4], 0), 900, |it| it != 1);
    assert_eq!(counts, [300, 0, 300, 300]);
    let counts = picks(&picker(&[1.0, 4.0, 2.0, 1.0], 0), 4_000, |it| it != 1);
    for (count, expected) in counts.iter().zip([1_000, 0, 2_000, 1_000]) {
        assert!(count.abs_diff(expected) <= 10, "{counts:?}");
    }
}

#[test]
fn if_the_heavy_one_cannot_be_taken_the_light_ones_share_evenly() {
    let mut weights = vec![1.0; 100];
    weights[7] = 65_535.0;
    let counts = picks(&picker(&weights, 0), 9_900, |it| it != 7);
    // The one after it has the turn in which it is that one's.
    for (index, count) in counts.iter().enumerate().filter(|(index, _)| *index != 7) {
        assert!((80..=210).contains(count), "{index}: {counts:?}");
    }
}

#[test]
fn picks_on_many_threads_keep_the_shares() {
    let picker = picker(&[1.0, 3.0, 0.0], 5);
    let counts = [const { AtomicUsize::new(0) }; 3];
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    let picked = picker.pick(anybody).expect("one can be taken");
                    counts[picked].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let counts = counts.map(|it| it.into_inner());
    assert!(
        counts[0].abs_diff(10_000) <= 10 && counts[2] == 0,
        "{counts:?}"
    );
    assert_eq!(counts.iter().sum::<usize>(), 40_000);
}

proptest! {
    #[test]
    fn whatever_the_weights_each_has_its_share_within_one_percent(
        weights in prop::collection::vec(prop_oneof![Just(0.0), 0.01f64..1.0, 1.0f64..100.0], 1..8),
        start in any::<u64>(),
    ) {
        let total: f64 = weights.iter().sum();
        prop_assume!(total > 0.0);
        let counts = picks(&picker(&weights, start), 10_000, anybody);
        for (weight, count) in weights.iter().zip(counts) {
            let share = count as f64 / 10_000.0;
            prop_assert!((share - weight / total).abs() < 0.01, "{} of {}: {}", weight, total, share);
            prop_assert!(*weight > 0.0 || count == 0);
        }
    }

    #[test]
    fn whatever_can_be_taken_and_has_weight_is_found(
        targets in prop::collection::vec((prop_oneof![Just(0.0), Just(1e-9), 0.0f64..9.0], any::<bool>()), 0..20),
        start in any::<u64>(),
    ) {
        let weights: Vec<_> = targets.iter().map(|it| it.0).collect();
        let is_weightless = weights.iter().all(|it| *it == 0.0);
        let can_be = |it: usize| targets[it].1;
        let expected = targets.iter().any(|(weight, can_be)| *can_be && (*weight > 0.0 || is_weightless));
        let picked = picker(&weights, start).pick(can_be);
        prop_assert_eq!(picked.is_some(), expected);
        if let Some(index) = picked {
            prop_assert!(can_be(index) && (weights[index] > 0.0 || is_weightless));
        }
    }
}
