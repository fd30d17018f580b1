//! A fleet in Go that we join: go-zero's, kratos', or one of etcd's own naming package.
//!
//! Servers and clients of theirs are in processes of their own, and ours are users of switchboard as any
//! other. All find each other in a real etcd.

pub(crate) mod caller;
pub(crate) mod changes;
pub(crate) mod client;
pub(crate) mod crashes;
pub(crate) mod deadlines;
pub(crate) mod go_zero;
pub(crate) mod kratos;
pub(crate) mod matrix;
pub(crate) mod mixed;
pub(crate) mod peers;
pub(crate) mod scene;
pub(crate) mod stand_in;

use std::time::Duration;

use switchboard::{ChannelBuilder, Drain, Instance, Registry};
use switchboard_test_support::{Etcd, Ports};
use tokio::net::TcpListener;

pub(crate) use self::{
    client::Client,
    peers::{Framework, Peer, Peers},
};
use crate::our_server::OurServer;

/// How long a record outlives a crash.
const TTL: Duration = Duration::from_secs(4);

/// How long a server may be called, at most, after its record has gone, on a busy machine too.
const SOON: Duration = Duration::from_secs(2);

/// How long a call may take that has no other deadline: what the frameworks have unless told otherwise.
const DEADLINE: Duration = Duration::from_secs(2);

/// Those that are found in etcd hear within milliseconds who leaves it, on a busy machine too.
const DRAIN: Drain = Drain {
    deregister: Duration::from_secs(2),
    linger: Duration::from_secs(1),
    finish: Duration::from_secs(20),
    revoke: Duration::from_secs(2),
    total: Duration::from_secs(28),
};

/// An etcd, in which all follow the ways of one framework.
pub(crate) struct Fleet {
    etcd: Etcd,
    peers: Peers,
    framework: Framework,
    /// Those that were handed out.
    ports: Vec<Ports>,
}

impl Fleet {
    pub(crate) async fn start(peers: Peers, framework: Framework) -> Self {
        Self {
            etcd: Etcd::start().await,
            peers,
            framework,
            ports: Vec::new(),
        }
    }

    /// The same etcd, in the ways of another framework.
    fn follow(&mut self, framework: Framework) {
        self.framework = framework;
    }

    /// Returns an address of this machine at which nobody else listens.
    fn address(&mut self) -> String {
        let ports = Ports::take();
        let address = format!("127.0.0.1:{}", ports.client);
        self.ports.push(ports);
        address
    }

    /// Returns the name of the service that all serve: each framework's own, since they cannot read
    /// each other's records.
    fn service(&self) -> String {
        format!("greeter.{}", self.framework)
    }

    async fn registry(&self) -> Registry {
        let registry = Registry::builder(self.etcd.endpoint()).unwrap();
        let registry = registry.layout(self.framework.layout()).ttl(TTL);
        registry.connect().await.unwrap()
    }

    fn instance(&self, address: &str) -> Instance {
        Instance::new(self.service(), address).unwrap()
    }

    /// Serves as our users do.
    async fn our_server(&self, address: &str) -> OurServer {
        let place = (self.registry().await, self.instance(address));
        let listener = TcpListener::bind(address).await.unwrap();
        OurServer::serve(listener, vec![place], DRAIN, None)
    }

    /// Begins a channel as our users do.
    async fn dial(&self) -> ChannelBuilder {
        self.registry().await.dial(self.service())
    }

    async fn our_client(&self) -> Client {
        Client::ours(self.dial().await)
    }

    /// Starts a server of theirs, whose record is in etcd when this returns.
    async fn their_server(&self, address: &str, options: &[&str]) -> Peer {
        let ttl = TTL.as_secs().to_string();
        let all = ["-ttl", &ttl];
        let options = [&all, options].concat();
        let (framework, service) = (self.framework, self.service());
        let etcd = self.etcd.endpoint();
        let server = self
            .peers
            .serve(framework, etcd, &service, address, &options);
        server.await
    }

    fn their_client(&self, options: &[&str]) -> Client {
        let (framework, service) = (self.framework, self.service());
        let etcd = self.etcd.endpoint();
        Client::theirs(self.peers.call(framework, etcd, &service, options))
    }
}
