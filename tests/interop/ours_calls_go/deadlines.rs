//! How long calls take at most, and what the server knows of it.

use std::time::Duration;

use switchboard::{Channel, WaitForReady};
use switchboard_proto::greeter_client::GreeterClient;
use switchboard_test_support::Ports;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::Code;

use super::{client, greet, hello, hellos, within};
use crate::go::{Go, GoServer, LIMIT};

const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) async fn the_server_knows_what_remains_of_the_deadline(go: Go) {
    let ports = Ports::take();
    let address = format!("127.0.0.1:{}", ports.client);
    let channel = Channel::balance([&*address]).unwrap();
    let client = GreeterClient::new(channel.connect_lazy().unwrap());

    // It begins before there is a server.
    let mut waiting = client.clone();
    let begin = Instant::now();
    let mut call = JoinSet::new();
    call.spawn(async move {
        let mut request = within(DEADLINE, hello("deadline"));
        request.extensions_mut().insert(WaitForReady);
        waiting.say_hello(request).await
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let _server = go.serve(&["-address", &address]).await;
    let reply = timeout(LIMIT, call.join_next()).await.unwrap();
    let reply = reply.unwrap().unwrap().unwrap();
    let elapsed = begin.elapsed();
    let left = Duration::from_millis(reply.into_inner().message.parse().unwrap());
    let expected = DEADLINE.saturating_sub(elapsed)..=DEADLINE - Duration::from_secs(1);
    // The server rounds to milliseconds.
    let left_at_most = left + Duration::from_millis(1);
    assert!(
        *expected.start() <= left_at_most && left <= *expected.end(),
        "{left:?} (expected: {expected:?})"
    );
    assert_eq!(greet(&client, "deadline").await.unwrap().message, "none");
}

pub(crate) async fn the_servers_context_ends_at_the_deadline(go: Go) {
    const SHORT: Duration = Duration::from_millis(500);
    let mut server = go.serve(&[]).await;
    let mut client = client(&[&server]).await;

    let begin = Instant::now();
    let error = client.say_hello(within(SHORT, hello("hang"))).await;
    let took = begin.elapsed();
    assert_eq!(error.unwrap_err().code(), Code::DeadlineExceeded);
    assert!(took >= SHORT, "{took:?}");
    assert_ended_at(SHORT, &server.told("ended SayHello: ").await);

    // Also if the response has begun.
    let names = tokio_stream::iter([hello("you"), hello("hang")]).chain(tokio_stream::pending());
    let replies = client.chat(within(SHORT, names)).await.unwrap();
    let mut replies = replies.into_inner();
    assert!(replies.message().await.unwrap().is_some());
    let error = replies.message().await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_ended_at(SHORT, &server.told("ended Chat: ").await);
    assert_eq!(greet(&client, "you").await.unwrap().message, "Hello, you!");
}

/// Sees that a call took as long as its deadline, or a little longer. The time that it took to get
/// to the server was not spent there.
fn assert_ended_at(deadline: Duration, line: &str) {
    let (_, took) = line.split_once(" after ").unwrap();
    let took = Duration::from_millis(took.trim_end_matches(" ms").parse().unwrap());
    let earliest = deadline / 2;
    let latest = deadline + Duration::from_secs(5);
    assert!((earliest..latest).contains(&took), "{line}");
}

pub(crate) async fn a_call_that_is_dropped_ends_the_servers_context(go: Go) {
    let mut server = go.serve(&[]).await;
    let mut client = client(&[&server]).await;

    let mut unary = client.clone();
    let mut call = JoinSet::new();
    call.spawn(async move { unary.say_hello(hello("hang")).await });
    server.told("began SayHello").await;
    drop(call);
    assert_canceled("SayHello", &mut server).await;

    let mut streaming = client.clone();
    let mut call = JoinSet::new();
    call.spawn(async move { streaming.say_hellos(hellos("hang", 1, 0)).await });
    server.told("began SayHellos").await;
    drop(call);
    assert_canceled("SayHellos", &mut server).await;

    // Also if the response has begun, and requests could still follow.
    let (sender, names) = mpsc::channel(1);
    sender.send(hello("you")).await.unwrap();
    let replies = client.chat(ReceiverStream::new(names)).await.unwrap();
    let mut replies = replies.into_inner();
    assert!(replies.message().await.unwrap().is_some());
    drop(replies);
    assert_eq!(server.told("ended Chat").await, "ended Chat: Canceled");
    // The rest of the requests is wanted by nobody.
    timeout(LIMIT, sender.closed()).await.unwrap();
    assert_eq!(greet(&client, "you").await.unwrap().message, "Hello, you!");
}

async fn assert_canceled(method: &str, server: &mut GoServer) {
    let line = server.told(&format!("ended {method}: ")).await;
    assert!(line.contains(": context canceled after "), "{line}");
}
