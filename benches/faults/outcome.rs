//! What became of calls around a fault.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::arrivals::Call;

/// Calls are looked at in slices of this length.
const SLICE: Duration = Duration::from_millis(100);

/// How many slices in a row must be as before.
const NORMAL: usize = 5;

/// How much longer than before the slowest in a hundred calls may take.
const FACTOR: u32 = 10;

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
pub(crate) struct Outcomes {
    sum: Outcome,
}

impl Default for Outcomes {
    fn default() -> Self {
        Self {
            sum: Outcome {
                answered: histogram(),
                failed: 0,
                late: 0,
                late_failed: 0,
                longest: Duration::ZERO,
                normal_after: Some(Duration::ZERO),
            },
        }
    }
}

impl Outcomes {
    pub(crate) fn add(&mut self, round: Outcome) {
        let sum = &mut self.sum;
        sum.answered.add(round.answered).expect("of one shape");
        sum.failed += round.failed;
        sum.late += round.late;
        sum.late_failed += round.late_failed;
        sum.longest = sum.longest.max(round.longest);
        // The last of all, where there is one each time.
        let both = sum.normal_after.zip(round.normal_after);
        sum.normal_after = both.map(|(one, other)| one.max(other));
    }

    pub(crate) fn answered(&self) -> u64 {
        self.sum.answered.len()
    }

    pub(crate) fn failed(&self) -> u64 {
        self.sum.failed
    }

    /// Returns how many failed of those that started when the fault was old news.
    pub(crate) fn failed_late(&self) -> u64 {
        self.sum.late_failed
    }

    /// Returns their share.
    pub(crate) fn share_failed_late(&self) -> f64 {
        self.sum.late_failed as f64 / self.sum.late.max(1) as f64
    }

    /// Returns after how long all was as before, in the worst round; `None` if in one it never was.
    pub(crate) fn normal_after_ms(&self) -> Option<u128> {
        self.sum.normal_after.map(|it| it.as_millis())
    }

    pub(crate) fn longest_ms(&self) -> u128 {
        self.sum.longest.as_millis()
    }

    pub(crate) fn p99_ms(&self) -> f64 {
        self.sum.answered.value_at_quantile(0.99) as f64 / 1e3
    }
}
