//! What everybody in a run shares: the network, etcd, the trace, and what is checked.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use switchboard::Registry;
use switchboard_embedded::{EmbeddedEtcd, Network};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auditor::{Auditor, Claim, Wanted},
    counts::Counts,
    health::{DENIED, Health, MENDED},
    ledger::Ledger,
    script::{Party, Place, SERVERS, Weather},
    servers,
    trace::Trace,
};

/// Where etcd listens.
pub(crate) const ETCD: &str = "etcd:2379";

/// How long before its beginning a run counts time from; see [`Health`].
const BEFORE: Duration = Duration::from_secs(3600);

/// A handle on the world.
#[derive(Clone)]
pub(crate) struct World(Arc<Inner>);

struct Inner {
    etcd: EmbeddedEtcd,
    network: Network,
    trace: Trace,
    start: Instant,
    /// All that parties do.
    tasks: TaskTracker,
    /// Nothing goes wrong any more.
    over: CancellationToken,
    state: Mutex<State>,
}

/// What is checked.
pub(crate) struct State {
    pub(crate) auditor: Auditor,
    pub(crate) health: Health,
    pub(crate) ledger: Ledger,
    /// Who is not done yet, and what it waits for.
    pub(crate) waiting: BTreeMap<String, String>,
    pub(crate) counts: Counts,
    pub(crate) violations: Vec<String>,
}

impl World {
    /// Begins, with an etcd and nobody else.
    pub(crate) fn new(trace: Trace) -> Self {
        let (etcd, network) = (EmbeddedEtcd::start(), Network::new());
        etcd.serve(network.listen(ETCD).expect("nobody listens yet"));
        Self(Arc::new(Inner {
            etcd,
            network,
            trace,
            start: Instant::now(),
            tasks: TaskTracker::new(),
            over: CancellationToken::new(),
            state: Mutex::new(State {
                auditor: Auditor::default(),
                health: Health::new(),
                ledger: Ledger::default(),
                waiting: BTreeMap::new(),
                counts: Counts::new(),
                violations: Vec::new(),
            }),
        }))
    }

    pub(crate) fn etcd(&self) -> &EmbeddedEtcd {
        &self.0.etcd
    }

    pub(crate) fn network(&self) -> &Network {
        &self.0.network
    }

    pub(crate) fn trace(&self) -> &Trace {
        &self.0.trace
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }

    pub(crate) fn over(&self) -> &CancellationToken {
        &self.0.over
    }

    pub(crate) fn now(&self) -> Duration {
        BEFORE + self.0.start.elapsed()
    }

    /// Returns the moment that long after the beginning.
    pub(crate) fn moment(&self, at: Duration) -> Instant {
        self.0.start + at
    }

    /// Returns what is checked, with all of the store's history until now.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let State {
            auditor,
            health,
            ledger,
            violations,
            ..
        } = &mut *state;
        let mut found = auditor.audit(&self.0.etcd, health, self.now(), &self.0.trace);
        found.extend(ledger.audit(&self.0.etcd));
        // What goes on being wrong is said once.
        found.retain(|violation| !violations.contains(violation));
        for violation in &found {
            self.0.trace.write(format_args!("VIOLATION {violation}"));
        }
        violations.extend(found);
        state
    }

    /// Notes that something must not have happened.
    pub(crate) fn violation(&self, what: String) {
        self.0.trace.write(format_args!("VIOLATION {what}"));
        self.lock().violations.push(what);
    }

    /// Notes an error of what a party began then: a violation, unless that has a reason.
    pub(crate) fn excused(&self, party: Party, began: Duration, what: String) {
        let (state, now) = (self.state(), self.now());
        let health = &state.health;
        let is_denied = what.contains("PermissionDenied");
        let within = if is_denied { DENIED } else { MENDED };
        let is_excused =
            health.was_hampered(party, now, within) || health.has_stood_still(party, began);
        drop(state);
        match is_excused {
            true => self.0.trace.write(what),
            false => self.violation(format!("{what}, and nothing was wrong")),
        }
    }

    /// Counts that something happened.
    pub(crate) fn count(&self, what: &'static str) {
        self.lock().counts.add(what, 1);
    }

    /// Says what a publication is to have in the store from now on.
    pub(crate) fn claim(&self, who: &str, party: Party, service: &'static str, wanted: Wanted) {
        let claim = Claim {
            party,
            service,
            wanted,
        };
        self.state().auditor.claims.insert(who.to_owned(), claim);
    }

    /// Says that a publication is not to be in the store, and whether etcd has confirmed that.
    pub(crate) fn unclaim(&self, who: &str, is_confirmed: bool) {
        if let Some(claim) = self.state().auditor.claims.get_mut(who) {
            claim.wanted = Wanted::Absent { is_confirmed };
        }
    }

    /// Makes a registry whose process has this name on the network.
    pub(crate) fn registry(&self, name: &str, ttl: Duration) -> Registry {
        let builder = Registry::builder(ETCD).expect("an address");
        let builder = builder.connector(self.0.network.connector(name));
        builder.ttl(ttl).connect_lazy().expect("it is valid")
    }

    /// Changes the weather on a link; `name` is what its party is called now.
    pub(crate) fn set_weather(&self, party: Party, name: &str, place: Place, weather: Weather) {
        let address = match place {
            Place::Etcd => ETCD.to_owned(),
            Place::Server(server) => servers::address(server),
        };
        let link = self.0.network.link(name, address);
        let mut state = self.state();
        let (health, now) = (&mut state.health, self.now());
        match weather {
            Weather::Fair => {
                link.heal();
                link.delay(Duration::ZERO);
            }
            Weather::Cut => link.cut(),
            Weather::Delay(by) => link.delay(by),
            Weather::Refuse => link.refuse(),
            Weather::Reset => {
                // What else is wrong with it stays so.
                link.reset();
                if health.is_fair(party, place) {
                    health.foul(party, place, now);
                    health.fair(party, place, now);
                }
                return;
            }
        }
        match weather {
            Weather::Fair => health.fair(party, place, now),
            _ => health.foul(party, place, now),
        }
    }

    /// Takes a process off the network for good: what it still says reaches nobody.
    pub(crate) fn bury(&self, name: &str) {
        let mut addresses: Vec<_> = (0..SERVERS).map(servers::address).collect();
        addresses.push(ETCD.to_owned());
        for address in addresses {
            let link = self.0.network.link(name, address);
            link.refuse();
            link.reset();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Notes what `who` waits for, if anything.
    pub(crate) fn waits(&mut self, who: &str, what: Option<&str>) {
        match what {
            Some(what) => drop(self.waiting.insert(who.to_owned(), what.to_owned())),
            None => drop(self.waiting.remove(who)),
        }
    }

    /// Those of a process that died hold nothing, and wait for nothing.
    pub(crate) fn forget(&mut self, process: &str) {
        let prefix = format!("{process}/");
        self.waiting.retain(|who, _| !who.starts_with(&prefix));
        self.ledger.forget(process);
    }
}
