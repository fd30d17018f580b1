//! Somebody else at an address.

use switchboard_proto::{Polite, greeter_server::GreeterServer};
use tokio::{net::TcpListener, task::JoinSet};
use tonic::transport::{Server, server::TcpIncoming};
use tonic_health::{ServingStatus, server::HealthReporter};

/// A greeter that does not publish itself, at an address that may stand in etcd all the same. It ends
/// with this value.
pub(crate) struct StandIn {
    reporter: HealthReporter,
    serving: JoinSet<()>,
}

impl StandIn {
    /// Starts one, which listens when this returns.
    pub(crate) async fn at(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let greeter = GreeterServer::new(Polite {
            address: address.to_owned(),
        });
        let (reporter, health) = tonic_health::server::health_reporter();
        let router = Server::builder().add_service(greeter).add_service(health);
        let mut serving = JoinSet::new();
        serving.spawn(async {
            let served = router
                .serve_with_incoming(TcpIncoming::from(listener))
                .await;
            served.expect("it serves")
        });
        Self { reporter, serving }
    }

    /// Says that it is healthy, or that it is not.
    pub(crate) async fn health(&self, status: ServingStatus) {
        self.reporter.set_service_status("", status).await;
    }

    /// Ends it. Its address is free when this returns.
    pub(crate) async fn end(mut self) {
        self.serving.shutdown().await;
    }
}
