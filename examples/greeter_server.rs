//! A greeter that publishes itself in etcd.
//!
//!     cargo run --example greeter_server
//!
//! Start several; `greeter_client` calls them all in turn. Where there is no etcd, the first of
//! them brings one, in memory:
//!
//!     cargo run --example greeter_server -- --embedded

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use anyhow::{Context, anyhow};
use clap::Parser;
use switchboard::{Advertise, Instance, Layout, Registry};
use switchboard_embedded::EmbeddedEtcd;
use switchboard_proto::{Polite, greeter_server::GreeterServer};
use tokio::net::TcpListener;
use tonic::transport::Server;

/// A greeter that publishes itself in etcd.
#[derive(Parser)]
struct Arguments {
    /// etcd's endpoints, separated by commas.
    #[arg(long, default_value = "127.0.0.1:2379")]
    etcd: String,
    /// Serves an etcd in memory there, for as long as this runs.
    #[arg(long)]
    embedded: bool,
    /// The name to publish under.
    #[arg(long, default_value = "greeter")]
    name: String,
    /// The address to listen on, such as 0.0.0.0:0; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// The host, or host:port, that clients dial, where it is not the one to listen on.
    #[arg(long)]
    advertise: Option<Advertise>,
    /// Whose clients are to find it: kratos, go-zero, etcd-naming or another layout.
    #[arg(long, default_value_t)]
    layout: Layout,
    /// How long the record outlives a crash, in seconds.
    #[arg(long, default_value_t = 10)]
    ttl: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();

    // Held to the end: it ends when it is dropped.
    let (_embedded, etcd) = match arguments.embedded {
        true => {
            let (embedded, address) = embedded(&arguments.etcd).await?;
            println!("etcd, in memory, at {address}");
            (Some(embedded), address)
        }
        false => (None, arguments.etcd),
    };
    let listener = TcpListener::bind(&arguments.listen)
        .await
        .with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let mut registry = Registry::builder(etcd)?
        .layout(arguments.layout)
        .ttl(Duration::from_secs(arguments.ttl));
    if let Some(advertise) = arguments.advertise {
        registry = registry.advertise(advertise);
    }
    let registry = registry.connect_lazy()?;
    let address = registry.advertised(listener.local_addr()?).await?;
    let instance = Instance::new(arguments.name, address.clone())?;
    let greeter = GreeterServer::new(Polite {
        address: address.to_string(),
    });
    let published = format!("published {} at {address}", instance.service());
    registry
        .serve(instance, Server::builder().add_service(greeter), listener)
        .on_published(move || println!("{published}"))
        .with_graceful_shutdown(switchboard::terminate())
        .await?;
    Ok(())
}

/// Starts an etcd in memory that serves `address`. Returns it, and the address, which tells the
/// port if 0 was asked for.
async fn embedded(address: &str) -> anyhow::Result<(EmbeddedEtcd, String)> {
    let etcd = EmbeddedEtcd::start();
    match etcd.listen(address).await {
        Ok(address) => Ok((etcd, address.to_string())),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(anyhow!(
            "{address} is taken, perhaps by an etcd: leave --embedded away to use that one, \
             stop it, or take another port with --etcd 127.0.0.1:0"
        )),
        Err(error) => Err(error).context(format!("cannot serve an etcd on {address}")),
    }
}
