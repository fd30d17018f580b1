use std::sync::atomic::AtomicUsize;

use proptest::prelude::*;

use super::*;

fn tally(gate: Gate) -> Arc<Tally> {
    let tally = Arc::new(Tally::new(Some(5)));
    tally.set(gate);
    tally
}

fn trial(tally: &Arc<Tally>) -> Admission {
    match tally.admit() {
        Some(trial @ Admission::Trial(_)) => trial,
        other => panic!("no trial: {other:?}"),
    }
}

fn call(tally: &Arc<Tally>, verdict: Verdict) -> Look {
    let admission = tally.admit().expect("it is admitted");
    tally.ended(verdict, admission)
}

fn counts(successes: u64, failures: u64) -> Counts {
    Counts {
        successes,
        failures,
    }
}

use Verdict::{Failure, Lost, Success};

#[test]
fn the_balancer_is_told_at_once_of_a_row_that_is_long_and_only_then() {
    let tally = tally(Gate::Open);
    let ends = [Failure, Failure, Failure, Failure, Success];
    assert!(ends.iter().all(|it| call(&tally, *it) == Look::Later));
    assert_eq!(tally.row(), 0);
    let looks: Vec<_> = (0..7).map(|_| call(&tally, Failure)).collect();
    let (now, later) = (Look::Now, Look::Later);
    assert_eq!(looks, [later, later, later, later, now, later, later]);
    assert_eq!((tally.row(), tally.counts()), (7, counts(1, 11)));
}

#[test]
fn calls_that_are_lost_with_their_connection_are_no_row() {
    let tally = tally(Gate::Open);
    assert!((0..20).all(|_| call(&tally, Lost) == Look::Later));
    assert_eq!((tally.row(), tally.counts()), (0, counts(0, 20)));
}

#[test]
fn calls_that_are_given_up_say_nothing() {
    let tally = tally(Gate::Open);
    for _ in 0..20 {
        drop(tally.admit());
    }
    assert_eq!((tally.row(), tally.counts()), (0, counts(0, 0)));
}

#[test]
fn a_closed_gate_lets_nobody_through() {
    assert!(tally(Gate::Closed).admit().is_none());
}

#[test]
fn one_call_is_on_trial_at_a_time_and_one_that_is_given_up_gives_its_turn_back() {
    let tally = tally(Gate::OneTrial);
    for _ in 0..3 {
        let trial = trial(&tally);
        assert!(tally.admit().is_none());
        drop(trial);
    }
    let trial = trial(&tally);
    assert_eq!(tally.ended(Success, trial), Look::Now);
    assert_eq!(tally.outcome(), Some(true));
    // It is for the balancer to say how it goes on.
    assert!(tally.admit().is_none());
}

#[test]
fn a_trial_that_failed_or_was_lost_has_failed() {
    for verdict in [Failure, Lost] {
        let tally = tally(Gate::OneTrial);
        assert_eq!(call(&tally, verdict), Look::Now);
        assert_eq!(tally.outcome(), Some(false));
        assert!(tally.admit().is_none());
    }
}

#[test]
fn any_number_of_trials_is_told_of_at_the_first_success() {
    let tally = tally(Gate::AnyTrial);
    let (one, other) = (trial(&tally), trial(&tally));
    assert_eq!(tally.ended(Failure, one), Look::Later);
    assert_eq!(tally.outcome(), None);
    assert_eq!(tally.ended(Success, other), Look::Now);
    assert_eq!(call(&tally, Success), Look::Later);
    assert_eq!(call(&tally, Failure), Look::Later);
    assert_eq!(tally.outcome(), Some(true));
}

#[test]
fn a_call_that_began_before_the_gate_changed_says_nothing() {
    let tally = tally(Gate::Open);
    let before: Vec<_> = (0..10).map(|_| tally.admit().unwrap()).collect();
    tally.set(Gate::OneTrial);
    for (admission, verdict) in before.into_iter().zip([Success, Failure].repeat(5)) {
        assert_eq!(tally.ended(verdict, admission), Look::Later);
    }
    assert_eq!((tally.outcome(), tally.row()), (None, 0));
    let earlier = trial(&tally);
    tally.set(Gate::Closed);
    tally.set(Gate::OneTrial);
    let current = trial(&tally);
    // Neither its end nor its being dropped touches the turn that another one has.
    assert_eq!(tally.ended(Failure, earlier), Look::Later);
    assert!(tally.outcome().is_none() && tally.admit().is_none());
    assert_eq!(tally.ended(Success, current), Look::Now);
}

#[test]
fn a_gate_that_is_set_again_keeps_the_trial_under_way() {
    let tally = tally(Gate::OneTrial);
    let trial = trial(&tally);
    assert!(!tally.set(Gate::OneTrial));
    assert!(tally.admit().is_none());
    assert_eq!(tally.ended(Success, trial), Look::Now);
    assert!(!tally.set(Gate::OneTrial));
    assert_eq!(tally.outcome(), Some(true));
}

