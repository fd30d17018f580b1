//! The embedded etcd, as its users hold it.

mod faults;

use std::{future::Future, io, net::SocketAddr, sync::Arc};

use futures::{Stream, TryStreamExt, future::BoxFuture};
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, ToSocketAddrs},
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::{
    Channel, Endpoint,
    server::{Connected, TcpIncoming},
};

use crate::{gate::Gate, network::Io, service, shared::Shared};

/// An etcd in memory: etcd's own protocol, one member, nothing on disk.
///
/// It lives on the runtime it was started on, and its time is that of tokio's clock. Clones are
/// handles on the same etcd; dropping the last one ends it.
///
/// It is for development and tests. What is in it is gone with the process.
///
/// ```
/// use etcd_client::{Channel, Client, PutOptions};
/// use std::time::Duration;
/// use switchboard_embedded::EmbeddedEtcd;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let etcd = EmbeddedEtcd::start();
/// let mut client = Client::from_channel(Channel::Tonic(etcd.channel()), None).await?;
///
/// let lease = client.lease_grant(10, None).await?.id();
/// let options = PutOptions::new().with_lease(lease);
/// client.put("greeting", "hello", Some(options)).await?;
/// assert_eq!(etcd.keys()[0].value, b"hello");
///
/// tokio::time::sleep(Duration::from_secs(11)).await; // no time passes: the clock is paused
/// assert!(etcd.keys().is_empty());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct EmbeddedEtcd(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    gate: Gate,
    /// Not while it is frozen.
    running: watch::Sender<bool>,
    dialed: mpsc::UnboundedSender<io::Result<Io>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A key that is in an etcd, and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyValue {
    /// The key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// The lease it goes with, if it goes with one.
    pub lease: Option<i64>,
    /// The revision it was created at.
    pub create_revision: i64,
    /// The revision it was last written at.
    pub mod_revision: i64,
    /// How often it was written since it was created.
    pub version: i64,
}

