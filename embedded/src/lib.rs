//! An etcd in memory, and a network in memory, for development and tests.

#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the etcd in memory is to stand behind it")
)]
mod gate;
mod network;

pub use network::{Io, Link, Listener, Network};
