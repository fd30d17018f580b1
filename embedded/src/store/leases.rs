//! Leases: what is granted, until when, and which keys go with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::StoreError;

/// etcd raises shorter TTLs to this, even negative ones (one and a half election timeouts).
const SHORTEST_TTL: i64 = 2;

/// etcd refuses longer ones (`lease/lessor.go`).
const LONGEST_TTL: i64 = 9_000_000_000;

#[derive(Debug, Clone, Default)]
pub(crate) struct Leases {
    leases: BTreeMap<i64, Lease>,
    deadlines: BTreeSet<(Instant, i64)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Lease {
    /// In seconds, as granted.
    pub(crate) ttl: i64,
    expires_at: Instant,
    pub(crate) keys: BTreeSet<Bytes>,
}

impl Leases {
    /// Grants a lease, and returns its TTL in seconds, which may be longer than what was asked for.
    pub(crate) fn grant(&mut self, id: i64, ttl: i64, now: Instant) -> Result<i64, StoreError> {
        if ttl > LONGEST_TTL {
            return Err(StoreError::LeaseTtlTooLarge);
        }
        if self.leases.contains_key(&id) {
            return Err(StoreError::LeaseExists);
        }
        let ttl = ttl.max(SHORTEST_TTL);
        let expires_at = now + seconds(ttl);
        let lease = Lease {
            ttl,
            expires_at,
            keys: BTreeSet::new(),
        };
        self.leases.insert(id, lease);
        self.deadlines.insert((expires_at, id));
        Ok(ttl)
    }

    pub(crate) fn find(&self, id: i64) -> Result<&Lease, StoreError> {
        self.leases.get(&id).ok_or(StoreError::LeaseNotFound)
    }

    /// Begins its time anew, unless that is over, and returns its TTL in seconds.
    pub(crate) fn renew(&mut self, id: i64, now: Instant) -> Result<i64, StoreError> {
        let lease = self.leases.get_mut(&id);
        let lease = lease.filter(|lease| lease.expires_at > now);
        let lease = lease.ok_or(StoreError::LeaseNotFound)?;
        self.deadlines.remove(&(lease.expires_at, id));
        lease.expires_at = now + seconds(lease.ttl);
        self.deadlines.insert((lease.expires_at, id));
        Ok(lease.ttl)
    }

    /// Begins the time of all anew, as an etcd does that starts again with its data.
    pub(crate) fn renew_all(&mut self, now: Instant) {
        let ids: Vec<i64> = self.leases.keys().copied().collect();
        for id in ids {
            // One whose time is over ends.
            let _ = self.renew(id, now);
        }
    }

    /// Takes a lease away; its keys are to be deleted.
    pub(crate) fn remove(&mut self, id: i64) -> Result<Lease, StoreError> {
        let lease = self.leases.remove(&id).ok_or(StoreError::LeaseNotFound)?;
        self.deadlines.remove(&(lease.expires_at, id));
        Ok(lease)
    }

    /// A key goes with another lease from now on; 0 is none.
    pub(crate) fn attach(&mut self, key: &Bytes, from: i64, to: i64) {
        if from == to {
            return;
        }
        if let Some(lease) = self.leases.get_mut(&from) {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.leases.get_mut(&to) {
            lease.keys.insert(key.clone());
        }
    }

    /// When the next lease expires, unless it is renewed.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// A lease whose time is over.
    pub(crate) fn expired(&self, now: Instant) -> Option<i64> {
        let (deadline, id) = self.deadlines.first()?;
        (*deadline <= now).then_some(*id)
    }

    /// The leases there are, the next to expire first.
    pub(crate) fn ids(&self) -> impl Iterator<Item = i64> {
        self.deadlines.iter().map(|(_, id)| *id)
    }
}

impl Lease {
    /// What is left of its time, in whole seconds.
    pub(crate) fn remaining(&self, now: Instant) -> i64 {
        self.expires_at.saturating_duration_since(now).as_secs() as i64
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(ttl.unsigned_abs())
}