impl EmbeddedEtcd {
    /// Starts an etcd with nothing in it, at revision 1.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start() -> Self {
        let (dialed, dials) = mpsc::unbounded_channel();
        let etcd = Self(Arc::new(Inner {
            shared: Arc::new(Shared::new()),
            gate: Gate::new(),
            running: watch::Sender::new(true),
            dialed,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }));
        let (shared, mut running) = (etcd.0.shared.clone(), etcd.0.running.subscribe());
        etcd.spawn(async move {
            while running.wait_for(|running| *running).await.is_ok() {
                tokio::select! {
                    () = shared.expire_leases() => {}
                    Ok(()) = running.changed() => {}
                }
            }
        });
        etcd.serve(UnboundedReceiverStream::new(dials));
        etcd
    }

    /// Returns what opens connections to it without a socket, whatever the URI: for a registry's
    /// connector, or tonic's `Endpoint::connect_with_connector` by way of `tower::service_fn`.
    ///
    /// Connecting fails with [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) once the etcd has
    /// ended.
    pub fn connector(
        &self,
    ) -> impl Fn(Uri) -> BoxFuture<'static, io::Result<Io>> + Clone + Send + Sync + 'static {
        let dialed = self.0.dialed.clone();
        move |_| {
            let (ours, theirs) = Io::pair();
            let sent = dialed.send(Ok(theirs));
            Box::pin(std::future::ready(match sent {
                Ok(()) => Ok(ours),
                Err(_) => Err(io::ErrorKind::ConnectionRefused.into()),
            }))
        }
    }

    /// Returns a channel to it without a socket: for etcd-client's `Client::from_channel`, say.
    pub fn channel(&self) -> Channel {
        let connect = self.connector();
        let connector = tower::service_fn(move |uri| {
            let connecting = connect(uri);
            async { connecting.await.map(TokioIo::new) }
        });
        // The host is a name that nobody looks up.
        Endpoint::from_static("http://embedded").connect_with_connector_lazy(connector)
    }

    /// Serves a TCP port as well. Returns the address, which tells the port if 0 was asked for.
    ///
    /// # Errors
    ///
    /// If the address cannot be listened on: it is taken, most often.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, nothing is listened on.
    ///
    /// ```
    /// # use switchboard_embedded::EmbeddedEtcd;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let etcd = EmbeddedEtcd::start();
    /// let address = etcd.listen("127.0.0.1:0").await?;
    /// let mut client = etcd_client::Client::connect([address.to_string()], None).await?;
    /// assert_eq!(client.get("greeting", None).await?.count(), 0);
    /// # Ok(()) }
    /// ```
    pub async fn listen(&self, address: impl ToSocketAddrs) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        self.0.shared.add_address(format!("http://{address}"));
        tracing::info!(name: "embedded_etcd", %address, "an etcd in memory, for development and tests: nothing is kept");
        self.serve(TcpIncoming::from(listener).with_nodelay(Some(true)));
        Ok(address)
    }

    /// Serves the connections of a stream as well, such as a [`Listener`](crate::Listener) of a
    /// network in memory.
    pub fn serve<S, IO>(&self, incoming: S)
    where
        S: Stream<Item = io::Result<IO>> + Send + 'static,
        IO: AsyncRead + AsyncWrite + Connected + Send + Unpin + 'static,
    {
        let gate = self.0.gate.clone();
        let incoming = incoming.map_ok(move |io| gate.wrap(io));
        let router = service::router(&self.0.shared);
        self.spawn(async move {
            // It ends when there are no more connections, or with the etcd.
            if let Err(cause) = router.serve_with_incoming(incoming).await {
                tracing::warn!(name: "embedded_etcd_ended", %cause, "no more connections are taken");
            }
        });
    }

    /// Ends it; the future is ready when it has ended. Other handles are of no use from then on.
    ///
    /// # Cancel safety
    ///
    /// It ends even if the future is dropped.
    pub fn stop(self) -> impl Future<Output = ()> + Send {
        self.0.end();
        async move { self.0.tasks.wait().await }
    }

    /// Returns the revision it is at.
    pub fn revision(&self) -> i64 {
        self.0.shared.with(|store, _| store.revision())
    }

    /// Returns all there is, in order.
    pub fn keys(&self) -> Vec<KeyValue> {
        let keys = self.0.shared.with(|store, _| store.keys(0));
        keys.expect("the newest revision is there")
    }

    /// Returns all there was at a revision, in order; `None` if it is compacted or yet to come.
    pub fn keys_at(&self, revision: i64) -> Option<Vec<KeyValue>> {
        if revision <= 0 {
            return None;
        }
        self.0.shared.with(|store, _| store.keys(revision)).ok()
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.0.stop.clone();
        self.0.tasks.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }
}

