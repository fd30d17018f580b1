//! What users do in tests of their own service, as README has it: server, channel and etcd in memory,
//! on a paused clock.

#![allow(clippy::unwrap_used, reason = "a test's own helpers")]

use std::{io, time::Duration};

use switchboard::{
    Channel, Condition, Incoming, Instance, Registry, ReserveUse, ServeError, WaitForReady,
};
use switchboard_embedded::{EmbeddedEtcd, Network};
use switchboard_proto::{
    HelloRequest, Polite, greeter_client::GreeterClient, greeter_server::GreeterServer,
};
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tonic::{Code, Request, Status, transport::Server};

/// The TTL of a registry that was told none.
const TTL: Duration = Duration::from_secs(10);

/// Longer than anything here takes on a clock that nobody waits for.
const SOON: Duration = Duration::from_secs(60);

/// An etcd and a network that it is on.
struct World {
    etcd: EmbeddedEtcd,
    network: Network,
}

impl World {
    fn new() -> io::Result<Self> {
        let (etcd, network) = (EmbeddedEtcd::start(), Network::new());
        etcd.serve(network.listen("etcd:2379")?);
        Ok(Self { etcd, network })
    }

    async fn registry(&self, party: &str) -> Registry {
        let builder = Registry::builder("etcd:2379").unwrap();
        let builder = builder.connector(self.network.connector(party));
        builder.connect().await.unwrap()
    }

    /// Serves a greeter until the future ends.
    async fn serve<Stop>(
        &self,
        address: &str,
        stop: Stop,
    ) -> impl Future<Output = Result<(), ServeError>> + use<Stop>
    where
        Stop: Future<Output = ()> + Send + 'static,
    {
        let greeter = GreeterServer::new(Polite {
            address: address.to_owned(),
        });
        let registry = self.registry(address).await;
        let instance = Instance::new("greeter", address).unwrap();
        let listener = Incoming::new(self.network.listen(address).unwrap());
        registry
            .serve(instance, Server::builder().add_service(greeter), listener)
            .with_graceful_shutdown(stop)
            .into_future()
    }

    /// Dials by name, and waits until that many servers can be called.
    async fn dial(&self, servers: usize) -> Channel {
        let registry = self.registry("client").await;
        let channel = registry.dial("greeter");
        let channel = channel.connector(self.network.connector("client"));
        let channel = channel.connect_lazy().unwrap();
        let mut states = channel.watch_state();
        let are_ready = states
            .wait_for(|state| state.endpoints.iter().filter(|it| is_ready(it)).count() == servers);
        timeout(SOON, are_ready).await.unwrap().unwrap();
        channel
    }
}

fn is_ready(endpoint: &switchboard::EndpointState) -> bool {
    endpoint.condition == Condition::Ready
}

async fn greet(channel: &Channel, name: &str) -> Result<String, Status> {
    let mut client = GreeterClient::new(channel.clone());
    let request = HelloRequest { name: name.into() };
    Ok(client.say_hello(request).await?.into_inner().served_by)
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_cut_off_and_aborted_has_crashed() {
    let world = World::new().unwrap();
    let (mut first, mut second) = (JoinSet::new(), JoinSet::new());
    first.spawn(world.serve("greeter-1:50051", std::future::pending()).await);
    second.spawn(world.serve("greeter-2:50051", std::future::pending()).await);
    let channel = world.dial(2).await;
    // The greeter answers nobody who is called that: one such call on each.
    let mut held = JoinSet::new();
    for _ in 0..2 {
        let channel = channel.clone();
        held.spawn(async move { greet(&channel, "hang").await });
    }
    sleep(Duration::from_secs(1)).await;
    let before = world.etcd.keys();
    assert_eq!(before.len(), 2, "{before:?}");

    world.network.link("greeter-1:50051", "etcd:2379").cut();
    let crashed = Instant::now();
    first.shutdown().await;
    let status = held.join_next().await.unwrap().unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    for _ in 0..100 {
        assert_eq!(greet(&channel, "Ada").await.unwrap(), "greeter-2:50051");
    }
    // It is renewed every third of its time.
    sleep(TTL / 2).await;
    assert_eq!(world.etcd.keys(), before);
    sleep(TTL / 2 + Duration::from_secs(1)).await;
    assert!(crashed.elapsed() < 2 * TTL);
    assert_eq!(world.etcd.keys().len(), 1);
    assert!(held.try_join_next().is_none(), "the other call goes on");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_aborted_still_takes_its_key_out_of_etcd() {
    let world = World::new().unwrap();
    let mut server = JoinSet::new();
    server.spawn(world.serve("greeter-1:50051", std::future::pending()).await);
    world.dial(1).await;
    assert_eq!(world.etcd.keys().len(), 1);
    server.shutdown().await;
    // Less than a lease lasts after any renewal.
    sleep(TTL / 2).await;
    assert_eq!(world.etcd.keys().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_last_server_is_called_until_it_ends_and_a_call_that_waits_meets_the_next() {
    let world = World::new().unwrap();
    let mut servers = JoinSet::new();
    let (stop, stopped) = oneshot::channel();
    let stopped = async { stopped.await.unwrap() };
    servers.spawn(world.serve("greeter-1:50051", stopped).await);
    let channel = world.dial(1).await;
    greet(&channel, "Ada").await.unwrap();

    stop.send(()).unwrap();
    let mut states = channel.watch_state();
    let is_kept = states.wait_for(|state| state.reserve == ReserveUse::LastSet);
    timeout(SOON, is_kept).await.unwrap().unwrap();
    assert_eq!(world.etcd.keys().len(), 0);
    let mut calls = 0;
    while servers.try_join_next().is_none() {
        // Those that meet its end wait for its connection, which is not to be had again.
        if let Ok(server) = greet(&channel, "Ada").await {
            assert_eq!(server, "greeter-1:50051");
            calls += 1;
        }
        sleep(Duration::from_millis(10)).await;
    }
    // For five seconds, less the last one, in which it finishes what it has.
    assert!(calls > 400, "{calls}");
    let failing = states.wait_for(|state| !state.endpoints.iter().any(|it| is_ready(it)));
    timeout(SOON, failing).await.unwrap().unwrap();
    let status = greet(&channel, "Ada").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("greeter-1:50051"), "{status}");

    let mut client = GreeterClient::new(channel);
    let mut request = Request::new(HelloRequest { name: "Ada".into() });
    request.extensions_mut().insert(WaitForReady);
    servers.spawn(world.serve("greeter-2:50051", std::future::pending()).await);
    let reply = timeout(SOON, client.say_hello(request)).await.unwrap();
    assert_eq!(reply.unwrap().into_inner().served_by, "greeter-2:50051");
}
