//! The handle on a registry.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::Stream;
use switchboard_resolver::{self as resolver, Address, Channel};
use tokio::{runtime::Handle, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    AdvertiseError, DiscoverError, Instance, Instances, Layout, NameError, Namespace, PublishError,
    Publisher, RegistryBuilder, RegistryConfig, RegistryError, ServiceName, ServicesError, Target,
    TargetError,
    advertise::{Advertised, Machine},
    commons::Commons,
    etcd::Etcd,
    following::Followings,
    instances,
    key_watcher::KeyWatcher,
    keys::{KeyPath, Keys},
    layout::Place,
    lease::Standing,
    service_configs, services,
    session::{Ending, Session},
    strays::Strays,
    turns::Turns,
};

/// How many reads and writes of publications are under way at a time. With many more, a process of
/// thousands of them that loses its lease would keep an etcd that has just come up from everybody
/// else; with a few, they would be back late.
const AT_ONCE: usize = 32;

/// How long whoever holds a call to etcd has to let go of it when the registry closes.
const PARTING: Duration = Duration::from_secs(1);

/// A registry of services in etcd. Cheap to clone; the clones share one connection and one lease.
///
/// What was begun with it, publications, discoveries and channels, goes on while any handle on it
/// lives, and ends with [`close`](Self::close).
#[derive(Clone)]
pub struct Registry {
    pub(crate) shared: Arc<Shared>,
    /// Where the records lie that are written and read through this handle.
    pub(crate) place: Arc<Place>,
}

/// What the handles share.
pub(crate) struct Shared {
    pub(crate) etcd: Etcd,
    pub(crate) runtime: Handle,
    pub(crate) ttl: Duration,
    pub(crate) zone: Option<String>,
    advertised: Advertised,
    session: OnceLock<Session>,
    key_watcher: OnceLock<KeyWatcher>,
    strays: OnceLock<Strays>,
    pub(crate) turns: Turns,
    pub(crate) commons: Commons,
    /// How many publications may be at etcd at a time.
    pub(crate) gate: Arc<Semaphore>,
    pub(crate) ending: Ending,
    pub(crate) followings: Followings,
    /// The session's task and those of all who follow; publishers' tasks are in `ending`.
    pub(crate) tasks: TaskTracker,
    channel: Channel,
}

impl Registry {
    /// Begins a registry in the etcd at `target`: a list of endpoints or an `etcd://` target,
    /// perhaps with a namespace and a layout.
    ///
    /// # Errors
    ///
    /// What is given is not a target, one that names a service, or one without endpoints of etcd.
    pub fn builder<T>(target: T) -> Result<RegistryBuilder, TargetError>
    where
        T: TryInto<Target>,
        TargetError: From<T::Error>,
    {
        let target = match target.try_into()? {
            Target::Etcd(target) => target,
            target => return Err(TargetError::NotEtcd(target.to_string())),
        };
        match &target.service {
            Some(service) => Err(TargetError::Service(service.clone())),
            None => Ok(RegistryBuilder::at(&target)),
        }
    }

