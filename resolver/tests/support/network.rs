//! Servers by address, connected to through pipes in memory.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use switchboard_proto::greeter_server::GreeterServer;
use switchboard_test_support::Polite;
use tokio::{
    io::{AsyncWriteExt, DuplexStream},
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Server;

/// A network in memory. What no server listens on refuses connections.
#[derive(Clone)]
pub struct Network {
    sites: Arc<Mutex<BTreeMap<String, Site>>>,
    /// Where the servers run.
    runtime: Handle,
}

/// What is at an address.
#[derive(Default)]
struct Site {
    conduct: Conduct,
    dials: Vec<Instant>,
    /// The server and what carries the bytes of its connections; dropped, they end as in a crash.
    tasks: JoinSet<()>,
    /// Whether the connections carry nothing any more.
    frozen: watch::Sender<bool>,
}

#[derive(Default)]
enum Conduct {
    #[default]
    Refuse,
    /// Connections are accepted, and a server speaks.
    Serve {
        accept: mpsc::UnboundedSender<io::Result<DuplexStream>>,
        shutdown: oneshot::Sender<()>,
    },
    /// Connecting takes for ever, as with a host that is gone.
    Swallow,
    /// Connections are accepted, and nobody speaks.
    Silence,
    /// Connections are accepted, greeted, and hung up.
    HangUp,
}

/// An empty SETTINGS frame.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

impl Network {
    pub fn new() -> Self {
        Self::on(Handle::current())
    }

    pub fn on(runtime: Handle) -> Self {
        let sites = Arc::default();
        Self { sites, runtime }
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
        let (accept, incoming) = mpsc::unbounded_channel();
        let (shutdown, signal) = oneshot::channel::<()>();
        let greeter = GreeterServer::new(Polite {
            address: address.to_owned(),
        });
        self.at(address, |site| {
            site.conduct = Conduct::Serve { accept, shutdown };
            site.tasks = JoinSet::new();
            let server = Server::builder().add_service(greeter);
            let incoming = UnboundedReceiverStream::new(incoming);
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
        self.put(address, Conduct::Refuse);
    }

    /// Stops the server at the address in good order: GOAWAY, streams go on, new connections are
    /// refused.
    pub fn shut_down(&self, address: &str) {
        self.at(address, |site| {
            match std::mem::take(&mut site.conduct) {
                Conduct::Serve { shutdown, .. } => shutdown.send(()).expect("a server"),
                _ => panic!("no server at {address}"),
            }
            // It goes on to serve its streams, whatever comes after it at this address.
            std::mem::take(&mut site.tasks).detach_all();
        });
    }

    /// Lets connection attempts to the address hang.
    pub fn swallow(&self, address: &str) {
        self.put(address, Conduct::Swallow);
    }

    /// Holds back every byte from and to the address from now on, as when a cable is cut.
    pub fn freeze(&self, address: &str) {
        self.at(address, |site| {
            site.conduct = Conduct::Swallow;
            site.frozen.send_replace(true);
        });
    }

    /// Lets connections to the address succeed, and never says a word on them.
    pub fn silence(&self, address: &str) {
        self.put(address, Conduct::Silence);
    }

    /// Lets connections to the address succeed, speaks HTTP/2 on them, and closes them.
    pub fn hang_up(&self, address: &str) {
        self.put(address, Conduct::HangUp);
    }

    /// When the address was dialed.
    pub fn dials(&self, address: &str) -> Vec<Instant> {
        self.at(address, |site| site.dials.clone())
    }

    /// What a channel connects with.
    pub fn connector(
        &self,
    ) -> impl Fn(http::Uri) -> futures::future::BoxFuture<'static, io::Result<DuplexStream>>
    + Send
    + Sync
    + 'static {
        let network = self.clone();
        move |uri| {
            let network = network.clone();
            Box::pin(async move {
                let authority = uri.authority().expect("host and port").to_string();
                match network.dial(&authority) {
                    Some(dialed) => dialed,
                    None => std::future::pending().await,
                }
            })
        }
    }

    /// Connects to an address; `None` is never.
    fn dial(&self, address: &str) -> Option<io::Result<DuplexStream>> {
        self.at(address, |site| {
            site.dials.push(Instant::now());
            let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
            match &site.conduct {
                Conduct::Refuse => return Some(Err(io::ErrorKind::ConnectionRefused.into())),
                Conduct::Swallow => return None,
                Conduct::Silence => {
                    site.tasks.spawn_on(
                        async move {
                            std::future::pending::<()>().await;
                            drop(theirs);
                        },
                        &self.runtime,
                    );
                }
                Conduct::HangUp => {
                    site.tasks.spawn_on(
                        async move {
                            theirs.write_all(&SETTINGS).await.expect("a reader");
                            // Were it done in no time, a paused clock would stand still in a hot
                            // loop.
                            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                        },
                        &self.runtime,
                    );
                }
                Conduct::Serve { accept, .. } => {
                    let (mut near, far) = tokio::io::duplex(64 * 1024);
                    accept.send(Ok(far)).expect("a server that accepts");
                    let mut frozen = site.frozen.subscribe();
                    site.tasks.spawn_on(
                        async move {
                            // An error is one side having gone, which is how connections end here.
                            let carrying = tokio::io::copy_bidirectional(&mut theirs, &mut near);
                            tokio::select! {
                                _ = carrying => return,
                                _ = frozen.wait_for(|frozen| *frozen) => {}
                            }
                            std::future::pending::<()>().await;
                        },
                        &self.runtime,
                    );
                }
            }
            Some(Ok(ours))
        })
    }

    fn put(&self, address: &str, conduct: Conduct) {
        self.at(address, |site| {
            site.conduct = conduct;
            site.tasks = JoinSet::new();
        });
    }

    fn at<T>(&self, address: &str, act: impl FnOnce(&mut Site) -> T) -> T {
        let mut sites = self.sites.lock().expect("no panic in between");
        act(sites.entry(address.to_owned()).or_default())
    }
}
