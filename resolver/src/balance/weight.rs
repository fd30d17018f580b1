//! How much an endpoint weighs, as its metadata says it.
//!
//! Who does not say it, or says what is no weight, has the mean of those who do: one that is not known to be
//! weak nor strong. If all weigh 0, all are alike: to call nobody would be an outage, and for that nobody
//! sets a weight.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use super::Candidate;
use crate::{Load, ServiceConfigError, service_config::shortened};

/// Under which key of the metadata a weight is.
#[derive(Debug, Clone)]
pub(super) struct WeightKey {
    key: String,
    rejected: Arc<Mutex<Rejected>>,
}

/// What was said of which endpoint that is no weight, so that it is told once. By where its load is, which is
/// there for as long as the endpoint is known, and is nowhere else while it is held here.
type Rejected = BTreeMap<usize, (Weak<Load>, String)>;

/// What a weight is called by kratos.
const WEIGHT: &str = "weight";

/// More is no weight in A58 and A42 either, and with it their sum is always a number.
const GREATEST: f64 = u32::MAX as f64;

/// Less is as good as this: who weighs it is hardly ever called where others weigh something. Far smaller
/// ones, of which a number can be 10^-320, leave no number for what is divided by them, such as the places
/// on a ring.
const LEAST: f64 = 1e-9;

impl Default for WeightKey {
    fn default() -> Self {
        Self::new(WEIGHT)
    }
}

