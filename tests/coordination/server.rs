//! The etcds that the tests run against.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, Weak},
    task::Poll,
    time::Duration,
};

use futures::future::LocalBoxFuture;
use switchboard::{
    Registry,
    coordination::Failure,
    keys::{KeysError, Operation, Transaction},
};
use switchboard_embedded::EmbeddedEtcd;
use switchboard_test_support::{Etcd, RawEtcd, eventually};
use tokio::{
    runtime::{Builder, Handle},
    sync::{Mutex, OwnedMutexGuard, oneshot},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

/// How long anything may take that is to happen at once, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// How long the leases of the tests' registries are.
pub(crate) const TTL: Duration = Duration::from_secs(2);

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Real,
    Embedded,
}

/// An etcd that holds nothing when a test begins.
pub(crate) struct Server {
    etcd: Either,
    endpoint: String,
}

enum Either {
    Real(OwnedMutexGuard<Etcd>),
    Embedded(EmbeddedEtcd),
}

/// Runs a test on a runtime of its own, and sees that it leaves no task behind.
pub(crate) fn run(kind: Kind, test: fn(&mut Server) -> LocalBoxFuture<'_, ()>) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut etcd = Server::begin(kind).await;
        let before = alive();
        test(&mut etcd).await;
        let left = async || match alive() {
            now if now <= before => Ok(()),
            now => Err(format!("{} tasks more", now - before)),
        };
        eventually(SOON, "all tasks of the test have ended", left).await;
    });
}

pub(crate) fn alive() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Waits for what is to come at once.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(SOON, what).await.expect("in time")
}

/// How many items queues are tried with: so many, unless the environment says otherwise, as
/// `QUEUE_ITEMS=20000`.
pub(crate) fn items_or(items: usize) -> usize {
    let given = std::env::var("QUEUE_ITEMS").ok();
    given.map_or(items, |given| given.parse().expect("a number"))
}

/// Polls something so many times, if it is not done before, and drops it.
pub(crate) async fn cancel_after(polls: usize, what: impl Future) {
    let mut left = polls;
    let mut what = pin!(what);
    let cancelled = poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        what.as_mut().poll(cx).map(drop)
    });
    // It may wait for something that does not come.
    let _ = timeout(Duration::from_millis(50), cancelled).await;
}

/// A task of a test, which ends with this.
pub(crate) struct Task<T> {
    task: AbortHandle,
    owner: JoinSet<T>,
}

pub(crate) fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> Task<T> {
    let mut owner = JoinSet::new();
    Task {
        task: owner.spawn(task),
        owner,
    }
}

impl<T: 'static> Task<T> {
    pub(crate) fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    pub(crate) async fn joined(mut self) -> T {
        soon(self.owner.join_next()).await.unwrap().unwrap()
    }
}

/// Begins something on a runtime that has ended when this returns.
pub(crate) async fn begin_elsewhere<T: Send + 'static>(
    mut who: T,
    begin: impl AsyncFnOnce(&mut T) + Send + 'static,
) -> T {
    let (back, given_back) = oneshot::channel();
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let begun = async { timeout(Duration::from_millis(300), begin(&mut who)).await };
        assert!(runtime.block_on(begun).is_err(), "it is done");
        drop(runtime);
        let _ = back.send(who);
    });
    soon(given_back).await.unwrap()
}

