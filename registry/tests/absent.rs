//! An etcd that is away, for those who wait for it and for those who want to leave.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use switchboard_embedded::{EmbeddedEtcd, Link, Network};
use switchboard_registry::{Instance, PublicationStatus, Publisher, Registry};
use tokio::time::{Instant, sleep, timeout};

const ETCD: &str = "etcd:2379";
const SECOND: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(10);

/// When somebody dialed.
type Dials = Arc<Mutex<Vec<Instant>>>;

fn etcd_on(network: &Network) -> EmbeddedEtcd {
    let etcd = EmbeddedEtcd::start();
    etcd.serve(network.listen(ETCD).expect("a free address"));
    etcd
}

/// The registry of one server, whose dials are noted.
async fn registry(network: &Network, server: &str, dials: &Dials) -> Registry {
    let (connect, dials) = (network.connector(server), dials.clone());
    let connector = move |uri| {
        dials.lock().expect("no panic").push(Instant::now());
        connect(uri)
    };
    let builder = Registry::builder(ETCD).expect("an address").ttl(TTL);
    let registry = builder.connector(connector).connect().await;
    registry.expect("etcd is there")
}

async fn publish(registry: &Registry, server: &str) -> Publisher {
    let instance = Instance::new("greeter", format!("{server}:1")).expect("an address");
    let publisher = registry.publish(instance).expect("a valid one");
    publisher.published().await.expect("etcd takes it");
    publisher
}

/// Takes the connections that there are, and lets no others be made.
fn take_away(link: &Link) {
    link.refuse();
    link.reset();
}

#[tokio::test(start_paused = true)]
async fn who_loses_etcd_asks_on_for_hours_and_not_in_step_with_others_and_is_back_within_3_s() {
    const SERVERS: usize = 8;
    let (network, dials) = (Network::new(), Dials::default());
    let etcd = etcd_on(&network);
    let mut servers = Vec::new();
    for number in 0..SERVERS {
        let name = format!("server-{number}");
        let registry = registry(&network, &name, &dials).await;
        let publisher = publish(&registry, &name).await;
        servers.push((network.link(name, ETCD), registry, publisher));
    }
    let mut greeters = servers[0].1.discover("greeter").await.expect("a list");
    assert_eq!(greeters.snapshot().instances().len(), SERVERS);

    servers.iter().for_each(|(link, ..)| take_away(link));
    sleep(3 * 3600 * SECOND).await;
    for (_, _, publisher) in &servers {
        let status = publisher.status().borrow().clone();
        assert!(
            matches!(status, PublicationStatus::Retrying { .. }),
            "{status:?}"
        );
    }
    assert_eq!(etcd.keys(), [], "the leases have ended");
    dials.lock().expect("no panic").clear();
    sleep(10 * SECOND).await;
    let dialed = std::mem::take(&mut *dials.lock().expect("no panic"));
    assert!(dialed.len() >= 5 * SERVERS, "{} in 10 s", dialed.len());
    let instants: BTreeSet<_> = dialed.iter().collect();
    assert!(instants.len() > dialed.len() / 2, "in step: {dialed:?}");

    servers.iter().for_each(|(link, ..)| link.heal());
    let back = async {
        for (_, _, publisher) in &servers {
            publisher.published().await.expect("it is there again");
        }
        while greeters.staleness().is_some() || greeters.snapshot().instances().len() < SERVERS {
            greeters.changed().await.expect("it goes on");
        }
    };
    timeout(3 * SECOND, back).await.expect("in time");
    let keys = etcd.keys();
    assert!(keys.len() == SERVERS && keys.iter().all(|key| key.lease.is_some()));
}

#[tokio::test(start_paused = true)]
async fn who_stops_while_etcd_is_away_is_done_in_time_and_its_lease_does_the_rest() {
    let ways: [fn(&Link); 2] = [Link::cut, take_away];
    for lose in ways {
        let network = Network::new();
        let etcd = etcd_on(&network);
        let registry = registry(&network, "server", &Dials::default()).await;
        let stopped = publish(&registry, "one").await;
        let _kept = publish(&registry, "two").await;
        let link = network.link("server", ETCD);
        lose(&link);

        let start = Instant::now();
        stopped.stop().await.expect_err("nobody knows");
        assert!(start.elapsed() <= TTL, "stopped in {:?}", start.elapsed());
        let start = Instant::now();
        registry.close().await;
        let limit = TTL + 5 * SECOND;
        assert!(start.elapsed() <= limit, "closed in {:?}", start.elapsed());

        link.heal();
        sleep(TTL).await;
        assert_eq!(etcd.keys(), []);
    }
}