#[test]
fn a_gate_tells_when_it_lets_more_through() {
    use Gate::{AnyTrial, Closed, OneTrial, Open};
    let tally = tally(Open);
    let gates = [Closed, OneTrial, Open, AnyTrial, OneTrial, AnyTrial, Closed];
    let is_wider = gates.map(|gate| tally.set(gate));
    assert_eq!(is_wider, [false, true, true, false, false, true, false]);
}

#[test]
fn numbers_that_wrap_go_on_and_those_that_go_back_add_nothing() {
    let (first, last) = (counts(u64::MAX - 1, 7), counts(3, 5));
    assert_eq!(last.since(first), counts(5, 0));
    let all = counts(u64::MAX, u64::MAX);
    assert_eq!(all.calls(), u64::MAX);
    assert!((0.0..=1.0).contains(&all.success_rate().unwrap()));
    assert_eq!(counts(0, 0).success_rate(), None);
}

#[test]
fn calls_on_many_threads_are_never_on_trial_together_and_lose_no_turn() {
    let (tally, on_trial) = (tally(Gate::OneTrial), AtomicUsize::new(0));
    let trials = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50_000 {
                    let Some(trial) = tally.admit() else {
                        continue;
                    };
                    assert_eq!(on_trial.fetch_add(1, Relaxed), 0);
                    trials.fetch_add(1, Relaxed);
                    // Long enough for another one to come.
                    std::thread::yield_now();
                    on_trial.fetch_sub(1, Relaxed);
                    drop(trial);
                }
            });
        }
    });
    assert!(trials.load(Relaxed) > 0);
    assert_eq!(call(&tally, Success), Look::Now);
}

#[derive(Debug, Clone)]
enum Step {
    Set(Gate),
    Admit,
    /// Of those in flight, one.
    End(usize, Verdict),
    GiveUp(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    let any_gate = prop_oneof![
        3 => Just(Gate::OneTrial),
        1 => Just(Gate::Closed),
        1 => Just(Gate::AnyTrial),
        1 => Just(Gate::Open),
    ];
    let any_verdict = prop_oneof![Just(Success), Just(Failure), Just(Lost)];
    prop_oneof![
        1 => any_gate.prop_map(Step::Set),
        4 => Just(Step::Admit),
        2 => (any::<usize>(), any_verdict).prop_map(|(which, how)| Step::End(which, how)),
        2 => any::<usize>().prop_map(Step::GiveUp),
    ]
}

proptest! {
    #[test]
    fn of_one_trial_there_is_never_a_second_nor_none_that_nobody_has(
        steps in prop::collection::vec(any_step(), 1..200),
    ) {
        let tally = tally(Gate::OneTrial);
        let mut gate = Gate::OneTrial;
        let mut in_flight = Vec::new();
        // Of the trials in flight, how many began since the gate was set.
        let current = |in_flight: &[(Admission, u64)], set: u64| {
            let trials = in_flight.iter().filter(|(it, at)| {
                matches!(it, Admission::Trial(_)) && *at == set
            });
            trials.count()
        };
        let mut set = 0;
        for step in steps {
            let (outcome, before) = (tally.outcome(), current(&in_flight, set));
            match step {
                Step::Set(next) => {
                    tally.set(next);
                    set += u64::from(next != gate);
                    gate = next;
                }
                Step::Admit => {
                    let admission = tally.admit();
                    let expected = match gate {
                        Gate::Closed => false,
                        Gate::OneTrial => before == 0 && outcome.is_none(),
                        Gate::AnyTrial | Gate::Open => true,
                    };
                    prop_assert_eq!(admission.is_some(), expected);
                    in_flight.extend(admission.map(|it| (it, set)));
                }
                Step::End(which, verdict) if !in_flight.is_empty() => {
                    let (admission, at) = in_flight.swap_remove(which % in_flight.len());
                    let is_trial = matches!(admission, Admission::Trial(_)) && at == set;
                    let _ = tally.ended(verdict, admission);
                    let is_good = verdict == Success;
                    let expected = match (is_trial, gate) {
                        (true, Gate::OneTrial) => Some(is_good),
                        (true, Gate::AnyTrial) if is_good => Some(true),
                        _ => outcome,
                    };
                    prop_assert_eq!(tally.outcome(), expected);
                }
                Step::GiveUp(which) if !in_flight.is_empty() => {
                    drop(in_flight.swap_remove(which % in_flight.len()));
                    prop_assert_eq!(tally.outcome(), outcome);
                }
                Step::End(..) | Step::GiveUp(_) => {}
            }
        }
    }
}
