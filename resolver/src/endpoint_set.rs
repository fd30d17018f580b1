//! Turns whole snapshots into what changed.
//!
//! An endpoint is known by the unordered set of its addresses (gRPC's rule, A61), so the order of
//! addresses, the order of the snapshot and repetitions within it mean nothing. Where two endpoints
//! of one snapshot have the same addresses, the last one counts.
//!
//! Holds no connection: what the changes cause is its owner's business.

use std::{fmt, sync::Arc};

use crate::{Address, Endpoint, endpoint::write_addresses};

/// The endpoints of the last snapshot.
#[derive(Debug, Default)]
pub(crate) struct EndpointSet {
    /// In the order of keys.
    endpoints: Vec<Endpoint>,
}

/// What makes two endpoints the same one: the unordered set of their addresses. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointKey(Arc<[Address]>);

/// What a snapshot changed, each part in the order of keys.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) added: Vec<Endpoint>,
    pub(crate) removed: Vec<EndpointKey>,
    /// Endpoints that stay, with other metadata or with their addresses in another order.
    pub(crate) changed: Vec<Endpoint>,
}

impl Changes {
    pub(crate) fn are_none(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

impl EndpointSet {
    /// Returns the endpoints, in the order of keys.
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Endpoint> {
        self.endpoints.iter()
    }

    /// Replaces the set by `snapshot` and says what that changed.
    pub(crate) fn replace(&mut self, snapshot: Vec<Endpoint>) -> Changes {
        let mut changes = Changes::default();
        let mut latest = snapshot;
        // Stable: of those with the same key the last one stays the last.
        latest.sort_by(|one, other| one.key().cmp(other.key()));
        // Both are in the order of keys: one walk finds what differs.
        let mut before = std::mem::take(&mut self.endpoints).into_iter().peekable();
        let mut latest = latest.into_iter().peekable();
        while let Some(endpoint) = latest.next() {
            let key = endpoint.key();
            if latest.peek().is_some_and(|next| next.key() == key) {
                continue;
            }
            while let Some(gone) = before.next_if(|it| it.key() < key) {
                changes.removed.push(gone.key().clone());
            }
            match before.next_if(|it| it.key() == key) {
                Some(known) if known == endpoint => {}
                Some(_) => changes.changed.push(endpoint.clone()),
                None => changes.added.push(endpoint.clone()),
            }
            self.endpoints.push(endpoint);
        }
        changes.removed.extend(before.map(|it| it.key().clone()));
        changes
    }
}

impl EndpointKey {
    /// Returns the key of an endpoint.
    pub fn of(endpoint: &Endpoint) -> Self {
        endpoint.key().clone()
    }

    pub(crate) fn new(addresses: &[Address]) -> Self {
        let mut addresses = addresses.to_vec();
        addresses.sort();
        Self(addresses.into())
    }

    /// Returns the addresses, sorted.
    pub fn addresses(&self) -> &[Address] {
        &self.0
    }
}

impl fmt::Display for EndpointKey {
    /// Writes the addresses, with commas between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_addresses(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn endpoint(addresses: &[&str]) -> Endpoint {
        let mut addresses = addresses.iter().map(|text| text.parse().unwrap());
        let first = Endpoint::new(addresses.next().unwrap());
        addresses.fold(first, Endpoint::with_address)
    }

    fn with_zone(endpoint: Endpoint, zone: &str) -> Endpoint {
        endpoint.with_metadata("zone", zone)
    }

    #[test]
    fn the_same_snapshot_again_changes_nothing() {
        let mut set = EndpointSet::default();
        let snapshot = vec![endpoint(&["a:1"]), endpoint(&["b:1", "b:2"])];
        assert_eq!(set.replace(snapshot.clone()).added.len(), 2);
        let changes = set.replace(snapshot.into_iter().rev().collect());
        assert!(changes.added.is_empty() && changes.removed.is_empty());
        assert!(changes.changed.is_empty());
    }

    #[test]
    fn an_endpoint_named_twice_is_one_and_the_last_counts() {
        let mut set = EndpointSet::default();
        let changes = set.replace(vec![
            with_zone(endpoint(&["a:1"]), "old"),
            with_zone(endpoint(&["a:1"]), "new"),
        ]);
        assert_eq!(changes.added.len(), 1);
        assert_eq!(changes.added[0].metadata()["zone"], "new");
    }

    #[test]
    fn other_metadata_and_another_order_of_addresses_are_changes_of_the_same_endpoint() {
        let mut set = EndpointSet::default();
        set.replace(vec![endpoint(&["a:1", "a:2"]), endpoint(&["b:1"])]);
        let changes = set.replace(vec![
            endpoint(&["a:2", "a:1"]),
            with_zone(endpoint(&["b:1"]), "z"),
        ]);
        assert!(changes.added.is_empty() && changes.removed.is_empty());
        assert_eq!(changes.changed.len(), 2);
    }

    #[test]
    fn a_shared_address_does_not_make_two_endpoints_one() {
        let mut set = EndpointSet::default();
        set.replace(vec![endpoint(&["a:1", "a:2"])]);
        let changes = set.replace(vec![endpoint(&["a:1"])]);
        assert_eq!((changes.added.len(), changes.removed.len()), (1, 1));
    }

    fn any_snapshot() -> impl Strategy<Value = Vec<Endpoint>> {
        let any_endpoint =
            (prop::collection::vec(1u16..5, 1..4), 0u8..3).prop_map(|(ports, zone)| {
                let texts: Vec<String> = ports.iter().map(|port| format!("a:{port}")).collect();
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                with_zone(endpoint(&texts), &zone.to_string())
            });
        prop::collection::vec(any_endpoint, 0..6)
    }

    proptest! {
        #[test]
        fn replaying_the_changes_gives_the_set(snapshots in prop::collection::vec(any_snapshot(), 1..8)) {
            let mut set = EndpointSet::default();
            let mut replayed = BTreeMap::new();
            for snapshot in snapshots {
                let changes = set.replace(snapshot.clone());
                for key in changes.removed {
                    prop_assert!(replayed.remove(&key).is_some(), "removed what was not there");
                }
                for endpoint in changes.added {
                    let key = EndpointKey::of(&endpoint);
                    prop_assert!(replayed.insert(key, endpoint).is_none(), "added what was there");
                }
                for endpoint in changes.changed {
                    let before = replayed.insert(EndpointKey::of(&endpoint), endpoint.clone());
                    prop_assert!(before.is_some_and(|before| before != endpoint), "changed nothing");
                }
                let expected: BTreeMap<_, _> = snapshot
                    .into_iter()
                    .map(|endpoint| (EndpointKey::of(&endpoint), endpoint))
                    .collect();
                prop_assert_eq!(&replayed, &expected);
                let held: Vec<_> = expected.into_values().collect();
                prop_assert_eq!(&set.endpoints, &held);
            }
        }
    }
}
