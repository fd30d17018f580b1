//! Why settings make no sense.

use crate::{InvalidAdvertise, LayoutNameError, NameError, TargetError, builder::EXPECTED_TTL};

/// Settings that make no [`RegistryConfig`](crate::RegistryConfig).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It is not said where etcd is.
    #[error("no etcd: nothing set (expected: `endpoints`, or the variable SWITCHBOARD_ETCD)")]
    NoEndpoints,
    /// The endpoints are invalid.
    #[error(transparent)]
    Endpoints(#[from] TargetError),
    /// The namespace is invalid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The layout is not known.
    #[error(transparent)]
    Layout(#[from] LayoutNameError),
    /// A TTL that etcd cannot keep.
    #[error("invalid TTL: {0} (expected: {EXPECTED_TTL})")]
    Ttl(String),
    /// The host to advertise is invalid.
    #[error(transparent)]
    Advertise(#[from] InvalidAdvertise),
    /// A setting is there, and says nothing.
    #[error("{0}: empty (expected: at least one character, or to be left out)")]
    Empty(&'static str),
    /// A setting is of no use without another one.
    #[error("{given}: set without {missing} (expected: both or neither)")]
    Incomplete {
        /// The one that is set.
        given: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// Two settings say the same thing.
    #[error("{one} and {other}: both set (expected: one of them)")]
    Both {
        /// One of them.
        one: &'static str,
        /// The other one.
        other: &'static str,
    },
    /// A password is in the environment, which every process that is started from here sees.
    #[error("SWITCHBOARD_PASSWORD: not read (expected: SWITCHBOARD_PASSWORD_FILE)")]
    PasswordVariable,
}
