//! etcd's own Go packages: its client, and what they build on it.
//!
//! The checks are a Go program, in `tests/clients/go`, which gets its modules from a module proxy.
//! Without Go the tests are ignored; with a Go that cannot build the program they fail.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use libtest_mimic::{Completion, Trial};
use switchboard_test_support::{Process, build_go, trial};
use tokio::sync::OnceCell;

use crate::server::{Kind, Server};

/// What the program is to have checked, in order; a check that is not there any more has not passed.
const CHECKS: [&str; 28] = [
    "a_barrier_holds_until_it_is_released",
    "a_compacted_revision_is_gone",
    "a_double_barrier_lets_all_in_and_all_out",
    "a_large_revision_comes_in_fragments",
    "a_lease_is_kept_alive_over_its_time",
    "a_lease_that_is_not_kept_expires",
    "a_leased_cache_is_coherent",
    "a_lock_is_tried_and_told_of_as_taken",
    "a_mirror_follows",
    "a_mutex_has_one_owner",
    "a_namespace_hides_its_prefix",
    "a_priority_queue_gives_the_first_first",
    "a_queue_gives_everything_once_and_in_order",
    "a_range_has_all_its_options",
    "a_session_ends_with_its_lease",
    "a_thousand_watches_share_a_stream",
    "a_watch_leaves_out_what_it_is_told_to",
    "a_watch_of_what_is_to_come_waits_for_it",
    "a_watch_tells_all_in_order_from_the_past_on",
    "an_election_has_one_leader_after_the_other",
    "endpoints_are_published_and_watched",
    "errors_are_known_by_their_types",
    "members_are_synchronized_with",
    "progress_is_told_when_it_is_asked_for",
    "readers_share_and_a_writer_does_not",
    "reads_are_in_order",
    "transactions_nest",
    "transfers_in_software_transactions_lose_nothing",
];

/// The program's own limits are shorter.
const RUN: Duration = Duration::from_secs(300);

/// Returns the test, for one kind of server.
pub(crate) fn trials(kind: Kind) -> impl Iterator<Item = Trial> {
    let name = format!("{kind}::go::all_packages_of_etcd_work");
    let trial = trial(name, move || async move {
        match program().await {
            Ok(program) => {
                pass_all(program, &Server::start(kind).await).await;
                Completion::Completed
            }
            Err(reason) => Completion::ignored_with(*reason),
        }
    });
    std::iter::once(trial)
}

async fn pass_all(program: &Path, server: &Server) {
    let mut command = std::process::Command::new(program);
    command.arg(server.endpoint());
    let exit = Process::spawn(command).wait(RUN).await;
    let mut passed: Vec<_> = exit
        .lines
        .iter()
        .filter_map(|line| line.strip_prefix("ok "))
        .collect();
    passed.sort_unstable();
    let said = exit.lines.join("\n");
    assert!(exit.status.success(), "{said}\n{}", exit.stderr);
    assert_eq!(passed, CHECKS, "{said}");
}

/// Builds the program, once.
async fn program() -> &'static Result<PathBuf, &'static str> {
    static PROGRAM: OnceCell<Result<PathBuf, &str>> = OnceCell::const_new();
    PROGRAM.get_or_init(|| build_go("tests/clients/go")).await
}
