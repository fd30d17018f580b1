//! How calls are shared between groups of endpoints, such as versions.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use super::filter::VERSION;
use crate::{Endpoint, ServiceConfigError, service_config::shortened};

/// How many percent of the calls go to which group of endpoints, such as to a new version: a canary.
///
/// ```
/// use switchboard_resolver::{Channel, Split};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let channel = Channel::balance(["10.0.0.1:50051", "10.0.0.2:50051"])?
///     .split(Split::by_version([("v1", 95.0), ("v2", 5.0)])?)
///     .connect_lazy()?;
/// # channel.close().await;
///
/// let error = Split::by_version([("v1", 95.0), ("v2", 50.0)]).unwrap_err();
/// assert_eq!(error.to_string(), "split by version: v1=95, v2=50, together 145 (expected: 100 together)");
/// # Ok(()) }
/// ```
///
/// The channel's policy picks within the group. Groups take turns, so that shares are right within any
/// thousand calls and not in the long run alone. The calls of a group in which nobody can be called go to
/// the others, by their percentages; a group of 0 percent gets none even then. Endpoints that are in no
/// group get no calls.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    key: String,
    /// Values of the key, and percentages, in the order given.
    groups: Arc<[(String, f64)]>,
    /// Where each value is among them: there may be thousands, and thousands of endpoints that look for theirs.
    numbers: Arc<BTreeMap<String, usize>>,
}

impl Split {
    /// Shares calls between versions: between values of the metadata's key `version`.
    ///
    /// # Errors
    ///
    /// As [`by`](Self::by).
    pub fn by_version<V: Into<String>>(
        percent: impl IntoIterator<Item = (V, f64)>,
    ) -> Result<Self, ServiceConfigError> {
        Self::by(VERSION, percent)
    }

    /// Shares calls between values of one of the metadata's keys, in percent.
    ///
    /// # Errors
    ///
    /// The percentages are not 100 together, one is negative or no number, a value is there twice, or
    /// there is none.
    pub fn by<V: Into<String>>(
        key: impl Into<String>,
        percent: impl IntoIterator<Item = (V, f64)>,
    ) -> Result<Self, ServiceConfigError> {
        let groups = percent.into_iter();
        let mut split = Self {
            key: key.into(),
            groups: groups.map(|(value, it)| (value.into(), it)).collect(),
            numbers: Arc::default(),
        };
        let refused = |given: String, expected: &str| {
            let what = format!("split by {}", split.key);
            Err(ServiceConfigError::value(what, given, expected))
        };
        if split.key.is_empty() {
            return refused("no key".to_owned(), "a key of the endpoints' metadata");
        }
        if split.groups.is_empty() {
            return refused("no groups".to_owned(), "at least one value");
        }
        let mut numbers = BTreeMap::new();
        for (number, (value, percent)) in split.groups.iter().enumerate() {
            if !(0.0..=100.0).contains(percent) {
                return refused(format!("{value}={percent}"), "from 0 to 100 percent");
            }
            if numbers.insert(value.clone(), number).is_some() {
                return refused(format!("{value} twice"), "each value once");
            }
        }
        let sum: f64 = split.groups.iter().map(|(_, percent)| percent).sum();
        // As much as thirds that are written with three digits lack.
        if (sum - 100.0).abs() > 0.01 {
            return refused(format!("{split}, together {sum}"), "100 together");
        }
        split.numbers = Arc::new(numbers);
        Ok(split)
    }

    /// Returns the number of an endpoint's group, if it is in one that gets calls, and how many percent of them
    /// that gets.
    pub(super) fn group_of(&self, endpoint: &Endpoint) -> Option<(usize, f64)> {
        let value = endpoint.metadata().get(&self.key)?;
        let number = *self.numbers.get(value)?;
        let percent = self.groups[number].1;
        (percent > 0.0).then_some((number, percent))
    }

    /// Returns the values that get calls and that none of these endpoints has, such as one that is misspelt.
    pub(crate) fn empty_groups<'a>(
        &self,
        endpoints: impl Iterator<Item = &'a Endpoint>,
    ) -> Vec<String> {
        let filled: BTreeSet<_> = endpoints
            .filter_map(|it| self.group_of(it))
            .map(|it| it.0)
            .collect();
        let groups = self.groups.iter().enumerate();
        let empty =
            groups.filter(|(number, (_, percent))| *percent > 0.0 && !filled.contains(number));
        empty.map(|(_, (value, _))| value.clone()).collect()
    }

    /// Returns the values that endpoints have, written as a list.
    pub(crate) fn values<'a>(&self, endpoints: impl Iterator<Item = &'a Endpoint>) -> String {
        let values = endpoints.filter_map(|it| it.metadata().get(&self.key));
        let values: BTreeSet<_> = values.map(String::as_str).collect();
        match values.is_empty() {
            true => "none".to_owned(),
            false => shortened(Vec::from_iter(values).join(", ")),
        }
    }

    /// Returns what it tells endpoints apart by.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for Split {
    /// Writes `v1=95, v2=5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (value, percent)) in self.groups.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{value}={percent}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(percent: &[(&str, f64)]) -> String {
        let split = Split::by_version(percent.iter().copied());
        split.unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_split_is_refused_with_what_was_given() {
        assert_eq!(
            refused(&[("v1", 80.0), ("v2", 10.0)]),
            "split by version: v1=80, v2=10, together 90 (expected: 100 together)"
        );
        assert_eq!(
            refused(&[("v1", 110.0), ("v2", -10.0)]),
            "split by version: v1=110 (expected: from 0 to 100 percent)"
        );
        assert_eq!(
            refused(&[("v1", f64::NAN)]),
            "split by version: v1=NaN (expected: from 0 to 100 percent)"
        );
        assert_eq!(
            refused(&[("v1", 50.0), ("v1", 50.0)]),
            "split by version: v1 twice (expected: each value once)"
        );
        assert_eq!(
            refused(&[]),
            "split by version: no groups (expected: at least one value)"
        );
        assert_eq!(
            refused(&[("v1", 0.0), ("v2", 0.0)]),
            "split by version: v1=0, v2=0, together 0 (expected: 100 together)"
        );
        assert!(Split::by("", [("v1", 100.0)]).is_err());
    }

    #[test]
    fn thirds_may_be_written_with_some_digits() {
        let third = 33.333;
        Split::by("tier", [("a", third), ("b", third), ("c", third)]).unwrap();
    }
}
