//! The recipes of `switchboard::coordination` and those of etcd's Go packages in the same lines, at the
//! same time: Go as processes of its own, and etcdctl.
//!
//! Each test runs on a real etcd and on the embedded one, on a server of its own. Where Go or etcdctl
//! cannot be had, its tests are listed as ignored, with the reason; with a Go that cannot build the
//! program they fail.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

mod barrier;
mod double_barrier;
mod election;
mod etcdctl;
mod go;
mod lock;
mod queue;
mod rw_lock;
mod server;

use std::time::Duration;

use futures::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Completion, Trial};
use switchboard_test_support::{Etcdctl, trial};
use tokio::time::timeout;

use self::{
    go::Go,
    server::{Kind, LIMIT, Server},
};

/// A test, and its name.
type Check<Other> = (
    &'static str,
    fn(Server, Other) -> LocalBoxFuture<'static, ()>,
);

macro_rules! checks {
    ($($check:path),* $(,)?) => {
        [$((stringify!($check), |server, other| Box::pin(async move {
            $check(&server, other).await;
        }))),*]
    };
}

const OF_GO: &[Check<Go>] = &checks![
    lock::a_number_that_is_read_and_written_apart_comes_out_right,
    lock::there_is_one_line_whoever_stands_in_it,
    lock::what_is_taken_is_tried_in_vain,
    lock::go_that_is_killed_is_passed_over_after_its_lease,
    lock::a_registry_that_closes_lets_go_in,
    election::leaders_alternate_and_are_seen_by_both,
    election::a_leader_in_go_that_is_killed_is_followed_after_its_lease,
    queue::items_come_in_the_order_in_which_they_were_pushed,
    queue::who_waits_pops_what_the_other_pushes,
    queue::what_many_push_and_many_pop_comes_once_and_in_order,
    queue::what_is_urgent_comes_first_whoever_pushed_it,
    queue::what_many_push_at_one_priority_comes_once_and_in_order,
    barrier::all_wait_for_what_rust_holds,
    barrier::all_wait_for_what_go_holds,
    barrier::what_one_holds_the_other_releases,
    rw_lock::a_writer_waits_for_all_before_it_and_all_behind_wait_for_it,
    rw_lock::who_writes_is_alone,
    rw_lock::a_writer_in_go_that_is_killed_is_passed_over,
    double_barrier::two_of_each_enter_and_leave_together,
    double_barrier::the_last_one_opens_whoever_that_is,
    double_barrier::go_that_is_killed_inside_is_not_waited_for,
];

const OF_ETCDCTL: &[Check<Etcdctl>] = &checks![
    etcdctl::a_lock_of_ours_keeps_it_waiting,
    etcdctl::its_lock_keeps_us_waiting,
    etcdctl::a_leader_of_ours_keeps_it_waiting,
    etcdctl::its_leader_keeps_us_waiting,
];

/// More than any test takes whose waits have limits of their own.
const ALL: Duration = Duration::from_secs(240);

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for kind in [Kind::Real, Kind::Embedded] {
        trials.extend(OF_GO.iter().map(|check| of(kind, check, Go::find)));
        let of_etcdctl = OF_ETCDCTL.iter();
        trials.extend(of_etcdctl.map(|check| of(kind, check, Etcdctl::find)));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// Makes a test of a check with others, if these can be had.
fn of<Other, Finding>(
    kind: Kind,
    &(name, check): &'static Check<Other>,
    find: fn(String) -> Finding,
) -> Trial
where
    Finding: Future<Output = Result<Other, &'static str>> + 'static,
{
    trial(format!("{kind}::{name}"), move || async move {
        let server = Server::start(kind).await;
        match find(server.endpoint().to_owned()).await {
            Ok(other) => {
                let checked = timeout(ALL, check(server, other)).await;
                assert!(checked.is_ok(), "{name} hangs (limit: {ALL:?})");
                Completion::Completed
            }
            Err(reason) => Completion::ignored_with(reason),
        }
    })
}

/// Waits for what is to come at once.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(LIMIT, what).await.expect("in time")
}
