//! Calls of all four kinds through generated clients, and what outlives whom.

mod support;

use std::{task::Poll, time::Duration};

use support::*;
use switchboard_proto::{HelloRequest, HellosRequest, greeter_client::GreeterClient};
use switchboard_resolver::{CallError, Channel, Condition, ResponseBody};
use tokio::{runtime::Runtime, task::JoinSet};
use tokio_stream::StreamExt;
use tonic::Code;
use tower::{ServiceExt, util::BoxCloneSyncService};

const AB: [&str; 2] = ["a:1", "b:1"];

fn hellos(count: u32, interval_ms: u32) -> HellosRequest {
    HellosRequest {
        name: "Ada".into(),
        count,
        interval_ms,
    }
}

fn names(count: usize) -> Vec<HelloRequest> {
    (0..count)
        .map(|number| hello(&number.to_string()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn fifty_calls_of_each_kind_at_once_are_answered() {
    let channel = connected(&Network::serving(&AB), &AB).await;
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let mut unary = client(&channel);
        calls.spawn(async move {
            let reply = unary.say_hello(hello("Ada")).await.unwrap().into_inner();
            assert_eq!(reply.message, "Hello, Ada!");
        });
        let mut server_streaming = client(&channel);
        calls.spawn(async move {
            let replies = server_streaming.say_hellos(hellos(20, 3)).await.unwrap();
            let replies: Vec<_> = replies.into_inner().map(Result::unwrap).collect().await;
            assert_eq!(replies.len(), 20);
        });
        let mut client_streaming = client(&channel);
        calls.spawn(async move {
            // One name each 2 ms, so that the body is not complete when it is first looked at.
            let names = tokio_stream::iter(names(20)).then(async |name| {
                tokio::time::sleep(Duration::from_millis(2)).await;
                name
            });
            let reply = client_streaming
                .greet_all(names)
                .await
                .unwrap()
                .into_inner();
            assert!(reply.message.starts_with("Hello, 0, 1, 2") && reply.message.ends_with("19!"));
        });
        let mut bidirectional = client(&channel);
        calls.spawn(async move {
            let (sender, receiver) = tokio::sync::mpsc::channel(1);
            let names_sent = tokio_stream::wrappers::ReceiverStream::new(receiver);
            let mut replies = bidirectional.chat(names_sent).await.unwrap().into_inner();
            for name in names(20) {
                let expected = format!("Hello, {}!", name.name);
                sender.send(name).await.unwrap();
                assert_eq!(replies.next().await.unwrap().unwrap().message, expected);
            }
            drop(sender);
            assert!(replies.next().await.is_none());
        });
    }
    within(SOON, calls.join_all()).await;
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_dropped_early_leaves_the_connection_usable() {
    let network = Network::serving(&["a:1"]);
    let channel = connected(&network, &["a:1"]).await;
    for _ in 0..300 {
        let replies = client(&channel)
            .say_hellos(hellos(1_000, 1_000))
            .await
            .unwrap();
        let mut replies = replies.into_inner();
        replies.next().await.unwrap().unwrap();
        drop(replies);
    }
    for _ in 0..10 {
        call(&channel).await.unwrap();
    }
    assert_eq!(network.dials("a:1").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_goes_on_to_its_end_when_the_channel_is_dropped() {
    let channel = connected(&Network::serving(&["a:1"]), &["a:1"]).await;
    let states = channel.watch_state();
    let replies = client(&channel)
        .say_hellos(hellos(20, 1_000))
        .await
        .unwrap();
    drop(channel);
    let replies: Vec<_> = within(SOON, replies.into_inner().collect()).await;
    assert_eq!(replies.into_iter().filter(Result::is_ok).count(), 20);
    // The balancer, which holds the other end, is over.
    let mut states = states;
    while within(SOON, states.changed()).await.is_ok() {}
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_calls_in_flight_and_refuses_new_ones() {
    let channel = connected(&Network::serving(&["a:1"]), &["a:1"]).await;
    let mut replies = client(&channel)
        .say_hellos(hellos(5, 1_000))
        .await
        .unwrap()
        .into_inner();
    let mut closing = JoinSet::new();
    closing.spawn(channel.clone().close());
    until_it_is(&channel, "a:1", Condition::Draining).await;
    let mut request = waiting_for_ready(hello("Ada"));
    request.set_timeout(SOON);
    let status = client(&channel).say_hello(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.message(), "service greeter: the channel is closed");
    for _ in 0..5 {
        replies.next().await.unwrap().unwrap();
        assert!(closing.try_join_next().is_none(), "a stream is open");
    }
    assert!(replies.next().await.is_none());
    drop(replies);
    within(SOON, closing.join_all()).await;
    assert!(channel.state().endpoints.is_empty());
    within(SOON, channel.close()).await;
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_when_the_channel_closes_fail_at_once() {
    let network = Network::new();
    network.cut("a:1");
    let channel = Channel::balance(["a:1"])
        .unwrap()
        .connector(network.connector());
    let channel = channel.connect_lazy().unwrap();
    let mut calls = JoinSet::new();
    let mut caller = client(&channel);
    calls.spawn(async move { caller.say_hello(waiting_for_ready(hello("Ada"))).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    channel.close().await;
    let status = calls.join_next().await.unwrap().unwrap().unwrap_err();
    assert_eq!(status.message(), "the channel is closed");
}

#[test]
fn no_task_outlives_close() {
    let servers = Runtime::new().unwrap();
    let network = Network::on(servers.handle().clone());
    network.serve("a:1");
    network.serve("b:1");
    network.silence("silent:1");
    network.cut("gone:1");
    let clients = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    clients.block_on(async {
        let addresses = ["a:1", "b:1", "refused:1", "silent:1", "gone:1"];
        let builder = Channel::balance(addresses)
            .unwrap()
            .connector(network.connector());
        let channel = builder.connect_lazy().unwrap();
        for address in AB {
            until_it_is(&channel, address, Condition::Ready).await;
        }
        until_it_is(&channel, "refused:1", Condition::Failing).await;
        for _ in 0..20 {
            call(&channel).await.unwrap();
        }
        let replies = client(&channel)
            .say_hellos(hellos(1_000, 1_000))
            .await
            .unwrap();
        assert!(clients.metrics().num_alive_tasks() > 5);
        drop(replies);
        // This test's clock is the real one.
        within(Duration::from_secs(10), channel.close()).await;
        assert_eq!(clients.metrics().num_alive_tasks(), 0);
    });
}

#[tokio::test(start_paused = true)]
async fn a_channel_can_be_boxed_as_a_service_that_is_sync() {
    type Boxed = BoxCloneSyncService<
        http::Request<tonic::body::Body>,
        http::Response<ResponseBody>,
        CallError,
    >;
    let channel = connected(&Network::serving(&["a:1"]), &["a:1"]).await;
    let boxed: Boxed = BoxCloneSyncService::new(channel.clone());
    let reply = GreeterClient::new(boxed)
        .say_hello(hello("Ada"))
        .await
        .unwrap();
    assert_eq!(reply.into_inner().served_by, "a:1");

    let mapped = channel.map_request(|request: http::Request<tonic::body::Body>| request);
    let mapped = BoxCloneSyncService::new(mapped);
    GreeterClient::new(mapped)
        .say_hello(hello("Ada"))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_dropped_ends_a_request_that_still_streams() {
    let network = Network::serving(&["a:1"]);
    let channel = connected(&network, &["a:1"]).await;
    let requests = tokio_stream::pending();
    let replies = client(&channel).chat(requests).await.unwrap();
    drop(replies);
    call(&channel).await.unwrap();
    assert_eq!(network.dials("a:1").len(), 1);
    within(SOON, channel.close()).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_body_that_panics_fails_its_own_call_and_nothing_else() {
    let network = Network::serving(&["a:1"]);
    let channel = connected(&network, &["a:1"]).await;
    for polls_before in [0, 1] {
        let mut polls = 0;
        let requests = futures::stream::poll_fn(move |cx| {
            polls += 1;
            assert!(polls <= polls_before, "a bug in the caller's stream");
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        let call = within(SOON, client(&channel).greet_all(requests)).await;
        assert_eq!(call.unwrap_err().code(), Code::Internal);
    }
    for _ in 0..10 {
        call(&channel).await.unwrap();
    }
    assert_eq!(network.dials("a:1").len(), 1);
    within(SOON, channel.close()).await;
}
