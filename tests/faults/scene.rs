//! What a fault befalls: an etcd, those who publish in it, somebody who discovers, and those who call.

use std::time::Duration;

use etcd_client::Client;
use switchboard::{Credentials, Instance, PublicationStatus, Registry, Tls};
use switchboard_test_support::{Cluster, ClusterSettings, Release, Root, eventually};
use tokio::time::{Instant, timeout};

use crate::{
    callers::{Callers, Calls},
    discoverer::{Discoverer, PROBE},
    fleet::Fleet,
    people::{self, Files},
    table::{Fault, Guard},
};

/// The time to live of all leases, as it is unless set: shorter than what most faults last.
pub(crate) const TTL: Duration = Duration::from_secs(10);

/// How long a fault lasts that lasts: longer than a lease lives, and than a silence is borne.
pub(crate) const LONG: Duration = Duration::from_secs(12);

/// By when it is told that etcd is away: a silent watch is asked after 3 s, and has 2 s; the rest is for a
/// busy machine.
const NOTICED: Duration = Duration::from_secs(11);

/// Longer than any promise: what takes longer has failed, and says what there was to see.
const PATIENCE: Duration = Duration::from_secs(60);

/// How registries reach etcd.
#[derive(Clone)]
pub(crate) struct Dress {
    pub(crate) endpoints: String,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) tls: Option<Tls>,
}

impl Dress {
    pub(crate) async fn registry(&self) -> Registry {
        let mut builder = Registry::builder(self.endpoints.as_str()).unwrap().ttl(TTL);
        if let Some(credentials) = &self.credentials {
            builder = builder.credentials(credentials.clone());
        }
        if let Some(tls) = &self.tls {
            builder = builder.tls(tls.clone());
        }
        builder.connect().await.unwrap()
    }
}

pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) dress: Dress,
    /// What the registries read.
    pub(crate) files: Files,
    /// Who may do everything, where etcd has users.
    pub(crate) root: Option<Root>,
    /// Asks and tells etcd whatever an operator does, at a member that is well.
    pub(crate) operator: Client,
    pub(crate) fleet: Fleet,
    discoverer: Discoverer,
    callers: Callers,
    probes: u16,
}

/// What was seen of a fault.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    /// How long it took until all records stood, and another one could be published.
    pub(crate) publishers: Duration,
    /// How long it took until that one was seen, and no list was out of date.
    pub(crate) discoverers: Duration,
}

impl Seen {
    /// Returns the worse of both.
    pub(crate) fn or_worse(self, other: Self) -> Self {
        Self {
            publishers: self.publishers.max(other.publishers),
            discoverers: self.discoverers.max(other.discoverers),
        }
    }
}

/// What was seen of the whole, in the end.
pub(crate) struct Outcome {
    pub(crate) calls: Calls,
    /// How many greeters the shortest list had.
    pub(crate) shortest: usize,
}

impl Scene {
    /// Begins with all well; the reason why it cannot is that there is no such etcd here.
    pub(crate) async fn begin(release: Release, fault: &Fault) -> Result<Self, &'static str> {
        let files = Files::new();
        // A token's time, and room for etcd itself and little more.
        let mut settings = ClusterSettings::new(fault.members)
            .flag("--auth-token-ttl=3")
            .flag("--quota-backend-bytes=33554432");
        settings.certificates = (fault.guard == Guard::Certificates).then(|| files.of_etcd());
        let cluster = Cluster::start(release, settings).await?;
        let mut root = None;
        if fault.guard == Guard::Credentials {
            people::add_user(root.insert(cluster.root().await)).await;
        }
        let dress = Dress {
            endpoints: cluster.endpoints(),
            credentials: root.is_some().then(|| files.credentials()),
            tls: (fault.guard == Guard::Certificates).then(|| files.tls()),
        };
        let operator = cluster.client(0).await;
        let fleet = Fleet::start(&dress).await;
        let discoverer = Discoverer::start(&dress).await;
        let channel = discoverer.channel().await;
        let scene = Self {
            callers: Callers::start(&channel),
            cluster,
            dress,
            files,
            root,
            operator,
            fleet,
            discoverer,
            probes: 0,
        };
        scene.sees(PATIENCE, "nobody", false).await;
        Ok(scene)
    }

    /// Has the operator turn to another member.
    pub(crate) async fn turn_to(&mut self, member: usize) {
        self.operator = self.cluster.client(member).await;
    }

    /// Sees how long it takes, counted from `since`, until all is well for those who publish and those
    /// who discover: all records stand, one more is published, and that one is seen.
    pub(crate) async fn well(&mut self, since: Instant) -> Seen {
        self.probes += 1;
        let address = format!("10.0.0.1:{}", self.probes);
        let instance = Instance::new(PROBE, address.as_str()).unwrap();
        let publisher = self.fleet.registry().publish(instance).unwrap();
        let (fleet, mut operator) = (&self.fleet, self.operator.clone());
        let publishing = async {
            let mut status = publisher.status();
            let is_published =
                |it: &PublicationStatus| matches!(it, PublicationStatus::Published { .. });
            let published = timeout(PATIENCE, status.wait_for(is_published)).await;
            let is_published = published.is_ok_and(|it| it.is_ok());
            assert!(is_published, "not in time: {:?}", *status.borrow());
            eventually(PATIENCE, "all records stand", async || {
                fleet.stands(&mut operator).await
            })
            .await;
            since.elapsed()
        };
        let seeing = async {
            // Where it cannot be published, its publisher is to say why.
            self.discoverer.sees(2 * PATIENCE, &address, true).await;
            since.elapsed()
        };
        let (publishers, discoverers) = tokio::join!(publishing, seeing);
        let stopped = timeout(PATIENCE, publisher.stop()).await;
        stopped.expect("etcd answers").expect("it is taken out");
        self.discoverer.sees(PATIENCE, &address, false).await;
        Seen {
            publishers,
            discoverers,
        }
    }

    /// Waits until who discovers has been told that etcd is away, which began then, and for as long as
    /// that is to last.
    pub(crate) async fn away(&self, began: Instant) {
        self.discoverer.stale(NOTICED).await;
        tokio::time::sleep_until(began + LONG).await;
    }

    /// Waits until a new publication has been refused, and is told why.
    pub(crate) async fn refused(&self) {
        let instance = Instance::new(PROBE, "10.0.0.2:1").unwrap();
        let publisher = self.fleet.registry().publish(instance).unwrap();
        let mut status = publisher.status();
        let is_refused = |it: &PublicationStatus| matches!(it, PublicationStatus::Retrying { .. });
        let refused = timeout(PATIENCE, status.wait_for(is_refused)).await;
        refused.expect("in time").expect("its publisher lives");
    }

    /// Waits until who discovers sees that a probe has come, or gone, and nothing is out of date.
    pub(crate) async fn sees(&self, limit: Duration, probe: &str, is_there: bool) {
        self.discoverer.sees(limit, probe, is_there).await;
    }

    /// Ends everything.
    pub(crate) async fn end(self) -> Outcome {
        let calls = self.callers.stop().await;
        let shortest = self.discoverer.shortest();
        self.discoverer.close().await;
        self.fleet.close().await;
        Outcome { calls, shortest }
    }
}
