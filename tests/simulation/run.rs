//! One run: a script, played from beginning to end in virtual time, and what came of it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use fastrand::Rng;
use switchboard_embedded::Backup;
use tokio::{
    runtime::{Builder, Handle},
    time::Instant,
};

use crate::{
    clients::{self, Client},
    counts::Counts,
    ledger,
    publishers::PublishingProcess,
    script::{
        self, Action, CLIENTS, END, EtcdFault, PUBLISHERS, Party, Place, SERVERS, Script,
        ServerOrder, Weather,
    },
    servers::ServingProcess,
    stranger,
    trace::{self, Trace},
    world::{State, World},
};

/// How long everything may take to be as it should once nothing is wrong any more: the longest waits
/// are the 10 s for which a wiped etcd's records are shown, and those after which what was refused
/// is tried again.
const SETTLED: Duration = Duration::from_secs(30);

/// How long it has to stay so.
const STABLE: Duration = Duration::from_secs(3);

/// How long all may take to end: a TTL, the requests that were begun meanwhile, and a server's drain.
const ENDED: Duration = Duration::from_secs(30);

/// What a restore is counted as.
pub(crate) const RESTORED: &str = "etcd restored from a backup";

/// How late it may be known that a record came or went, or that a server has ended.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// What came of a run.
pub(crate) struct Outcome {
    pub(crate) lines: Vec<String>,
    pub(crate) hash: u64,
    /// What must not have happened.
    pub(crate) violations: Vec<String>,
}

/// Runs a seed's script, in a runtime of its own, and counts what happened.
pub(crate) fn run(
    seed: u64,
    script: Script,
    is_shown: bool,
    counts: Option<&Mutex<Counts>>,
) -> Outcome {
    within(seed, is_shown, async |trace| {
        let play = Play::begin(seed, script, trace).await;
        let world = play.world.clone();
        let violations = play.play().await;
        if let Some(counts) = counts {
            let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            counts.add_all(&world.state().counts);
        }
        violations
    })
}

/// Plays in a runtime of its own, in which all chance follows from the seed. Returns the trace, and
/// the violations that `play` returns.
pub(crate) fn within(
    seed: u64,
    is_shown: bool,
    play: impl AsyncFnOnce(&Trace) -> Vec<String>,
) -> Outcome {
    // What the registry and the channels make up follows from it.
    fastrand::seed(seed);
    let mut runtime = Builder::new_current_thread();
    runtime.enable_time().start_paused(true);
    #[cfg(tokio_unstable)]
    runtime
        .rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()))
        .unhandled_panic(tokio::runtime::UnhandledPanic::ShutdownRuntime);
    let runtime = runtime.build().expect("a runtime");
    runtime.block_on(async {
        let trace = Trace::new(is_shown);
        let violations = play(&trace).await;
        let lines = trace.lines();
        Outcome {
            hash: trace::hash(&lines),
            lines,
            violations,
        }
    })
}

struct Play {
    world: World,
    script: Script,
    /// How many tasks there are without anybody.
    empty: usize,
    publishers: Vec<PublishingProcess>,
    servers: Vec<ServingProcess>,
    clients: Vec<Client>,
    /// With the revision that etcd was at.
    backup: Option<(Backup, i64)>,
}

impl Play {
    async fn begin(seed: u64, script: Script, trace: &Trace) -> Self {
        let world = World::new(trace.clone());
        let empty = alive();
        let mut rng = Rng::with_seed(seed ^ 0xca11);
        let publishers = (0..PUBLISHERS)
            .map(|index| PublishingProcess::start(&world, index, script.ttls[index], rng.fork()))
            .collect();
        let mut servers = Vec::new();
        for index in 0..SERVERS {
            let ttl = script.ttls[PUBLISHERS + index];
            let mut server = ServingProcess::new(&world, index, ttl);
            server.start().await;
            servers.push(server);
        }
        let clients = (0..CLIENTS)
            .map(|index| Client::start(&world, index, rng.fork()))
            .collect();
        Self {
            world,
            script,
            empty,
            publishers,
            servers,
            clients,
            backup: None,
        }
    }

    async fn play(mut self) -> Vec<String> {
        for step in std::mem::take(&mut self.script.steps) {
            self.until(step.at).await;
            self.world
                .trace()
                .write(format_args!("-- {:?}", step.action));
            self.act(step.action).await;
        }
        self.until(END).await;
        self.make_right().await;
        self.settle().await;
        self.close().await;
        std::mem::take(&mut self.world.state().violations)
    }

