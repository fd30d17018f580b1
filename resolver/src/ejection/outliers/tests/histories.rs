//! What must hold whatever happens.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// An endpoint is called some times, with one outcome.
    Calls(usize, usize, Verdict),
    Begin(usize),
    /// One of the calls that are in flight ends, or is given up.
    End(usize, Option<Verdict>),
    Pass(u64),
    Add(usize),
    Remove(usize),
    Reconnect(usize),
    /// Which are READY, as bits.
    Ready(u16),
}

const MOST: usize = 12;

fn any_step() -> impl Strategy<Value = Step> {
    let verdict = || prop_oneof![Just(Success), Just(Failure), Just(Verdict::Lost)];
    let any_end = prop::option::of(verdict());
    prop_oneof![
        6 => (1..=MOST, 1usize..12, verdict()).prop_map(|(port, count, how)| Step::Calls(port, count, how)),
        4 => (1..=MOST).prop_map(Step::Begin),
        3 => (any::<usize>(), any_end).prop_map(|(which, how)| Step::End(which, how)),
        4 => (0u64..15_000).prop_map(Step::Pass),
        1 => (1..=MOST).prop_map(Step::Add),
        1 => (1..=MOST).prop_map(Step::Remove),
        1 => (1..=MOST).prop_map(Step::Reconnect),
        1 => any::<u16>().prop_map(Step::Ready),
    ]
}

fn any_settings() -> impl Strategy<Value = Ejection> {
    let any_share = prop_oneof![Just(0.0), Just(0.1), Just(0.5), Just(1.0), 0.0f64..1.0];
    let any_small = prop_oneof![Just(0usize), Just(5), Just(100)];
    (any_share, any_small, any::<bool>()).prop_map(|(max_share, small_fleet, compares)| {
        // Numbers that few calls reach.
        let success = SuccessRate {
            min_calls: 5,
            min_endpoints: 3,
            ..SuccessRate::default()
        };
        let failure = FailureRate {
            min_calls: 5,
            min_endpoints: 3,
            ..FailureRate::default()
        };
        Ejection {
            max_share,
            success_rate: compares.then_some(success),
            failure_rate: compares.then_some(failure),
            breaker: Some(Breaker {
                small_fleet,
                ..Breaker::default()
            }),
            ..Ejection::default()
        }
    })
}

/// What must hold of the changes of one look.
fn check(fleet: &Fleet, changes: &[Change], out_before: usize) -> Result<(), TestCaseError> {
    let settings = fleet.outliers.settings;
    let count = fleet.tallies.len();
    let share = (settings.max_share * count as f64 + ROUNDING).floor() as usize;
    let share = share.max(usize::from(settings.max_share > 0.0));
    let is_small = settings.breaker.is_some_and(|it| count < it.small_fleet);
    let mut out = out_before;
    for change in changes {
        match change {
            Change::Readmitted { .. } => out -= 1,
            Change::OnTrial { .. } => {}
            Change::Ejected {
                reason: Reason::Trial,
                ..
            } => {}
            Change::Ejected { reason, time, .. } => {
                out += 1;
                let may_be_all = is_small && matches!(reason, Reason::Row(_));
                prop_assert!(out <= share || may_be_all, "{out} of {count}: {reason:?}");
                prop_assert!(*time <= Duration::from_secs(300) && *time > Duration::ZERO);
            }
        }
    }
    let next = fleet.outliers.next();
    prop_assert_eq!(next.is_some(), count > 0);
    // Never due at once again: the balancer would spin.
    prop_assert!(next.is_none_or(|it| it > fleet.now));
    Ok(())
}

fn count_out(fleet: &Fleet) -> usize {
    let standings = fleet.outliers.endpoints.values();
    standings
        .filter(|it| it.standing != Standing::Admitted)
        .count()
}

fn look(fleet: &mut Fleet) -> Result<(), TestCaseError> {
    let before = count_out(fleet);
    let changes = fleet.look();
    check(fleet, &changes, before)?;
    let ready = fleet.offered.len();
    let has_ready = match &fleet.ready {
        Some(ready) => ready.iter().any(|it| fleet.tallies.contains_key(it)),
        None => !fleet.tallies.is_empty(),
    };
    prop_assert_eq!(ready > 0, has_ready, "somebody is called if anybody can be");
    Ok(())
}

proptest! {
    #[test]
    fn whatever_happens_the_share_holds_trials_are_single_and_all_come_back_in_the_end(
        settings in any_settings(),
        endpoints in 1..=MOST,
        steps in prop::collection::vec(any_step(), 1..150),
    ) {
        let mut fleet = Fleet::with(endpoints, settings);
        let mut in_flight: Vec<(EndpointKey, Arc<Tally>, Admission)> = Vec::new();
        for step in steps {
            match step {
                Step::Calls(port, count, verdict) => {
                    for _ in 0..count {
                        let tally = fleet.tallies.get(&key(port)).cloned();
                        let Some(tally) = tally.filter(|_| fleet.is_offered(port)) else {
                            break;
                        };
                        let Some(admission) = tally.admit() else {
                            break;
                        };
                        if tally.ended(verdict, admission) == Look::Now {
                            look(&mut fleet)?;
                        }
                    }
                }
                Step::Begin(port) => {
                    let tally = fleet.tallies.get(&key(port)).cloned();
                    let tally = tally.filter(|_| fleet.is_offered(port));
                    let begun = tally.and_then(|tally| {
                        let admission = tally.admit()?;
                        Some((key(port), tally, admission))
                    });
                    in_flight.extend(begun);
                }
                Step::End(which, verdict) if !in_flight.is_empty() => {
                    let ended = in_flight.swap_remove(which % in_flight.len());
                    let (_, tally, admission) = ended;
                    let now = verdict.map(|it| tally.ended(it, admission));
                    if now == Some(Look::Now) {
                        look(&mut fleet)?;
                    }
                }
                Step::End(..) => {}
                Step::Pass(millis) => {
                    let end = fleet.now + Duration::from_millis(millis);
                    while let Some(next) = fleet.outliers.next().filter(|it| *it <= end) {
                        fleet.now = fleet.now.max(next);
                        look(&mut fleet)?;
                    }
                    fleet.now = end;
                }
                Step::Add(port) => fleet.add(port),
                Step::Remove(port) => fleet.remove(port),
                Step::Reconnect(port) => fleet.outliers.reconnected(&key(port)),
                Step::Ready(bits) => {
                    let ports = (1..=MOST).filter(|port| bits >> port & 1 == 1);
                    fleet.only_ready(&ports.collect::<Vec<_>>());
                }
            }
        }
        // From now on all is well; what hangs does so for ever, but those that hold a turn.
        in_flight.retain(|(_, _, admission)| matches!(admission, Admission::Normal(_)));
        fleet.ready = None;
        look(&mut fleet)?;
        let end = fleet.now + Duration::from_secs(301);
        while fleet.now < end {
            for tally in fleet.offered.iter().map(|it| &fleet.tallies[it]) {
                if let Some(admission) = tally.admit() {
                    let _ = tally.ended(Success, admission);
                }
            }
            look(&mut fleet)?;
            fleet.now += SECOND;
        }
        prop_assert_eq!(count_out(&fleet), 0);
    }
}
