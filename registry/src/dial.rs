//! Channels to what a target names.

use std::slice;

use switchboard_resolver::{Address, Channel, ChannelBuilder, Dns};

use crate::{
    Registry, RegistryBuilder, RegistryConfig, RegistryError, ServiceName, Target, TargetError,
    target::{PartialPlace, ServiceTarget},
};

/// Begins a channel to what a target names, such as `etcd://h1:2379,h2:2379/greeter`; see
/// [`Target`] for its spellings.
///
/// A target without endpoints of etcd, such as `etcd:///greeter`, is looked for in the default
/// registry, that of [`RegistryConfig::from_env`]. Each channel has a registry of its own, which
/// lives as long as the channel: who dials often makes a [`Registry`] once, and uses its
/// [`dial_target`](Registry::dial_target).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let channel = switchboard_registry::dial("direct:///10.0.0.7:50051,10.0.0.8:50051")?;
/// let channel = channel.connect_lazy()?;
/// # channel.close().await;
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// What is given is not a target, it names nothing to dial, the default registry is not configured,
/// or there is no tokio runtime here.
pub fn dial<T>(target: T) -> Result<ChannelBuilder, RegistryError>
where
    T: TryInto<Target>,
    TargetError: From<T::Error>,
{
    match target.try_into().map_err(TargetError::from)? {
        Target::Etcd(target) => {
            let service = target.service.clone();
            let service = service.ok_or_else(|| TargetError::NoService(target.to_string()))?;
            dial_in(RegistryBuilder::at(&target), service)
        }
        Target::Service(ServiceTarget { service, place }) => {
            let config = RegistryConfig::from_env()?;
            dial_in(Registry::from_config(config).placed(&place), service)
        }
        target => Ok(outside(&target).ok_or_else(|| TargetError::NoService(target.to_string()))?),
    }
}

/// The channel's source keeps the registry alive.
fn dial_in(
    registry: RegistryBuilder,
    service: ServiceName,
) -> Result<ChannelBuilder, RegistryError> {
    Ok(registry.connect_lazy()?.dial(service))
}

/// Begins a channel to servers that are in no etcd; `None` if the target means others.
fn outside(target: &Target) -> Option<ChannelBuilder> {
    let fixed = |addresses: &[Address]| {
        let addresses = addresses.iter().cloned();
        Channel::balance(addresses).expect("addresses are addresses")
    };
    match target {
        Target::Direct(target) => Some(fixed(target.addresses())),
        Target::Unix(target) => Some(fixed(slice::from_ref(target.address()))),
        Target::Dns(target) => {
            let source = Dns::new(target.name().clone()).expect("a name that can be looked up");
            // What servers are told that they are called, as gRPC has it, and not each its address.
            Some(Channel::builder(source).name(target.name().to_string()))
        }
        Target::Etcd(_) | Target::Service(_) => None,
    }
}

impl Registry {
    /// Begins a channel to what a target names, a service of this registry: `etcd:///greeter`,
    /// `discovery:///greeter`. Targets without any etcd, such as `direct:///h1:50051` and
    /// `dns:///greeter.example:50051`, are dialed as well.
    ///
    /// It is for targets that come from a configuration; in code there is [`dial`](Self::dial).
    ///
    /// ```
    /// use switchboard_registry::Registry;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let registry = Registry::builder("10.0.0.1:2379")?.connect_lazy()?;
    /// let channel = registry.dial_target("etcd:///greeter")?.connect_lazy()?;
    /// # channel.close().await;
    /// # registry.close().await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// What is given is not a target, or one that names an etcd of its own.
    pub fn dial_target<T>(&self, target: T) -> Result<ChannelBuilder, TargetError>
    where
        T: TryInto<Target>,
        TargetError: From<T::Error>,
    {
        match target.try_into()? {
            Target::Service(ServiceTarget { service, place }) => {
                Ok(self.placed(&place).dial(service))
            }
            target => outside(&target).ok_or_else(|| TargetError::OtherEtcd(target.to_string())),
        }
    }

    /// Returns the handle that looks where a target says.
    fn placed(&self, place: &PartialPlace) -> Self {
        let mut registry = self.clone();
        if let Some(layout) = place.layout {
            registry = registry.with_layout(layout);
        }
        match &place.namespace {
            Some(namespace) => registry.with_namespace(namespace.clone()),
            None => registry,
        }
    }
}
