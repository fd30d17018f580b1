//! What everybody shares: the network, etcd, the trace, and what is checked.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use switchboard::Registry;
use switchboard_embedded::{EmbeddedEtcd, Network};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{items::Items, reigns::Reigns};
use crate::{ledger::Ledger, script::Weather, trace::Trace};

const ETCD: &str = "etcd:2379";

/// How long a lease lives.
const TTL: Duration = Duration::from_secs(3);

/// A handle on the world.
#[derive(Clone)]
pub(super) struct World(Arc<Inner>);

struct Inner {
    etcd: EmbeddedEtcd,
    network: Network,
    trace: Trace,
    start: Instant,
    is_calm: bool,
    /// How late bytes arrive where the weather is fair.
    way: Duration,
    /// All that processes do.
    tasks: TaskTracker,
    counter: AtomicU64,
    /// Nothing goes wrong any more, and all come to rest.
    over: CancellationToken,
    state: Mutex<State>,
}

/// What is checked.
#[derive(Default)]
pub(super) struct State {
    pub(super) ledger: Ledger,
    pub(super) items: Items,
    pub(super) reigns: Reigns,
    pub(super) violations: Vec<String>,
    /// Who is not done yet, and what it waits for.
    pub(super) waiting: BTreeMap<String, String>,
}

impl World {
    pub(super) fn new(trace: Trace, is_calm: bool, way: Duration) -> Self {
        let (etcd, network) = (EmbeddedEtcd::start(), Network::new());
        etcd.serve(network.listen(ETCD).expect("nobody listens yet"));
        Self(Arc::new(Inner {
            etcd,
            network,
            trace,
            start: Instant::now(),
            is_calm,
            way,
            tasks: TaskTracker::new(),
            counter: AtomicU64::new(0),
            over: CancellationToken::new(),
            state: Mutex::default(),
        }))
    }

    pub(super) fn etcd(&self) -> &EmbeddedEtcd {
        &self.0.etcd
    }

    pub(super) fn trace(&self) -> &Trace {
        &self.0.trace
    }

    pub(super) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }

    pub(super) fn is_calm(&self) -> bool {
        self.0.is_calm
    }

    pub(super) fn over(&self) -> &CancellationToken {
        &self.0.over
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.over.is_cancelled()
    }

    /// Returns the moment that long after the beginning.
    pub(super) fn moment(&self, at: Duration) -> Instant {
        self.0.start + at
    }

    /// Returns a number that nobody else has.
    pub(super) fn number(&self) -> u64 {
        self.0.counter.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Returns what is checked, as it is now.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        state.items.audit(&self.0.etcd);
        state.reigns.audit(&self.0.etcd);
        for violation in state.ledger.audit(&self.0.etcd) {
            self.note(&mut state, violation);
        }
        state
    }

    /// Notes that something must not have happened.
    pub(super) fn violation(&self, what: String) {
        self.note(&mut self.lock(), what);
    }

    fn note(&self, state: &mut State, what: String) {
        // What goes on being wrong is said once.
        if !state.violations.contains(&what) {
            self.0.trace.write(format_args!("VIOLATION {what}"));
            state.violations.push(what);
        }
    }

    /// Notes an error that has a reason, where anything is wrong.
    pub(super) fn excused(&self, what: String) {
        match self.0.is_calm {
            true => self.violation(format!("{what}, and nothing was wrong")),
            false => self.0.trace.write(what),
        }
    }

    /// Makes a registry whose process has this name on the network.
    pub(super) fn registry(&self, name: &str) -> Registry {
        self.set_weather(name, Weather::Fair);
        let builder = Registry::builder(ETCD).expect("an address");
        let builder = builder.connector(self.0.network.connector(name));
        builder.ttl(TTL).connect_lazy().expect("it is valid")
    }

    pub(super) fn set_weather(&self, name: &str, weather: Weather) {
        let link = self.0.network.link(name, ETCD);
        match weather {
            Weather::Fair => {
                link.heal();
                link.delay(self.0.way);
            }
            Weather::Cut => link.cut(),
            Weather::Delay(by) => link.delay(by),
            Weather::Refuse => link.refuse(),
            Weather::Reset => link.reset(),
        }
    }

    /// Takes a process off the network for good: what it still says reaches nobody.
    pub(super) fn bury(&self, name: &str) {
        let link = self.0.network.link(name, ETCD);
        link.refuse();
        link.reset();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Notes what `who` waits for, if anything.
    pub(super) fn waits(&mut self, who: &str, what: Option<&str>) {
        match what {
            Some(what) => drop(self.waiting.insert(who.to_owned(), what.to_owned())),
            None => drop(self.waiting.remove(who)),
        }
    }

    /// Those of a process that is gone hold nothing, and nobody waits for them.
    pub(super) fn forget(&mut self, process: &str) {
        let prefix = format!("{process}/");
        self.waiting.retain(|who, _| !who.starts_with(&prefix));
        self.ledger.forget(process);
        self.items.forget(process);
    }
}
