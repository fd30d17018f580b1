//! What a service has of values that no instance would put, more of them than one answer of etcd's
//! can bring.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

use std::{net::SocketAddr, time::Duration};

use switchboard::{Instance, Instances, Layout, Publisher, Registry};
use switchboard_test_support::{Etcd, eventually};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

/// etcd takes 1.5 MiB, and an answer of 256 MiB is read.
const VALUE: usize = 1_400_000;
const VALUES: usize = 200;

/// How long such an etcd may take to be read.
const LIMIT: Duration = Duration::from_secs(10);

async fn etcd() -> Etcd {
    Etcd::start_with(["--quota-backend-bytes=4294967296"]).await
}

async fn publish(registry: &Registry, host: u8) -> Publisher {
    let instance = Instance::new("greeter", format!("10.0.0.{host}:1").as_str()).unwrap();
    let publisher = registry.publish(instance).unwrap();
    publisher.published().await.unwrap();
    publisher
}

/// Puts a value for each of those keys of the service.
async fn flood(etcd: &Etcd, key: impl Fn(usize) -> String) {
    let mut client = etcd.client().await;
    for number in 0..VALUES {
        let key = format!("/microservices/greeter/{}", key(number));
        client.put(key, vec![b'x'; VALUE], None).await.unwrap();
    }
}

async fn wait_for(instances: &Instances, number: usize) {
    eventually(LIMIT, "it is listed", async || {
        let listed = instances.snapshot().instances().len();
        match instances.staleness() {
            None if listed == number => Ok(()),
            staleness => Err(format!("{listed}, {staleness:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn a_list_too_large_for_one_answer_is_read_in_smaller_pages() {
    let etcd = etcd().await;
    let registry = Registry::connect(etcd.endpoint()).await.unwrap();
    let _publisher = publish(&registry, 1).await;
    flood(&etcd, |number| format!("{number}")).await;

    let instances = timeout(LIMIT, registry.discover("greeter")).await;
    let instances = instances.expect("in time").unwrap();
    assert_eq!(instances.snapshot().instances().len(), 1);
    assert_eq!(instances.snapshot().rejected(), VALUES);

    // Where the value tells the service, it is read to list the services.
    let registry = registry.with_namespace("/microservices/greeter".parse().unwrap());
    let registry = registry.with_layout(Layout::host_port());
    let services = timeout(LIMIT, registry.services()).await;
    let services = services.expect("in time").unwrap();
    assert_eq!(services, ["greeter".parse().unwrap()]);
}

#[tokio::test]
async fn a_watch_that_missed_more_than_one_answer_brings_lists_again() {
    let etcd = etcd().await;
    let mut way = Way::to(&etcd).await;
    let direct = Registry::connect(etcd.endpoint()).await.unwrap();
    let registry = Registry::connect(way.address.to_string()).await.unwrap();
    let _first = publish(&direct, 1).await;
    let instances = registry.discover("greeter").await.unwrap();
    assert_eq!(instances.snapshot().instances().len(), 1);

    way.cut().await;
    flood(&etcd, |_| "1".to_owned()).await;
    let _second = publish(&direct, 2).await;
    way.open().await;
    wait_for(&instances, 2).await;
    assert_eq!(instances.snapshot().rejected(), 1);
}

/// A way to etcd that can be cut.
struct Way {
    address: SocketAddr,
    etcd: String,
    passing: JoinSet<()>,
}

impl Way {
    async fn to(etcd: &Etcd) -> Self {
        let mut way = Self {
            address: "127.0.0.1:0".parse().unwrap(),
            etcd: etcd.endpoint().to_owned(),
            passing: JoinSet::new(),
        };
        way.open().await;
        way
    }

    async fn open(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("a port");
        self.address = listener.local_addr().unwrap();
        let etcd = self.etcd.clone();
        self.passing.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let mut server = TcpStream::connect(&etcd).await.expect("etcd is there");
                connections
                    .spawn(async move { copy_bidirectional(&mut client, &mut server).await });
            }
        });
    }

    async fn cut(&mut self) {
        self.passing.shutdown().await;
    }
}
