#![doc = include_str!("../README.md")]

pub use switchboard_registry::{
    DiscoverError, Drain, Instance, InstanceError, InstanceId, Instances, Layout, NameError,
    Namespace, Origin, OriginError, PublicationStatus, PublishError, Publisher, Registry,
    RegistryBuilder, RegistryError, Scheme, Serve, ServeError, ServiceName, Snapshot, Staleness,
    Target, TargetError, dial, terminate,
};
pub use switchboard_resolver::{
    Address, AddressError, Backoff, BuildError, CallError, CallErrorKind, Cause, Channel,
    ChannelBuilder, ChannelState, Condition, ConnectError, Endpoint, EndpointState, KeepAlive,
    ResponseBody, ResponseFuture, ServedBy, Source, SourceState, Update, WaitForReady,
};
