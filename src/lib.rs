#![doc = include_str!("../README.md")]

#[cfg(feature = "coordination")]
#[doc(inline)]
pub use switchboard_coordination as coordination;
pub use switchboard_registry::{
    Advertise, AdvertiseError, ConfigError, Credentials, CredentialsError, DirectTarget,
    DiscoverError, DnsTarget, Drain, EtcdTarget, Feeder, Incoming, Instance, InstanceError,
    InstanceId, Instances, InvalidAdvertise, KeyRule, Layout, LayoutError, LayoutNameError,
    NameError, Namespace, Origin, OriginError, PublicationStatus, PublishError, Publisher, Record,
    RecordError, Registry, RegistryBuilder, RegistryConfig, RegistryError, Scheme, Serve,
    ServeError, ServiceName, ServiceTarget, ServicesError, Snapshot, Staleness, Target,
    TargetError, UnixTarget, ValueRule, dial, keys, terminate,
};
pub use switchboard_resolver::{
    Address, AddressError, Backoff, Breaker, BuildError, CallError, CallErrorKind, CallInfo,
    Candidate, Cause, Channel, ChannelBuilder, ChannelState, Condition, ConnectError, Dns,
    DnsError, Ejection, EmptyPolicy, Endpoint, EndpointChange, EndpointChanges, EndpointKey,
    EndpointState, FailureCodes, FailureRate, FileError, Filter, Fixed, HashKey, HealthCheck,
    KeepAlive, LeastRequest, Load, MethodConfig, OrElse, P2cEwma, PickError, Picker, Policy,
    ReservePolicy, ReserveUse, ResponseBody, ResponseFuture, RetryPolicy, RingHash, RoundRobin,
    Security, ServedBy, ServiceConfig, ServiceConfigError, ServiceConfigState, SlowStart, Source,
    SourceState, Split, SuccessRate, Update, WaitForReady, WatchedFile, WeightedRoundRobin,
    ZonePreference,
};
#[cfg(feature = "tls")]
pub use switchboard_resolver::{Tls, TlsError};

/// Its block of Rust is compiled, too.
#[cfg(doctest)]
#[doc = include_str!("../docs/observability.md")]
mod observability_page {}

/// Its blocks are compiled, too.
#[cfg(doctest)]
#[doc = include_str!("../docs/policies.md")]
mod policies_page {}

/// Its blocks are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../docs/go-zero.md")]
mod go_zero_page {}

/// Its blocks are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../docs/kratos.md")]
mod kratos_page {}

/// Its blocks are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../docs/balance-channel.md")]
mod balance_channel_page {}

/// Its blocks are compiled, as those of README are.
#[cfg(all(doctest, feature = "coordination"))]
#[doc = include_str!("../docs/coordination.md")]
mod coordination_page {}
