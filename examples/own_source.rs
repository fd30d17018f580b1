//! A source of one's own: what a command prints, one address a line, are the servers to call.
//!
//!     cargo run --example own_source
//!
//! The command stands for whatever knows your servers. These, and the network, are in memory.

use std::{fs, sync::Arc, time::Duration};

use futures::StreamExt;
use switchboard::{Channel, Endpoint, ReserveUse::Unused, Source, Update};
use switchboard_embedded::Network;
use switchboard_proto::{HelloRequest, Polite, greeter_client::*, greeter_server::*};
use tokio::{process::Command, task::JoinSet, time::interval};
use tokio_stream::wrappers::IntervalStream;
use tonic::transport::Server;

/// Runs a command again and again. Any stream of updates is a source.
fn printed_by(command: String) -> impl Source {
    let ticks = IntervalStream::new(interval(Duration::from_millis(100)));
    ticks.then(move |_| run(command.clone()))
}

async fn run(command: String) -> Update {
    let read = lines_of(&command).await;
    // What fails is told, and leaves the last servers in use.
    let cause = |error: anyhow::Error| Arc::from(error.into_boxed_dyn_error());
    read.map_or_else(|it| Update::Failed { cause: cause(it) }, Update::Snapshot)
}

async fn lines_of(command: &str) -> anyhow::Result<Vec<Endpoint>> {
    let output = Command::new("sh").args(["-c", command]).output().await?;
    anyhow::ensure!(output.status.success(), "{command}: {}", output.status);
    let lines = str::from_utf8(&output.stdout)?.lines();
    lines.map(|it| Ok(Endpoint::new(it.parse()?))).collect()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (network, mut servers) = (Network::new(), JoinSet::new());
    for address in ["ada:1", "bob:1"].map(str::to_owned) {
        let incoming = network.listen(&address)?;
        let server = Server::builder().add_service(GreeterServer::new(Polite { address }));
        servers.spawn(server.serve_with_incoming(incoming));
    }
    let list = tempfile::NamedTempFile::new()?;
    let channel = Channel::builder(printed_by(format!("cat {}", list.path().display())));
    let channel = channel.connector(network.connector("me")).connect_lazy()?;
    let mut states = channel.watch_state();
    for (printed, seen) in [("ada:1", "ada:1"), ("bob:1", "bob:1"), ("?", "Failed")] {
        fs::write(&list, printed)?;
        states
            .wait_for(|it| it.reserve == Unused && format!("{it:?}").contains(seen))
            .await?;
        let mut greeter = GreeterClient::new(channel.clone());
        let reply = greeter.say_hello(HelloRequest::default()).await?;
        let server = reply.into_inner().served_by;
        println!("{printed} is printed: {server} answers");
    }
    Ok(())
}
