//! What became of calls around a fault.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::arrivals::Call;

/// Calls are looked at in slices of this length.
const SLICE: Duration = Duration::from_millis(100);

/// How many slices in a row must be as before.
const NORMAL: usize = 5;

/// How much longer than before the slowest in a hundred calls may take. Less than a slow server's calls
/// do.
const FACTOR: u32 = 3;

/// From when on a fault is to be old news.
const OLD: Duration = Duration::from_secs(1);

/// What became of the calls of one round that started after the fault, or were under way.
pub(crate) struct Outcome {
    /// How long those took that were answered, in microseconds.
    answered: Histogram<u64>,
    failed: u64,
    /// Of those that started when the fault was old news.
    late: u64,
    late_failed: u64,
    /// Of all, answered or not.
    longest: Duration,
    normal_after: Option<Duration>,
}

impl Outcome {
    /// Looks at the calls of a round that lasted until `end`, with a fault `at` some time.
    pub(crate) fn of(calls: &[Call], at: Duration, end: Duration) -> Self {
        let mut answered = histogram();
        let (mut failed, mut late, mut late_failed) = (0, 0, 0);
        let mut longest = Duration::ZERO;
        for call in calls.iter().filter(|it| it.started + it.took >= at) {
            longest = longest.max(call.took);
            match call.succeeded {
                true => answered.saturating_record(call.took.as_micros() as u64),
                false => failed += 1,
            }
            if call.started >= at + OLD {
                late += 1;
                late_failed += u64::from(!call.succeeded);
            }
        }
        Self {
            answered,
            failed,
            late,
            late_failed,
            longest,
            normal_after: normal_after(calls, at, end),
        }
    }
}

/// Returns how long after the fault all was as before.
fn normal_after(calls: &[Call], at: Duration, end: Duration) -> Option<Duration> {
    let mut before = histogram();
    for call in calls.iter().filter(|it| it.started + it.took < at) {
        before.saturating_record(call.took.as_micros() as u64);
    }
    let most = before.value_at_quantile(0.99) * u64::from(FACTOR);
    let count = ((end.saturating_sub(at)).as_millis() / SLICE.as_millis()) as usize;
    let mut slices: Vec<(Histogram<u64>, bool)> = vec![(histogram(), true); count];
    for call in calls.iter().filter(|it| it.started >= at) {
        let index = ((call.started - at).as_millis() / SLICE.as_millis()) as usize;
        // The last may be cut.
        if let Some((times, all_succeeded)) = slices.get_mut(index) {
            times.saturating_record(call.took.as_micros() as u64);
            *all_succeeded &= call.succeeded;
        }
    }
    let is_normal = |(times, all_succeeded): &(Histogram<u64>, bool)| {
        *all_succeeded && times.value_at_quantile(0.99) <= most
    };
    let first = slices
        .windows(NORMAL)
        .position(|some| some.iter().all(is_normal))?;
    Some(SLICE * first as u32)
}

fn histogram() -> Histogram<u64> {
    // Up to a minute.
    Histogram::new_with_max(60_000_000, 3).expect("digits")
}

/// What became of the calls of all rounds.
#[derive(Default)]
pub(crate) struct Outcomes {
    rounds: Vec<Outcome>,
}

impl Outcomes {
    pub(crate) fn add(&mut self, round: Outcome) {
        self.rounds.push(round);
    }

    pub(crate) fn answered(&self) -> u64 {
        self.sum(|it| it.answered.len())
    }

    pub(crate) fn failed(&self) -> u64 {
        self.sum(|it| it.failed)
    }

    /// Returns the least and the most that failed in a round.
    pub(crate) fn failed_spread(&self) -> (u64, u64) {
        self.spread(|it| it.failed)
    }

    /// Returns how many failed of those that started when the fault was old news.
    pub(crate) fn failed_late(&self) -> u64 {
        self.sum(|it| it.late_failed)
    }

    /// Returns their share.
    pub(crate) fn share_failed_late(&self) -> f64 {
        self.failed_late() as f64 / self.sum(|it| it.late).max(1) as f64
    }

    /// Returns after how long all was as before, in the worst round; `None` if in one it never was.
    pub(crate) fn normal_after_ms(&self) -> Option<u128> {
        // The first that is none, where there is one.
        let all: Option<Vec<_>> = self.rounds.iter().map(|it| it.normal_after).collect();
        all?.into_iter().max().map(|it| it.as_millis())
    }

    pub(crate) fn longest_ms(&self) -> u128 {
        let longest = self.rounds.iter().map(|it| it.longest).max();
        longest.unwrap_or_default().as_millis()
    }

    /// Returns how long those took that were answered. It tells how many were slow, where the p99 tells
    /// only that a hundredth was.
    pub(crate) fn mean_ms(&self) -> f64 {
        self.all_answered().mean() / 1e3
    }

    pub(crate) fn p99_ms(&self) -> f64 {
        p99_ms(&self.all_answered())
    }

    /// Returns the least and the most that it was in a round.
    pub(crate) fn p99_spread_ms(&self) -> (f64, f64) {
        self.spread(|it| p99_ms(&it.answered))
    }

    fn all_answered(&self) -> Histogram<u64> {
        let mut all = histogram();
        for round in &self.rounds {
            all.add(&round.answered).expect("of one shape");
        }
        all
    }

    fn sum(&self, of: impl Fn(&Outcome) -> u64) -> u64 {
        self.rounds.iter().map(of).sum()
    }

    fn spread<T: PartialOrd + Copy>(&self, of: impl Fn(&Outcome) -> T) -> (T, T) {
        let first = of(&self.rounds[0]);
        let rest = self.rounds.iter().map(of);
        rest.fold((first, first), |(least, most), it| {
            let least = if it < least { it } else { least };
            (least, if it > most { it } else { most })
        })
    }
}

fn p99_ms(times: &Histogram<u64>) -> f64 {
    times.value_at_quantile(0.99) as f64 / 1e3
}
