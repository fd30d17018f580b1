//! gRPC services in etcd: publish them under a lease, discover and dial them by name.

mod clock;
mod etcd;
mod instance;
mod instances;
mod layout;
mod lease;
mod name;
mod origin;
mod publication;
mod publisher;
mod registry;
mod serve;
mod session;
mod target;
mod terminate;
mod watch;
mod watcher;

pub use instance::{Instance, InstanceError};
pub use instances::{DiscoverError, Instances, Snapshot, Staleness};
pub use layout::Layout;
pub use name::{InstanceId, NameError, Namespace, ServiceName};
pub use origin::{Origin, OriginError, Scheme};
pub use publisher::{PublicationStatus, PublishError, Publisher};
pub use registry::{Builder, Registry, RegistryError, dial};
pub use serve::{Drain, Serve, ServeError};
pub use target::{Target, TargetError};
pub use terminate::terminate;
