//! What switchboard's tests run against: real etcd servers, and the examples as
//! processes of their own.
//!
//! Everything here serves tests, so what goes wrong panics, and says what there was to see: the end
//! of a log, the lines a process wrote, the last state that was polled. What was started ends with
//! the value that owns it, and with the test process, however that ends.

mod binary;
mod certificates;
mod child;
mod cluster;
mod etcd;
mod etcdctl;
mod eventually;
mod example;
mod go;
mod greeter;
mod member;
mod package;
mod ports;
mod process;
mod raw_etcd;
mod raw_watch;
mod relay;
mod release;
mod resident;
mod root;
mod run;
mod target;
mod trial;
mod version;

pub use certificates::{Authority, Certified};
pub use cluster::{Cluster, ClusterSettings};
pub use etcd::Etcd;
pub use etcdctl::Etcdctl;
pub use eventually::eventually;
pub use example::Example;
pub use go::{build_go, build_go_with};
pub use greeter::Greeter;
pub use member::EtcdCertificates;
pub use ports::Ports;
pub use process::{Exit, Process};
pub use raw_etcd::RawEtcd;
pub use raw_watch::{RawWatch, WatchOf};
pub use relay::Relay;
pub use release::Release;
pub use resident::resident;
pub use root::Root;
pub use rustix::process::Signal;
pub use trial::trial;
pub use version::{Change, Version};
