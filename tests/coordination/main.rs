//! The recipes of `switchboard::coordination`, on a real etcd and on the embedded one alike.
//!
//! Every test is run against both, as `…::real::…` and `…::embedded::…`, and begins on an etcd that
//! holds nothing. When it ends, no task is left that it has begun.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

mod barrier;
mod changes;
mod conditions;
mod config;
mod deaf;
mod detour;
mod double_barrier;
mod election;
mod election_late;
mod election_observed;
mod lock;
mod lock_late;
mod lock_lost;
mod members;
mod progress;
mod queue;
mod queue_lost;
mod queue_many;
mod rw_lock;
mod server;
mod stm;
mod stm_interrupted;
mod topic;
mod topic_lost;
mod work_queue;

/// Makes two tests of each function: one on a real etcd, one on the embedded one.
macro_rules! on_both {
    ($($test:ident,)*) => {
        mod real {
            $(
                #[test]
                fn $test() {
                    crate::server::run(crate::server::Kind::Real, |etcd| Box::pin(async move { super::$test(etcd).await }));
                }
            )*
        }

        mod embedded {
            $(
                #[test]
                fn $test() {
                    crate::server::run(crate::server::Kind::Embedded, |etcd| Box::pin(async move { super::$test(etcd).await }));
                }
            )*
        }
    };
}
pub(crate) use on_both;
