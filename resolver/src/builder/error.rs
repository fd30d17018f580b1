//! Why a channel was not made, or did not connect.

use std::{fmt, time::Duration};

use crate::{CallError, ServiceConfigError};

/// Why a channel was not made.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A setting makes no sense.
    #[error("{setting}: {value} (expected: {expected})")]
    Invalid {
        /// Which setting.
        setting: &'static str,
        /// What it was set to.
        value: String,
        /// What makes sense.
        expected: &'static str,
    },
    /// How endpoints are chosen makes no sense.
    #[error(transparent)]
    ServiceConfig(#[from] ServiceConfigError),
    /// TLS cannot be used as it is set.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] crate::TlsError),
    /// A channel's tasks need a tokio runtime, and there is none here.
    #[error(
        "no tokio runtime here (expected: to be called from a task or within `Runtime::enter`)"
    )]
    NoRuntime,
}

impl BuildError {
    /// Refuses a setting that is not valid.
    pub(crate) fn check(
        is_valid: bool,
        setting: &'static str,
        value: &dyn fmt::Debug,
        expected: &'static str,
    ) -> Result<(), Self> {
        if is_valid {
            return Ok(());
        }
        Err(Self::Invalid {
            setting,
            value: format!("{value:?}"),
            expected,
        })
    }

    /// Refuses no time at all.
    pub(crate) fn check_positive(setting: &'static str, time: Duration) -> Result<(), Self> {
        Self::check(!time.is_zero(), setting, &time, "more than zero")
    }

    /// Refuses what is no share of a whole.
    pub(crate) fn check_share(setting: &'static str, share: f64) -> Result<(), Self> {
        let is_share = (0.0..=1.0).contains(&share);
        Self::check(is_share, setting, &share, "from 0 to 1")
    }
}

/// Why a channel did not connect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The channel was not made.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// No endpoint became READY. The message says why, and nothing is left for a source.
    #[error("{0}")]
    Unavailable(CallError),
}

impl From<CallError> for ConnectError {
    fn from(error: CallError) -> Self {
        Self::Unavailable(error)
    }
}
