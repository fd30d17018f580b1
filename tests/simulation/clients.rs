//! Processes that call the servers, and follow all who publish, and a setting.

use std::{error::Error, time::Duration};

use fastrand::Rng;
use switchboard::{
    Backoff, CallError, CallErrorKind, Channel, Condition, DiscoverError, Instance, Registry,
    Snapshot, WaitForReady,
};
use switchboard_proto::{HelloRequest, greeter_client::GreeterClient};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tonic::{Request, Status};

use crate::{
    gate::Gate,
    publishers,
    records::{self, Listed},
    script::{Party, SERVERS},
    servers,
    setting::Replica,
    trace::chain,
    world::World,
};

/// What a client is called on the network.
pub(crate) fn name(client: usize) -> String {
    format!("client-{client}")
}

/// One of them.
pub(crate) struct Client {
    world: World,
    index: usize,
    registry: Registry,
    channel: Channel,
    /// Ends the calls.
    quiet: CancellationToken,
    calls: TaskTracker,
    caller: JoinHandle<()>,
    followers: Vec<Follower>,
    setting: Option<Replica>,
    /// All that it does.
    gate: Gate,
}

impl Client {
    pub(crate) fn start(world: &World, index: usize, rng: Rng) -> Self {
        let registry = world.registry(&name(index), Duration::from_secs(10));
        let channel = registry
            .dial(servers::SERVICE)
            .connector(world.network().connector(name(index)))
            .connect_timeout(Duration::from_secs(1))
            .backoff(Backoff {
                base: Duration::from_millis(100),
                cap: Duration::from_secs(1),
                ..Backoff::default()
            })
            .connect_lazy()
            .expect("it is valid");
        let gate = Gate::new();
        let caller = Caller {
            world: world.clone(),
            gate: gate.clone(),
            client: index,
            calls: GreeterClient::new(channel.clone()),
        };
        let (quiet, calls) = (CancellationToken::new(), TaskTracker::new());
        let calling = gate.through(caller.run(rng, calls.clone()));
        let ended = quiet.clone();
        let caller = world.tasks().spawn(async move {
            ended.run_until_cancelled(calling).await;
        });
        let mut client = Self {
            world: world.clone(),
            index,
            registry,
            channel,
            quiet,
            calls,
            caller,
            followers: Vec::new(),
            setting: None,
            gate,
        };
        client.follow_anew();
        client
    }

    /// Follows from the beginning, instead of what it followed.
    pub(crate) fn follow_anew(&mut self) {
        self.followers = [publishers::SERVICE, servers::SERVICE]
            .map(|service| {
                Follower::start(&self.world, self.index, &self.registry, &self.gate, service)
            })
            .into();
        let setting = Replica::start(&self.world, self.index, &self.registry, &self.gate);
        self.setting = Some(setting);
    }

    /// What it does stands still, or goes on as if nothing was.
    pub(crate) fn set_still(&self, is_still: bool) {
        self.gate.set_open(!is_still);
    }

    /// Returns what this client does not see yet of what the store holds.
    pub(crate) fn unsettled(&self) -> Vec<String> {
        let name = name(self.index);
        let records = self.world.state().auditor.current();
        let mut unsettled: Vec<_> = self
            .followers
            .iter()
            .filter_map(|follower| {
                let (service, seen) = (follower.service, follower.seen());
                let is_right = seen
                    .as_ref()
                    .is_some_and(|it| records::are_shown(service, &records, it));
                (!is_right).then(|| format!("{name} sees {seen:?} of {service}"))
            })
            .collect();
        if let Some(setting) = &self.setting {
            let values = &self.world.state().auditor.setting;
            let wrong = setting.unsettled(values);
            unsettled.extend(wrong.map(|it| format!("{name}: {it}")));
        }
        let state = self.channel.state();
        let conditions = state.endpoints.iter().map(|it| it.condition);
        let ready = conditions.filter(|it| *it == Condition::Ready).count();
        if ready != SERVERS || state.endpoints.len() != SERVERS {
            unsettled.push(format!("{name} is connected to {ready} servers: {state:?}"));
        }
        unsettled
    }

    /// Ends all that it does.
    pub(crate) async fn close(mut self) {
        self.quiet.cancel();
        if let Err(error) = self.caller.await {
            self.world
                .violation(format!("{} broke: {error}", name(self.index)));
        }
        self.calls.close();
        self.calls.wait().await;
        self.followers.clear();
        self.setting = None;
        self.channel.close().await;
        self.registry.close().await;
    }
}

/// Calls, each call on its own: one that hangs keeps no other.
struct Caller {
    world: World,
    client: usize,
    gate: Gate,
    calls: GreeterClient<Channel>,
}

/// How one call is made.
struct Call {
    number: usize,
    timeout: Option<Duration>,
    waits_for_ready: bool,
}

impl Caller {
    async fn run(self, mut rng: Rng, calls: TaskTracker) {
        for number in 0.. {
            tokio::time::sleep(Duration::from_millis(rng.u64(20..500))).await;
            let call = Call {
                number,
                timeout: (rng.u32(..8) > 0).then(|| Duration::from_millis(rng.u64(500..3000))),
                waits_for_ready: rng.u32(..8) == 0,
            };
            let (world, client, greeter) = (self.world.clone(), self.client, self.calls.clone());
            calls.spawn(self.gate.through(async move {
                let began = world.now();
                let outcome = call.make(greeter).await;
                judge(&world, client, &call, began, outcome);
            }));
        }
    }
}

