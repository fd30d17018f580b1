//! An etcd in memory, and a network in memory, for development and tests.

mod etcd;
mod gate;
mod network;
mod service;
mod shared;
mod store;

pub use etcd::{EmbeddedEtcd, KeyValue};
pub use network::{Io, Link, Listener, Network};
