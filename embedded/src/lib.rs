//! An etcd in memory, and a network in memory, for development and tests.
