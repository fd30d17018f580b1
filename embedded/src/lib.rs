//! An etcd in memory, and a network in memory, for development and tests.
//!
//! [`EmbeddedEtcd`] speaks etcd's own protocol, on a port or without a socket, so that real clients
//! work on it. [`Network`] carries connections between parties of one process. Both run on the
//! caller's runtime and on tokio's clock: where that is paused, hours pass in no time. Both go wrong
//! on demand.
//!
//! It is for development and tests: one member, nothing on disk, no users. Production is etcd.
//!
//! | | |
//! |---|---|
//! | the etcd as its users hold it, and its faults | `etcd` |
//! | what it answers, decided without a clock, a task or a network | `store` |
//! | etcd's services over the store | `service`; `shared`, which locks it |
//! | what freezes and breaks a server's connections | `gate` |
//! | listeners, parties and links | `network` |
//! | who waits at a connection, in `gate` and in `network` | `wakers` |

mod etcd;
mod gate;
mod network;
#[cfg(test)]
mod paused;
mod service;
mod shared;
mod store;
mod wakers;

pub use etcd::{EmbeddedEtcd, KeyValue};
pub use network::{Io, Link, Listener, Network};
pub use store::Backup;
