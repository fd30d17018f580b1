//! Balancers of others, fed with what is discovered.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

use std::{convert::Infallible, time::Duration};

use switchboard::{EndpointChange, EndpointKey, Instance, Publisher, Registry};
use switchboard_proto::{
    HelloRequest, Polite, greeter_client::GreeterClient, greeter_server::GreeterServer,
};
use switchboard_test_support::{Etcd, eventually};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};
use tokio_stream::{StreamExt, wrappers::TcpListenerStream};
use tonic::transport::{Channel, Endpoint, Server, channel::Change};
use tower::discover::Discover;

const SOON: Duration = Duration::from_secs(5);

async fn put(etcd: &Etcd, host: u8) {
    let value =
        format!(r#"{{"id":"{host}","name":"greeter","endpoints":["grpc://10.0.0.{host}:1"]}}"#);
    let key = format!("/microservices/greeter/{host}");
    let put = etcd.client().await.put(key, value, None).await;
    put.expect("etcd takes it");
}

async fn delete(etcd: &Etcd, host: u8) {
    let key = format!("/microservices/greeter/{host}");
    let deleted = etcd.client().await.delete(key, None).await;
    deleted.expect("etcd takes it");
}

fn say(change: EndpointChange) -> String {
    match change {
        EndpointChange::Insert(key, _) => format!("+{key}"),
        EndpointChange::Remove(key) => format!("-{key}"),
    }
}

/// Waits for the next thing that is fed; `None` at the end.
async fn fed(receiver: &mut mpsc::Receiver<String>) -> Option<String> {
    timeout(SOON, receiver.recv()).await.expect("in time")
}

/// A greeter that is published; it is stopped by dropping it.
struct Greeting {
    address: String,
    publisher: Publisher,
    stop: oneshot::Sender<()>,
    serving: JoinSet<Result<(), tonic::transport::Error>>,
}

impl Greeting {
    async fn start(registry: &Registry, address: &str) -> Self {
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let address = listener.local_addr().expect("an address").to_string();
        let greeter = GreeterServer::new(Polite {
            address: address.clone(),
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let router = Server::builder().add_service(greeter);
        let incoming = TcpListenerStream::new(listener);
        let mut serving = JoinSet::new();
        serving.spawn(router.serve_with_incoming_shutdown(incoming, async {
            stopped.await.ok();
        }));
        let instance = Instance::new("greeter", address.clone()).expect("an instance");
        let publisher = registry.publish(instance).expect("it can be published");
        publisher.published().await.expect("etcd takes it");
        Self {
            address,
            publisher,
            stop,
            serving,
        }
    }

    /// Takes it out of etcd; it still answers.
    async fn unpublish(&self) {
        self.publisher.pause().await.expect("etcd takes it");
    }

    async fn stop(mut self) -> String {
        drop(self.stop);
        while self.serving.join_next().await.is_some() {}
        self.address
    }
}

async fn call(channel: &Channel) -> Result<String, String> {
    let mut client = GreeterClient::new(channel.clone());
    let request = HelloRequest { name: "you".into() };
    match timeout(Duration::from_secs(1), client.say_hello(request)).await {
        Ok(Ok(reply)) => Ok(reply.into_inner().served_by),
        Ok(Err(status)) => Err(status.to_string()),
        Err(_) => Err("no answer".into()),
    }
}

#[tokio::test]
async fn tonics_own_balancer_follows_servers_that_restart() {
    let etcd = Etcd::start().await;
    let servers = Registry::connect(etcd.endpoint()).await.unwrap();
    let clients = Registry::connect(etcd.endpoint()).await.unwrap();
    let mut first = Greeting::start(&servers, "127.0.0.1:0").await;
    let second = Greeting::start(&servers, "127.0.0.1:0").await;

    let (channel, sender) = Channel::balance_channel::<EndpointKey>(1);
    let instances = clients.discover("greeter").await.unwrap();
    let feeder = instances.feed(sender, |change| match change {
        EndpointChange::Insert(key, endpoint) => {
            let uri = format!("http://{}", endpoint.addresses()[0]);
            Change::Insert(key, Endpoint::from_shared(uri).expect("a URI"))
        }
        EndpointChange::Remove(key) => Change::Remove(key),
    });
    // tonic has one list; the server that answers is in it.
    let answered_by = async |address: &str| {
        eventually(SOON, &format!("{address} answers"), async || {
            match call(&channel).await {
                Ok(server) if server == address => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    };
    for _ in 0..3 {
        answered_by(&first.address).await;
        answered_by(&second.address).await;
        first.unpublish().await;
        eventually(SOON, "the first one is left alone", async || {
            for _ in 0..20 {
                if call(&channel).await.as_ref() != Ok(&second.address) {
                    return Err("it is called");
                }
            }
            Ok(())
        })
        .await;
        let address = first.stop().await;
        for _ in 0..20 {
            assert_eq!(call(&channel).await.as_ref(), Ok(&second.address));
        }
        first = Greeting::start(&servers, &address).await;
        answered_by(&first.address).await;
    }
    feeder.close().await;
    assert!(call(&channel).await.is_ok(), "what it was fed stays");
}

#[tokio::test]
async fn towers_discover_yields_what_comes_and_goes() {
    fn discover(
        changes: impl tokio_stream::Stream<Item = EndpointChange>,
    ) -> impl Discover<Key = EndpointKey, Service = switchboard::Endpoint, Error = Infallible> {
        changes.map(|change| match change {
            EndpointChange::Insert(key, it) => Ok(tower::discover::Change::Insert(key, it)),
            EndpointChange::Remove(key) => Ok(tower::discover::Change::Remove(key)),
        })
    }
    let etcd = Etcd::start().await;
    put(&etcd, 1).await;
    let registry = Registry::connect(etcd.endpoint()).await.unwrap();
    let instances = registry.discover("greeter").await.unwrap();
    let mut discover = Box::pin(discover(instances.endpoint_changes()));
    let mut next = async || {
        let next = std::future::poll_fn(|cx| discover.as_mut().poll_discover(cx));
        match timeout(SOON, next).await.expect("in time") {
            Some(Ok(tower::discover::Change::Insert(key, endpoint))) => {
                assert_eq!(key.addresses(), endpoint.addresses());
                format!("+{key}")
            }
            Some(Ok(tower::discover::Change::Remove(key))) => format!("-{key}"),
            None => "the end".to_owned(),
        }
    };
    assert_eq!(next().await, "+10.0.0.1:1");
    put(&etcd, 2).await;
    assert_eq!(next().await, "+10.0.0.2:1");
    delete(&etcd, 1).await;
    assert_eq!(next().await, "-10.0.0.1:1");
    registry.close().await;
    assert_eq!(next().await, "the end");
}

#[tokio::test]
async fn a_full_receiver_gets_the_difference_and_loses_no_removal() {
    let etcd = Etcd::start().await;
    for host in 1..=3 {
        put(&etcd, host).await;
    }
    let registry = Registry::connect(etcd.endpoint()).await.unwrap();
    let mut instances = registry.discover("greeter").await.unwrap();
    let (sender, mut receiver) = mpsc::channel(1);
    let feed = registry.discover("greeter").await.unwrap();
    let _feeder = feed.feed(sender, say);
    assert_eq!(fed(&mut receiver).await.unwrap(), "+10.0.0.1:1");
    // Now one is in the channel, and one waits for room.
    eventually(SOON, "the channel is full", async || {
        if receiver.len() == 1 {
            Ok(())
        } else {
            Err("not yet")
        }
    })
    .await;
    delete(&etcd, 1).await;
    delete(&etcd, 2).await;
    put(&etcd, 8).await;
    delete(&etcd, 8).await;
    put(&etcd, 9).await;
    let reached = async {
        while instances.snapshot().instances().len() != 2 {
            instances.changed().await.unwrap();
        }
    };
    timeout(SOON, reached).await.expect("in time");
    let mut known = vec!["10.0.0.1:1".to_owned()];
    while known != ["10.0.0.3:1", "10.0.0.9:1"] {
        let change = fed(&mut receiver).await.unwrap();
        assert_ne!(change, "+10.0.0.8:1", "it came and went unheard");
        match change.split_at(1) {
            ("+", added) => known.push(added.to_owned()),
            (_, removed) => known.retain(|it| it != removed),
        }
        known.sort();
    }
}

#[tokio::test]
async fn a_feeder_ends_when_it_is_closed_or_dropped_or_nobody_is_left() {
    let etcd = Etcd::start().await;
    put(&etcd, 1).await;
    let registry = Registry::connect(etcd.endpoint()).await.unwrap();
    let feed = async || {
        let (sender, mut receiver) = mpsc::channel(1);
        let instances = registry.discover("greeter").await.unwrap();
        let feeder = instances.feed(sender, say);
        assert_eq!(fed(&mut receiver).await.unwrap(), "+10.0.0.1:1");
        (feeder, receiver)
    };
    let (feeder, mut receiver) = feed().await;
    timeout(SOON, feeder.close()).await.expect("in time");
    assert_eq!(fed(&mut receiver).await, None);

    let (feeder, mut receiver) = feed().await;
    drop(feeder);
    assert_eq!(fed(&mut receiver).await, None);

    let (feeder, receiver) = feed().await;
    drop(receiver);
    eventually(SOON, "nobody is fed any more", async || {
        match format!("{feeder:?}") {
            text if text.contains("has_ended: true") => Ok(()),
            text => Err(text),
        }
    })
    .await;

    // Also one that is stuck on a receiver that never reads.
    put(&etcd, 2).await;
    let (_feeder, mut receiver) = feed().await;
    put(&etcd, 3).await;
    timeout(SOON, registry.clone().close())
        .await
        .expect("in time");
    while fed(&mut receiver).await.is_some() {}
}

#[tokio::test]
#[should_panic(expected = "no such change")]
async fn a_closure_that_panics_is_heard_of_when_the_feeder_is_closed() {
    let etcd = Etcd::start().await;
    put(&etcd, 1).await;
    let registry = Registry::connect(etcd.endpoint()).await.unwrap();
    let (sender, mut receiver) = mpsc::channel::<()>(1);
    let instances = registry.discover("greeter").await.unwrap();
    let feeder = instances.feed(sender, |_| panic!("no such change"));
    let end = timeout(SOON, receiver.recv()).await.expect("in time");
    assert!(end.is_none());
    feeder.close().await;
}
