//! How a registry is connected.

use std::{fmt, future::Future, io, sync::Arc, time::Duration};

use http::Uri;

#[cfg(feature = "tls")]
use switchboard_resolver::Tls;
use switchboard_resolver::{Backoff, BuildError, Channel, ChannelBuilder, ConnectError, KeepAlive};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    Advertise, ConfigError, Credentials, Layout, Namespace, Registry, TargetError,
    advertise::Advertised,
    config::Access,
    etcd::Etcd,
    layout::Place,
    registry::Shared,
    target::{Addresses, EtcdTarget, PartialPlace},
};

/// Sets up a [`Registry`].
///
/// ```
/// use std::time::Duration;
/// use switchboard_registry::Registry;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let registry = Registry::builder("10.0.0.1:2379,10.0.0.2:2379")?
///     .namespace("/shop".parse()?)
///     .ttl(Duration::from_secs(15))
///     .connect_lazy()?;
/// # registry.close().await;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until it connects"]
pub struct RegistryBuilder {
    etcd: Addresses,
    #[cfg(not(feature = "tls"))]
    needs_tls: bool,
    namespace: Namespace,
    layout: Layout,
    ttl: Duration,
    credentials: Option<Credentials>,
    advertise: Option<Advertise>,
    pod_ip: Option<String>,
    zone: Option<String>,
    connector: Option<Connector>,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
}

/// What makes a channel use the connector that was set, whose type it hides.
struct Connector(Box<dyn FnOnce(ChannelBuilder) -> ChannelBuilder + Send + Sync>);

/// The TTL unless set: a server that crashed is in the list for that long at most. It is go-zero's.
const TTL: Duration = Duration::from_secs(10);

/// What etcd raises shorter TTLs to.
const SHORTEST_TTL: Duration = Duration::from_secs(2);

/// What etcd refuses longer TTLs than (`lease/lessor.go`).
const LONGEST_TTL: Duration = Duration::from_secs(9_000_000_000);

/// What errors say of both.
pub(crate) const EXPECTED_TTL: &str = "whole seconds, from 2 to 9000000000";

/// Why a registry cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// What was given is not a target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// What is configured is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// TLS to etcd is asked for, and this was built without it.
    #[error("TLS to etcd: not built in (expected: the feature `tls`)")]
    NoTls,
    /// A TTL that etcd cannot keep.
    #[error("invalid TTL: {0:?} (expected: {EXPECTED_TTL})")]
    Ttl(Duration),
    /// The channel to etcd cannot be made: TLS cannot be used as it is set, or there is no tokio
    /// runtime here.
    #[error(transparent)]
    Channel(#[from] BuildError),
    /// etcd cannot be reached.
    #[error("cannot reach etcd: {etcd}")]
    Unreachable {
        /// Its endpoints.
        etcd: String,
        /// What stands in the way.
        #[source]
        cause: ConnectError,
    },
}

