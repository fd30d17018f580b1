use super::*;

fn refusal(ejection: Ejection) -> String {
    ejection.check().unwrap_err().to_string()
}

#[test]
fn the_defaults_make_sense_and_so_do_all_parts_turned_off() {
    Ejection::default().check().unwrap();
    let off = Ejection {
        success_rate: None,
        failure_rate: None,
        breaker: None,
        ..Ejection::default()
    };
    off.check().unwrap();
}

#[test]
fn settings_that_make_no_sense_are_refused_with_what_was_expected() {
    let (zero, all) = (Duration::ZERO, Ejection::default());
    let rate = |rate| Ejection {
        success_rate: Some(rate),
        ..all
    };
    let share = |rate| Ejection {
        failure_rate: Some(rate),
        ..all
    };
    let row = |breaker| Ejection {
        breaker: Some(breaker),
        ..all
    };
    let (success, failure) = (SuccessRate::default(), FailureRate::default());
    let breaker = Breaker::default();
    let times = breaker.times;
    for (ejection, message) in [
        (
            Ejection {
                interval: Duration::from_nanos(1),
                ..all
            },
            "ejection interval: 1ns (expected: 100 ms or more)",
        ),
        (
            Ejection {
                base_time: zero,
                ..all
            },
            "ejection base time: 0ns (expected: more than zero)",
        ),
        (
            Ejection {
                max_time: all.base_time / 2,
                ..all
            },
            "ejection max time: 15s (expected: the base time or more)",
        ),
        (
            Ejection {
                max_share: f64::NAN,
                ..all
            },
            "ejection max share: NaN (expected: from 0 to 1)",
        ),
        (
            rate(SuccessRate {
                deviations: -1.0,
                ..success
            }),
            "success rate deviations: -1.0 (expected: 0 or more)",
        ),
        (
            rate(SuccessRate {
                margin: 1.5,
                ..success
            }),
            "success rate margin: 1.5 (expected: from 0 to 1)",
        ),
        (
            rate(SuccessRate {
                min_endpoints: 0,
                ..success
            }),
            "success rate min endpoints: 0 (expected: 1 or more)",
        ),
        (
            rate(SuccessRate {
                min_calls: 0,
                ..success
            }),
            "success rate min calls: 0 (expected: 1 or more)",
        ),
        (
            share(FailureRate {
                threshold: 85.0,
                ..failure
            }),
            "failure rate threshold: 85.0 (expected: from 0 to 1)",
        ),
        (
            share(FailureRate {
                min_endpoints: 0,
                ..failure
            }),
            "failure rate min endpoints: 0 (expected: 1 or more)",
        ),
        (
            share(FailureRate {
                min_calls: 0,
                ..failure
            }),
            "failure rate min calls: 0 (expected: 1 or more)",
        ),
        (
            row(Breaker {
                consecutive_failures: 0,
                ..breaker
            }),
            "breaker consecutive failures: 0 (expected: 1 or more)",
        ),
        (
            row(Breaker {
                times: Backoff {
                    base: zero,
                    ..times
                },
                ..breaker
            }),
            "breaker base time: 0ns (expected: more than zero)",
        ),
        (
            row(Breaker {
                times: Backoff {
                    factor: 0.5,
                    ..times
                },
                ..breaker
            }),
            "breaker factor: 0.5 (expected: 1 or more)",
        ),
        (
            row(Breaker {
                times: Backoff { cap: zero, ..times },
                ..breaker
            }),
            "breaker cap: 0ns (expected: the base time or more)",
        ),
        (
            row(Breaker {
                times: Backoff {
                    jitter: 2.0,
                    ..times
                },
                ..breaker
            }),
            "breaker jitter: 2.0 (expected: from 0 to 1)",
        ),
    ] {
        assert_eq!(refusal(ejection), message);
    }
}

#[test]
fn what_the_caller_did_wrong_is_no_fault_of_the_server() {
    let codes = FailureCodes::default();
    let faults: Vec<_> = (0..=16).filter(|code| codes.contains(*code)).collect();
    assert_eq!(faults, [2, 4, 13, 14, 15]);
    assert_eq!(codes.verdict(5), Verdict::Success);
    assert_eq!(codes.verdict(14), Verdict::Failure);
}

#[test]
fn a_code_that_does_not_exist_counts_as_unknown_and_ok_never_as_a_failure() {
    for code in [-1, 17, 32, i32::MIN, i32::MAX] {
        assert!(FailureCodes::default().contains(code), "{code}");
        assert!(!FailureCodes::new([14]).contains(code), "{code}");
    }
    assert!(!FailureCodes::new(0..=16).contains(0));
}

#[test]
fn codes_are_those_of_tonic() {
    use tonic::Code;
    let faults = [
        Code::Unknown,
        Code::DeadlineExceeded,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
    ];
    let faults = faults.map(|code| code as i32);
    assert_eq!(FailureCodes::default(), FailureCodes::new(faults));
}
