//! The examples of what etcd is used for beside discovery, of a source and a policy of one's own, of a rolling
//! restart, and of how to see what goes on: each shows what it is to show, which it sees to itself, and ends.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{process::Command, time::Duration};

use switchboard_test_support::{Example, Process};

/// How long a show may take, on a machine that is busy.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs an example, and sees these words in its output, in this order.
async fn shows(name: &str, expected: &[&str]) {
    let lines = said_by(&Example::build(name).await).await;
    let mut left = lines.iter();
    for words in expected {
        let found = left.any(|line| line.contains(words));
        assert!(found, "{words}: {lines:#?}");
    }
}

/// Runs an example to its end, and returns the lines that it prints.
async fn said_by(example: &Example) -> Vec<String> {
    let mut command = Command::new(example.executable());
    command.env("RUST_BACKTRACE", "0");
    let exit = Process::spawn(command).wait(LIMIT).await;
    assert!(exit.status.success() && exit.stderr.is_empty(), "{exit:?}");
    exit.lines
}

#[tokio::test]
async fn a_configuration_reaches_all_replicas_and_a_bad_one_none() {
    let expected = [
        "replica 3: 0 calls",
        "replica 3: 100 calls",
        "rejected: configuration /shop/limits.json cannot be read",
        "replica 3: 100 calls",
        "replica 3: 200 calls",
    ];
    shows("config", &expected).await;
}

#[tokio::test]
async fn a_topic_tells_each_message_once_or_that_it_is_lost() {
    let expected = [
        "from the beginning: 203 messages",
        "from now on:        200 messages",
        "messages 204 to 211 are lost",
        "message 213: late 10",
    ];
    shows("topic", &expected).await;
}

#[tokio::test]
async fn progress_is_told_while_the_job_runs_and_when_it_has_ended() {
    let expected = ["the job: 100 %", "who is late: 100 %", "expected: 0 to 100"];
    shows("progress", &expected).await;
}

#[tokio::test]
async fn conditions_let_nobody_go_before_all_are_met_at_once() {
    let expected = ["the schema is 6 again", "worker", "worker", "worker"];
    shows("conditions", &expected).await;
}

#[tokio::test]
async fn transfers_of_many_keep_the_sum_and_one_without_cover_writes_nothing() {
    let expected = [
        "25 transfers",
        "and it was 300 each time",
        "1000 from ada to bob: ada has",
        "nothing was written; in the end there are 300",
    ];
    shows("stm", &expected).await;
}

#[tokio::test]
async fn a_lock_is_had_by_one_at_a_time_and_lost_with_its_lease() {
    let expected = [
        "with a lock:    100",
        "another one tries: taken",
        "the work ends: ",
        "what the first one writes now is refused",
    ];
    shows("lock", &expected).await;
}

#[tokio::test]
async fn an_election_has_one_leader_after_the_other() {
    let expected = [
        "screen: closed",
        "screen: ada",
        "screen: ada, at till 2",
        "screen: bob",
        "screen: cyd",
        "bob is told: the leadership is lost",
        "screen: closed",
    ];
    shows("election", &expected).await;
}

#[tokio::test]
async fn members_are_told_who_comes_goes_and_crashes() {
    let expected = [
        "cyd has joined",
        "ada has left",
        "bob is now",
        "cyd has left",
        "cyd has joined",
        "in the end there are bob and cyd.",
    ];
    shows("members", &expected).await;
}

#[tokio::test]
async fn who_reads_shares_the_lock_and_who_writes_is_alone() {
    let expected = [
        "five read the prices",
        "apples and pears are 1 now",
        "apples and pears are 6 now",
        "never while somebody wrote",
        "while somebody reads: not now",
        "when nobody does: has it",
    ];
    shows("rw_lock", &expected).await;
}

