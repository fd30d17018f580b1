//! The etcds that the tests run against.

use std::{
    any::Any,
    ops::Deref,
    sync::{Arc, Weak},
};

use futures::future::LocalBoxFuture;
use switchboard_embedded::EmbeddedEtcd;
use switchboard_test_support::{Change, Etcd, RawEtcd};
use tokio::{runtime::Builder, sync::Mutex};

/// An etcd that holds nothing, for one test.
pub(crate) struct Server {
    etcd: RawEtcd,
    revision: i64,
    /// What ends with the test: the embedded etcd, or one's turn at the real one.
    _kept: Box<dyn Any>,
}

impl Server {
    async fn new(etcd: RawEtcd, kept: impl Any) -> Self {
        let revision = etcd.clear().await;
        Self {
            etcd,
            revision,
            _kept: Box::new(kept),
        }
    }

    /// Returns the revision of the test's n-th change. The 0th is the one that it found, before
    /// which all is compacted.
    pub(crate) fn revision(&self, n: i64) -> i64 {
        self.revision + n
    }

    /// Returns whether this etcd is one of those since that change.
    pub(crate) async fn has(&self, change: Change) -> bool {
        self.etcd.version().await.has(change)
    }
}

impl Deref for Server {
    type Target = RawEtcd;

    fn deref(&self) -> &RawEtcd {
        &self.etcd
    }
}

/// Runs a test on a runtime of its own. Boxes keep the compiler from making a runtime for each.
pub(crate) fn run(
    etcd: LocalBoxFuture<'static, Server>,
    test: fn(Server) -> LocalBoxFuture<'static, ()>,
) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { test(etcd.await).await });
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
    Server::new(client, etcd).await
}

/// Returns an embedded etcd of the test's own.
pub(crate) async fn embedded() -> Server {
    let etcd = EmbeddedEtcd::start();
    let address = etcd.listen("127.0.0.1:0").await.unwrap();
    let client = RawEtcd::connect(&address.to_string());
    Server::new(client, etcd).await
}
