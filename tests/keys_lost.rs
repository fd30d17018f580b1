//! What calls meet when keys go whose servers live, and when a server is stopped on purpose.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use etcd_client::{DeleteOptions, GetOptions, WatchOptions};
use switchboard::{
    Channel, Condition, Drain, Instance, Registry, ReservePolicy, ReserveUse, ServeError,
};
use switchboard_proto::{
    HelloRequest, Polite, greeter_client::GreeterClient, greeter_server::GreeterServer,
};
use switchboard_test_support::Etcd;
use tokio::{
    net::TcpListener,
    sync::oneshot,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tracing::{Event, Subscriber, field::Visit};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
};

const SOON: Duration = Duration::from_secs(10);
const PREFIX: &str = "/microservices/greeter/";

/// Four servers that are published, and what stops each.
struct Fleet {
    stops: Vec<(String, oneshot::Sender<()>)>,
    serving: JoinSet<Result<(), ServeError>>,
}

impl Fleet {
    async fn start(etcd: &Etcd) -> Self {
        let (mut stops, mut serving) = (Vec::new(), JoinSet::new());
        for _ in 0..4 {
            let registry = Registry::connect(etcd.endpoint()).await.unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let instance = Instance::new("greeter", address.clone()).unwrap();
            let greeter = GreeterServer::new(Polite {
                address: address.clone(),
            });
            let router = Server::builder().add_service(greeter);
            let (stop, stopped) = oneshot::channel::<()>();
            let serve = registry
                .serve(instance, router, listener)
                .drain(Drain::default())
                .with_graceful_shutdown(async {
                    if stopped.await.is_err() {
                        std::future::pending::<()>().await;
                    }
                });
            serving.spawn(async move { serve.await });
            stops.push((address, stop));
        }
        Self { stops, serving }
    }
}

/// Calls without a pause, until they are stopped.
struct Load {
    calls: JoinSet<()>,
    stop: CancellationToken,
    made: Arc<AtomicUsize>,
    /// When the last call began that each server answered.
    last: Arc<Mutex<BTreeMap<String, Instant>>>,
}

impl Load {
    fn start(channel: &Channel) -> Self {
        let mut load = Self {
            calls: JoinSet::new(),
            stop: CancellationToken::new(),
            made: Arc::default(),
            last: Arc::default(),
        };
        for _ in 0..8 {
            let mut client = GreeterClient::new(channel.clone());
            let (stop, made, last) = (load.stop.clone(), load.made.clone(), load.last.clone());
            load.calls.spawn(async move {
                while !stop.is_cancelled() {
                    let began = Instant::now();
                    let reply = client.say_hello(HelloRequest { name: "Ada".into() }).await;
                    let server = reply.expect("no call fails").into_inner().served_by;
                    let note = |last: &mut BTreeMap<String, Instant>| {
                        let last = last.entry(server).or_insert(began);
                        *last = began.max(*last);
                    };
                    note(&mut last.lock().unwrap());
                    made.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_millis(1)).await;
                }
            });
        }
        load
    }

    /// Ends it, and returns how many calls were made.
    async fn stop(self) -> usize {
        self.stop.cancel();
        // Panics if a call has failed.
        self.calls.join_all().await;
        self.made.load(Ordering::Relaxed)
    }
}

async fn until(channel: &Channel, wanted: impl FnMut(&Arc<switchboard::ChannelState>) -> bool) {
    let mut states = channel.watch_state();
    if timeout(SOON, states.wait_for(wanted)).await.is_err() {
        panic!("never so: {:#?}", channel.state());
    }
}

async fn until_four_are_ready(channel: &Channel) {
    until(channel, |state| {
        let ready = |it: &&Arc<_>| is_ready(it);
        state.endpoints.len() == 4 && state.endpoints.iter().filter(ready).count() == 4
    })
    .await;
}

fn is_ready(endpoint: &switchboard::EndpointState) -> bool {
    endpoint.condition == Condition::Ready && !endpoint.is_reserved
}

/// What this test logs of the reserve, as levels and names.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<String>>>);

impl Logged {
    /// Those of a service; all tests of a process log to one place.
    fn names(&self, service: &str) -> Vec<String> {
        let events = self.0.lock().unwrap();
        let mine = events.iter().filter_map(|it| it.strip_suffix(service));
        mine.map(|it| it.trim().to_owned()).collect()
    }
}

struct Service(String);

impl Visit for Service {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "service" {
            self.0 = format!("{value:?}").trim_matches('"').to_owned();
        }
    }
}

impl<S: Subscriber> Layer<S> for Logged {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if metadata.name().starts_with("reserve_") && *metadata.level() <= tracing::Level::INFO {
            let mut service = Service(String::new());
            event.record(&mut service);
            let text = format!("{} {} {}", metadata.level(), metadata.name(), service.0);
            self.0.lock().unwrap().push(text);
        }
    }
}