    /// Begins the registry that a configuration tells of.
    ///
    /// ```
    /// use switchboard_registry::{Registry, RegistryConfig};
    ///
    /// async fn connect() -> Result<Registry, Box<dyn std::error::Error>> {
    ///     Ok(Registry::from_config(RegistryConfig::from_env()?).connect().await?)
    /// }
    /// ```
    pub fn from_config(config: RegistryConfig) -> RegistryBuilder {
        config.into()
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

    /// Returns a handle on the same registry that writes in another layout, and looks where that
    /// layout has its keys. It shares the connection and the lease; one instance may be published
    /// through several.
    pub fn with_layout(&self, layout: Layout) -> Self {
        self.at(Place {
            layout,
            namespace: self.place.namespace.clone(),
        })
    }

    /// Returns a handle on the same registry that uses another part of etcd's key space. It shares
    /// the connection and the lease.
    pub fn with_namespace(&self, namespace: Namespace) -> Self {
        self.at(Place {
            layout: self.place.layout,
            namespace,
        })
    }

    fn at(&self, place: Place) -> Self {
        Self {
            shared: self.shared.clone(),
            place: Arc::new(place),
        }
    }

    /// Puts an instance into etcd and keeps it there, for as long as the publisher lives. etcd need
    /// not be there yet.
    ///
    /// # Errors
    ///
    /// The instance has nothing that others can dial, or the layout has no place for it: nothing
    /// but kratos' values is published under `/microservices`. Everything else is told by the
    /// publisher.
    pub fn publish(&self, instance: Instance) -> Result<Publisher, PublishError> {
        Publisher::start(self.clone(), instance)
    }

    /// Follows the instances of a service; returns when the first snapshot has been read. All who
    /// follow or dial a service share one watch, and find its snapshot at hand.
    ///
    /// # Errors
    ///
    /// The name is invalid, etcd refuses or did not answer within 10 s, or the registry was closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the following, unless others share it.
    pub async fn discover<N>(&self, service: N) -> Result<Instances, DiscoverError>
    where
        N: TryInto<ServiceName, Error: Into<NameError>>,
    {
        Instances::first(self, service.try_into().map_err(Into::into)?).await
    }

    /// Lists the services that have records, in order, each once, whether or not there is anything
    /// to dial.
    ///
    /// # Errors
    ///
    /// The layout lies at the root, where there is no telling what is a service; etcd refuses, or did
    /// not answer within 10 s.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it changes nothing.
    pub async fn services(&self) -> Result<Vec<ServiceName>, ServicesError> {
        services::list(self).await
    }

    /// Returns the zone that this process runs in, if it was told
    /// ([`RegistryBuilder::zone`](crate::RegistryBuilder::zone), `SWITCHBOARD_ZONE`): what it publishes is in
    /// it, and so may be those that it prefers to call.
    ///
    /// ```
    /// use switchboard_registry::Registry;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let registry = Registry::builder("10.0.0.1:2379")?.zone("a").connect_lazy()?;
    /// let mut channel = registry.dial("greeter");
    /// if let Some(zone) = registry.zone() {
    ///     channel = channel.prefer_zone(zone);
    /// }
    /// let channel = channel.connect_lazy()?;
    /// # channel.close().await;
    /// # registry.close().await;
    /// # Ok(()) }
    /// ```
    pub fn zone(&self) -> Option<&str> {
        self.shared.zone.as_deref()
    }

    /// Returns etcd's keys, over the same connection: what recipes are made of.
    pub fn keys(&self) -> Keys {
        Keys::new(self)
    }

    /// Follows a key that holds a channel's configuration, gRPC's service config in JSON, for
    /// [`ChannelBuilder::service_configs`](resolver::ChannelBuilder::service_configs): who changes it in
    /// etcd changes all channels that follow it while they run. While there is no such key, and until etcd
    /// is heard, a channel is as it was built.
    ///
    /// ```
    /// use switchboard_registry::Registry;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let etcd = switchboard_embedded::EmbeddedEtcd::start();
    /// # let registry = Registry::builder("etcd:2379")?.connector(etcd.connector()).connect_lazy()?;
    /// let configs = registry.service_configs("/switchboard/service-configs/greeter")?;
    /// let channel = registry.dial("greeter").service_configs(configs).connect_lazy()?;
    ///
    /// // etcdctl put /switchboard/service-configs/greeter '{"loadBalancingConfig": [{"fastest": {}}]}'
    /// # let text = r#"{"loadBalancingConfig": [{"fastest": {}}]}"#;
    /// # let put = switchboard_registry::keys::Operation::put("/switchboard/service-configs/greeter", text, None);
    /// # registry.keys().commit(switchboard_registry::keys::Transaction::new().then(put)).await?;
    /// let mut state = channel.watch_state();
    /// let state = state.wait_for(|state| state.config.rejected.is_some()).await?;
    /// let rejected = state.config.rejected.as_deref().unwrap_or_default();
    /// assert!(rejected.starts_with("policy: fastest (expected: one of round_robin"), "{rejected}");
    /// # drop(state);
    /// # channel.close().await;
    /// # registry.close().await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// What is given is not a key, or lies in `/microservices`, where clients of kratos fail on what is
    /// not a server.
    pub fn service_configs<K>(
        &self,
        key: K,
    ) -> Result<impl Stream<Item = Option<String>> + Send + use<K>, NameError>
    where
        K: TryInto<KeyPath, Error: Into<NameError>>,
    {
        let key = key.try_into().map_err(Into::into)?.outside_kratos()?;
        Ok(service_configs::follow(self, &key))
    }

    /// Begins a channel to a service, over whatever instances of it live.
    ///
    /// Where there is no server yet, `connect` fails, and so do calls; with `connect_lazy`, calls that
    /// carry [`WaitForReady`](resolver::WaitForReady) wait for one. An invalid name is reported by
    /// `connect`, or by the calls.
    ///
    /// With TLS set it dials what is published as `grpcs://` and nothing else, and without it what
    /// is published as `grpc://`.
    ///
    /// Servers that [`serve`](Self::serve) runs tell the health of the server as a whole, which is
    /// [`HealthCheck::of_server`](resolver::HealthCheck::of_server). Where there may be nothing in etcd, or
    /// no etcd, another source stands in:
    ///
    /// ```
    /// use switchboard_registry::Registry;
    /// use switchboard_resolver::Fixed;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let etcd = switchboard_embedded::EmbeddedEtcd::start();
    /// # let registry = Registry::builder("etcd:2379")?.connector(etcd.connector()).connect_lazy()?;
    /// let known = Fixed::new(["10.0.0.7:50051", "10.0.0.8:50051"])?;
    /// let channel = registry.dial("greeter").or_else(known).connect_lazy()?;
    /// channel.watch_state().wait_for(|state| state.endpoints.len() == 2).await?;
    /// # channel.close().await;
    /// # registry.close().await;
    /// # Ok(()) }
    /// ```
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

    /// Returns the address that others dial where a server listens on `bound`.
    ///
    /// The one that was [given](RegistryBuilder::advertise) counts before all. A specific address
    /// is returned as it is. For `0.0.0.0` and `[::]` it is `$POD_IP`, else the address from which
    /// this machine reaches etcd, else that of the first network interface that is up. A loopback
    /// is returned only if it was given, or if etcd is on loopback too; link-local addresses never,
    /// unless given.
    ///
    /// Nothing is sent to etcd; where its endpoints are names, they are resolved, for 2 s at most.
    ///
    /// ```
    /// use switchboard_registry::{Instance, Registry};
    /// use tokio::net::TcpListener;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let registry = Registry::builder("127.0.0.1:2379")?
    ///     .advertise("10.0.0.7".parse()?)
    ///     .connect_lazy()?;
    /// let listener = TcpListener::bind("0.0.0.0:0").await?;
    /// let address = registry.advertised(listener.local_addr()?).await?;
    /// let instance = Instance::new("greeter", address)?;
    /// # assert_eq!(instance.origins()[0].address().to_string(), format!("10.0.0.7:{}", listener.local_addr()?.port()));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// There is no address that others can dial, or `$POD_IP` is not one.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it changes nothing.
    pub async fn advertised(&self, bound: SocketAddr) -> Result<Address, AdvertiseError> {
        let advertised = &self.shared.advertised;
        match advertised.by_setting(bound)? {
            Some(address) => Ok(address),
            None => {
                let machine = Machine::look(advertised.etcd()).await;
                advertised.by_machine(bound, &machine)
            }
        }
    }

    /// Ends everything that was begun with this registry: publications are taken out of etcd, then
    /// the lease is revoked. Returns when that is done, or given up where etcd does not answer:
    /// after one TTL, and the requests of 2 s each that were begun meanwhile. What tails
    /// [keys](Self::keys) and is not asked for the next put is not waited for longer than a second. Channels that
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
        self.shared.etcd.close().await;
        // Only those who tail keys themselves still hold a call, and one who does not ask for the next
        // put does not hear of the end before.
        let closed = self.shared.channel.clone().close();
        let _ = tokio::time::timeout(PARTING, closed).await;
    }