    /// Waits until that long after the beginning, and looks at everything meanwhile.
    async fn until(&mut self, at: Duration) {
        let end = self.world.moment(at);
        while Instant::now() < end {
            tokio::time::sleep_until(end.min(Instant::now() + BETWEEN_LOOKS)).await;
            drop(self.world.state());
            for server in &mut self.servers {
                server.look().await;
            }
        }
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Publication {
                publisher,
                slot,
                order,
            } => self.publishers[publisher].order(slot, order),
            Action::CrashPublisher(publisher) => {
                self.world.count("publishing process crashed");
                self.publishers[publisher].crash();
            }
            Action::ClosePublisher(publisher) => {
                self.world.count("registry closed under its publications");
                self.publishers[publisher].close();
            }
            Action::Server(server, order) => self.order(server, order).await,
            Action::FollowAnew(client) => self.clients[client].follow_anew(),
            Action::Etcd(fault) => self.befall_etcd(fault),
            Action::BackUp => {
                let etcd = self.world.etcd();
                self.backup = Some((etcd.backup(), etcd.revision()));
            }
            Action::Restore => self.restore(),
            Action::Meddle(how, which) => stranger::meddle(&self.world, how, which),
            Action::Grow(by) => stranger::grow(&self.world, by),
            Action::Configure(value) => stranger::configure(&self.world, value),
            Action::CutOff(party) => {
                self.world.count("party cut off");
                self.set_weather_around(party, Weather::Cut);
            }
            Action::StandStill(party) => {
                self.world.count("party standing still");
                self.set_weather_around(party, Weather::Cut);
                self.set_still(party, true);
            }
            Action::Return(party) => {
                self.set_weather_around(party, Weather::Fair);
                self.set_still(party, false);
            }
            Action::Link(party, place, weather) => {
                match weather {
                    Weather::Fair => {}
                    Weather::Cut => self.world.count("link cut"),
                    Weather::Delay(_) => self.world.count("link slow"),
                    Weather::Refuse => self.world.count("link refusing"),
                    Weather::Reset => self.world.count("link reset"),
                }
                self.set_weather(party, place, weather);
            }
        }
    }

    async fn order(&mut self, server: usize, order: ServerOrder) {
        let (world, server) = (&self.world, &mut self.servers[server]);
        match order {
            ServerOrder::Start => server.start().await,
            ServerOrder::Stop => {
                if server.stop() {
                    world.count("server stopped");
                }
            }
            ServerOrder::Crash => {
                if server.crash().await {
                    world.count("server crashed");
                }
            }
            ServerOrder::Restart => {
                if server.stop() {
                    world.count("server restarted in its turn");
                }
                server.start().await;
            }
        }
    }

    fn set_weather(&self, party: Party, place: Place, weather: Weather) {
        let name = match party {
            Party::Publisher(publisher) => self.publishers[publisher].name(),
            Party::Server(server) => self.servers[server].name(),
            Party::Client(client) => clients::name(client),
        };
        self.world.set_weather(party, &name, place, weather);
    }

    /// Changes the weather on all links of a party at once.
    fn set_weather_around(&self, party: Party, weather: Weather) {
        for (from, to) in party.links() {
            self.set_weather(from, to, weather);
        }
    }

    /// Has what a party does stand still, or go on.
    fn set_still(&self, party: Party, is_still: bool) {
        if !is_still {
            self.world.state().health.goes_on(party, self.world.now());
        }
        match party {
            Party::Publisher(publisher) => self.publishers[publisher].set_still(is_still),
            Party::Client(client) => self.clients[client].set_still(is_still),
            // Nobody sees of a server but what passes.
            Party::Server(_) => {}
        }
    }

    fn befall_etcd(&self, fault: EtcdFault) {
        let (etcd, now) = (self.world.etcd(), self.world.now());
        let mut state = self.world.state();
        match fault {
            EtcdFault::Freeze | EtcdFault::ReadOnly(true) => state.health.etcd_broken(now),
            EtcdFault::Thaw | EtcdFault::ReadOnly(false) => state.health.etcd_mended(now),
            EtcdFault::Refuse(calls, _) if calls > 0 => state.health.etcd_broken(now),
            EtcdFault::Refuse(..) => state.health.etcd_mended(now),
            EtcdFault::DropConnections | EtcdFault::Restart | EtcdFault::Wipe => {
                state.health.etcd_broken(now);
                state.health.etcd_mended(now);
            }
            EtcdFault::ExpireLease(_) | EtcdFault::Compact(_) => {}
        }
        let count = match fault {
            EtcdFault::Freeze => {
                etcd.freeze();
                Some("etcd frozen")
            }
            EtcdFault::Thaw => {
                etcd.thaw();
                None
            }
            EtcdFault::DropConnections => {
                etcd.drop_connections();
                Some("etcd's connections dropped")
            }
            EtcdFault::Restart => {
                etcd.restart();
                Some("etcd restarted")
            }
            EtcdFault::ExpireLease(which) => {
                let has_ended = self.expire_lease(&mut state, which);
                has_ended.then_some("lease ended")
            }
            EtcdFault::Compact(kept) => {
                let is_compacted = etcd.compact(etcd.revision() - i64::from(kept));
                is_compacted.then_some("history compacted")
            }
            EtcdFault::Wipe => {
                etcd.wipe();
                let State {
                    auditor,
                    health,
                    ledger,
                    ..
                } = &mut *state;
                auditor.wiped(health, now);
                ledger.wiped();
                Some("etcd wiped")
            }
            EtcdFault::ReadOnly(is_read_only) => {
                etcd.read_only(is_read_only);
                is_read_only.then_some("etcd read-only")
            }
            EtcdFault::Refuse(calls, code) => {
                etcd.refuse(calls as usize, code);
                (calls > 0).then_some("etcd refusing requests")
            }
        };
        if let Some(count) = count {
            state.counts.add(count, 1);
        }
    }

    /// Has etcd start with its backup, unless too little has been written since (another fault refused it), so
    /// that nothing would tell what is lost from what is new.
    fn restore(&self) {
        let (etcd, now) = (self.world.etcd(), self.world.now());
        let (backup, revision) = self.backup.as_ref().expect("it was made before");
        if etcd.revision() < revision + script::LOST {
            return;
        }
        let mut state = self.world.state();
        state.health.etcd_broken(now);
        state.health.etcd_mended(now);
        etcd.restore(backup);
        let State {
            auditor,
            health,
            ledger,
            counts,
            ..
        } = &mut *state;
        auditor.restored(etcd, health, now);
        ledger.wiped();
        counts.add(RESTORED, 1);
    }

    /// Ends one of the leases that hold records. Returns whether there was one.
    fn expire_lease(&self, state: &mut State, which: usize) -> bool {
        let etcd = self.world.etcd();
        let records = state.auditor.current();
        let mut leases: Vec<_> = records.values().map(|record| record.lease).collect();
        leases.sort();
        leases.dedup();
        if leases.is_empty() {
            return false;
        }
        let lease = leases[which % leases.len()];
        state.auditor.lease_ended(lease);
        let lines = ledger::lines(etcd);
        let of_it = lines.iter().filter(|kv| kv.lease == Some(lease));
        state.ledger.meddled(of_it);
        etcd.expire_lease(lease)
    }

    /// Has every server run; nothing else is wrong any more.
    async fn make_right(&mut self) {
        self.world.trace().write("-- all is right");
        self.world.over().cancel();
        for server in &mut self.servers {
            server.start().await;
        }
    }

    /// Waits until everything is as it should be, and sees that it stays so.
    async fn settle(&mut self) {
        let mut at = END;
        while !self.unsettled().is_empty() {
            if at >= END + SETTLED {
                for what in self.unsettled() {
                    self.world
                        .violation(format!("not settled in {SETTLED:?}: {what}"));
                }
                return;
            }
            at += Duration::from_millis(100);
            self.until(at).await;
        }
        self.world.trace().write("-- settled");
        self.until(at + STABLE).await;
        for what in self.unsettled() {
            self.world.violation(format!("settled, and then: {what}"));
        }
    }

    /// Returns what is not as it should be.
    fn unsettled(&self) -> Vec<String> {
        let mut unsettled = self.world.state().auditor.unsettled();
        unsettled.extend(self.clients.iter().flat_map(Client::unsettled));
        let waiting = self.world.state().waiting.clone();
        unsettled.extend(
            waiting
                .iter()
                .map(|(who, what)| format!("{who} waits {what}")),
        );
        unsettled
    }

    /// Ends everything; nothing is left, neither in the store nor of the tasks.
    async fn close(&mut self) {
        self.world.trace().write("-- the end");
        let closing = async {
            for client in self.clients.drain(..) {
                client.close().await;
            }
            self.publishers.drain(..).for_each(PublishingProcess::end);
            for server in &mut self.servers {
                server.stop();
            }
            for server in &mut self.servers {
                server.ended().await;
            }
            self.world.tasks().close();
            self.world.tasks().wait().await;
        };
        if tokio::time::timeout(ENDED, closing).await.is_err() {
            self.world.violation(format!("not closed in {ENDED:?}"));
        }
        // Nobody is left to be wanted.
        for what in self.world.state().auditor.unsettled() {
            self.world.violation(format!("closed, and there is {what}"));
        }
        // Connections that were told to end do so in their turn, and leases of who is gone in theirs.
        let mut rounds = 0;
        while (alive() > self.empty || !self.leased().is_empty()) && rounds < 100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            rounds += 1;
        }
        for key in self.leased() {
            self.world.violation(format!("closed, and {key} is left"));
        }
        if alive() > self.empty {
            let more = alive() - self.empty;
            self.world
                .violation(format!("closed, and {more} tasks are left"));
        }
    }

    /// Returns the keys that somebody has put under a lease.
    fn leased(&self) -> Vec<String> {
        let keys = self.world.etcd().keys().into_iter();
        let leased = keys.filter(|kv| kv.lease.is_some());
        let names = leased.map(|kv| String::from_utf8_lossy(&kv.key).into_owned());
        names.collect()
    }
}

fn alive() -> usize {
    Handle::current().metrics().num_alive_tasks()
}
