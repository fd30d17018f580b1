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
use http::{HeaderValue, Response};
use tonic::{
    Status,
    body::Body,
    transport::server::{Router, Server},
};
use tower::{
    layer::util::{Identity, Stack},
    util::MapResponseLayer,
};

use crate::{shared::Shared, store::LARGEST_MESSAGE};

/// What serves an etcd's clients.
pub(crate) fn router(shared: &Arc<Shared>) -> Router<Stack<InGosWords, Identity>> {
    let (_, health) = tonic_health::server::health_reporter();
    let kv = kv::Kv(shared.clone());
    let lease = lease::Lease(shared.clone());
    let watch = watch::Watch(shared.clone());
    let cluster = cluster::Cluster(shared.clone());
    let maintenance = maintenance::Maintenance(shared.clone());
    Server::builder()
        // As etcd: a client may hold thousands of watches on one connection.
        .max_concurrent_streams(u32::MAX)
        .layer(MapResponseLayer::new(in_gos_words as fn(_) -> _))
        .add_service(PbKvServer::new(kv).max_decoding_message_size(LARGEST_MESSAGE))
        .add_service(PbLeaseServer::new(lease).max_decoding_message_size(LARGEST_MESSAGE))
        .add_service(PbWatchServer::new(watch).max_decoding_message_size(LARGEST_MESSAGE))
        .add_service(PbClusterServer::new(cluster))
        .add_service(PbMaintenanceServer::new(maintenance))
        .add_service(auth::Auth)
        .add_service(health)
}

type InGosWords = MapResponseLayer<fn(Response<Body>) -> Response<Body>>;

/// Says that a message was too large as etcd's gRPC library does, `grpc-go`; tonic has another code for
/// it, which etcd has other uses for.
fn in_gos_words(mut response: Response<Body>) -> Response<Body> {
    const OUT_OF_RANGE: &str = "11";
    const RESOURCE_EXHAUSTED: HeaderValue = HeaderValue::from_static("8");

    let headers = response.headers_mut();
    let is = |name, expected: &str| {
        let value = headers
            .get(name)
            .and_then(|it: &HeaderValue| it.to_str().ok());
        value.is_some_and(|value| value.starts_with(expected))
    };
    if is("grpc-status", OUT_OF_RANGE) && is("grpc-message", "Error,%20decoded%20message") {
        let message =
            format!("grpc:%20received%20message%20larger%20than%20max%20({LARGEST_MESSAGE})");
        headers.insert("grpc-status", RESOURCE_EXHAUSTED);
        if let Ok(message) = HeaderValue::from_str(&message) {
            headers.insert("grpc-message", message);
        }
    }
    response
}

/// What there is no use for in memory, with one member.
fn unimplemented(what: &str) -> Status {
    Status::unimplemented(format!("embedded etcd: {what} is not there"))
}
