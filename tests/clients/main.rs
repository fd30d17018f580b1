//! Clients that others wrote, on the embedded etcd and on a real one.
//!
//! Each test runs on both, against a server of its own: that the real one passes shows that the
//! test is right. Where a client cannot be had, its tests are listed as ignored, with the reason.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

mod etcdctl;
mod go;
mod server;

use libtest_mimic::Arguments;

use self::server::Kind;

fn main() {
    let arguments = Arguments::from_args();
    let kinds = [Kind::Embedded, Kind::Real];
    let of_go = kinds.into_iter().flat_map(go::trials);
    let of_etcdctl = kinds.into_iter().flat_map(etcdctl::trials);
    // Those that take longest come first.
    let trials = of_go.chain(of_etcdctl).collect();
    libtest_mimic::run(&arguments, trials).exit();
}
