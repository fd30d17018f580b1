//! Every server of a fleet is restarted, one after another, while calls go on: none fails.
//!
//!     cargo run --example rolling_restart
//!
//! Eight greeters, those who call them, an etcd and a network, all in memory. It takes ten seconds, and fails if a
//! call failed. For a fleet of your own:
//!
//! - Serve as `Server::start` does here, with `terminate()` for the signal and a `TcpListener` to listen on. A
//!   drain's `linger` must be longer than the slowest client takes to hear that a server leaves: 5 s unless set.
//! - Let a server drain before it is killed: in Kubernetes, `terminationGracePeriodSeconds`, 30 unless set, must be
//!   more than the drain's `total`, 28 s unless set.
//! - Restart one at a time, and the next one only when the one before is published again, of which `on_published`
//!   tells: in Kubernetes, `maxUnavailable: 0`, `maxSurge: 1`, and a readiness probe that fails until then.

use std::{
    future::IntoFuture,
    process::ExitCode,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use switchboard::{Channel, Drain, Incoming, Instance, Registry, ServeError};
use switchboard_embedded::{EmbeddedEtcd, Network};
use switchboard_proto::{
    HelloRequest, Polite, greeter_client::GreeterClient, greeter_server::GreeterServer,
};
use tokio::{sync::oneshot, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, transport};

const SERVERS: usize = 8;

/// How many calls are in flight at a time.
const CALLERS: usize = 16;

/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// How long a server that is to end goes on serving: all who call it are in this process, and hear of it at once.
const LINGER: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let world = World {
        etcd: EmbeddedEtcd::start(),
        network: Network::new(),
    };
    let mut servers = Vec::new();
    for number in 1..=SERVERS {
        servers.push(Server::start(&world, &format!("greeter-{number}:50051")).await?);
    }
    let channel = world.registry()?.dial("greeter");
    let channel = channel.connector(world.network.connector("callers"));
    let callers = Callers::start(&channel.connect().await?);

    let begin = Instant::now();
    for server in &mut servers {
        let (stopped, before) = (Instant::now(), callers.tally.calls());
        server.stop().await?;
        *server = Server::start(&world, &server.address).await?;
        println!(
            "{} was restarted in {:.1} s: {} calls meanwhile",
            server.address,
            stopped.elapsed().as_secs_f64(),
            callers.tally.calls() - before,
        );
    }
    let tally = callers.stop().await;
    println!(
        "Rolling restart of {SERVERS} servers in {:.1} s under {} calls: {}.",
        begin.elapsed().as_secs_f64(),
        tally.calls(),
        tally.verdict(),
    );
    Ok(match tally.failed() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// What servers and callers share, as your machines do.
struct World {
    etcd: EmbeddedEtcd,
    network: Network,
}

impl World {
    /// Returns a registry of one's own, as each process has it.
    fn registry(&self) -> anyhow::Result<Registry> {
        let registry = Registry::builder("etcd:2379")?.connector(self.etcd.connector());
        Ok(registry.connect_lazy()?)
    }
}

/// A greeter that is published.
struct Server {
    address: String,
    stop: CancellationToken,
    served: JoinSet<Result<(), ServeError>>,
}

impl Server {
    /// Starts a greeter, and waits until it is published.
    async fn start(world: &World, address: &str) -> anyhow::Result<Self> {
        let listener = Incoming::new(world.network.listen(address)?);
        let instance = Instance::new("greeter", address)?;
        let address = address.to_owned();
        let greeter = GreeterServer::new(Polite {
            address: address.clone(),
        });
        let router = transport::Server::builder().add_service(greeter);
        let (published, is_published) = oneshot::channel();
        let stop = CancellationToken::new();
        let serve = world.registry()?.serve(instance, router, listener);
        let serve = serve.drain(Drain {
            linger: LINGER,
            ..Drain::default()
        });
        let serve = serve.on_published(move || {
            // Nobody waits for it if this future was dropped.
            let _ = published.send(());
        });
        let serve = serve.with_graceful_shutdown(stop.clone().cancelled_owned());
        let mut served = JoinSet::new();
        served.spawn(serve.into_future());
        is_published
            .await
            .context("a server ended before it was published")?;
        Ok(Self {
            address,
            stop,
            served,
        })
    }

    /// Asks the greeter to end, and waits until it has.
    async fn stop(&mut self) -> anyhow::Result<()> {
        self.stop.cancel();
        while let Some(served) = self.served.join_next().await {
            served??;
        }
        Ok(())
    }
}

/// Those who call all the time.
struct Callers {
    calling: JoinSet<()>,
    stop: CancellationToken,
    tally: Arc<Tally>,
}

impl Callers {
    fn start(channel: &Channel) -> Self {
        let mut callers = Self {
            calling: JoinSet::new(),
            stop: CancellationToken::new(),
            tally: Arc::default(),
        };
        for _ in 0..CALLERS {
            let client = GreeterClient::new(channel.clone());
            let (stop, tally) = (callers.stop.clone(), callers.tally.clone());
            callers.calling.spawn(call(client, stop, tally));
        }
        callers
    }

    /// Ends with the calls that are in flight.
    async fn stop(self) -> Arc<Tally> {
        self.stop.cancel();
        self.calling.join_all().await;
        self.tally
    }
}

/// Calls, one call after another, until it is told to stop.
async fn call(mut client: GreeterClient<Channel>, stop: CancellationToken, tally: Arc<Tally>) {
    while !stop.is_cancelled() {
        let mut request = Request::new(HelloRequest { name: "Ada".into() });
        request.set_timeout(DEADLINE);
        let answer = client.say_hello(request).await;
        tally.add(answer.map(drop));
    }
}

/// What came of the calls.
#[derive(Default)]
struct Tally {
    calls: AtomicU64,
    failed: AtomicU64,
    first_failure: OnceLock<Status>,
}

impl Tally {
    fn add(&self, answer: Result<(), Status>) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if let Err(status) = answer {
            self.failed.fetch_add(1, Ordering::Relaxed);
            self.first_failure.get_or_init(|| status);
        }
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    fn verdict(&self) -> String {
        match self.first_failure.get() {
            None => "0 failed".to_owned(),
            Some(first) => format!("{} failed, the first with {first}", self.failed()),
        }
    }
}
