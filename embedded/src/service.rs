//! etcd's services over the store. Each method is: let it in, ask the store, answer.

mod auth;
mod cluster;
mod kv;
mod lease;
mod maintenance;
mod watch;

use std::sync::Arc;

use etcd_client::proto::{
    PbClusterServer, PbKvServer, PbLeaseServer, PbMaintenanceServer, PbWatchServer,
};
use tonic::{
    Status,
    transport::server::{Router, Server},
};

use crate::shared::Shared;

/// The largest message that is read: the largest request, and what may be around it.
const LARGEST_MESSAGE: usize = 2 << 20;

/// What serves an etcd's clients.
pub(crate) fn router(shared: &Arc<Shared>) -> Router {
    let (_, health) = tonic_health::server::health_reporter();
    let kv = kv::Kv(shared.clone());
    let lease = lease::Lease(shared.clone());
    let watch = watch::Watch(shared.clone());
    let cluster = cluster::Cluster(shared.clone());
    let maintenance = maintenance::Maintenance(shared.clone());
    Server::builder()
        // As etcd: a client may hold thousands of watches on one connection.
        .max_concurrent_streams(u32::MAX)
        .add_service(PbKvServer::new(kv).max_decoding_message_size(LARGEST_MESSAGE))
        .add_service(PbLeaseServer::new(lease).max_decoding_message_size(LARGEST_MESSAGE))
        .add_service(PbWatchServer::new(watch).max_decoding_message_size(LARGEST_MESSAGE))
        .add_service(PbClusterServer::new(cluster))
        .add_service(PbMaintenanceServer::new(maintenance))
        .add_service(auth::Auth)
        .add_service(health)
}

/// What there is no use for in memory, with one member.
fn unimplemented(what: &str) -> Status {
    Status::unimplemented(format!("embedded etcd: {what} is not there"))
}
