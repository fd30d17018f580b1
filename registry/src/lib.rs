//! gRPC services in etcd.
#![allow(dead_code)]
mod instance;
mod layout;
mod lease;
mod name;
mod origin;
mod publication;
mod watch;

pub use instance::{Instance, InstanceError};
pub use layout::Layout;
pub use name::{InstanceId, NameError, Namespace, ServiceName};
pub use origin::{Origin, OriginError, Scheme};
