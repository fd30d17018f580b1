//! A greeter that serves, published or not.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use switchboard::Instance;
use switchboard_proto::{Polite, greeter_server::GreeterServer};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request,
    transport::{self, server::TcpIncoming},
};

/// The name that all of them are published under.
pub(super) const SERVICE: &str = "moving";

/// A greeter that serves, and knows when it was last called.
pub(super) struct Server {
    pub(super) address: String,
    last_call: Arc<Mutex<Option<Instant>>>,
    stop: CancellationToken,
    serving: JoinSet<Result<(), transport::Error>>,
}

impl Server {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let last_call = Arc::new(Mutex::new(None));
        let called = last_call.clone();
        let greeter = Polite {
            address: address.clone(),
        };
        let greeter = GreeterServer::with_interceptor(greeter, move |call: Request<()>| {
            *called.lock().unwrap() = Some(Instant::now());
            Ok(call)
        });
        let stop = CancellationToken::new();
        let mut serving = JoinSet::new();
        serving.spawn(
            transport::Server::builder()
                .add_service(greeter)
                .serve_with_incoming_shutdown(
                    TcpIncoming::from(listener).with_nodelay(Some(true)),
                    stop.clone().cancelled_owned(),
                ),
        );
        Self {
            address,
            last_call,
            stop,
            serving,
        }
    }

    pub(super) fn instance(&self) -> Instance {
        Instance::new(SERVICE, self.address.as_str()).unwrap()
    }

    /// Returns when the last call reached it.
    pub(super) fn last_call(&self) -> Instant {
        self.last_call.lock().unwrap().expect("it was called")
    }

    /// Ends, with all connections, and returns where it was.
    pub(super) async fn end(mut self) -> String {
        self.stop.cancel();
        self.serving.join_next().await.unwrap().unwrap().unwrap();
        self.address
    }
}