#[tokio::test]
async fn a_double_barrier_lets_all_begin_together_and_end_together() {
    let expected = [
        "round 1, 3: I am here",
        "we begin",
        "round 1, 3: all are done",
        "round 2, 3: I am here",
        "we begin",
        "round 2, 3: all are done",
        "one too many",
    ];
    shows("double_barrier", &expected).await;
}

#[tokio::test]
async fn what_one_worker_had_begun_is_done_by_another() {
    let expected = [
        "ada begins: a fire extinguisher",
        "eve does: a fire extinguisher",
        "eve does: two apples",
        "eve does: a melon",
        "is lost",
    ];
    shows("work_queue", &expected).await;
}

#[tokio::test]
async fn a_queue_s_jobs_are_done_once_and_the_urgent_ones_first() {
    let expected = [
        "gus has done",
        "none twice",
        "put out the fire",
        "sweep",
        "count",
    ];
    shows("queue", &expected).await;
}

#[tokio::test]
async fn a_barrier_lets_nobody_go_before_it_is_released() {
    let expected = [
        "it is held already",
        "replica 3 waits",
        "etcd starts again",
        "the migration releases the barrier",
        "goes on",
        "goes on",
        "goes on",
        "replica 4 goes on",
    ];
    shows("barrier", &expected).await;
}

#[tokio::test]
async fn a_source_of_one_s_own_feeds_a_channel_and_is_a_page_long() {
    let expected = [
        "ada:1 is printed: ada:1 answers",
        "bob:1 is printed: bob:1 answers",
        "? is printed: bob:1 answers",
    ];
    shows("own_source", &expected).await;
    let lines = include_str!("../examples/own_source.rs").lines().count();
    assert!(lines <= 60, "{lines} lines");
}

#[tokio::test]
async fn a_policy_of_one_s_own_chooses_and_is_a_page_long() {
    let expected = ["bob:1", "bob:1", "ada:1", "ada:1"];
    shows("own_policy", &expected).await;
    let lines = include_str!("../examples/own_policy.rs").lines().count();
    assert!(lines <= 60, "{lines} lines");
}

#[tokio::test]
async fn eight_servers_are_restarted_in_turn_and_no_call_fails() {
    let servers: Vec<_> = (1..=8)
        .map(|number| format!("greeter-{number}:50051 was restarted"))
        .collect();
    let mut expected: Vec<_> = servers.iter().map(String::as_str).collect();
    expected.push(" calls: 0 failed.");
    shows("rolling_restart", &expected).await;
}

#[tokio::test]
async fn a_channel_s_state_is_shown_as_json_while_a_server_goes_and_comes_back() {
    let expected = [
        "there is no server",
        "\"state\": \"fresh\"",
        "\"endpoints\": []",
        "a server is there",
        "\"greeter-1:50051\"",
        "\"condition\": \"ready\"",
        "\"calls_in_flight\": 0",
        "\"calls_in_flight\": 1",
        "the server has crashed",
        "\"condition\": \"failing\"",
        "refused",
        "it is back",
        "\"condition\": \"ready\"",
        "refused",
        "it has left etcd",
        "\"reserve\": \"last_set\"",
        "\"condition\": \"ready\"",
    ];
    shows("state", &expected).await;
}

#[tokio::test]
async fn prometheus_reads_what_is_counted() {
    let lines = said_by(&Example::build_with("prometheus", &["metrics"]).await).await;
    for line in [
        "metrics at http://127.0.0.1:",
        "switchboard_calls_total{service=\"greeter\",code=\"OK\"} 600",
        "switchboard_endpoints{service=\"greeter\",state=\"ready\"} 1",
        "switchboard_servers{service=\"greeter\",phase=\"serving\"} 1",
        "switchboard_publications{service=\"greeter\",state=\"published\"} 1",
        "switchboard_lease_expiry_timestamp_seconds ",
        "switchboard_etcd_requests_total{code=\"OK\"} ",
    ] {
        let mut said = lines.iter();
        assert!(said.any(|it| it.contains(line)), "{line}: {lines:#?}");
    }
}