/// Keys that nobody puts back: their servers live, and their registrars do not.
async fn orphan(etcd: &Etcd, fleet: &Fleet) {
    let mut client = etcd.client().await;
    let options = GetOptions::new().with_prefix();
    let found = client.get(PREFIX, Some(options)).await.unwrap();
    assert_eq!(found.kvs().len(), fleet.stops.len());
    for kv in found.kvs() {
        let key = kv.key_str().unwrap().replace("/greeter/", "/orphans/");
        let value = kv.value_str().unwrap().replace("greeter", "orphans");
        client.put(key, value, None).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_when_keys_are_lost_and_servers_live() {
    let logged = Logged::default();
    let log = tracing_subscriber::registry().with(logged.clone());
    tracing::subscriber::set_global_default(log).unwrap();
    let etcd = Etcd::start().await;
    let fleet = Fleet::start(&etcd).await;
    let registry = Registry::connect(etcd.endpoint()).await.unwrap();
    let channel = registry.dial("greeter").connect().await.unwrap();
    until_four_are_ready(&channel).await;

    // With publishers that live, keys come back at once.
    let mut client = etcd.client().await;
    let load = Load::start(&channel);
    let all = || Some(DeleteOptions::new().with_prefix());
    client.delete(PREFIX, all()).await.unwrap();
    until(&channel, |state| state.reserve != ReserveUse::Unused).await;
    until(&channel, |state| state.reserve == ReserveUse::Unused).await;
    until_four_are_ready(&channel).await;
    println!(
        "all keys deleted and put back: {} calls, none failed",
        load.stop().await
    );
    assert_eq!(
        logged.names("greeter"),
        ["WARN reserve_used", "INFO reserve_left"]
    );

    // And those of which nobody takes care.
    orphan(&etcd, &fleet).await;
    let channel = registry.dial("orphans").reserve(ReservePolicy {
        settled: Duration::from_secs(2),
        ..ReservePolicy::default()
    });
    let channel = channel.connect().await.unwrap();
    until_four_are_ready(&channel).await;
    let found = client
        .get(
            "/microservices/orphans/",
            Some(GetOptions::new().with_prefix()),
        )
        .await
        .unwrap();
    let load = Load::start(&channel);
    let keys: Vec<_> = found.kvs().iter().map(|kv| kv.key().to_vec()).collect();

    // Half of them: the others do the work.
    for key in &keys[..2] {
        client.delete(key.clone(), None).await.unwrap();
    }
    until(&channel, |state| state.endpoints.len() == 2).await;
    assert_eq!(logged.names("orphans"), [""; 0]);
    for kv in &found.kvs()[..2] {
        client.put(kv.key(), kv.value(), None).await.unwrap();
    }
    until_four_are_ready(&channel).await;

    // More than half: those that vanished help, until the watch was right for a while.
    for key in &keys[..3] {
        client.delete(key.clone(), None).await.unwrap();
    }
    until(&channel, |state| state.reserve == ReserveUse::Used).await;
    until(&channel, |state| state.endpoints.len() == 1).await;
    assert_eq!(
        logged.names("orphans"),
        ["WARN reserve_used", "INFO reserve_left"]
    );
    for kv in &found.kvs()[..3] {
        client.put(kv.key(), kv.value(), None).await.unwrap();
    }
    until_four_are_ready(&channel).await;

    // All, for longer than the reserve is kept.
    client
        .delete("/microservices/orphans/", all())
        .await
        .unwrap();
    until(&channel, |state| state.reserve == ReserveUse::LastSet).await;
    let before = load.made.load(Ordering::Relaxed);
    while load.made.load(Ordering::Relaxed) < before + 4_000 {
        sleep(Duration::from_millis(20)).await;
    }
    let state = channel.state();
    assert_eq!(state.reserve, ReserveUse::LastSet);
    assert_eq!(state.endpoints.iter().filter(|it| is_ready(it)).count(), 4);
    for kv in found.kvs() {
        client.put(kv.key(), kv.value(), None).await.unwrap();
    }
    until(&channel, |state| state.reserve == ReserveUse::Unused).await;
    println!(
        "half, three of four and all keys lost: {} calls, none failed",
        load.stop().await
    );
    assert_eq!(
        logged.names("orphans"),
        [
            "WARN reserve_used",
            "INFO reserve_left",
            "WARN reserve_used",
            "INFO reserve_left"
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_four_that_is_stopped_gets_no_call_once_its_key_is_gone() {
    let etcd = Etcd::start().await;
    let mut fleet = Fleet::start(&etcd).await;
    let registry = Registry::connect(etcd.endpoint()).await.unwrap();
    let channel = registry
        .dial("greeter")
        .name("stopped")
        .connect()
        .await
        .unwrap();
    until_four_are_ready(&channel).await;
    let load = Load::start(&channel);
    let (stopped, stop) = fleet.stops.remove(0);
    while !load.last.lock().unwrap().contains_key(&stopped) {
        sleep(Duration::from_millis(1)).await;
    }

    let mut client = etcd.client().await;
    let options = WatchOptions::new().with_prefix();
    let mut watch = client.watch(PREFIX, Some(options)).await.unwrap();
    stop.send(()).unwrap();
    timeout(SOON, async {
        while watch.message().await.unwrap().unwrap().events().is_empty() {}
    })
    .await
    .unwrap();
    let gone = Instant::now();
    until(&channel, |state| {
        state.endpoints.iter().filter(|it| is_ready(it)).count() == 3
    })
    .await;
    // It serves on for five seconds yet, then says that it leaves, and ends.
    let made = load.made.load(Ordering::Relaxed);
    timeout(3 * SOON, fleet.serving.join_next())
        .await
        .unwrap()
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(load.made.load(Ordering::Relaxed) > made + 1_000);
    let last = load.last.lock().unwrap()[&stopped];
    let late = last.saturating_duration_since(gone);
    println!("the last call began {late:?} after etcd had told others of the deletion");
    println!(
        "one of four stopped: {} calls, none failed",
        load.stop().await
    );
    assert!(late < Duration::from_millis(500), "{late:?}");
}
