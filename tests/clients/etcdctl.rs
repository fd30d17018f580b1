//! etcdctl, command by command.

mod coordination;
mod guides;
mod keys;
mod leases;
mod members;
mod restarts;
mod watches;

use futures::future::LocalBoxFuture;
use libtest_mimic::{Completion, Trial};
use switchboard_test_support::{Etcdctl, trial};

use crate::server::{Kind, Server};

/// A test, and its name.
type Check = (
    &'static str,
    fn(Server, Etcdctl) -> LocalBoxFuture<'static, ()>,
);

/// Those that need to know nothing of the server but that it is there.
macro_rules! checks {
    ($($check:path),* $(,)?) => {
        [$((stringify!($check), |server, etcdctl| Box::pin(async move {
            $check(etcdctl).await;
            drop(server);
        }))),*]
    };
}

const CHECKS: [Check; 21] = checks![
    keys::what_is_put_is_got,
    keys::a_range_is_sorted_limited_and_counted,
    keys::old_revisions_are_read_until_they_are_compacted,
    keys::what_is_deleted_is_told,
    keys::a_transaction_goes_one_way_or_the_other,
    watches::what_was_put_before_is_replayed,
    watches::a_prefix_is_watched_with_what_was_there_before,
    watches::a_range_is_watched,
    watches::a_compacted_revision_is_not_watched,
    leases::a_lease_is_granted_listed_told_of_and_revoked,
    leases::a_key_goes_with_its_lease,
    leases::a_lease_that_is_kept_alive_outlives_its_time,
    leases::a_key_may_keep_its_lease_or_lose_it,
    coordination::a_lock_has_one_owner_at_a_time,
    coordination::a_lock_of_one_who_vanished_is_had_when_the_lease_ends,
    coordination::a_command_is_run_under_a_lock,
    coordination::a_leader_is_followed_by_the_next,
    members::the_server_is_healthy,
    members::the_one_member_leads,
    guides::a_server_in_a_go_zero_fleet_has_the_key_that_is_shown,
    guides::a_server_in_a_kratos_fleet_has_the_key_that_is_shown,
];

const RESTARTS: [Check; 3] = [
    ("restarts::a_watch_goes_on", |server, etcdctl| {
        Box::pin(restarts::a_watch_goes_on(server, etcdctl))
    }),
    ("restarts::a_lease_is_kept_alive", |server, etcdctl| {
        Box::pin(restarts::a_lease_is_kept_alive(server, etcdctl))
    }),
    ("restarts::a_lock_is_held", |server, etcdctl| {
        Box::pin(restarts::a_lock_is_held(server, etcdctl))
    }),
];

/// Returns the tests, for one kind of server.
pub(crate) fn trials(kind: Kind) -> impl Iterator<Item = Trial> {
    let all = CHECKS.into_iter().chain(RESTARTS);
    all.map(move |(name, check)| {
        trial(format!("{kind}::etcdctl::{name}"), move || async move {
            let server = Server::start(kind).await;
            match Etcdctl::find(server.endpoint()).await {
                Ok(etcdctl) => {
                    check(server, etcdctl).await;
                    Completion::Completed
                }
                Err(reason) => Completion::ignored_with(reason),
            }
        })
    })
}
