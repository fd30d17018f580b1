//! Why a text is no target, or not one that fits.

use switchboard_resolver::{AddressError, ServiceConfigError};

use crate::{LayoutNameError, NameError, ServiceName};

/// A text that is not a [`Target`](crate::Target), or one that does not fit where it was given.
///
/// The text is never repeated as a whole: somebody may have put a password into it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// It is a single word, neither an endpoint nor the spelling of a service.
    #[error(
        "invalid target: {0:?} (expected: host:port for an etcd; etcd:///{word} for a service of that name, which `Registry::dial` takes alone)", word = .0.escape_debug()
    )]
    Word(String),
    /// It has another scheme.
    #[error(
        "invalid scheme: {0:?} (expected: etcd://, etcds://, discovery:///, direct:///, dns:/// or unix:/, or host:port,... alone)"
    )]
    Scheme(String),
    /// It does not have the form that is expected, which is told.
    #[error("invalid target: of another form (expected: {0})")]
    Form(&'static str),
    /// It names a user, and perhaps a password.
    #[error(
        "invalid target: a user before '@' (expected: none, users are for the configuration; '@' in a name is %40)"
    )]
    UserInfo,
    /// There is a fragment.
    #[error("invalid target: a part after '#' (expected: none; '#' in a name is %23)")]
    Fragment,
    /// It names neither an endpoint of etcd nor a service.
    #[error("invalid target: no endpoint (expected: at least one endpoint of etcd, or a service)")]
    NoEndpoint,
    /// A percent sign is not followed by two hex digits.
    #[error("invalid percent-encoding: {0:?} (expected: two hex digits after '%')")]
    Escape(String),
    /// What is percent-encoded is not UTF-8.
    #[error("invalid percent-encoding: not text (expected: UTF-8)")]
    NotUtf8,
    /// A parameter is not known.
    #[error(
        "invalid parameter: {0:?} (expected: layout, namespace, key, policy, version, zone, subset or config)"
    )]
    Parameter(String),
    /// A parameter is there more than once.
    #[error("invalid parameter: {0:?} twice (expected: once)")]
    Repeated(String),
    /// A parameter that says who is called makes no sense.
    #[error("invalid {0}")]
    Choice(#[from] ServiceConfigError),
    /// It names a service, where etcd alone is meant.
    #[error("invalid target: {0} after the endpoints (expected: no service; dial it by name)")]
    Service(ServiceName),
    /// It names no service, where one is needed.
    #[error("invalid target: {0:?} (expected: a service after the endpoints)")]
    NoService(String),
    /// It has no endpoints of etcd, where they are needed.
    #[error("invalid target: {0:?} (expected: endpoints of etcd)")]
    NotEtcd(String),
    /// It has endpoints of etcd, where a registry is at hand.
    #[error("invalid target: {0:?} (expected: no endpoints of etcd, such as etcd:///greeter)")]
    OtherEtcd(String),
    /// One of the endpoints is not an address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The service's name or the namespace is invalid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The layout is not known.
    #[error(transparent)]
    Layout(#[from] LayoutNameError),
}

impl From<std::convert::Infallible> for TargetError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}
