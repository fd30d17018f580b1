//! The channel against grpc-go's server, and servers of ours against grpc-go's client, in processes
//! of their own.
//!
//! Without Go each test is listed as ignored, with the reason; with a Go that cannot build the
//! program they fail.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod go;
mod go_calls_ours;
mod our_server;
mod ours_calls_go;
mod status;

use futures::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Completion};
use switchboard_test_support::trial;
use tokio::time::timeout;

use self::go::{Go, LIMIT};

/// A test, and its name.
type Check = (&'static str, fn(Go) -> LocalBoxFuture<'static, ()>);

macro_rules! checks {
    ($($check:path),* $(,)?) => {
        [$((stringify!($check), |go| Box::pin($check(go)))),*]
    };
}

const CHECKS: &[Check] = &checks![
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

fn main() {
    let arguments = Arguments::from_args();
    let trials = CHECKS.iter().map(|&(name, check)| {
        trial(name.to_owned(), move || async move {
            match Go::find().await {
                Ok(go) => {
                    let checked = timeout(2 * LIMIT, check(go)).await;
                    assert!(checked.is_ok(), "{name} hangs");
                    Completion::Completed
                }
                Err(reason) => Completion::ignored_with(reason),
            }
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}
