//! A new version that gets few calls at first, and then more, by a change of one key of etcd.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use switchboard::{Channel, Instance, Publisher, Registry, ServedBy};
use switchboard_proto::{
    HelloRequest, Polite, greeter_client::GreeterClient, greeter_server::GreeterServer,
};
use switchboard_test_support::Etcd;
use tokio::{net::TcpListener, task::JoinSet, time::timeout};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

const SOON: Duration = Duration::from_secs(10);
const KEY: &str = "/switchboard/service-configs/greeter";
/// How many calls are made with each configuration.
const CALLS: usize = 25_000;
const CALLERS: usize = 8;

/// A greeter of some version, published as such.
async fn serve(registry: &Registry, version: &str, serving: &mut JoinSet<()>) -> Publisher {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let greeter = GreeterServer::new(Polite {
        address: address.clone(),
    });
    serving.spawn(async {
        let server = Server::builder().add_service(greeter);
        let incoming = TcpListenerStream::new(listener);
        server.serve_with_incoming(incoming).await.unwrap();
    });
    let instance = Instance::new("greeter", address).unwrap();
    let publisher = registry.publish(instance.with_version(version)).unwrap();
    publisher.published().await.unwrap();
    publisher
}

/// Puts the shares of both versions into etcd.
async fn split(client: &mut etcd_client::Client, old: u32, new: u32) -> String {
    let text =
        format!(r#"{{"split": {{"by": "version", "percent": {{"v1": {old}, "v2": {new}}}}}}}"#);
    client.put(KEY, text.as_str(), None).await.unwrap();
    text
}

/// Waits until a channel's configuration is what etcd holds.
async fn adopted(channel: &Channel, text: &str) {
    let mut state = channel.watch_state();
    let is_adopted = state.wait_for(|it| it.config.adopted.as_deref() == Some(text));
    timeout(SOON, is_adopted).await.expect("in time").unwrap();
}

/// What calls have met: while each configuration was in force, and while it changed.
#[derive(Default)]
struct Met {
    phase: AtomicUsize,
    calls: [AtomicUsize; 3],
    of_the_new: [AtomicUsize; 3],
}

impl Met {
    /// Calls until there were enough in the last phase.
    async fn call(&self, channel: Channel) {
        let mut client = GreeterClient::new(channel);
        while self.calls[2].load(SeqCst) < CALLS {
            let phase = self.phase.load(SeqCst);
            let reply = client.say_hello(HelloRequest::default()).await;
            let reply = reply.expect("no call fails");
            let served_by: &ServedBy = reply.extensions().get().unwrap();
            self.calls[phase].fetch_add(1, SeqCst);
            if served_by.endpoint().metadata()["version"] == "v2" {
                self.of_the_new[phase].fetch_add(1, SeqCst);
            }
        }
    }

    async fn until(&self, phase: usize, calls: usize) {
        while self.calls[phase].load(SeqCst) < calls {
            tokio::task::yield_now().await;
        }
    }

    /// Returns what percentage of calls the new version got in a phase.
    fn share(&self, phase: usize) -> f64 {
        let [calls, new] = [&self.calls, &self.of_the_new].map(|it| it[phase].load(SeqCst) as f64);
        100.0 * new / calls
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_grows_from_5_to_50_percent_by_a_key_of_etcd_and_no_call_fails() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let registry = Registry::connect(etcd.endpoint()).await.unwrap();
    let (mut serving, mut published) = (JoinSet::new(), Vec::new());
    for version in ["v1", "v1", "v1", "v2"] {
        published.push(serve(&registry, version, &mut serving).await);
    }
    let text = split(&mut client, 95, 5).await;
    let configs = registry.service_configs(KEY).unwrap();
    let channel = registry.dial("greeter").service_configs(configs);
    let channel = channel.connect().await.unwrap();
    adopted(&channel, &text).await;
    let mut state = channel.watch_state();
    let all = state.wait_for(|it| {
        it.endpoints
            .iter()
            .filter(|it| it.condition == switchboard::Condition::Ready)
            .count()
            == 4
    });
    drop(timeout(SOON, all).await.expect("in time").unwrap());

    let met = Arc::new(Met::default());
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (met, channel) = (met.clone(), channel.clone());
        callers.spawn(async move { met.call(channel).await });
    }
    met.until(0, CALLS).await;
    met.phase.store(1, SeqCst);
    let text = split(&mut client, 50, 50).await;
    adopted(&channel, &text).await;
    met.phase.store(2, SeqCst);
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }

    let shares = [met.share(0), met.share(2)];
    let calls: Vec<_> = met.calls.iter().map(|it| it.load(SeqCst)).collect();
    println!("{calls:?} calls before, during and after: {shares:.2?} % to the new version");
    // Turns are counted, and not drawn: no chance is involved, but for which turn a phase begins with.
    for (share, expected) in shares.into_iter().zip([5.0, 50.0]) {
        assert!((share - expected).abs() < 1.0, "{shares:?}");
    }
    channel.close().await;
    registry.close().await;
}
