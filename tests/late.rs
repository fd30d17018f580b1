//! Puts that land long after everybody has given them up: they lay before a member that was cut off,
//! while another one answered.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

use std::{net::SocketAddr, time::Duration};

use etcd_client::{Client, GetOptions};
use switchboard::{Instance, Publisher, Registry};
use switchboard_test_support::{Etcd, eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

const PREFIX: &str = "/microservices/greeter/";

/// A way to etcd that can hold what clients send.
struct Way {
    address: SocketAddr,
    holds: watch::Sender<bool>,
    _connections: JoinSet<()>,
}

impl Way {
    async fn to(etcd: &Etcd) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (holds, held) = watch::channel(false);
        let etcd = etcd.endpoint().to_owned();
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut streams = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(&etcd).await.unwrap();
                let ((mut hears, mut tells), (mut asks, mut answers)) =
                    (client.into_split(), server.into_split());
                let mut held = held.clone();
                streams.spawn(async move {
                    let mut bytes = vec![0; 64 << 10];
                    while let Ok(count @ 1..) = hears.read(&mut bytes).await {
                        held.wait_for(|holds| !holds).await.unwrap();
                        if answers.write_all(&bytes[..count]).await.is_err() {
                            break;
                        }
                    }
                    // What was held is delivered, whatever became of the client.
                });
                streams.spawn(async move {
                    let _ = tokio::io::copy(&mut asks, &mut tells).await;
                });
            }
        });
        Self {
            address,
            holds,
            _connections: connections,
        }
    }
}

fn greeter(port: u16) -> Instance {
    Instance::new("greeter", format!("10.0.0.1:{port}")).unwrap()
}

async fn keys(client: &mut Client) -> usize {
    let options = GetOptions::new().with_prefix().with_count_only();
    client.get(PREFIX, Some(options)).await.unwrap().count() as usize
}

/// Two ways to one etcd, of which the first takes what it is told, and holds it.
async fn half_held() -> (Etcd, Way, Way, Registry) {
    let etcd = Etcd::start().await;
    let (held, open) = (Way::to(&etcd).await, Way::to(&etcd).await);
    // Long enough for the pings to find that the held way is dead: a stop takes one TTL at most.
    let registry = Registry::builder(format!("{},{}", held.address, open.address))
        .unwrap()
        .ttl(Duration::from_secs(30))
        .connect()
        .await;
    let registry = registry.unwrap();
    // Both ways are connected, and there is a lease that lives.
    for _ in 0..4 {
        registry.services().await.unwrap();
    }
    let keeper = Instance::new("keeper", "10.0.0.9:1").unwrap();
    let keeper = registry.publish(keeper).unwrap();
    keeper.published().await.unwrap();
    keeper.stop().await.unwrap();
    held.holds.send_replace(true);
    (etcd, held, open, registry)
}

async fn settled(client: &mut Client, expected: usize) {
    eventually(
        Duration::from_secs(20),
        "no key is left over",
        async || match keys(client).await {
            count if count == expected => Ok(()),
            count => Err(format!("{count} keys")),
        },
    )
    .await;
}

#[tokio::test]
async fn a_put_that_lands_after_its_publication_has_stopped_is_taken_back() {
    let (etcd, held, _open, registry) = half_held().await;
    let mut client = etcd.client().await;
    let publishers: Vec<Publisher> = (1..=20)
        .map(|port| registry.publish(greeter(port)).unwrap())
        .collect();
    // Some went the way that is open, some the one that is held: all of the former are there.
    eventually(
        Duration::from_secs(5),
        "some are there",
        async || match keys(&mut client).await {
            0 => Err("none"),
            _ => Ok(()),
        },
    )
    .await;
    let mut stops = JoinSet::new();
    for publisher in publishers {
        stops.spawn(publisher.stop());
    }
    for stopped in stops.join_all().await {
        stopped.unwrap();
    }
    assert_eq!(keys(&mut client).await, 0);
    held.holds.send_replace(false);
    eventually(
        Duration::from_secs(5),
        "a put lands late",
        async || match keys(&mut client).await {
            0 => Err("none"),
            _ => Ok(()),
        },
    )
    .await;
    settled(&mut client, 0).await;
}

#[tokio::test]
async fn a_put_that_lands_after_its_record_has_moved_is_taken_back() {
    let (etcd, held, _open, registry) = half_held().await;
    let mut client = etcd.client().await;
    let publishers: Vec<Publisher> = (1..=20)
        .map(|port| registry.publish(greeter(port)).unwrap())
        .collect();
    let mut updates = JoinSet::new();
    for (port, publisher) in (101..).zip(publishers) {
        updates.spawn(async move {
            publisher.update(greeter(port)).await.unwrap();
            publisher
        });
    }
    let publishers = updates.join_all().await;
    assert_eq!(keys(&mut client).await, 20);
    held.holds.send_replace(false);
    eventually(
        Duration::from_secs(5),
        "a put lands late",
        async || match keys(&mut client).await {
            20 => Err("none"),
            _ => Ok(()),
        },
    )
    .await;
    settled(&mut client, 20).await;
    drop(publishers);
}