impl Inner {
    fn end(&self) {
        self.stop.cancel();
        // A connection that is just being accepted comes to a closed gate.
        self.gate.close();
        self.tasks.close();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use etcd_client::{Client, GetOptions, PutOptions, WatchOptions};
    use tokio::time::Instant;
    use tonic::Code;

    use super::*;

    async fn client(etcd: &EmbeddedEtcd) -> Client {
        let channel = etcd_client::Channel::Tonic(etcd.channel());
        Client::from_channel(channel, None).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_expires_on_the_clock_of_the_test() {
        let etcd = EmbeddedEtcd::start();
        let mut client = client(&etcd).await;
        let lease = client.lease_grant(10, None).await.unwrap().id();
        let options = PutOptions::new().with_lease(lease);
        client.put("a", "1", Some(options)).await.unwrap();
        let mut watch = client.watch("a", None).await.unwrap();
        assert!(watch.message().await.unwrap().unwrap().created());
        let start = Instant::now();
        let response = watch.message().await.unwrap().unwrap();
        assert_eq!(response.events().len(), 1);
        assert_eq!(start.elapsed().as_secs(), 10);
        assert!(etcd.keys().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn frozen_it_answers_nothing_and_thawed_all() {
        let etcd = EmbeddedEtcd::start();
        let mut client = client(&etcd).await;
        client.put("a", "1", None).await.unwrap();
        etcd.freeze();
        let mut other = client.clone();
        let asked = tokio::time::timeout(Duration::from_secs(60), other.get("a", None));
        assert!(asked.await.is_err());
        etcd.thaw();
        assert_eq!(client.get("a", None).await.unwrap().kvs().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn no_lease_ends_while_it_is_frozen() {
        let etcd = EmbeddedEtcd::start();
        let mut client = client(&etcd).await;
        let lease = client.lease_grant(10, None).await.unwrap().id();
        let options = PutOptions::new().with_lease(lease);
        client.put("a", "1", Some(options)).await.unwrap();
        etcd.freeze();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(etcd.keys().len(), 1);
        etcd.thaw();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(etcd.keys(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_on_demand_says_so() {
        let etcd = EmbeddedEtcd::start();
        let mut client = client(&etcd).await;
        etcd.refuse(1, Code::Unavailable);
        let options = GetOptions::new().with_count_only();
        let refused = client.get("a", Some(options.clone())).await.unwrap_err();
        assert!(
            refused.to_string().contains("refused on demand"),
            "{refused}"
        );
        client.get("a", Some(options)).await.unwrap();
        etcd.read_only(true);
        let refused = client.put("a", "1", None).await.unwrap_err();
        assert!(
            refused.to_string().contains("database space exceeded"),
            "{refused}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_just_dialed_is_not_served_by_an_etcd_that_ends() {
        let etcd = EmbeddedEtcd::start();
        tokio::task::yield_now().await;
        let mut dialed = etcd.connector()(Uri::from_static("http://etcd"))
            .await
            .unwrap();
        etcd.stop().await;
        let mut bytes = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(&mut dialed, &mut bytes);
        let read = tokio::time::timeout(Duration::from_secs(60), read).await;
        assert!(read.is_ok(), "the connection ends");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_has_much_to_tell_can_be_cancelled() {
        let etcd = EmbeddedEtcd::start();
        let mut client = client(&etcd).await;
        for _ in 0..5_000 {
            client.put("a", "x".repeat(2_000), None).await.unwrap();
        }
        let options = WatchOptions::new().with_start_revision(2);
        let mut watch = client.watch("a", Some(options)).await.unwrap();
        watch.cancel(0).await.unwrap();
        let mut events = 0;
        loop {
            let response = watch.message().await.unwrap().unwrap();
            events += response.events().len();
            if response.canceled() {
                break;
            }
        }
        assert!(events < 5_000, "all was told before");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_replays_and_goes_on() {
        let etcd = EmbeddedEtcd::start();
        let mut client = client(&etcd).await;
        for value in ["1", "2"] {
            client.put("a", value, None).await.unwrap();
        }
        let options = WatchOptions::new().with_start_revision(2).with_prev_key();
        let mut watch = client.watch("a", Some(options)).await.unwrap();
        assert!(watch.message().await.unwrap().unwrap().created());
        let past = watch.message().await.unwrap().unwrap();
        let values = past.events().iter().map(|it| it.kv().unwrap().value());
        assert_eq!(values.collect::<Vec<_>>(), [b"1", b"2"]);
        client.delete("a", None).await.unwrap();
        let now = watch.message().await.unwrap().unwrap();
        assert_eq!(now.events()[0].prev_kv().unwrap().value(), b"2");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_there_can_be_read_until_it_is_compacted() {
        let etcd = EmbeddedEtcd::start();
        let mut client = client(&etcd).await;
        for value in ["1", "2"] {
            client.put("a", value, None).await.unwrap();
        }
        client.delete("a", None).await.unwrap();
        let values = |revision| {
            let keys = etcd.keys_at(revision)?;
            Some(keys.into_iter().map(|it| it.value).collect::<Vec<_>>())
        };
        assert_eq!(values(2), Some(vec![b"1".to_vec()]));
        assert_eq!(values(3), Some(vec![b"2".to_vec()]));
        assert_eq!(values(4), Some(vec![]));
        assert_eq!((values(5), values(0)), (None, None));
        etcd.compact(3);
        assert_eq!((values(2), values(3)), (None, Some(vec![b"2".to_vec()])));
    }
}
