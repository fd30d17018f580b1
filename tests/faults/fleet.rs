//! Three greeters that are published, each as if it were a process: with a registry of its own.

use std::collections::BTreeMap;

use etcd_client::{Client, GetOptions};
use switchboard::{Instance, PublicationStatus, Publisher, Registry};
use switchboard_proto::{Polite, greeter_server::GreeterServer};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

use crate::scene::Dress;

/// What they serve.
pub(crate) const SERVICE: &str = "greeter";

/// How many there are.
pub(crate) const SIZE: usize = 3;

const PREFIX: &str = "/microservices/greeter/";

pub(crate) struct Fleet {
    registries: Vec<Registry>,
    publishers: Vec<Publisher>,
    _serving: JoinSet<Result<(), tonic::transport::Error>>,
}

impl Fleet {
    /// Starts them, and returns when all are published.
    pub(crate) async fn start(dress: &Dress) -> Self {
        let (mut registries, mut publishers, mut serving) = (vec![], vec![], JoinSet::new());
        for _ in 0..SIZE {
            let registry = dress.registry().await;
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let greeter = GreeterServer::new(Polite {
                address: address.clone(),
            });
            let router = Server::builder().add_service(greeter);
            serving.spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
            let instance = Instance::new(SERVICE, address.as_str()).unwrap();
            let publisher = registry.publish(instance).unwrap();
            publisher.published().await.unwrap();
            registries.push(registry);
            publishers.push(publisher);
        }
        Self {
            registries,
            publishers,
            _serving: serving,
        }
    }

    /// Returns the registry of one of them.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registries[0]
    }

    /// Returns the lease of each, as its publisher says; or what it says instead.
    pub(crate) fn leases(&self) -> Result<Vec<i64>, String> {
        let leases = self
            .publishers
            .iter()
            .map(|publisher| match &*publisher.status().borrow() {
                PublicationStatus::Published { lease, .. } => Ok(*lease),
                status => Err(format!("{status:?}")),
            });
        leases.collect()
    }

    /// Sees whether the record of each stands in etcd, under the lease that its publisher has, and
    /// that lease lives.
    pub(crate) async fn stands(&self, operator: &mut Client) -> Result<(), String> {
        let mut leases = self.leases()?;
        leases.sort_unstable();
        let options = Some(GetOptions::new().with_prefix());
        let found = operator.get(PREFIX, options).await;
        let found = found.map_err(|error| error.to_string())?;
        let keys: BTreeMap<i64, &[u8]> = found
            .kvs()
            .iter()
            .map(|kv| (kv.lease(), kv.key()))
            .collect();
        if !keys.keys().eq(&leases) || found.kvs().len() != SIZE {
            return Err(format!("{keys:?} (expected: one of each of {leases:?})"));
        }
        for lease in leases {
            let left = operator.lease_time_to_live(lease, None).await;
            let left = left.map_err(|error| error.to_string())?.ttl();
            if left <= 0 {
                return Err(format!("lease {lease} has {left} s"));
            }
        }
        Ok(())
    }

    /// Takes everything out of etcd.
    pub(crate) async fn close(self) {
        for registry in self.registries {
            registry.close().await;
        }
    }
}
