//! What is counted, served to Prometheus.
//!
//!     cargo run --features metrics --example prometheus
//!
//! Two greeters publish themselves in an etcd in memory, and a caller calls them; one of them stops.
//! Then it asks itself for its metrics, as Prometheus would, prints those that are not 0, and ends.
//! To look around yourself, have it stay:
//!
//!     cargo run --features metrics --example prometheus -- --stay --listen 127.0.0.1:9000
//!     curl http://127.0.0.1:9000/metrics
//!
//! docs/observability.md says what each metric is for.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use anyhow::{Context, ensure};
use clap::Parser;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use switchboard::{Drain, Incoming, Instance, Registry};
use switchboard_embedded::{EmbeddedEtcd, Network};
use switchboard_proto::{
    HelloRequest, Polite, greeter_client::GreeterClient, greeter_server::GreeterServer,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::transport::Server;

/// Serves what is counted to Prometheus.
#[derive(Parser)]
struct Arguments {
    /// The address to serve metrics at; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Goes on until it is interrupted.
    #[arg(long)]
    stay: bool,
}

/// How many calls are made before one of the greeters stops, and how many after.
const CALLS: usize = 300;

/// A server that is told to stop does so quickly here: nobody else is to hear of it.
const QUICK: Drain = Drain {
    deregister: Duration::from_secs(1),
    linger: Duration::from_millis(500),
    finish: Duration::from_secs(1),
    revoke: Duration::from_secs(1),
    total: Duration::from_secs(5),
};

/// Fine where calls that wait mostly do: from a connection within one machine to one over the sea.
const BUCKETS: [f64; 8] = [0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 20.0];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let listen = free_port(arguments.listen)?;
    // First: what is made before is not counted.
    PrometheusBuilder::new()
        .with_http_listener(listen)
        .set_buckets_for_metric(
            Matcher::Full("switchboard_pick_wait_seconds".into()),
            &BUCKETS,
        )?
        .install()?;
    println!("metrics at http://{listen}/metrics\n");

    let (etcd, network) = (EmbeddedEtcd::start(), Network::new());
    let mut servers = JoinSet::new();
    let _first = serve(&etcd, &network, "greeter-1:50051", &mut servers).await?;
    let second = serve(&etcd, &network, "greeter-2:50051", &mut servers).await?;
    let clients = connect(&etcd).await?;
    let channel = clients
        .dial("greeter")
        .connector(network.connector("client"));
    let mut client = GreeterClient::new(channel.connect().await?);

    println!("{CALLS} calls to two greeters");
    call(&mut client, CALLS).await?;
    println!("greeter-2 is told to stop, and {CALLS} more");
    // It waits for that, or has given up.
    let _ = second.send(());
    call(&mut client, CALLS).await?;
    let stopped = servers.join_next();
    timeout(Duration::from_secs(10), stopped)
        .await?
        .context("a server")??;

    println!("\nwhat Prometheus reads, but what is 0:");
    let page = fetch(listen).await?;
    let samples = page.lines().filter(|line| line.starts_with("switchboard_"));
    for sample in samples.filter(|line| !line.ends_with(" 0")) {
        println!("  {sample}");
    }
    let calls = format!(
        "switchboard_calls_total{{service=\"greeter\",code=\"OK\"}} {}",
        2 * CALLS
    );
    ensure!(page.contains(&calls), "not there: {calls}");

    if arguments.stay {
        loop {
            call(&mut client, CALLS).await?;
        }
    }
    Ok(())
}

async fn call<T>(client: &mut GreeterClient<T>, calls: usize) -> anyhow::Result<()>
where
    T: tonic::client::GrpcService<tonic::body::Body>,
    T::Error: Into<tonic::codegen::StdError>,
    T::ResponseBody: tonic::codegen::Body<Data = tonic::codegen::Bytes> + Send + 'static,
    <T::ResponseBody as tonic::codegen::Body>::Error: Into<tonic::codegen::StdError> + Send,
{
    for _ in 0..calls {
        client
            .say_hello(HelloRequest { name: "Ada".into() })
            .await?;
        sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

async fn connect(etcd: &EmbeddedEtcd) -> anyhow::Result<Registry> {
    let registry = Registry::builder("etcd:2379")?.connector(etcd.connector());
    Ok(registry.connect().await?)
}

/// Starts a greeter, and waits until it is in etcd. It stops when it is told to.
async fn serve(
    etcd: &EmbeddedEtcd,
    network: &Network,
    address: &str,
    servers: &mut JoinSet<()>,
) -> anyhow::Result<oneshot::Sender<()>> {
    let listener = Incoming::new(network.listen(address)?);
    let greeter = GreeterServer::new(Polite {
        address: address.to_owned(),
    });
    let router = Server::builder().add_service(greeter);
    let instance = Instance::new("greeter", address)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let (published, is_published) = oneshot::channel();
    let serve = connect(etcd).await?.serve(instance, router, listener);
    let serve = serve
        .drain(QUICK)
        .on_published(|| published.send(()).expect("it is waited for"))
        .with_graceful_shutdown(async {
            if stopped.await.is_err() {
                std::future::pending().await
            }
        });
    servers.spawn(async { serve.await.expect("it serves") });
    is_published.await?;
    Ok(stop)
}

/// Puts a free port in the place of port 0, which the exporter would keep to itself.
fn free_port(address: SocketAddr) -> anyhow::Result<SocketAddr> {
    Ok(match address.port() {
        0 => TcpListener::bind(address)?.local_addr()?,
        _ => address,
    })
}

/// Asks for the metrics as Prometheus would.
async fn fetch(address: SocketAddr) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    Ok(response)
}
