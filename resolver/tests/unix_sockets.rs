//! Servers on the same machine, by Unix socket.

#![cfg(unix)]

mod support;

use std::time::Duration;

use support::*;
use switchboard_proto::{Polite, greeter_server::GreeterServer};
use switchboard_resolver::{Address, Channel};
use tokio::{net::UnixListener, task::JoinSet};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Code, transport::Server};

const SOON: Duration = Duration::from_secs(10);

fn serve(path: &str) -> JoinSet<Result<(), tonic::transport::Error>> {
    let incoming = UnixListenerStream::new(UnixListener::bind(path).expect("a path"));
    let greeter = GreeterServer::new(Polite {
        address: path.to_owned(),
    });
    let server = Server::builder().add_service(greeter);
    let mut tasks = JoinSet::new();
    tasks.spawn(server.serve_with_incoming(incoming));
    tasks
}

#[tokio::test]
async fn a_server_on_a_unix_socket_is_called_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("greeter.sock");
    let path = path.to_str().unwrap();
    let channel = Channel::balance([Address::unix(path).unwrap()]).unwrap();
    let channel = channel.name("greeter").connect_lazy().unwrap();
    let refused = within(SOON, call(&channel)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    let endpoint = format!("endpoint unix:{path}: cannot connect");
    assert!(refused.message().contains(&endpoint), "{refused}");

    let mut server = serve(path);
    channel.reset_backoff();
    let mut greeter = client(&channel);
    let reply = greeter.say_hello(waiting_for_ready(hello("Ada")));
    let reply = within(SOON, reply).await.unwrap();
    assert_eq!(reply.get_ref().served_by, path);
    server.abort_all();
    while server.join_next().await.is_some() {}
    std::fs::remove_file(path).unwrap();

    let _server = serve(path);
    channel.reset_backoff();
    let reply = greeter.say_hello(waiting_for_ready(hello("Ada")));
    within(SOON, reply).await.unwrap();
}
