//! Connections that the server ends when they reach an age: GOAWAY, and a grace for streams.

use std::{collections::HashSet, time::Duration};

use switchboard_test_support::eventually;
use tokio::{task::JoinSet, time::Instant};
use tonic::{Code, Status};

use super::{Client, client, greet, hellos};
use crate::go::{Go, LIMIT};

/// grpc-go varies an age by a tenth.
const AGE: [&str; 2] = ["-max-age", "300ms"];

pub(crate) async fn no_call_fails_while_connections_reach_their_age(go: Go) {
    let server = go.serve(&[AGE, ["-grace", "300ms"]].concat()).await;
    let client = client(&[&server]).await;
    let calls = call_for(Duration::from_secs(5), &client).await;
    assert!(calls > 0);
    let connections = server.end().await;
    // Had none aged, nothing would have been seen.
    assert!(connections.ended >= 5, "{connections:?}");
}

pub(crate) async fn no_call_fails_on_many_servers_whose_connections_reach_their_age(go: Go) {
    let options = [AGE, ["-grace", "300ms"]].concat();
    let (a, b, c) = tokio::join!(go.serve(&options), go.serve(&options), go.serve(&options));
    let client = client(&[&a, &b, &c]).await;
    call_for(Duration::from_secs(5), &client).await;
    for server in [a, b, c] {
        let connections = server.end().await;
        assert!(connections.ended >= 5, "{connections:?}");
    }
}

/// Calls for so long, sixteen at a time, some of which take a while; none may fail. Returns how many
/// there were.
async fn call_for(time: Duration, client: &Client) -> usize {
    let begin = Instant::now();
    let mut workers = JoinSet::new();
    for worker in 0..16 {
        let client = client.clone();
        workers.spawn(async move {
            let name = if worker % 2 == 0 { "you" } else { "wait:20" };
            let mut calls = 0;
            while begin.elapsed() < time {
                greet(&client, name).await?;
                calls += 1;
            }
            Ok::<usize, Status>(calls)
        });
    }
    let calls = workers.join_all().await.into_iter();
    calls.sum::<Result<_, _>>().expect("no call fails")
}

pub(crate) async fn connections_that_age_without_calls_fail_none(go: Go) {
    // Older than one has to get that is dialed again at once, whether or not it had a call.
    let server = go.serve(&["-max-age", "1300ms", "-grace", "300ms"]).await;
    let client = client(&[&server]).await;
    // Fewer than there are connections.
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(2_200)).await;
        greet(&client, "you").await.expect("no call fails");
    }
    let connections = server.end().await;
    assert!(connections.ended > 4, "{connections:?}");
}

pub(crate) async fn streams_in_flight_end_within_the_grace(go: Go) {
    let server = go.serve(&[AGE, ["-grace", "10s"]].concat()).await;
    let client = client(&[&server]).await;
    // Each outlives the age of the connection that it begins on.
    let mut streams = JoinSet::new();
    for _ in 0..30 {
        let mut client = client.clone();
        streams.spawn(async move {
            let replies = client.say_hellos(hellos("you", 12, 50)).await?;
            let mut replies = replies.into_inner();
            let mut count = 0;
            while replies.message().await?.is_some() {
                count += 1;
            }
            Ok::<u32, Status>(count)
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let ended = tokio::time::timeout(LIMIT, streams.join_all())
        .await
        .unwrap();
    let counts: HashSet<u32> = ended.into_iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(counts, HashSet::from([12]));
    let connections = server.end().await;
    assert!(connections.ended >= 3, "{connections:?}");
}

pub(crate) async fn streams_that_outlast_the_grace_are_unavailable(go: Go) {
    let server = go.serve(&[AGE, ["-grace", "300ms"]].concat()).await;
    let client = client(&[&server]).await;
    let begin = Instant::now();
    let replies = client.clone().say_hellos(hellos("you", 1_000, 50)).await;
    let mut replies = replies.unwrap().into_inner();
    let error = loop {
        match replies.message().await {
            Ok(reply) => assert!(reply.is_some(), "it ended well"),
            Err(error) => break error,
        }
    };
    let took = begin.elapsed();
    assert_eq!(error.code(), Code::Unavailable, "{error:?}");
    assert!(took >= Duration::from_millis(200), "{took:?}: {error:?}");
    assert!(took < Duration::from_secs(10), "{took:?}: {error:?}");
    // New calls are none of its business.
    eventually(LIMIT, "calls go on", async || greet(&client, "you").await).await;
}
