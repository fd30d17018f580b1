//! The groups of filters that calls have, each made once.
//!
//! Found without a lock. There are as many as `MOST`: whoever has more filters than that pays for each call
//! with another one what it costs to make a group of all endpoints.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use arc_swap::ArcSwap;

use super::{filter::Filter, group::Group};

/// How many are kept. A list of more would cost calls more to look through than it is worth; with far
/// fewer, a service of some dozen shards would make groups all the time.
const MOST: usize = 64;

/// The groups of filters, since the endpoints changed last.
#[derive(Debug, Default)]
pub(super) struct Filtered {
    known: ArcSwap<Vec<Known>>,
    made: AtomicU64,
}

#[derive(Debug, Clone)]
struct Known {
    /// The filter's, here so that those of others are passed over without a look at them.
    hash: u64,
    filter: Filter,
    matching: Arc<Matching>,
}

/// Who may have the calls of a filter.
#[derive(Debug)]
pub(super) enum Matching {
    /// Those that match.
    These(Group),
    /// All, for want of one that matches.
    Any,
    /// Nobody matches.
    Nobody,
    /// Some match, and none of them is in a group of the split.
    OutsideSplit,
}

impl Filtered {
    /// Calls `then` with who may have the calls of a filter. If that is not known yet, `make` finds it out;
    /// it is given another number each time.
    pub(super) fn with<R>(
        &self,
        filter: &Filter,
        make: impl FnOnce(u64) -> Matching,
        then: impl FnOnce(&Matching) -> R,
    ) -> R {
        let hash = filter.hash();
        let is_it = |known: &&Known| known.hash == hash && known.filter == *filter;
        let known = self.known.load();
        if let Some(known) = known.iter().find(is_it) {
            return then(&known.matching);
        }
        let matching = Arc::new(make(self.made.fetch_add(1, Relaxed)));
        if known.len() < MOST {
            self.known.rcu(|known| {
                let is_known = known.iter().any(|it| is_it(&it));
                let mut known = Vec::clone(known);
                // Another call may have been faster.
                if !is_known && known.len() < MOST {
                    known.push(Known {
                        hash,
                        filter: filter.clone(),
                        matching: matching.clone(),
                    });
                }
                known
            });
        }
        then(&matching)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks a filter up, and returns whether it was known.
    fn is_known(filtered: &Filtered, filter: &Filter) -> bool {
        let mut is_known = true;
        let make = |_| {
            is_known = false;
            Matching::Nobody
        };
        filtered.with(filter, make, |_| ());
        is_known
    }

    #[test]
    fn each_is_made_once_whoever_asks() {
        let filtered = Filtered::default();
        assert!(!is_known(&filtered, &Filter::version("v1")));
        assert!(is_known(&filtered, &Filter::version("v1")));
        assert!(!is_known(&filtered, &Filter::version("v1").or_any()));
    }

    #[test]
    fn there_is_an_end_to_how_many_are_kept() {
        let filtered = Filtered::default();
        let filters: Vec<_> = (0..=MOST).map(|it| Filter::zone(it.to_string())).collect();
        for filter in &filters {
            assert!(!is_known(&filtered, filter));
        }
        assert!(filters[..MOST].iter().all(|it| is_known(&filtered, it)));
        assert!(!is_known(&filtered, &filters[MOST]));
        assert_eq!(filtered.known.load().len(), MOST);
    }

    #[test]
    fn each_is_made_with_another_number() {
        let filtered = Filtered::default();
        let mut numbers = Vec::new();
        for zone in ["a", "b", "c"] {
            let make = |number| {
                numbers.push(number);
                Matching::Nobody
            };
            filtered.with(&Filter::zone(zone), make, |_| ());
        }
        assert_eq!(numbers, [0, 1, 2]);
    }
}
