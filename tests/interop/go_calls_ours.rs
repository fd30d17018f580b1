//! grpc-go's client against our servers.

use futures::future::join_all;
use switchboard_embedded::EmbeddedEtcd;
use switchboard_test_support::Signal;

use crate::{
    go::{Go, LIMIT, passed},
    our_server::{Event, OurServer},
};

/// Starts so many, which all end with the runtime.
async fn servers(count: usize) -> Vec<OurServer> {
    let etcd = EmbeddedEtcd::start();
    join_all((0..count).map(|_| OurServer::start(&etcd))).await
}

fn addresses(servers: &[OurServer]) -> Vec<&str> {
    servers.iter().map(|it| &*it.address).collect()
}

pub(crate) async fn all_kinds_work(go: Go) {
    go.pass("kinds", &addresses(&servers(2).await)).await;
}

pub(crate) async fn metadata_and_errors_go_both_ways(go: Go) {
    let servers = servers(1).await;
    for subject in ["metadata", "errors"] {
        go.pass(subject, &addresses(&servers)).await;
    }
}

pub(crate) async fn gzip_goes_both_ways(go: Go) {
    go.pass("gzip", &addresses(&servers(1).await)).await;
}

pub(crate) async fn the_deadline_arrives_and_ends_the_call(go: Go) {
    let mut servers = servers(1).await;
    go.pass("deadline", &addresses(&servers)).await;
    go.pass("hang", &addresses(&servers)).await;
    assert_eq!(servers[0].event().await, Event::Began);
    assert_eq!(servers[0].event().await, Event::Ended);
}

pub(crate) async fn the_deadline_ends_a_call_whose_caller_is_frozen(go: Go) {
    let mut servers = servers(1).await;
    let mut client = go.call("hang", &addresses(&servers));
    assert_eq!(servers[0].event().await, Event::Began);
    // It cannot say that it has given up, and will not find that out by itself.
    client.signal(Signal::STOP);
    assert_eq!(servers[0].event().await, Event::Ended);
}

pub(crate) async fn a_call_that_is_dropped_ends(go: Go) {
    let mut servers = servers(1).await;
    let mut client = go.call("drop", &addresses(&servers));
    assert_eq!(servers[0].event().await, Event::Began);
    client.write_line("drop it");
    assert_eq!(servers[0].event().await, Event::Ended);
    passed(client).await;
}

pub(crate) async fn calls_are_shared_evenly(go: Go) {
    go.pass("shares", &addresses(&servers(4).await)).await;
}

pub(crate) async fn a_server_that_stops_politely_fails_no_call(go: Go) {
    let mut servers = servers(3).await;
    let mut client = go.call("loop", &addresses(&servers));
    client.wait_for_line(LIMIT, |line| line == "reached").await;
    servers.remove(0).stop().await;
    servers.remove(0).stop().await;
    client.write_line("stop");
    let served = passed(client).await.lines;
    assert_eq!(served.len(), 3, "{served:?}");
    assert!(
        served.iter().all(|line| !line.ends_with(" 0")),
        "{served:?}"
    );
}
