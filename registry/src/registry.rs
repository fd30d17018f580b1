//! The handle on a registry, and how it is connected.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use switchboard_resolver::{
    self as resolver, Backoff, BuildError, Channel, ConnectError, KeepAlive,
};
use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    DiscoverError, Instance, Instances, Layout, NameError, Namespace, PublishError, Publisher,
    ServiceName, Target, TargetError,
    etcd::Etcd,
    instances,
    session::{Ending, Session},
};

/// A registry of services in etcd. Cheap to clone; the clones share one connection and one lease.
///
/// What was begun with it, publications, discoveries and channels, goes on while any handle on it
/// lives, and ends with [`close`](Self::close).
#[derive(Clone)]
pub struct Registry {
    pub(crate) shared: Arc<Shared>,
}

/// What the handles share.
pub(crate) struct Shared {
    pub(crate) etcd: Etcd,
    pub(crate) runtime: Handle,
    pub(crate) namespace: Namespace,
    pub(crate) layout: Layout,
    pub(crate) ttl: Duration,
    session: OnceLock<Session>,
    pub(crate) ending: Ending,
    /// The session's task and those of all who follow; publishers' tasks are in `ending`.
    pub(crate) tasks: TaskTracker,
    channel: Channel,
}

impl Registry {
    /// Begins a registry in the etcd at `target`: a list of endpoints or an `etcd://` target.
    ///
    /// # Errors
    ///
    /// What is given is not a target, or one that names a service.
    pub fn builder<T>(target: T) -> Result<RegistryBuilder, TargetError>
    where
        T: TryInto<Target>,
        TargetError: From<T::Error>,
    {
        let target = target.try_into()?;
        match target.service() {
            Some(service) => Err(TargetError::Service(service.clone())),
            None => Ok(RegistryBuilder::new(target)),
        }
    }

    /// Connects to the etcd at `target`, with default settings.
    ///
    /// # Errors
    ///
    /// What is given is not a target, or etcd cannot be reached.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection.
    pub async fn connect<T>(target: T) -> Result<Self, RegistryError>
    where
        T: TryInto<Target>,
        TargetError: From<T::Error>,
    {
        Self::builder(target)?.connect().await
    }

    /// Puts an instance into etcd and keeps it there, for as long as the publisher lives. etcd need
    /// not be there yet.
    ///
    /// # Errors
    ///
    /// The instance has nothing that others can dial. Everything else is told by the publisher.
    pub fn publish(&self, instance: Instance) -> Result<Publisher, PublishError> {
        Publisher::start(self.clone(), instance)
    }

    /// Follows the instances of a service; returns when the first snapshot has been read.
    ///
    /// # Errors
    ///
    /// The name is invalid, etcd did not answer within 10 s, or the registry was closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the following.
    pub async fn discover<N>(&self, service: N) -> Result<Instances, DiscoverError>
    where
        N: TryInto<ServiceName, Error: Into<NameError>>,
    {
        Instances::first(self, service.try_into().map_err(Into::into)?).await
    }

    /// Begins a channel to a service, over whatever instances of it live.
    ///
    /// Where there is no server yet, `connect` fails, and so do calls; with `connect_lazy`, calls that
    /// carry [`WaitForReady`](resolver::WaitForReady) wait for one. An invalid name is reported by
    /// `connect`, or by the calls.
    pub fn dial<N>(&self, service: N) -> resolver::ChannelBuilder
    where
        N: TryInto<ServiceName, Error: Into<NameError>>,
    {
        let service = service.try_into().map_err(Into::into);
        let name = service.as_ref().ok().map(ToString::to_string);
        let channel = Channel::builder(instances::updates(self, service));
        match name {
            Some(name) => channel.name(name),
            None => channel,
        }
    }

    /// Ends everything that was begun with this registry: publications are taken out of etcd, then
    /// the lease is revoked. Returns when that is done, or given up where etcd does not answer:
    /// after one TTL, and the requests of 2 s each that were begun meanwhile. Channels that
    /// were dialed keep the endpoints they know.
    ///
    /// # Cancel safety
    ///
    /// Once polled it closes all the same; only the waiting is given up.
    pub async fn close(self) {
        self.shared.end();
        self.shared.ending.writers.wait().await;
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        self.shared.channel.clone().close().await;
    }

    /// Returns whether this is the only handle left.
    pub(crate) fn is_last(&self) -> bool {
        Arc::strong_count(&self.shared) == 1
    }
}

