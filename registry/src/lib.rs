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
//! What is hard is decided by types without a clock, a task or a connection, and done by short
//! loops that ask them. Where things are:
//!
//! | | |
//! |---|---|
//! | the handle, and its settings | `registry`, `builder`, `config`, `credentials`, `target`, `advertise` |
//! | an instance, and its record | `instance`, `name`, `origin`; `layout` |
//! | publishing | `lease`, done by `session`; `publication`, done by `publisher`, which takes `turns` and asks `key_watcher` |
//! | discovering | `watch`, done by `follower`; `watcher` shows it; `following` shares that; `instances`, `feeder`, `services` |
//! | dialing and serving | `dial`; `serve`, `terminate` |
//! | other keys | `keys`, `tail`, `journal`; `commons` |
//! | requests to etcd | `etcd`; `retry`, `trouble` |
//! | what is counted | `metrics`, which is empty without that feature |

mod advertise;
mod builder;
mod clock;
mod commons;
mod config;
mod credentials;
mod dial;
mod etcd;
mod excerpt;
mod feeder;
mod follower;
mod following;
mod instance;
mod instances;
mod journal;
mod key_watcher;
pub mod keys;
mod layout;
mod lease;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(not(feature = "metrics"))]
#[path = "no_metrics.rs"]
mod metrics;
mod name;
mod origin;
mod publication;
mod publisher;
mod registry;
mod retry;
mod serve;
mod service_configs;
mod services;
mod session;
mod strays;
mod tail;
mod target;
mod terminate;
#[cfg(test)]
mod transitions;
mod trouble;
mod turns;
mod watch;
mod watcher;

pub use advertise::{Advertise, AdvertiseError, InvalidAdvertise};
pub use builder::{RegistryBuilder, RegistryError};
pub use config::{ConfigError, RegistryConfig};
pub use credentials::{Credentials, CredentialsError};
pub use dial::dial;
pub use feeder::Feeder;
pub use instance::{Instance, InstanceError};
pub use instances::{DiscoverError, Instances, Snapshot, Staleness};
pub use layout::{KeyRule, Layout, LayoutError, LayoutNameError, Record, RecordError, ValueRule};
pub use name::{InstanceId, NameError, Namespace, ServiceName};
pub use origin::{Origin, OriginError, Scheme};
pub use publisher::{PublicationStatus, PublishError, Publisher};
pub use registry::Registry;
pub use serve::{Drain, Incoming, Serve, ServeError};
pub use services::ServicesError;
pub use target::{
    DirectTarget, DnsTarget, EtcdTarget, ServiceTarget, Target, TargetError, UnixTarget,
};
pub use terminate::terminate;
