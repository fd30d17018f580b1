//! The servers that are called: greeters, in one process that is not the caller's.

use std::{env, process::Command, time::Duration};

use switchboard_proto::{Polite, greeter_server::GreeterServer};
use switchboard_test_support::Process;
use tokio::{net::TcpListener, task::JoinSet};
use tonic::transport::{Server, server::TcpIncoming};

/// Serves at so many ports, and says where. Returns never.
pub(crate) async fn serve(count: usize) {
    let mut servers = JoinSet::new();
    for _ in 0..count {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        println!("{address}");
        let greeter = GreeterServer::new(Polite { address });
        // It says that the server serves; nobody changes that.
        let (_, health) = tonic_health::server::health_reporter();
        // tonic's own setting is for its own listener; with Nagle's algorithm answers would wait
        // for acknowledgements.
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let server = Server::builder().add_service(greeter).add_service(health);
        servers.spawn(server.serve_with_incoming(incoming));
    }
    servers.join_all().await;
}

/// Servers that are killed when this is dropped.
pub(crate) struct Servers {
    _process: Process,
    pub(crate) addresses: Vec<String>,
}

impl Servers {
    pub(crate) async fn start(count: usize) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--serve", &count.to_string()]);
        let mut process = Process::spawn(command);
        let mut addresses = Vec::new();
        for _ in 0..count {
            let limit = Duration::from_secs(30);
            addresses.push(process.wait_for_line(limit, |_| true).await);
        }
        Self {
            _process: process,
            addresses,
        }
    }
}
