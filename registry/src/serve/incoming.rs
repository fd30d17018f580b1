//! The connections that a server accepts, from wherever they come.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt, stream::BoxStream};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::server::TcpIncoming;

/// What a server accepts connections from: a [`TcpListener`], or a stream of connections of any
/// kind that tonic serves.
///
/// ```
/// use switchboard_registry::{Incoming, Instance, Registry, Serve};
/// use tonic::transport::server::Router;
///
/// fn serve(registry: Registry, instance: Instance, router: Router) -> Serve {
///     let (client, server) = tokio::io::duplex(4096);
///     # drop(client);
///     registry.serve(instance, router, Incoming::new(tokio_stream::iter([Ok(server)])))
/// }
/// ```
pub struct Incoming<Io>(BoxStream<'static, io::Result<Io>>);

impl<Io> Incoming<Io> {
    /// Takes the connections that `stream` yields. The server ends with it; an error in it is
    /// passed over, and the next connection waited for.
    pub fn new(stream: impl Stream<Item = io::Result<Io>> + Send + 'static) -> Self {
        Self(stream.boxed())
    }
}

impl From<TcpListener> for Incoming<TcpStream> {
    /// Accepts TCP connections, without Nagle's algorithm: a response is a few small writes, and
    /// each would wait until the last one was acknowledged.
    fn from(listener: TcpListener) -> Self {
        Self::new(TcpIncoming::from(listener).with_nodelay(Some(true)))
    }
}

impl<Io> Stream for Incoming<Io> {
    type Item = io::Result<Io>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

impl<Io> fmt::Debug for Incoming<Io> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Incoming")
    }
}

#[cfg(test)]
mod tests {
    use std::{future::IntoFuture, io::ErrorKind};

    use futures::stream;
    use switchboard_embedded::{EmbeddedEtcd, Network};
    use switchboard_resolver::Channel;
    use tonic::{service::Routes, transport::Server};
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    use super::*;
    use crate::{Instance, Registry};

    #[tokio::test(start_paused = true)]
    async fn after_connections_that_could_not_be_accepted_the_next_one_is_served() {
        let (etcd, network) = (EmbeddedEtcd::start(), Network::new());
        let registry = Registry::builder("etcd:2379").expect("an address");
        let registry = registry.connector(etcd.connector()).connect_lazy();
        let failed = [ErrorKind::ConnectionAborted, ErrorKind::PermissionDenied];
        let failed = stream::iter(failed.map(|kind| Err(kind.into())));
        let listener = network.listen("greeter:1").expect("nobody listens yet");
        let serving = registry.expect("settings that fit").serve(
            Instance::new("greeter", "greeter:1").expect("an address"),
            Server::builder().add_routes(Routes::default()),
            Incoming::new(failed.chain(listener)),
        );

        let channel = Channel::balance(["greeter:1"]).expect("an address");
        let channel = channel.connector(network.connector("caller"));
        let mut health = HealthClient::new(channel.connect_lazy().expect("settings that fit"));
        tokio::select! {
            ended = serving.into_future() => panic!("{ended:?} (expected: it goes on)"),
            answer = health.check(HealthCheckRequest::default()) => drop(answer.expect("served")),
        }
    }
}