impl Shared {
    /// Returns the session, which starts with the first who needs it.
    pub(crate) fn session(&self) -> &Session {
        self.session.get_or_init(|| {
            Session::start(
                self.etcd.clone(),
                self.ttl,
                self.ending.clone(),
                &self.tasks,
                &self.runtime,
            )
        })
    }

    fn end(&self) {
        self.ending.asked.cancel();
        self.ending.writers.close();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("namespace", &self.shared.namespace)
            .field("etcd", &self.shared.channel.state())
            .finish_non_exhaustive()
    }
}

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
    target: Target,
    namespace: Namespace,
    layout: Layout,
    ttl: Duration,
}

/// The TTL unless set: a server that crashed is in the list for that long at most. It is go-zero's.
const TTL: Duration = Duration::from_secs(10);

/// What etcd raises shorter TTLs to.
const SHORTEST_TTL: Duration = Duration::from_secs(2);

/// What etcd refuses longer TTLs than (`lease/lessor.go`).
const LONGEST_TTL: Duration = Duration::from_secs(9_000_000_000);

/// Why a registry cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// What was given is not a target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A TTL that etcd cannot keep.
    #[error("invalid TTL: {0:?} (expected: whole seconds, from 2 to 9000000000)")]
    Ttl(Duration),
    /// The channel to etcd cannot be made: there is no tokio runtime here.
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
    fn new(target: Target) -> Self {
        Self {
            target,
            namespace: Namespace::default(),
            layout: Layout::default(),
            ttl: TTL,
        }
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

    /// Makes the registry and begins to connect. etcd need not be there.
    ///
    /// # Errors
    ///
    /// A TTL that etcd cannot keep, or that there is no tokio runtime here.
    pub fn connect_lazy(self) -> Result<Registry, RegistryError> {
        self.validate()?;
        let channel = channel(&self.target).connect_lazy()?;
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
    pub async fn connect(self) -> Result<Registry, RegistryError> {
        self.validate()?;
        match channel(&self.target).connect().await {
            Ok(channel) => Ok(self.registry(channel)),
            Err(cause) => Err(RegistryError::Unreachable {
                etcd: self.target.hosts(),
                cause,
            }),
        }
    }

    fn validate(&self) -> Result<(), RegistryError> {
        if !(SHORTEST_TTL..=LONGEST_TTL).contains(&self.ttl) || self.ttl.subsec_nanos() != 0 {
            return Err(RegistryError::Ttl(self.ttl));
        }
        Ok(())
    }

    /// Puts a registry together; there is a runtime, since the channel runs on it.
    fn registry(self, channel: Channel) -> Registry {
        Registry {
            shared: Arc::new(Shared {
                etcd: Etcd::new(channel.clone()),
                runtime: Handle::current(),
                namespace: self.namespace,
                layout: self.layout,
                ttl: self.ttl,
                session: OnceLock::new(),
                ending: Ending {
                    asked: CancellationToken::new(),
                    writers: TaskTracker::new(),
                },
                tasks: TaskTracker::new(),
                channel,
            }),
        }
    }
}

/// The channel to etcd. Each request is bounded where it is made. Pings find a member that is
/// frozen or cut off (etcd closes connections that ping more often than every 5 s), and a member
/// that is back is found within a second.
fn channel(target: &Target) -> resolver::ChannelBuilder {
    Channel::balance(target.etcd().iter().cloned())
        .expect("addresses are addresses")
        .name("etcd")
        .connect_timeout(Duration::from_secs(1))
        .backoff(Backoff {
            base: Duration::from_millis(100),
            cap: Duration::from_secs(1),
            ..Backoff::default()
        })
        .keep_alive(KeepAlive {
            interval: Duration::from_secs(6),
            timeout: Duration::from_secs(3),
            while_idle: false,
        })
}

/// Begins a channel to the service of a target, such as `etcd://h1:2379,h2:2379/greeter`.
///
/// # Errors
///
/// The text is not a target, it names no service, or there is no tokio runtime here.
pub fn dial(target: &str) -> Result<resolver::ChannelBuilder, RegistryError> {
    let parsed: Target = target.parse()?;
    let service = parsed
        .service()
        .cloned()
        .ok_or_else(|| TargetError::NoService(target.to_owned()))?;
    let registry = RegistryBuilder::new(parsed).connect_lazy()?;
    Ok(registry.dial(service))
}
