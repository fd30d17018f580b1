//! How many calls a second each server answers.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::script::SERVERS;

/// What is counted as now: long enough for steady numbers, short enough to see a change.
const SPAN: Duration = Duration::from_secs(1);

/// The counts of the last second.
#[derive(Debug, Default)]
pub(crate) struct Rates(VecDeque<(Instant, [u64; SERVERS])>);

impl Rates {
    /// Notes how many calls there have been by now.
    pub(crate) fn note(&mut self, now: Instant, calls: [u64; SERVERS]) {
        self.0.push_back((now, calls));
        // The second oldest reaches back far enough.
        while self.0.get(1).is_some_and(|(then, _)| now - *then >= SPAN) {
            self.0.pop_front();
        }
    }

    /// Returns the calls a second.
    pub(crate) fn per_second(&self) -> [f64; SERVERS] {
        let (Some((then, before)), Some((now, calls))) = (self.0.front(), self.0.back()) else {
            return [0.0; SERVERS];
        };
        // At least that, so that the first calls make no tremendous rate.
        let span = (*now - *then).max(SPAN).as_secs_f64();
        std::array::from_fn(|server| (calls[server] - before[server]) as f64 / span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_second() {
        let start = Instant::now();
        let mut rates = Rates::default();
        assert_eq!(rates.per_second(), [0.0; SERVERS]);
        for tenth in 0..20 {
            let now = start + Duration::from_millis(100) * tenth;
            let late = u64::from(tenth.saturating_sub(14));
            rates.note(now, [10 * u64::from(tenth), late, 7]);
        }
        assert_eq!(rates.per_second(), [100.0, 5.0, 0.0]);
    }
}
