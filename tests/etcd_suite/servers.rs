//! The etcds that the tests run against.

use std::{
    ops::Deref,
    sync::{Arc, Weak},
};

use switchboard_test_support::{Etcd, RawEtcd};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// An etcd that holds nothing, for one test.
pub(crate) struct Server {
    etcd: RawEtcd,
    revision: i64,
    _kept: Kept,
}

/// What lives as long as the test.
enum Kept {
    /// The one real etcd of this process, and whoever else would use it waits.
    Real(OwnedMutexGuard<Etcd>),
    Embedded(Etcd),
}

impl Server {
    async fn new(etcd: RawEtcd, kept: Kept) -> Self {
        let revision = etcd.clear().await;
        Self {
            etcd,
            revision,
            _kept: kept,
        }
    }

    /// Returns the revision of the test's n-th change. The 0th is the one that it found, before
    /// which all is compacted.
    pub(crate) fn revision(&self, n: i64) -> i64 {
        self.revision + n
    }
}

impl Deref for Server {
    type Target = RawEtcd;

    fn deref(&self) -> &RawEtcd {
        &self.etcd
    }
}

/// Returns a real etcd, which tests use one after the other.
pub(crate) async fn real() -> Server {
    // Weak, so that it ends with its last user: what is static is never dropped.
    static SHARED: Mutex<Weak<Mutex<Etcd>>> = Mutex::const_new(Weak::new());

    let shared = {
        let mut slot = SHARED.lock().await;
        match slot.upgrade() {
            Some(shared) => shared,
            None => {
                let shared = Arc::new(Mutex::new(Etcd::start().await));
                *slot = Arc::downgrade(&shared);
                shared
            }
        }
    };
    let etcd = shared.lock_owned().await;
    let client = RawEtcd::connect(etcd.endpoint());
    Server::new(client, Kept::Real(etcd)).await
}

/// Returns an embedded etcd of the test's own.
pub(crate) async fn embedded() -> Server {
    let etcd = Etcd::start().await;
    let client = RawEtcd::connect(etcd.endpoint());
    Server::new(client, Kept::Embedded(etcd)).await
}
