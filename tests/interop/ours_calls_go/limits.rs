//! Servers that allow few streams at once.

use std::time::Duration;

use tokio::task::JoinSet;
use tonic::Code;

use super::{Client, client, greet, hello, hellos, within};
use crate::go::Go;

pub(crate) async fn a_thousand_calls_at_once_share_one_stream(go: Go) {
    let server = go.serve(&["-max-streams", "1"]).await;
    assert_eq!(a_thousand(&client(&[&server]).await).await, [1_000]);
}

pub(crate) async fn a_thousand_calls_at_once_share_two_streams_of_two_servers(go: Go) {
    let (a, b) = tokio::join!(
        go.serve(&["-max-streams", "1"]),
        go.serve(&["-max-streams", "1"])
    );
    let client = client(&[&a, &b]).await;
    let [one, other] = *a_thousand(&client).await else {
        panic!("two servers serve");
    };
    // Whoever is free has the next one: not exactly halves.
    assert!(
        one + other == 1_000 && one.min(other) >= 100,
        "{one}, {other}"
    );
}

pub(crate) async fn a_thousand_calls_at_once_share_a_hundred_streams(go: Go) {
    let server = go.serve(&["-max-streams", "100"]).await;
    assert_eq!(a_thousand(&client(&[&server]).await).await, [1_000]);
}

/// Makes a thousand calls at once. Returns how many of them each server answered.
async fn a_thousand(client: &Client) -> Vec<usize> {
    let mut calls = JoinSet::new();
    for number in 0..1_000 {
        let client = client.clone();
        calls.spawn(async move {
            let reply = greet(&client, &number.to_string()).await.unwrap();
            assert_eq!(reply.message, format!("Hello, {number}!"));
            reply.served_by
        });
    }
    let mut served_by = calls.join_all().await;
    served_by.sort();
    let of_each = served_by.chunk_by(|one, other| one == other);
    of_each.map(<[_]>::len).collect()
}

pub(crate) async fn a_call_waits_for_a_stream_that_is_held(go: Go) {
    let server = go.serve(&["-max-streams", "1"]).await;
    let client = client(&[&server]).await;
    let held = client.clone().say_hellos(hellos("you", 1_000, 50)).await;
    let mut held = held.unwrap().into_inner();
    assert!(held.message().await.unwrap().is_some());

    let short = within(Duration::from_millis(300), hello("you"));
    let error = client.clone().say_hello(short).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);

    let waiting = client.clone();
    let mut call = JoinSet::new();
    call.spawn(async move { greet(&waiting, "you").await });
    assert!(held.message().await.unwrap().is_some());
    assert!(call.try_join_next().is_none());
    drop(held);
    let reply = call.join_next().await.unwrap().unwrap();
    assert_eq!(reply.unwrap().message, "Hello, you!");
}
