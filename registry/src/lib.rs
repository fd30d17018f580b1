//! gRPC services in etcd: publish them under a lease, discover and dial them by name.
//!
//! A [`Registry`] is one connection to etcd and one lease. [`publish`](Registry::publish) keeps an
//! [`Instance`] in etcd, [`discover`](Registry::discover) follows those of a service,
//! [`dial`](Registry::dial) makes a channel of them, and [`serve`](Registry::serve) does all that a
//! tonic server needs.
//!
//! ```text
//!   Publisher ── publication ─┐            ┌─ watch ── Instances ── Update ──> Channel
//!   Publisher ── publication ─┼──> etcd ───┤
//!   Session ──── lease ───────┘            └─ watch ── Instances
//! ```
//!
//! What is hard is decided by types without a clock, a task or a connection (`lease`,
//! `publication`, `watch`), and done by short loops that ask them (`session`, `publisher`,
//! `watcher`).

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
mod retry;
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
pub use registry::{Registry, RegistryBuilder, RegistryError, dial};
pub use serve::{Drain, Serve, ServeError};
pub use target::{Target, TargetError};
pub use terminate::terminate;
