//! The channel against servers in Go, and servers of ours against clients in Go, in processes of their
//! own: grpc-go alone, and fleets of go-zero's, of kratos' and of etcd's own naming package.
//!
//! Without Go each test is listed as ignored, with the reason; with a Go that cannot build the
//! programs they fail.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod fleet;
mod go;
mod go_calls_ours;
mod our_server;
mod ours_calls_go;
mod status;

use futures::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Completion, Trial};
use switchboard_test_support::trial;
use tokio::time::timeout;

use self::{
    fleet::{Fleet, Framework, Peers},
    go::{Go, LIMIT},
};

/// A test, and its name.
type Check<Given> = (&'static str, fn(Given) -> LocalBoxFuture<'static, ()>);

macro_rules! checks {
    ($($check:path),* $(,)?) => {
        [$((stringify!($check), |given| Box::pin($check(given)))),*]
    };
}

const OF_GRPC_GO: &[Check<Go>] = &checks![
    // Those that take longest come first.
    ours_calls_go::pings::a_server_that_freezes_again_and_again_is_not_pinged_to_anger,
    ours_calls_go::pings::an_idle_stream_and_a_slow_call_are_not_pinged_to_anger,
    ours_calls_go::goaway::no_call_fails_while_connections_reach_their_age,
    ours_calls_go::goaway::no_call_fails_on_many_servers_whose_connections_reach_their_age,
    ours_calls_go::goaway::connections_that_age_without_calls_fail_none,
    ours_calls_go::goaway::streams_in_flight_end_within_the_grace,
    ours_calls_go::goaway::streams_that_outlast_the_grace_are_unavailable,
    ours_calls_go::limits::a_thousand_calls_at_once_share_one_stream,
    ours_calls_go::limits::a_thousand_calls_at_once_share_two_streams_of_two_servers,
    ours_calls_go::limits::a_thousand_calls_at_once_share_a_hundred_streams,
    ours_calls_go::limits::a_call_waits_for_a_stream_that_is_held,
    ours_calls_go::restarts::a_server_that_is_killed_is_called_again_when_it_is_back,
    ours_calls_go::streaming::all_kinds_work_with_no_message_with_one_and_with_ten_thousand,
    ours_calls_go::streaming::messages_of_eight_mebibytes_go_both_ways,
    ours_calls_go::messages::metadata_goes_both_ways,
    ours_calls_go::messages::an_error_alone_has_its_code_message_and_details,
    ours_calls_go::messages::gzip_goes_both_ways,
    ours_calls_go::deadlines::the_server_knows_what_remains_of_the_deadline,
    ours_calls_go::deadlines::the_servers_context_ends_at_the_deadline,
    ours_calls_go::deadlines::a_call_that_is_dropped_ends_the_servers_context,
    go_calls_ours::all_kinds_work,
    go_calls_ours::metadata_and_errors_go_both_ways,
    go_calls_ours::gzip_goes_both_ways,
    go_calls_ours::the_deadline_arrives_and_ends_the_call,
    go_calls_ours::the_deadline_ends_a_call_whose_caller_is_frozen,
    go_calls_ours::a_call_that_is_dropped_ends,
    go_calls_ours::calls_are_shared_evenly,
    go_calls_ours::a_server_that_stops_politely_fails_no_call,
];

/// In the ways of each framework.
const OF_FRAMEWORKS: &[Check<Fleet>] = &checks![
    fleet::crashes::who_crashes_is_called_for_what_is_left_of_its_lease,
    fleet::crashes::who_crashes_and_is_back_is_called_past_the_end_of_its_former_lease,
    fleet::changes::who_leaves_is_missed_by_nobody_and_called_when_it_is_back,
    fleet::changes::what_is_paused_is_called_when_it_resumes,
    fleet::changes::who_moves_is_called_where_it_is_now,
    fleet::changes::what_a_server_says_of_itself_may_change_while_it_is_called,
    fleet::deadlines::ours_reaches_their_server_and_ends_its_context,
    fleet::deadlines::theirs_reaches_our_server_and_ends_the_call,
];

const OF_FLEETS: &[Check<Peers>] = &checks![
    fleet::matrix::everybody_is_called_by_everybody,
    fleet::mixed::all_who_can_be_called_are_found_among_garbage,
    fleet::go_zero::of_our_servers_the_one_that_answers_sooner_is_called_more,
    fleet::go_zero::its_target_is_one_of_ours,
    fleet::go_zero::our_server_may_take_the_lease_for_its_id_too,
    fleet::kratos::its_client_leaves_a_server_of_ours_that_is_not_healthy,
    fleet::kratos::a_server_is_called_by_its_services_name_on_both_sides,
    fleet::kratos::inside_tls_a_server_is_who_its_services_name_says,
    fleet::kratos::one_version_is_called_on_both_sides,
    fleet::kratos::weights_count_on_both_sides,
    fleet::kratos::its_target_is_one_of_ours,
];

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for &(name, check) in OF_FRAMEWORKS {
        for framework in Framework::ALL {
            let check = async move |peers| check(Fleet::start(peers, framework).await).await;
            trials.push(of(format!("{framework}::{name}"), Peers::find, check));
        }
    }
    for &(name, check) in OF_FLEETS {
        trials.push(of(name.to_owned(), Peers::find, check));
    }
    for &(name, check) in OF_GRPC_GO {
        trials.push(of(name.to_owned(), Go::find, check));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// Makes a test of a check with a program in Go, if that can be had.
fn of<Program, Finding, Checking>(
    name: String,
    find: fn() -> Finding,
    check: impl FnOnce(Program) -> Checking + Send + 'static,
) -> Trial
where
    Program: 'static,
    Finding: Future<Output = Result<Program, &'static str>> + 'static,
    Checking: Future<Output = ()>,
{
    trial(name.clone(), move || async move {
        match find().await {
            Ok(program) => {
                let checked = timeout(2 * LIMIT, check(program)).await;
                assert!(checked.is_ok(), "{name} hangs");
                Completion::Completed
            }
            Err(reason) => Completion::ignored_with(reason),
        }
    })
}
