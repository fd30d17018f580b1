//! Which of the endpoints that are listed a channel connects to: those that match its filter, and of
//! these its subset.
//!
//! Keeps all that is listed, since another filter may ask for others of them. What matches no more is let
//! go at once; that is not to vanish, for its source says that it is there.
//!
//! Holds no connection: what it says is done by `balancer.rs`.

use std::collections::BTreeMap;

use super::{filter::Filter, subset::subset};
use crate::{Endpoint, ServiceConfig, endpoint_set::EndpointKey};

/// What the source lists.
#[derive(Debug)]
pub(crate) struct Listing {
    listed: BTreeMap<EndpointKey, Endpoint>,
    /// What has vanished, and counts as listed since nothing is.
    kept: BTreeMap<EndpointKey, Endpoint>,
    /// Ranks endpoints, where a channel uses a few of them.
    seed: u64,
}

/// Which endpoints a channel connects to.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) endpoints: Vec<Endpoint>,
    /// What they all match, and those in reserve have to, too.
    pub(crate) filter: Option<Filter>,
}

impl Listing {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            listed: BTreeMap::new(),
            kept: BTreeMap::new(),
            seed,
        }
    }

    /// Takes in what is listed now. Of those with the same key the last one counts.
    pub(crate) fn replace(&mut self, snapshot: Vec<Endpoint>) {
        self.kept.clear();
        self.listed = by_key(snapshot);
    }

    /// Takes in that nothing is listed any more, which is not believed: what was stays, and what is in
    /// reserve counts as listed.
    pub(crate) fn keep(&mut self, reserved: Vec<Endpoint>) {
        self.kept.extend(by_key(reserved));
    }

    /// Returns whether an endpoint is there, whether the channel connects to it or not.
    pub(crate) fn has(&self, key: &EndpointKey) -> bool {
        self.listed.contains_key(key) || self.kept.contains_key(key)
    }

    /// Returns how many endpoints there are.
    pub(crate) fn len(&self) -> usize {
        self.listed.len() + self.kept.len()
    }

    /// Decides which endpoints a channel connects to that is configured so.
    pub(crate) fn wanted(&self, config: &ServiceConfig) -> Wanted {
        let all = || self.listed.values().chain(self.kept.values());
        let filter = config.filter.as_ref();
        let filter = filter.filter(|it| !it.has_fallback() || all().any(|one| it.matches(one)));
        let matches = |it: &&Endpoint| filter.is_none_or(|filter| filter.matches(it));
        let listed = self.listed.values().filter(matches).cloned().collect();
        let mut endpoints = match config.subset {
            Some(count) => subset(listed, count, self.seed),
            None => listed,
        };
        // As many as there were: the last set stays in use.
        endpoints.extend(self.kept.values().filter(matches).cloned());
        Wanted {
            endpoints,
            filter: filter.cloned(),
        }
    }
}

fn by_key(endpoints: Vec<Endpoint>) -> BTreeMap<EndpointKey, Endpoint> {
    let endpoints = endpoints.into_iter();
    endpoints.map(|it| (it.key().clone(), it)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn endpoint(host: u8, version: u8) -> Endpoint {
        let endpoint = Endpoint::new(format!("10.0.0.{host}:80").parse().unwrap());
        endpoint.with_metadata("version", version.to_string())
    }

    fn any_snapshot() -> impl Strategy<Value = Vec<Endpoint>> {
        let any = (0u8..20, 0u8..3).prop_map(|(host, version)| endpoint(host, version));
        prop::collection::vec(any, 0..20)
    }

    fn config(filter: Filter, subset: Option<usize>) -> ServiceConfig {
        let config = ServiceConfig::default().with_filter(filter);
        match subset {
            Some(count) => config.with_subset(count),
            None => config,
        }
    }

    proptest! {
        #[test]
        fn whatever_is_listed_what_is_chosen_matches(
            snapshots in prop::collection::vec(any_snapshot(), 1..5),
            count in prop::option::of(1usize..5),
            seed: u64,
        ) {
            let mut listing = Listing::new(seed);
            let filter = Filter::version("1");
            let (strict, lax) = (config(filter.clone(), count), config(filter.clone().or_any(), count));
            for snapshot in snapshots {
                let set = by_key(snapshot.clone());
                listing.replace(snapshot);
                let matching = set.values().filter(|it| filter.matches(it)).count();
                let limited = |all: usize| count.map_or(all, |count| count.min(all));
                let wanted = listing.wanted(&strict).endpoints;
                prop_assert!(wanted.iter().all(|it| filter.matches(it) && set[it.key()] == *it));
                prop_assert_eq!(wanted.len(), limited(matching));
                let wanted = listing.wanted(&lax).endpoints;
                prop_assert!(wanted.iter().all(|it| matching == 0 || filter.matches(it)));
                prop_assert_eq!(wanted.len(), limited(if matching == 0 { set.len() } else { matching }));
            }
        }
    }

    #[test]
    fn of_an_endpoint_that_is_listed_twice_the_last_one_counts() {
        let mut listing = Listing::new(0);
        listing.replace(vec![endpoint(1, 1), endpoint(1, 2)]);
        assert!(
            listing
                .wanted(&config(Filter::version("1"), None))
                .endpoints
                .is_empty()
        );
        assert_eq!(listing.len(), 1);
    }

    #[test]
    fn what_is_kept_counts_as_listed_beside_the_subset() {
        let mut listing = Listing::new(0);
        listing.replace(vec![endpoint(1, 1), endpoint(2, 1)]);
        listing.keep(vec![endpoint(3, 1), endpoint(4, 2)]);
        let wanted = listing.wanted(&config(Filter::version("1"), Some(1)));
        assert_eq!(wanted.endpoints.len(), 2);
        assert!(wanted.endpoints.contains(&endpoint(3, 1)));
        assert!(listing.has(endpoint(4, 2).key()));
        listing.replace(vec![endpoint(1, 1)]);
        assert_eq!(listing.len(), 1);
    }
}
