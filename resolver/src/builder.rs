//! How a channel is set up.

mod checks;
mod choosing;
mod error;

use std::{fmt, io, sync::Arc, time::Duration};

use http::{Uri, uri::Authority};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::Handle,
    sync::{Mutex, Notify, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::error::{BuildError, ConnectError};
use crate::{
    Backoff, Channel, ChannelState, Ejection, HealthCheck, KeepAlive, ReservePolicy, ServiceConfig,
    SlowStart, Source,
    balancer::{self, Balancer, BoxConfigs, BoxSource, Published, Signals},
    call::Calls,
    chance::Chance,
    channel::Shared,
    connector::Connector,
    dialing::Dialing,
    idleness::Activity,
    metrics::{CallMetrics, EndpointMetrics},
    service_config::Methods,
    state::{ReserveUse, ServiceConfigState, SourceState},
    tls::Tls,
    transport::{self, Vacancy},
    view::Views,
};

/// Sets up a [`Channel`]; see [`Channel::balance`] and [`Channel::builder`].
///
/// ```
/// use std::time::Duration;
/// use switchboard_resolver::{Backoff, Channel, KeepAlive};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let channel = Channel::balance(["10.0.0.1:50051", "10.0.0.2:50051"])?
///     .name("greeter")
///     .timeout(Duration::from_secs(5))
///     .connect_timeout(Duration::from_secs(3))
///     .backoff(Backoff { cap: Duration::from_secs(10), ..Backoff::default() })
///     .keep_alive(KeepAlive {
///         interval: Duration::from_secs(300),
///         timeout: Duration::from_secs(20),
///         while_idle: false,
///     })
///     .connect_lazy()?;
/// # channel.close().await;
/// # Ok(()) }
/// ```
#[must_use = "a builder does nothing until it connects"]
pub struct ChannelBuilder {
    source: BoxSource,
    name: Option<Arc<str>>,
    timeout: Option<Duration>,
    connect_timeout: Duration,
    idle_timeout: Duration,
    reserve: ReservePolicy,
    ejection: Option<Ejection>,
    slow_start: Option<SlowStart>,
    config: ServiceConfig,
    configs: Option<BoxConfigs>,
    backoff: Backoff,
    settings: transport::Settings,
    health: Option<HealthCheck>,
    connector: Connector,
    tls: Option<Tls>,
    seed: Option<u64>,
}

/// The connect timeout of gRPC's `connection-backoff.md`. Shorter than what a far or busy server
/// needs to answer, and no attempt would ever succeed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// As grpc-go. A shorter one makes rare calls wait for a connection each time.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// What longer times are taken for: `Duration::MAX` says "never", and no clock can tell when that
/// is. As tokio has it.
pub(crate) const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

impl ChannelBuilder {
    pub(crate) fn new(source: BoxSource) -> Self {
        Self {
            source,
            name: None,
            timeout: None,
            connect_timeout: CONNECT_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            reserve: ReservePolicy::default(),
            ejection: None,
            slow_start: None,
            config: ServiceConfig::default(),
            configs: None,
            backoff: Backoff::default(),
            settings: transport::Settings::default(),
            health: None,
            connector: Connector::tcp(),
            tls: None,
            seed: None,
        }
    }

    /// Uses `second` for as long as the source has no endpoints, such as a file where etcd is away; see
    /// [`OrElse`](crate::OrElse).
    ///
    /// ```
    /// use switchboard_resolver::{Channel, Fixed, WatchedFile};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let channel = Channel::builder(WatchedFile::new("/there/is/no/such/file"))
    ///     .or_else(Fixed::new(["10.0.0.1:50051"])?)
    ///     .connect_lazy()?;
    /// channel.watch_state().wait_for(|state| state.endpoints.len() == 1).await?;
    /// # channel.close().await;
    /// # Ok(()) }
    /// ```
    pub fn or_else(mut self, second: impl Source) -> Self {
        self.source = Box::pin(self.source.or_else(second));
        self
    }

    /// Sets the service's name. Errors and logs use it, and calls send it as `:authority`; where it
    /// is not a valid authority, each endpoint's address is sent instead.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into().into());
        self
    }

    /// Sets how long a call may take until the headers of its response are there. Unset, it may
    /// take as long as its caller allows.
    ///
    /// It never ends a response that has begun, however long that streams: that is for the caller's
    /// own `grpc-timeout`, and the shorter one of both counts for the headers.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout.min(NEVER));
        self
    }

    /// Sets how long one attempt to connect to an endpoint may take, until the server has spoken
    /// HTTP/2; 20 s unless set.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout.min(NEVER);
        self
    }

    /// Sets how long the channel may go without a call until it lets its connections go, or up to
    /// half as long again; 30 min unless set, and never with [`Duration::MAX`].
    ///
    /// The next call connects, and waits for that. The source is followed all the while.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout.min(NEVER);
        self
    }

    /// Sets what becomes of connected endpoints that the source does not list any more.
    pub fn reserve(mut self, policy: ReservePolicy) -> Self {
        self.reserve = ReservePolicy {
            settled: policy.settled.min(NEVER),
            limit: policy.limit.min(NEVER),
            ..policy
        };
        self
    }

    /// Leaves out endpoints whose calls fail, although they are connected; none unless set.
    pub fn ejection(mut self, ejection: Ejection) -> Self {
        self.ejection = Some(ejection);
        self
    }

    /// Gives endpoints that are new, or back after they failed, few calls at first; unless set, they get as
    /// many as the others at once.
    pub fn slow_start(mut self, slow_start: SlowStart) -> Self {
        self.slow_start = Some(slow_start);
        self
    }

    /// Sets how long an endpoint that failed is left alone.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = Backoff {
            base: backoff.base.min(NEVER),
            cap: backoff.cap.min(NEVER),
            ..backoff
        };
        self
    }

    /// Sets further pings, of connections that were silent for a while; none unless set. A server
    /// that leaves a call without any sign of life is pinged in any case.
    pub fn keep_alive(mut self, keep_alive: KeepAlive) -> Self {
        self.settings.pings.keep_alive = Some(KeepAlive {
            interval: keep_alive.interval.min(NEVER),
            timeout: keep_alive.timeout.min(NEVER),
            ..keep_alive
        });
        self
    }

    /// Sets how far apart pings are that no server minds; 5 min unless set, as servers in Go have
    /// it. Of pings that come sooner, which find out whether a silent server still lives, there are
    /// two at most between two of its answers.
    pub fn min_ping_interval(mut self, interval: Duration) -> Self {
        self.settings.pings.min_interval = interval.min(NEVER);
        self
    }

    /// Sets how many bytes a server may send ahead of whoever reads the response, a call at a time;
    /// 256 KiB unless set, and 2 GiB - 1 at most.
    ///
    /// A larger one lets large responses come faster, and unread ones hold more memory.
    pub fn stream_window(mut self, bytes: u32) -> Self {
        self.settings.stream_window = bytes.min(transport::LARGEST_WINDOW);
        self
    }

    /// Sets how many calls each endpoint may have in flight, over all its connections; unless set, as many
    /// as its server allows, which most servers do not limit.
    ///
    /// A call beyond that goes to another endpoint, or waits for one to end, as at a server's own limit:
    /// to its deadline, and 20 s without one. A streaming call is in flight until its response ends. Set it
    /// where a server does worse with more calls than it can work on; one that is lower than that leaves
    /// servers idle while calls wait.
    pub fn max_calls_in_flight_per_endpoint(mut self, calls: usize) -> Self {
        self.settings.max_calls_in_flight = Some(calls);
        self
    }

    /// Watches each server's health service, over the connection that its calls take, and calls those
    /// that say they serve; unset, all that are connected.
    ///
    /// See [`HealthCheck`] for what its answers mean.
    ///
    /// ```
    /// use switchboard_resolver::{Channel, HealthCheck};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let channel = Channel::balance(["10.0.0.1:50051", "10.0.0.2:50051"])?
    ///     .health(HealthCheck::of_server())
    ///     .connect_lazy()?;
    /// # channel.close().await;
    /// # Ok(()) }
    /// ```
    pub fn health(mut self, health: HealthCheck) -> Self {
        self.health = Some(health);
        self
    }

    /// Sets how a byte stream is opened to the host and port of a URI; over TCP unless set. Given
    /// up, by being dropped, when the connect timeout has passed or the endpoint is removed.
    ///
    /// ```
    /// use switchboard_resolver::Channel;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let channel = Channel::balance(["greeter:80"])?
    ///     .connector(|uri| async move {
    ///         let (ours, _theirs) = tokio::io::duplex(4096);
    ///         println!("connecting to {uri}");
    ///         Ok(ours)
    ///     })
    ///     .connect_lazy()?;
    /// # channel.close().await;
    /// # Ok(()) }
    /// ```
    pub fn connector<F, Connecting, Io>(mut self, connector: F) -> Self
    where
        F: Fn(Uri) -> Connecting + Send + Sync + 'static,
        Connecting: Future<Output = io::Result<Io>> + Send + 'static,
        Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.connector = Connector::new(connector);
        self
    }

    /// Speaks to every endpoint inside TLS, over whatever byte streams the connector opens; in
    /// plain text unless set.
    ///
    /// Endpoints that are known to speak the other way
    /// ([`Endpoint::with_security`](crate::Endpoint::with_security)) are not dialed.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Makes all the channel's random choices, which endpoint comes first and how backoffs vary,
    /// follow from `seed`.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Makes the channel and begins to connect; calls wait for that.
    ///
    /// # Errors
    ///
    /// A setting that makes no sense, a file of TLS that cannot be read or is not what it should be
    /// (it is read here, blocking, and again at each attempt to connect), or that there is no tokio
    /// runtime here.
    pub fn connect_lazy(self) -> Result<Channel, BuildError> {
        self.validate()?;
        let runtime = Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        let authority = self.name.as_deref().and_then(authority);
        let (views, vacancy) = (Arc::new(Views::new()), Arc::new(Vacancy::default()));
        let methods = Arc::new(Methods::default());
        methods.publish(&self.config);
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..));
        let (state_sender, state) = watch::channel(Arc::new(ChannelState {
            service: self.name.as_deref().map(str::to_owned),
            source: SourceState::Pending,
            reserve: ReserveUse::Unused,
            config: ServiceConfigState {
                policy: self.config.policy().name().to_owned(),
                adopted: None,
                rejected: None,
                empty_groups: Vec::new(),
            },
            endpoints: Vec::new(),
        }));
        let reset_backoff = Arc::new(Notify::new());
        let activity = Arc::new(Activity::default());
        let close = CancellationToken::new();
        let balancer = Balancer::new(
            self.name.clone(),
            self.source,
            Dialing {
                connector: self.connector,
                tls: self.tls,
                connect_timeout: self.connect_timeout,
                backoff: self.backoff,
                settings: self.settings,
                health: self.health.map(|it| it.into_asked(self.name.as_ref())),
                authority,
                vacancy: vacancy.clone(),
            },
            fastrand::Rng::with_seed(seed),
            balancer::Settings {
                idle_timeout: self.idle_timeout,
                reserve: self.reserve,
                ejection: self.ejection,
                slow_start: self.slow_start,
                config: self.config,
                configs: self.configs,
            },
            Published {
                views: views.clone(),
                methods: methods.clone(),
                state: state_sender,
                metrics: EndpointMetrics::new(self.name.as_deref()),
            },
        );
        let signals = Signals {
            reset_backoff: reset_backoff.clone(),
            close: close.clone(),
            activity: activity.clone(),
        };
        let task = TaskTracker::new().spawn_on(balancer.run(signals), &runtime);
        Ok(Channel::new(Shared {
            calls: Calls {
                metrics: CallMetrics::new(self.name.as_deref()),
                service: self.name,
                timeout: self.timeout,
                methods,
                chance: Chance::new(seed),
                views,
                vacancy,
                activity,
            },
            state,
            reset_backoff,
            close,
            balancer: Mutex::new(Some(task)),
        }))
    }

    /// Makes the channel and waits until an endpoint is READY.
    ///
    /// It waits for the source's first answer and then for the first attempts to connect, twice the
    /// connect timeout at most.
    ///
    /// # Errors
    ///
    /// As [`connect_lazy`](Self::connect_lazy); and if the source fails or names no endpoints, if
    /// every endpoint fails, or if the time is over, with the cause.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the channel.
    pub async fn connect(self) -> Result<Channel, ConnectError> {
        let limit = self.connect_timeout.saturating_mul(2);
        let channel = self.connect_lazy()?;
        match channel.ready(limit).await {
            Ok(()) => Ok(channel),
            Err(error) => {
                channel.close().await;
                Err(error.into())
            }
        }
    }
}

/// A service's name as `:authority`. User information is not part of one in HTTP/2.
fn authority(name: &str) -> Option<Authority> {
    Authority::try_from(name)
        .ok()
        .filter(|authority| !authority.as_str().contains('@'))
}

impl fmt::Debug for ChannelBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelBuilder")
            .field("name", &self.name)
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("reserve", &self.reserve)
            .field("ejection", &self.ejection)
            .field("slow_start", &self.slow_start)
            .field("config", &self.config)
            .field("backoff", &self.backoff)
            .field("settings", &self.settings)
            .field("health", &self.health)
            .field("tls", &self.tls)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
