//! What tells a put from another one at the same place.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
};

use crate::etcd::KeyValue;

/// What tells a put from that of another history under the same key, at the same revision.
///
/// Two histories of an etcd that was wiped or restored can well put the same key at the same revision:
/// where leases are random, theirs differ; a configuration has none, and its values differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    pub(crate) fn of(kv: &KeyValue) -> Self {
        let mut hasher = DefaultHasher::new();
        (kv.lease, kv.created, &kv.value).hash(&mut hasher);
        Self(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lease_the_creation_and_the_value_all_count() {
        let base = || KeyValue {
            lease: 7,
            created: 3,
            ..KeyValue::new("key", "value")
        };
        let others = [
            KeyValue { lease: 8, ..base() },
            KeyValue {
                created: 4,
                ..base()
            },
            KeyValue {
                value: b"other".to_vec(),
                ..base()
            },
        ];
        for other in others {
            assert_ne!(
                Fingerprint::of(&other),
                Fingerprint::of(&base()),
                "{other:?}"
            );
        }
        assert_eq!(Fingerprint::of(&base()), Fingerprint::of(&base()));
    }
}
