use proptest::prelude::*;

use super::*;
use crate::Endpoint;

/// What endpoints have told, each `(successes, failures)`.
fn counts(calls: &[(u64, u64)]) -> BTreeMap<EndpointKey, Counts> {
    let counts = calls.iter().zip(1..);
    let counts = counts.map(|(&(successes, failures), port)| {
        let endpoint = Endpoint::new(format!("a:{port}").parse().unwrap());
        let counts = Counts {
            successes,
            failures,
        };
        (EndpointKey::of(&endpoint), counts)
    });
    counts.collect()
}

/// As A50 has it, for any number of calls.
fn a50(deviations: f64) -> SuccessRate {
    SuccessRate {
        deviations,
        margin: 0.0,
        min_endpoints: 3,
        min_calls: 1,
    }
}

fn names(candidates: Option<Vec<Candidate>>) -> Option<Vec<String>> {
    Some(candidates?.iter().map(|it| it.key.to_string()).collect())
}

fn outliers(settings: &SuccessRate, calls: &[(u64, u64)]) -> Option<Vec<String>> {
    names(by_success_rate(settings, &counts(calls)))
}

fn failing(settings: &FailureRate, calls: &[(u64, u64)]) -> Option<Vec<String>> {
    names(by_failure_rate(settings, &counts(calls)))
}

fn named(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|it| (*it).to_owned()).collect())
}

/// grpc-go's test of success rates: three endpoints, five calls each.
#[test]
fn one_that_fails_all_calls_among_three_is_below_half_a_deviation() {
    assert_eq!(outliers(&a50(0.5), &[(5, 0); 3]), named(&[]));
    let one_bad = [(5, 0), (5, 0), (0, 5)];
    assert_eq!(outliers(&a50(0.5), &one_bad), named(&["a:3"]));
    // It is 1.41 deviations below the mean.
    assert_eq!(outliers(&a50(1.4), &one_bad), named(&["a:3"]));
    assert_eq!(outliers(&a50(1.42), &one_bad), named(&[]));
}

#[test]
fn one_of_five_is_found_by_the_default_and_two_of_five_are_not() {
    let (good, bad) = ((100, 0), (20, 80));
    let settings = SuccessRate::default();
    let one_bad = [good, bad, good, good, good];
    assert_eq!(outliers(&settings, &one_bad), named(&["a:2"]));
    let two_bad = [good, bad, good, bad, good];
    assert_eq!(outliers(&settings, &two_bad), named(&[]));
}

#[test]
fn the_deviation_is_that_of_all_and_not_of_a_sample() {
    // Exactly two of these below the mean; 1.79 of the other kind.
    let one_bad = [(10, 0), (10, 0), (10, 0), (10, 0), (0, 10)];
    assert_eq!(outliers(&a50(1.99), &one_bad), named(&["a:5"]));
    assert_eq!(outliers(&a50(2.01), &one_bad), named(&[]));
}

#[test]
fn a_single_failed_call_makes_no_outlier_unless_that_is_asked_for() {
    let calls = [(100, 0), (100, 0), (100, 0), (100, 0), (99, 1)];
    assert_eq!(outliers(&SuccessRate::default(), &calls), named(&[]));
    let as_a50 = SuccessRate {
        margin: 0.0,
        ..SuccessRate::default()
    };
    assert_eq!(outliers(&as_a50, &calls), named(&["a:5"]));
}

#[test]
fn those_with_few_calls_neither_are_compared_nor_change_the_mean() {
    let settings = SuccessRate::default();
    let good = (100, 0);
    let few = [good, good, good, good, good, (0, 99)];
    assert_eq!(outliers(&settings, &few), named(&[]));
    let enough = [good, good, good, good, good, (0, 100)];
    assert_eq!(outliers(&settings, &enough), named(&["a:6"]));
}

#[test]
fn too_few_with_calls_enough_cannot_be_compared() {
    let (settings, good) = (SuccessRate::default(), (100, 0));
    assert_eq!(outliers(&settings, &[good, good, good, (0, 100)]), None);
    let one_with_few = [good, good, good, (0, 100), (99, 0)];
    assert_eq!(outliers(&settings, &one_with_few), None);
    assert_eq!(outliers(&settings, &[]), None);
    assert_eq!(failing(&FailureRate::default(), &[(0, 50); 4]), None);
    let any = FailureRate {
        min_endpoints: 0,
        min_calls: 0,
        ..FailureRate::default()
    };
    assert_eq!(failing(&any, &[(0, 0)]), None);
}

#[test]
fn more_failures_than_the_threshold_are_found_however_the_others_are() {
    let settings = FailureRate::default();
    let calls = [(15, 85), (14, 86), (100, 0), (0, 50), (0, 49), (100, 0)];
    assert_eq!(failing(&settings, &calls), named(&["a:2", "a:4"]));
}

#[test]
fn the_reasons_tell_the_numbers() {
    let calls = counts(&[(10, 0), (10, 0), (0, 10)]);
    let outlier = by_success_rate(&a50(1.0), &calls).unwrap().pop().unwrap();
    let text = "success rate: 0.000 of 10 calls (expected: 0.195 or more, as others have)";
    assert_eq!(outlier.reason.to_string(), text);
    let settings = FailureRate {
        min_endpoints: 3,
        min_calls: 10,
        ..FailureRate::default()
    };
    let failing = by_failure_rate(&settings, &calls).unwrap().pop().unwrap();
    let text = "failure rate: 1.000 of 10 calls (expected: 0.850 or less)";
    assert_eq!(failing.reason.to_string(), text);
}

fn any_calls() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let any_count = prop_oneof![Just(0), 0u64..200, Just(u64::MAX), any::<u64>()];
    prop::collection::vec((any_count.clone(), any_count), 0..20)
}

proptest! {
    #[test]
    fn a_fleet_whose_endpoints_fail_alike_has_no_outlier(
        (successes, failures) in (0u64..1_000, 0u64..1_000).prop_filter("no calls", |it| *it != (0, 0)),
        scales in prop::collection::vec(1u64..1_000, 3..40),
        deviations in 0.0f64..3.0,
    ) {
        let calls: Vec<_> = scales.iter().map(|it| (successes * it, failures * it)).collect();
        prop_assert_eq!(outliers(&a50(deviations), &calls), named(&[]));
    }

    #[test]
    fn whatever_is_counted_rates_are_shares(calls in any_calls(), deviations in 0.0f64..3.0) {
        let calls = counts(&calls);
        let settings = a50(deviations);
        for outlier in by_success_rate(&settings, &calls).into_iter().flatten() {
            let Reason::SuccessRate { rate, threshold, .. } = outlier.reason else {
                panic!("{:?}", outlier.reason);
            };
            prop_assert!((0.0..=1.0).contains(&rate) && rate < threshold && threshold <= 1.0);
        }
        let settings = FailureRate { min_endpoints: 1, min_calls: 1, threshold: 0.5 };
        for failing in by_failure_rate(&settings, &calls).into_iter().flatten() {
            let Reason::FailureRate { rate, .. } = failing.reason else {
                panic!("{:?}", failing.reason);
            };
            prop_assert!(rate > 0.5 && rate <= 1.0);
        }
    }
}
