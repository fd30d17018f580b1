//! Why a layout has no place for an instance.

use super::Layout;
use crate::{InstanceId, Namespace, ServiceName};

/// Why an instance cannot be published in a layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// The namespace is read by kratos clients, which fail a service's whole list on one value that
    /// is not theirs.
    #[error(
        "invalid namespace for layout {layout}: {namespace} (expected: one that is not under /microservices, where kratos clients read)"
    )]
    OfKratos {
        /// The layout.
        layout: Layout,
        /// The namespace.
        namespace: Namespace,
    },
    /// The id that was chosen does not fit.
    #[error("invalid instance id: {0:?} (expected: an integer from 1 to 9223372036854775807)")]
    Id(InstanceId),
    /// The layout holds one address, that of gRPC, and there is none.
    #[error("no gRPC endpoint: {0} (expected: at least one)")]
    NoGrpc(ServiceName),
    /// All services lie under one prefix, and the value does not tell whose it is.
    #[error(
        "invalid layout: {0} (expected: a value that names its service, under a prefix that all share)"
    )]
    NoName(Layout),
}
