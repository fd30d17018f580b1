//! How a publication is, and why it is not as wanted.

use std::{sync::Arc, time::Instant};

use switchboard_resolver::Cause;

use crate::{InstanceError, LayoutError, ServiceName};

/// How a publication is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum PublicationStatus {
    /// On its way into etcd, or out of it.
    Registering,
    /// In etcd.
    Published {
        /// The lease that it is under.
        lease: i64,
        /// Since when, without a break that we know of.
        since: Instant,
    },
    /// Taken out of etcd, until [`Publisher::resume`](crate::Publisher::resume).
    Paused,
    /// Not in etcd as wanted, and tried again.
    Retrying {
        /// What stands in the way.
        cause: Arc<PublishError>,
    },
    /// A newer publication of the same server has the key. It is put back once that one is gone.
    Superseded,
    /// Out of etcd for good.
    Stopped,
}

/// Why an instance is not published.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The instance has nothing that others can dial.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The registry's layout has no place for the instance.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The instance is of another service than the one it was to take the place of.
    #[error("another service: {given} (expected: {expected})")]
    OtherService {
        /// The service that was given.
        given: ServiceName,
        /// The one that is published.
        expected: ServiceName,
    },
    /// The given id names another server, which is alive. Choose another id, or stop that server.
    #[error("id taken: {key} (expected: an id that no other server has)")]
    IdTaken {
        /// The key in etcd.
        key: String,
    },
    /// etcd does not let us. It is tried again every 10 s, until somebody changes that.
    #[error("etcd refuses to publish {service}")]
    Denied {
        /// The service.
        service: ServiceName,
        /// What etcd says.
        #[source]
        cause: Cause,
    },
    /// etcd cannot be reached, or cannot answer.
    #[error("cannot publish {service} now")]
    Unavailable {
        /// The service.
        service: ServiceName,
        /// What stands in the way.
        #[source]
        cause: Cause,
    },
    /// A newer publication of the same server has the key.
    #[error("{service} was superseded by a newer publication of the same server")]
    Superseded {
        /// The service.
        service: ServiceName,
    },
    /// The publisher was stopped, or its registry closed.
    #[error("{service} was stopped")]
    Stopped {
        /// The service.
        service: ServiceName,
    },
}

impl PublicationStatus {
    /// Returns what keeps the instance from being in etcd and will not pass by waiting alone.
    pub(super) fn refusal(&self, service: &ServiceName) -> Option<PublishError> {
        let service = service.clone();
        match self {
            Self::Superseded => Some(PublishError::Superseded { service }),
            Self::Stopped => Some(PublishError::Stopped { service }),
            Self::Retrying { cause } => match &**cause {
                PublishError::Unavailable { .. } => None,
                refusal => Some(refusal.clone()),
            },
            Self::Registering | Self::Published { .. } | Self::Paused => None,
        }
    }

    /// Returns whether nothing has changed that is worth telling.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Published { lease, .. }, Self::Published { lease: other, .. }) => lease == other,
            (Self::Retrying { cause }, Self::Retrying { cause: other }) => {
                (cause.to_string(), cause.reason()) == (other.to_string(), other.reason())
            }
            (this, other) => std::mem::discriminant(this) == std::mem::discriminant(other),
        }
    }
}

impl PublishError {
    /// Returns what etcd, or the way to it, says.
    pub(super) fn reason(&self) -> Option<String> {
        std::error::Error::source(self).map(ToString::to_string)
    }
}
