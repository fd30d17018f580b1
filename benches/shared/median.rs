//! The middle one of what was measured.

pub(crate) fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// Returns the middle one of values that are sorted.
pub(crate) fn median(values: &[f64]) -> f64 {
    values[values.len() / 2]
}