impl Server {
    async fn begin(kind: Kind) -> Self {
        let server = match kind {
            Kind::Real => {
                let etcd = real().await;
                let endpoint = etcd.endpoint().to_owned();
                Self {
                    etcd: Either::Real(etcd),
                    endpoint,
                }
            }
            Kind::Embedded => {
                let etcd = EmbeddedEtcd::start();
                let endpoint = etcd.listen("127.0.0.1:0").await.unwrap().to_string();
                Self {
                    etcd: Either::Embedded(etcd),
                    endpoint,
                }
            }
        };
        let before = alive();
        RawEtcd::connect(&server.endpoint).clear().await;
        let left = async || {
            if alive() <= before {
                Ok(())
            } else {
                Err("not yet")
            }
        };
        eventually(SOON, "the connection has ended", left).await;
        server
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Connects a registry of its own, as another process has it.
    pub(crate) async fn registry(&self) -> Registry {
        let registry = Registry::builder(&*self.endpoint).unwrap();
        let registry = registry.ttl(TTL);
        registry.connect().await.expect("etcd is there")
    }

    /// Breaks all connections; etcd is back when this returns, with what it held.
    pub(crate) async fn restart(&mut self) {
        match &mut self.etcd {
            Either::Real(etcd) => etcd.restart().await,
            Either::Embedded(etcd) => etcd.restart(),
        }
    }

    /// The same, but it holds nothing any more.
    pub(crate) async fn wipe(&mut self) {
        match &mut self.etcd {
            Either::Real(etcd) => etcd.wipe_and_restart().await,
            Either::Embedded(etcd) => etcd.wipe(),
        }
    }

    /// Breaks all connections, then forgets all history, and then all that it held; `check` is called
    /// after each.
    pub(crate) async fn suffer(&mut self, registry: &Registry, check: impl Fn()) {
        self.restart().await;
        check();
        put(registry, "/other", "1").await;
        self.compact().await;
        self.restart().await;
        check();
        self.wipe().await;
        check();
    }

    /// Stops answering.
    pub(crate) fn freeze(&mut self) {
        match &mut self.etcd {
            Either::Real(etcd) => etcd.freeze(),
            Either::Embedded(etcd) => etcd.freeze(),
        }
    }

    pub(crate) fn thaw(&mut self) {
        match &mut self.etcd {
            Either::Real(etcd) => etcd.thaw(),
            Either::Embedded(etcd) => etcd.thaw(),
        }
    }

    /// Forgets all history before now.
    pub(crate) async fn compact(&self) {
        let etcd = RawEtcd::connect(&self.endpoint);
        let revision = self.revision().await;
        let request = etcd_client::proto::PbCompactionRequest {
            revision,
            physical: true,
        };
        etcd.compact(request).await.unwrap();
    }

    pub(crate) async fn revision(&self) -> i64 {
        let registry = self.registry().await;
        registry.keys().read("none", 0).await.unwrap().revision
    }

    /// Returns what a key holds.
    pub(crate) async fn value(&self, key: &str) -> Option<Vec<u8>> {
        let registry = self.registry().await;
        let held = registry.keys().read(key, 0).await.unwrap().held;
        held.map(|kv| kv.value)
    }
}

/// Writes keys in one transaction, again if nobody knows what came of that; returns its revision.
pub(crate) async fn put_all(registry: &Registry, keys: &[(&str, &[u8])]) -> i64 {
    let puts = keys
        .iter()
        .map(|(key, value)| Operation::put(key, *value, None));
    let transaction = puts.fold(Transaction::new(), Transaction::then);
    let written = async {
        loop {
            match registry.keys().commit(transaction.clone()).await {
                Err(KeysError::Unreachable(_) | KeysError::Unavailable(_)) => {
                    sleep(Duration::from_millis(20)).await
                }
                outcome => return outcome,
            }
        }
    };
    soon(written).await.unwrap().revision
}

pub(crate) async fn put(registry: &Registry, key: &str, value: impl AsRef<[u8]>) -> i64 {
    put_all(registry, &[(key, value.as_ref())]).await
}

pub(crate) async fn delete(registry: &Registry, key: &str) {
    let delete = Transaction::new().then(Operation::delete(key));
    soon(registry.keys().commit(delete)).await.unwrap();
}

pub(crate) fn is_closed(failure: &Failure) -> bool {
    matches!(failure, Failure::Closed)
}

/// Returns a real etcd, which tests use one after the other.
async fn real() -> OwnedMutexGuard<Etcd> {
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
    shared.lock_owned().await
}
