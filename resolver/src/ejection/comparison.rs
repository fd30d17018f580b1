//! Compares endpoints by how their calls ended, as gRPC's A50 has it.

use std::{collections::BTreeMap, fmt};

use super::{FailureRate, SuccessRate, tally::Counts};
use crate::EndpointKey;

/// One that is to be ejected, if there is room.
pub(super) struct Candidate {
    pub(super) key: EndpointKey,
    /// The lower, the worse.
    pub(super) merit: f64,
    pub(super) reason: Reason,
}

/// Why an endpoint is ejected; written as logs have it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reason {
    /// Fewer of its calls succeed than of the others'.
    SuccessRate {
        rate: f64,
        calls: u64,
        threshold: f64,
    },
    /// Too many of its calls fail.
    FailureRate {
        rate: f64,
        calls: u64,
        threshold: f64,
    },
    /// As many calls failed in a row.
    Row(u32),
    /// The call on trial failed.
    Trial,
}

/// What the floats of equal shares may differ by.
pub(super) const ROUNDING: f64 = 1e-9;

/// Finds those whose success rate is far below the mean; `None` if too few had calls enough.
pub(super) fn by_success_rate(
    settings: &SuccessRate,
    counts: &BTreeMap<EndpointKey, Counts>,
) -> Option<Vec<Candidate>> {
    let rates = rates(counts, settings.min_calls, settings.min_endpoints)?;
    let count = rates.len() as f64;
    let mean = rates.iter().map(|it| it.rate).sum::<f64>() / count;
    let variance = rates.iter().map(|it| (it.rate - mean).powi(2)).sum::<f64>() / count;
    let below = (settings.deviations * variance.sqrt()).max(settings.margin);
    let threshold = mean - below;
    let outliers = rates
        .into_iter()
        .filter(|it| it.rate + ROUNDING < threshold);
    let candidates = outliers.map(|it| Candidate {
        key: it.key.clone(),
        merit: it.rate,
        reason: Reason::SuccessRate {
            rate: it.rate,
            calls: it.calls,
            threshold,
        },
    });
    Some(candidates.collect())
}

/// Finds those of whose calls too many failed; `None` if too few had calls enough.
pub(super) fn by_failure_rate(
    settings: &FailureRate,
    counts: &BTreeMap<EndpointKey, Counts>,
) -> Option<Vec<Candidate>> {
    let rates = rates(counts, settings.min_calls, settings.min_endpoints)?;
    let threshold = settings.threshold;
    let failing = rates
        .into_iter()
        .filter(|it| 1.0 - it.rate > threshold + ROUNDING);
    let candidates = failing.map(|it| Candidate {
        key: it.key.clone(),
        merit: it.rate,
        reason: Reason::FailureRate {
            rate: 1.0 - it.rate,
            calls: it.calls,
            threshold,
        },
    });
    Some(candidates.collect())
}

struct Rate<'a> {
    key: &'a EndpointKey,
    rate: f64,
    calls: u64,
}

/// Returns the success rates of those that had calls enough; `None` if too few had.
fn rates(
    counts: &BTreeMap<EndpointKey, Counts>,
    min_calls: u64,
    min_endpoints: usize,
) -> Option<Vec<Rate<'_>>> {
    let enough = counts
        .iter()
        .filter(|(_, counts)| counts.calls() >= min_calls);
    let rates = enough.filter_map(|(key, counts)| {
        let (rate, calls) = (counts.success_rate()?, counts.calls());
        Some(Rate { key, rate, calls })
    });
    let rates: Vec<_> = rates.collect();
    (!rates.is_empty() && rates.len() >= min_endpoints).then_some(rates)
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SuccessRate {
                rate,
                calls,
                threshold,
            } => write!(
                f,
                "success rate: {rate:.3} of {calls} calls (expected: {threshold:.3} or more, as others have)"
            ),
            Self::FailureRate {
                rate,
                calls,
                threshold,
            } => write!(
                f,
                "failure rate: {rate:.3} of {calls} calls (expected: {threshold:.3} or less)"
            ),
            Self::Row(failures) => write!(f, "{failures} calls failed in a row"),
            Self::Trial => write!(f, "the call on trial failed"),
        }
    }
}

#[cfg(test)]
mod tests;