impl RegistryBuilder {
    pub(crate) fn new(etcd: Addresses) -> Self {
        Self {
            etcd,
            #[cfg(not(feature = "tls"))]
            needs_tls: false,
            namespace: Namespace::default(),
            layout: Layout::default(),
            ttl: TTL,
            credentials: None,
            advertise: None,
            pod_ip: std::env::var("POD_IP").ok(),
            zone: None,
            connector: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Takes all that a target says, but for the service.
    pub(crate) fn at(target: &EtcdTarget) -> Self {
        let builder = Self::new(target.addresses.clone()).placed(&target.place);
        Access::of(target.security).apply(builder)
    }

    pub(crate) fn placed(mut self, place: &PartialPlace) -> Self {
        self.namespace = place.namespace.clone().unwrap_or(self.namespace);
        self.layout = place.layout.unwrap_or(self.layout);
        self
    }

    /// Notes that TLS is needed and not built in, so that no registry is made without it.
    #[cfg(not(feature = "tls"))]
    pub(crate) fn needs_tls(mut self) -> Self {
        self.needs_tls = true;
        self
    }

    /// Sets what `$POD_IP` is, where it is not what this process has it to be.
    pub(crate) fn pod_ip(mut self, pod_ip: String) -> Self {
        self.pod_ip = Some(pod_ip);
        self
    }

    /// Sets the part of etcd's key space to use; `/microservices` unless set.
    pub fn namespace(mut self, namespace: Namespace) -> Self {
        self.namespace = namespace;
        self
    }

    /// Sets where records lie and what they look like; as kratos has them unless set.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Sets how long a record outlives its server; 10 s unless set. Whole seconds, from 2 to
    /// 9,000,000,000, as etcd has it.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets who to log in as where etcd has users; nobody unless set.
    ///
    /// etcd says whether they are right when it first refuses a request without them: connecting
    /// does not ask. What it says then is told by
    /// [`Publisher::published`](crate::Publisher::published) and [`Registry::discover`].
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Sets the host, and perhaps the port, that others dial to reach this process: what
    /// [`Registry::advertised`] returns.
    pub fn advertise(mut self, advertise: Advertise) -> Self {
        self.advertise = Some(advertise);
        self
    }

    /// Sets the zone that this process runs in. Instances that it publishes have it in their
    /// metadata, as `zone`, unless they have one already.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Sets how a byte stream is opened to the host and port of a URI, one of etcd's endpoints;
    /// over TCP unless set. See [`ChannelBuilder::connector`].
    ///
    /// It is for etcd alone: a channel to a service has its own.
    ///
    /// ```
    /// use switchboard_embedded::EmbeddedEtcd;
    /// use switchboard_registry::Registry;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let etcd = EmbeddedEtcd::start();
    /// let registry = Registry::builder("etcd:2379")?
    ///     .connector(etcd.connector())
    ///     .connect()
    ///     .await?;
    /// assert!(registry.services().await?.is_empty());
    /// # registry.close().await;
    /// # Ok(()) }
    /// ```
    pub fn connector<F, Connecting, Io>(mut self, connector: F) -> Self
    where
        F: Fn(Uri) -> Connecting + Send + Sync + 'static,
        Connecting: Future<Output = io::Result<Io>> + Send + 'static,
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let set = |channel: ChannelBuilder| channel.connector(connector);
        self.connector = Some(Connector(Box::new(set)));
        self
    }

    /// Speaks to etcd inside TLS; in plain text unless set. Each endpoint of etcd must prove to be
    /// the host that the target names, unless [`Tls::server_name`] says otherwise.
    ///
    /// It is for etcd alone: a channel to a service has its own
    /// ([`ChannelBuilder::tls`]).
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Makes the registry and begins to connect. etcd need not be there.
    ///
    /// # Errors
    ///
    /// A TTL that etcd cannot keep, a file of TLS that is not what it should be, or that there is
    /// no tokio runtime here.
    pub fn connect_lazy(mut self) -> Result<Registry, RegistryError> {
        self.validate()?;
        let channel = self.channel().connect_lazy()?;
        Ok(self.registry(channel))
    }

    /// Makes the registry and waits until etcd can be reached.
    ///
    /// # Errors
    ///
    /// As [`connect_lazy`](Self::connect_lazy); and if etcd cannot be reached.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection.
    pub async fn connect(mut self) -> Result<Registry, RegistryError> {
        self.validate()?;
        match self.channel().connect().await {
            Ok(channel) => Ok(self.registry(channel)),
            Err(ConnectError::Build(error)) => Err(error.into()),
            Err(cause) => Err(RegistryError::Unreachable {
                etcd: self.etcd.to_string(),
                cause,
            }),
        }
    }

    fn validate(&self) -> Result<(), RegistryError> {
        if !is_ttl(self.ttl) {
            return Err(RegistryError::Ttl(self.ttl));
        }
        #[cfg(not(feature = "tls"))]
        if self.needs_tls {
            return Err(RegistryError::NoTls);
        }
        Ok(())
    }

    fn channel(&mut self) -> ChannelBuilder {
        let channel = channel(&self.etcd);
        let channel = match self.connector.take() {
            Some(Connector(set)) => set(channel),
            None => channel,
        };
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return channel.tls(tls.clone());
        }
        channel
    }

    /// Puts a registry together; there is a runtime, since the channel runs on it.
    fn registry(self, channel: Channel) -> Registry {
        let place = Place {
            layout: self.layout,
            namespace: self.namespace,
        };
        let advertised = Advertised::new(self.advertise, self.pod_ip, self.etcd);
        let etcd = Etcd::new(channel.clone(), self.credentials);
        let shared = Shared::new(etcd, channel, self.ttl, self.zone, advertised);
        Registry {
            shared: Arc::new(shared),
            place: Arc::new(place),
        }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

/// Returns whether etcd can keep it.
pub(crate) fn is_ttl(ttl: Duration) -> bool {
    (SHORTEST_TTL..=LONGEST_TTL).contains(&ttl) && ttl.subsec_nanos() == 0
}

/// The channel to etcd. Each request is bounded where it is made. Pings find a member that is
/// frozen or cut off (etcd closes connections that ping more often than every 5 s), and a member
/// that is back is found within a second. A list is megabytes, and nothing else is large.
fn channel(etcd: &Addresses) -> ChannelBuilder {
    Channel::balance(etcd.as_slice().iter().cloned())
        .expect("addresses are addresses")
        .name("etcd")
        .stream_window(4 << 20)
        .connect_timeout(Duration::from_secs(1))
        .backoff(Backoff {
            base: Duration::from_millis(100),
            cap: Duration::from_secs(1),
            ..Backoff::default()
        })
        .min_ping_interval(Duration::from_secs(6))
        .keep_alive(KeepAlive {
            interval: Duration::from_secs(6),
            timeout: Duration::from_secs(3),
            while_idle: false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_etcd_that_cannot_be_reached_is_told_in_one_line_that_repeats_nothing() {
        let refused = || Err::<tokio::io::DuplexStream, _>(io::Error::other("nobody listens"));
        let registry = Registry::builder("h1:2379").expect("an address");
        let registry = registry.connector(move |_| std::future::ready(refused()));
        let error = registry.connect().await.expect_err("nobody is there");
        assert_eq!(error.to_string(), "cannot reach etcd: h1:2379");
        let whole = format!("{:#}", anyhow::Error::from(error));
        assert_eq!(whole.matches("nobody listens").count(), 1, "{whole}");
        assert!(!whole.contains("Status"), "{whole}");
    }
}