    /// Returns whether this is the only handle left.
    pub(crate) fn is_last(&self) -> bool {
        Arc::strong_count(&self.shared) == 1
    }
}

impl Shared {
    /// Puts together what is shared; it runs where it is made.
    pub(crate) fn new(
        etcd: Etcd,
        channel: Channel,
        ttl: Duration,
        zone: Option<String>,
        advertised: Advertised,
    ) -> Self {
        Self {
            etcd,
            runtime: Handle::current(),
            ttl,
            zone,
            advertised,
            session: OnceLock::new(),
            key_watcher: OnceLock::new(),
            strays: OnceLock::new(),
            turns: Turns::default(),
            commons: Commons::default(),
            gate: Arc::new(Semaphore::new(AT_ONCE)),
            ending: Ending {
                asked: CancellationToken::new(),
                writers: TaskTracker::new(),
            },
            followings: Followings::default(),
            tasks: TaskTracker::new(),
            channel,
        }
    }

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

    /// Returns what watches single keys, which starts with the first who needs it.
    pub(crate) fn key_watcher(&self) -> &KeyWatcher {
        self.key_watcher.get_or_init(|| {
            let stop = self.ending.asked.clone();
            KeyWatcher::start(self.etcd.clone(), stop, &self.tasks, &self.runtime)
        })
    }

    /// Returns what looks after keys that may yet come, which starts with the first who needs it.
    pub(crate) fn strays(&self) -> &Strays {
        self.strays.get_or_init(|| {
            Strays::start(
                self.etcd.clone(),
                self.turns.clone(),
                self.session().state(),
                self.ending.asked.clone(),
                &self.tasks,
                &self.runtime,
            )
        })
    }

    /// Returns whether etcd has granted a lease that it may still hold.
    pub(crate) fn has_lease(&self) -> bool {
        self.session.get().is_some_and(|session| {
            let standing = session.state().borrow().standing;
            matches!(standing, Standing::Held { .. } | Standing::Expired { .. })
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
            .field("namespace", &self.place.namespace)
            .field("layout", &self.place.layout)
            .field("etcd", &self.shared.channel.state())
            .finish_non_exhaustive()
    }
}