impl WeightKey {
    pub(super) fn new(key: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            rejected: Arc::default(),
        }
    }

    /// Refuses what can be no key.
    pub(super) fn check(&self) -> Result<(), ServiceConfigError> {
        match self.key.is_empty() {
            true => Err(ServiceConfigError::value(
                "weightKey",
                "\"\"",
                "a key of the metadata",
            )),
            false => Ok(()),
        }
    }

    /// Returns the weight of each, not all of them 0.
    pub(super) fn weights(&self, candidates: &[Candidate]) -> Vec<f64> {
        let said: Vec<_> = candidates.iter().map(|it| self.said(it)).collect();
        let wrong = candidates.iter().zip(&said);
        self.tell(wrong.filter_map(|(candidate, said)| Some((candidate, (*said)?.err()?))));
        // Those who are not to be called say nothing of how strong the others are.
        let known = || said.iter().filter_map(|it| (*it)?.ok());
        let strong: Vec<_> = known().filter(|it| *it > 0.0).collect();
        let mean = match strong.len() {
            0 => 1.0,
            count => strong.into_iter().sum::<f64>() / count as f64,
        };
        let weights = said.iter().map(|it| it.and_then(Result::ok));
        let weights: Vec<_> = weights.map(|it| it.unwrap_or(mean)).collect();
        match weights.iter().all(|it| *it == 0.0) {
            true => vec![1.0; weights.len()],
            false => weights,
        }
    }

    /// Returns the weight that a candidate says it has, or what it says instead, if it says something.
    fn said<'a>(&self, candidate: &'a Candidate) -> Option<Result<f64, &'a str>> {
        let said = candidate.endpoint().metadata().get(&self.key)?;
        let weight = said.trim().parse().ok();
        let weight = weight.filter(|it: &f64| (0.0..=GREATEST).contains(it));
        let weight = weight.map(|it| if it > 0.0 { it.max(LEAST) } else { it });
        Some(weight.ok_or(said))
    }

    /// Says who says what is no weight, each time that it is news.
    fn tell<'a>(&self, wrong: impl Iterator<Item = (&'a Candidate, &'a str)>) {
        for (candidate, said) in self.news(wrong) {
            let (endpoint, key) = (candidate.endpoint(), &self.key);
            tracing::warn!(name: "endpoint_weight_rejected", %endpoint, key, weight = said, "endpoint has no weight that can be (expected: a number from 0 to 4294967295): it has the mean of the others'");
        }
    }

    /// Returns those of whom this has not been told last, and what they say, short enough for a log: servers
    /// write it.
    fn news<'a>(
        &self,
        wrong: impl Iterator<Item = (&'a Candidate, &'a str)>,
    ) -> Vec<(&'a Candidate, String)> {
        let mut wrong = wrong.peekable();
        if wrong.peek().is_none() {
            return Vec::new();
        }
        let mut rejected = self.rejected.lock().unwrap_or_else(PoisonError::into_inner);
        // Once, and not for each of thousands.
        rejected.retain(|_, (load, _)| load.strong_count() > 0);
        let news = wrong.filter_map(|(candidate, said)| {
            let said = shortened(said.to_owned());
            let load = candidate.load();
            let told = (Arc::downgrade(load), said.clone());
            let last = rejected.insert(Arc::as_ptr(load) as usize, told);
            last.is_none_or(|(_, last)| last != said)
                .then_some((candidate, said))
        });
        news.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Endpoint, logged::Logged};

    /// Candidates that say this of their weights.
    fn saying(weights: &[Option<&str>]) -> Vec<Candidate> {
        let candidates = weights.iter().enumerate().map(|(index, weight)| {
            let address = format!("10.0.0.{index}:1");
            let endpoint = Endpoint::new(address.parse().expect("an address"));
            Candidate::new(match weight {
                Some(weight) => endpoint.with_metadata("weight", *weight),
                None => endpoint,
            })
        });
        candidates.collect()
    }

    fn weights(said: &[Option<&str>]) -> Vec<f64> {
        WeightKey::default().weights(&saying(said))
    }

    #[test]
    fn who_says_no_weight_has_the_mean_of_those_who_do() {
        let said = [Some("1"), Some(" 3.0 "), None];
        assert_eq!(weights(&said), [1.0, 3.0, 2.0]);
        for wrong in ["-1", "NaN", "inf", "many", "", "4294967296", "1e300"] {
            let said = [Some("1"), Some("3"), Some(wrong)];
            assert_eq!(weights(&said), [1.0, 3.0, 2.0], "{wrong}");
        }
        // One that is not called is not weak.
        assert_eq!(
            weights(&[Some("0"), Some("4"), None, Some("-0")]),
            [0.0, 4.0, 4.0, 0.0]
        );
    }

    #[test]
    fn if_nobody_has_a_weight_or_all_have_none_all_are_alike() {
        assert_eq!(weights(&[None, None]), [1.0, 1.0]);
        assert_eq!(weights(&[Some("0"), Some("0")]), [1.0, 1.0]);
        assert_eq!(weights(&[Some("0"), None]), [0.0, 1.0]);
        assert_eq!(weights(&[]), Vec::<f64>::new());
    }

    #[test]
    fn a_weight_that_is_next_to_nothing_is_one_that_can_be_reckoned_with() {
        assert_eq!(weights(&[Some("1e-320"), Some("1")]), [LEAST, 1.0]);
        assert_eq!(weights(&[Some("1e-320"), Some("0")]), [LEAST, 0.0]);
    }

    #[test]
    fn what_is_no_weight_is_told_in_short_however_long_it_is() {
        let candidates = saying(&[Some(&"9".repeat(1_000_000))]);
        let key = WeightKey::default();
        let wrong = || {
            candidates
                .iter()
                .map(|it| (it, key.said(it).unwrap().unwrap_err()))
        };
        let told = key.news(wrong());
        assert!(told[0].1.len() < 400, "{} bytes", told[0].1.len());
        assert!(key.news(wrong()).is_empty());
    }

    #[test]
    fn another_key_is_read_if_it_is_set() {
        let endpoint = Endpoint::new("a:1".parse().expect("an address"));
        let candidates = [Candidate::new(endpoint.with_metadata("power", "7"))];
        assert_eq!(WeightKey::new("power").weights(&candidates), [7.0]);
        assert_eq!(WeightKey::default().weights(&candidates), [1.0]);
    }

    #[test]
    fn what_is_no_weight_is_told_once_for_each_endpoint_and_value() {
        let key = WeightKey::default();
        let candidates = saying(&[Some("-1"), Some("-1"), Some("2"), None]);
        let logged = Logged::start();
        for _ in 0..3 {
            key.clone().weights(&candidates);
        }
        assert_eq!(logged.names(), ["WARN endpoint_weight_rejected"; 2]);
        let endpoint = candidates[0].endpoint().clone();
        let says = |weight: &str| {
            let endpoint = endpoint.clone().with_metadata("weight", weight);
            Candidate::with(endpoint, 1.0, candidates[0].load().clone())
        };
        key.weights(&[says("-2")]);
        assert_eq!(logged.names().len(), 3);
        // Those that are gone are forgotten.
        drop(candidates);
        key.weights(&saying(&[Some("x")]));
        assert_eq!(key.rejected.lock().expect("no panic").len(), 1);
    }
}