impl Call {
    async fn make(&self, mut greeter: GreeterClient<Channel>) -> Result<String, Status> {
        let mut request = Request::new(HelloRequest {
            name: self.number.to_string(),
        });
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        if self.waits_for_ready {
            request.extensions_mut().insert(WaitForReady);
        }
        let reply = greeter.say_hello(request).await?.into_inner();
        assert_eq!(reply.message, format!("Hello, {}!", self.number));
        Ok(reply.served_by)
    }
}

/// Notes what came of a call, and whether that may be.
fn judge(
    world: &World,
    client: usize,
    call: &Call,
    began: Duration,
    outcome: Result<String, Status>,
) {
    let call = format!("{} call {}", name(client), call.number);
    let status = match outcome {
        Ok(server) => {
            world.count("calls answered");
            return world.trace().write(format_args!("{call} by {server}"));
        }
        Err(status) => status,
    };
    world.trace().write(format_args!(
        "{call}: {:?} {}",
        status.code(),
        status.message()
    ));
    let Some(error) = status
        .source()
        .and_then(|it| it.downcast_ref::<CallError>())
    else {
        return world.violation(format!("{call}: no server answers so: {status}"));
    };
    world.count("calls failed");
    let state = world.state();
    let has_stood_still = state.health.has_stood_still(Party::Client(client), began);
    let wrong = match sent_to(error) {
        _ if has_stood_still => None,
        Some(server)
            if state
                .health
                .excuses_sent(client, server, began, world.now()) =>
        {
            None
        }
        Some(_) => Some("nothing was wrong".to_owned()),
        None => {
            let known = state.health.should_be_known(client, world.now());
            known.map(|server| format!("{} was there", servers::address(server)))
        }
    };
    drop(state);
    if let Some(wrong) = wrong {
        world.violation(format!("{call} failed, and {wrong}: {error}"));
    }
}

/// Returns the server that a call was sent to, if it was.
fn sent_to(error: &CallError) -> Option<usize> {
    let was_sent = match error.kind() {
        CallErrorKind::Unsent => false,
        // A deadline that passes while a call waits names what it waited for.
        CallErrorKind::DeadlineExceeded => !error.to_string().contains("became ready"),
        _ => true,
    };
    let address = error.endpoint()?.addresses().first()?.to_string();
    (0..SERVERS).find(|server| was_sent && servers::address(*server) == address)
}

/// Follows a service, and checks all that it is shown.
struct Follower {
    service: &'static str,
    /// What it sees, while that is known to be right.
    seen: watch::Receiver<Option<Vec<Listed>>>,
    _stop: DropGuard,
}

impl Follower {
    fn start(
        world: &World,
        client: usize,
        registry: &Registry,
        gate: &Gate,
        service: &'static str,
    ) -> Self {
        let (sender, seen) = watch::channel(None);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let following = follow(world.clone(), client, registry.clone(), service, sender);
        let following = gate.through(following);
        world.tasks().spawn(async move {
            stopped.run_until_cancelled(following).await;
        });
        Self {
            service,
            seen,
            _stop: stop.drop_guard(),
        }
    }

    fn seen(&self) -> Option<Vec<Listed>> {
        self.seen.borrow().clone()
    }
}

async fn follow(
    world: World,
    client: usize,
    registry: Registry,
    service: &'static str,
    seen: watch::Sender<Option<Vec<Listed>>>,
) {
    let name = name(client);
    let mut instances = loop {
        let began = world.now();
        match registry.discover(service).await {
            Ok(instances) => break instances,
            Err(DiscoverError::Closed) => return,
            Err(error) => {
                let what = format!("{name} cannot follow {service}: {}", chain(&error));
                world.excused(Party::Client(client), began, what);
            }
        }
    };
    loop {
        world.count("snapshots shown");
        let (snapshot, staleness) = (instances.snapshot(), instances.staleness());
        let (revision, records) = (snapshot.revision(), shown(&snapshot));
        let fresh = if staleness.is_some() {
            "stale"
        } else {
            "fresh"
        };
        world.trace().write(format_args!(
            "{name} {service} at {revision}, {fresh}: {records:?}"
        ));
        let may_be = {
            let auditor = &world.state().auditor;
            // What another history held is shown for a while.
            let is_carried = staleness.is_some() && auditor.was_wiped();
            is_carried || auditor.were(service, revision, &records)
        };
        if !may_be {
            world.violation(format!(
                "{name} is shown {records:?} at {revision}, and it never was"
            ));
        }
        seen.send_replace(staleness.is_none().then_some(records));
        if instances.changed().await.is_err() {
            return;
        }
    }
}

fn shown(snapshot: &Snapshot) -> Vec<Listed> {
    let shown = |instance: &Instance| {
        let who = instance.metadata().get("who").cloned();
        let address = instance.origins()[0].address().to_string();
        (
            who.unwrap_or_default(),
            instance.version().to_owned(),
            address,
        )
    };
    snapshot.instances().map(shown).collect()
}
