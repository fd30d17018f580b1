//! Servers by address, on a network in memory.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt, future::BoxFuture};
use switchboard_embedded::{Io, Link, Listener};
use switchboard_proto::{
    Polite,
    greeter_server::{Greeter, GreeterServer},
};
use tokio::{io::AsyncWriteExt, runtime::Handle, sync::oneshot, task::JoinSet, time::Instant};
use tonic::{
    service::Routes,
    transport::{Server, Uri},
};
use tonic_health::{
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

/// A network in memory. What no server listens on refuses connections.
#[derive(Clone)]
pub struct Network {
    wires: switchboard_embedded::Network,
    sites: Arc<Mutex<BTreeMap<String, Site>>>,
    /// Where the servers run.
    runtime: Handle,
}

/// What is at an address.
#[derive(Default)]
struct Site {
    listening: Listening,
    dials: Vec<Instant>,
    /// The server, if it is not to outlive what comes after it.
    tasks: JoinSet<()>,
    shutdown: Option<oneshot::Sender<()>>,
}

/// An empty SETTINGS frame.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

impl Network {
    pub fn new() -> Self {
        Self::on(Handle::current())
    }

    pub fn on(runtime: Handle) -> Self {
        Self {
            wires: switchboard_embedded::Network::new(),
            sites: Arc::default(),
            runtime,
        }
    }

    /// A network with servers at these addresses.
    pub fn serving(addresses: &[&str]) -> Self {
        let network = Self::new();
        for address in addresses {
            network.serve(address);
        }
        network
    }

    /// Starts a greeter at the address.
    pub fn serve(&self, address: &str) {
        let address = address.to_owned();
        self.serve_as(&address.clone(), GreeterServer::new(Polite { address }));
    }

    /// Starts a greeter of one's own at the address.
    pub fn serve_as<T: Greeter>(&self, address: &str, greeter: GreeterServer<T>) {
        self.serve_routes(address, Routes::new(greeter));
    }

    /// Starts a greeter that has a health service at the address; `reporter` tells it how it is.
    pub fn serve_reporting(&self, address: &str, reporter: &HealthReporter) {
        let polite = Polite {
            address: address.to_owned(),
        };
        let health = HealthService::from_health_reporter(reporter.clone());
        let routes = Routes::new(GreeterServer::new(polite));
        self.serve_routes(address, routes.add_service(HealthServer::new(health)));
    }

    fn serve_routes(&self, address: &str, routes: Routes) {
        let (shutdown, signal) = oneshot::channel::<()>();
        let incoming = self.listen(address);
        self.at(address, |site| {
            site.shutdown = Some(shutdown);
            let server = Server::builder().add_routes(routes);
            let serving = server.serve_with_incoming_shutdown(incoming, async {
                // Dropped is a crash, which ends the task anyway.
                if signal.await.is_err() {
                    std::future::pending::<()>().await;
                }
            });
            site.tasks.spawn_on(
                async { serving.await.expect("a server that serves") },
                &self.runtime,
            );
        });
    }

    /// Stops the server at the address as a crash does: connections break, new ones are refused.
    pub fn crash(&self, address: &str) {
        self.at(address, |site| {
            site.listening.end();
            site.tasks = JoinSet::new();
        });
        self.link(address).reset();
    }

    /// Stops the server at the address in good order: GOAWAY, streams go on, new connections are
    /// refused.
    pub fn shut_down(&self, address: &str) {
        self.at(address, |site| {
            let shutdown = site.shutdown.take().expect("a server");
            shutdown.send(()).expect("a server that runs");
            site.listening.end();
            // It goes on to serve its streams, whatever comes after it at this address.
            std::mem::take(&mut site.tasks).detach_all();
        });
    }

    /// Holds back every byte from and to the address from now on, and lets connecting hang, as when
    /// a cable is cut.
    pub fn cut(&self, address: &str) {
        self.link(address).cut();
    }

    /// Lets through what was held back.
    pub fn heal(&self, address: &str) {
        self.link(address).heal();
    }

    /// Lets connections to the address succeed, and never says a word on them.
    pub fn silence(&self, address: &str) {
        // Connections that nobody accepts.
        let _incoming = self.listen(address);
    }

    /// Lets connections to the address succeed, speaks HTTP/2 on them, and closes them.
    pub fn hang_up(&self, address: &str) {
        let greet = |io: io::Result<Io>| async {
            let mut io = io.expect("a connection");
            io.write_all(&SETTINGS).await.expect("a reader");
            // Were it done in no time, a paused clock would stand still in a hot loop.
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let incoming = self.listen(address);
        self.at(address, |site| {
            let greeting = incoming.for_each_concurrent(None, greet);
            site.tasks.spawn_on(greeting, &self.runtime);
        });
    }

    /// When the address was dialed.
    pub fn dials(&self, address: &str) -> Vec<Instant> {
        self.at(address, |site| site.dials.clone())
    }

    /// What a channel connects with.
    pub fn connector(
        &self,
    ) -> impl Fn(Uri) -> BoxFuture<'static, io::Result<Io>> + Send + Sync + 'static {
        let network = self.clone();
        let dial = self.wires.connector("channel");
        move |uri| {
            let address = uri.authority().expect("host and port").as_str();
            network.at(address, |site| site.dials.push(Instant::now()));
            dial(uri)
        }
    }

    /// Listens at an address where nobody does, over a link that is whole.
    fn listen(&self, address: &str) -> Listening {
        let listener = self.wires.listen(address).expect("nobody there");
        let listening = Listening(Arc::new(Mutex::new(Some(listener))));
        self.link(address).heal();
        self.at(address, |site| site.listening = listening.clone());
        listening
    }

    fn link(&self, address: &str) -> Link {
        self.wires.link("channel", address)
    }

    fn at<T>(&self, address: &str, act: impl FnOnce(&mut Site) -> T) -> T {
        let mut sites = self.sites.lock().expect("no panic in between");
        act(sites.entry(address.to_owned()).or_default())
    }
}

/// A listener that ends at once when it is told to, not when the server that has it is dropped.
#[derive(Clone, Default)]
struct Listening(Arc<Mutex<Option<Listener>>>);

impl Listening {
    fn end(&self) {
        drop(self.0.lock().expect("no panic in between").take());
    }
}

impl Stream for Listening {
    type Item = io::Result<Io>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut *self.0.lock().expect("no panic in between") {
            Some(listener) => listener.poll_next_unpin(cx),
            // Whoever ended it has told the server.
            None => Poll::Pending,
        }
    }
}
