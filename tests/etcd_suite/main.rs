//! What etcd does, request by request, asked of a real etcd and of the embedded one alike.
//!
//! Every test is run against both, as `…::real::…` and `…::embedded::…`, and begins on an etcd that
//! holds nothing. The real one is whatever `tests/support` finds: 3.4.23 where that is Debian's
//! stable one; `SWITCHBOARD_TEST_ETCD` names another. What later versions do otherwise is listed in
//! `tests/support/src/version.rs`, and a test that meets such a difference expects what the server's
//! version does. The embedded one does as the last.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

mod compact;
mod delete;
mod lease;
mod limits;
mod member;
mod put;
mod range;
mod requests;
mod servers;
mod sorted;
mod txn;
mod txn_refused;
mod watch;
mod watch_past;
mod watch_stream;

/// Makes two tests of each function: one on a real etcd, one on the embedded one.
macro_rules! on_both {
    ($($test:ident,)*) => {
        mod real {
            $(
                #[test]
                fn $test() {
                    let etcd = Box::pin(crate::servers::real());
                    crate::servers::run(etcd, |etcd| Box::pin(super::$test(etcd)));
                }
            )*
        }

        mod embedded {
            $(
                #[test]
                fn $test() {
                    let etcd = Box::pin(crate::servers::embedded());
                    crate::servers::run(etcd, |etcd| Box::pin(super::$test(etcd)));
                }
            )*
        }
    };
}
pub(crate) use on_both;
