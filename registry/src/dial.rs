//! Channels to what a target names.

use std::slice;

use switchboard_resolver::{Address, Channel, ChannelBuilder, Dns};

use crate::{
    Registry, RegistryBuilder, RegistryConfig, RegistryError, ServiceName, Target, TargetError,
    service_configs,
    target::{Choice, PartialPlace, ServiceTarget},
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
            dial_in(RegistryBuilder::at(&target), service, &target.choice)
        }
        Target::Service(ServiceTarget {
            service,
            place,
            choice,
        }) => {
            let config = RegistryConfig::from_env()?;
            let registry = Registry::from_config(config).placed(&place);
            dial_in(registry, service, &choice)
        }
        target => Ok(outside(&target).ok_or_else(|| TargetError::NoService(target.to_string()))?),
    }
}

/// The channel's source keeps the registry alive.
fn dial_in(
    registry: RegistryBuilder,
    service: ServiceName,
    choice: &Choice,
) -> Result<ChannelBuilder, RegistryError> {
    Ok(registry.connect_lazy()?.dial_some(service, choice))
}

/// Begins a channel to servers that are in no etcd; `None` if the target means others.
fn outside(target: &Target) -> Option<ChannelBuilder> {
    let fixed = |addresses: &[Address]| {
        let addresses = addresses.iter().cloned();
        Channel::balance(addresses).expect("addresses are addresses")
    };
    let (channel, choice) = match target {
        Target::Direct(target) => (fixed(target.addresses()), &target.choice),
        Target::Unix(target) => {
            let address = slice::from_ref(target.address());
            (fixed(address), &target.choice)
        }
        Target::Dns(target) => {
            let source = Dns::new(target.name().clone()).expect("a name that can be looked up");
            // What servers are told that they are called, as gRPC has it, and not each its address.
            let channel = Channel::builder(source).name(target.name().to_string());
            (channel, &target.choice)
        }
        Target::Etcd(_) | Target::Service(_) => return None,
    };
    Some(choice.set_up(channel))
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
            Target::Service(ServiceTarget {
                service,
                place,
                choice,
            }) => Ok(self.placed(&place).dial_some(service, &choice)),
            target => outside(&target).ok_or_else(|| TargetError::OtherEtcd(target.to_string())),
        }
    }

    /// Begins a channel to those of a service that a target chooses.
    fn dial_some(&self, service: ServiceName, choice: &Choice) -> ChannelBuilder {
        let channel = choice.set_up(self.dial(service));
        match &choice.config {
            Some(key) => channel.service_configs(service_configs::follow(self, key)),
            None => channel,
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
