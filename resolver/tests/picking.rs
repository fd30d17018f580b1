//! What becomes of a call between its start and its end.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use support::*;
use switchboard_proto::{HellosRequest, greeter_client::GreeterClient};
use switchboard_resolver::{CallErrorKind, Channel, Condition};
use tokio::{task::JoinSet, time::Instant};
use tokio_stream::StreamExt;
use tokio_util::task::TaskTracker;
use tonic::{Code, Request};

fn hellos(count: u32, interval_ms: u32) -> HellosRequest {
    HellosRequest {
        name: "Ada".into(),
        count,
        interval_ms,
    }
}

#[tokio::test(start_paused = true)]
async fn c20_a_blocked_pick_ends_at_the_deadline_and_says_what_it_waited_for() {
    let network = Network::new();
    network.cut("a:1");
    for wait_for_ready in [false, true] {
        let builder = Channel::balance(["a:1"]).unwrap().name("greeter");
        let channel = builder
            .connector(network.connector())
            .connect_lazy()
            .unwrap();
        let start = Instant::now();
        let timeout = Duration::from_millis(1_234);
        let mut request = with_timeout(hello("Ada"), timeout);
        if wait_for_ready {
            request
                .extensions_mut()
                .insert(switchboard_resolver::WaitForReady);
        }
        let status = client(&channel).say_hello(request).await.unwrap_err();
        assert_took(start, timeout);
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(
            status.message(),
            "service greeter: no endpoint became ready within 1.234s: endpoint a:1: connecting"
        );
        assert_eq!(kind(&status), CallErrorKind::DeadlineExceeded);
    }
}

#[tokio::test(start_paused = true)]
async fn c21_a_request_that_did_not_leave_goes_to_another_endpoint_unseen() {
    let network = Network::serving(&["a:1", "b:1"]);
    let channel = connected(&network, &["a:1", "b:1"]).await;
    for _ in 0..10 {
        until_ready(&channel, &["a:1", "b:1"]).await;
        // One that has answered is not backed off from for long.
        shares(&channel, 2).await;
        network.crash("a:1");
        // Nothing has run since, so nobody knows; and nothing does before they are sent, for they are
        // no tasks of their own.
        let state = channel.state();
        assert_eq!(condition_of(&state, "a:1"), Some(Condition::Ready));
        let calls = (0..6).map(|_| served_by(&channel));
        assert_eq!(futures::future::join_all(calls).await, ["b:1"; 6]);
        network.serve("a:1");
    }
}

#[tokio::test(start_paused = true)]
async fn c21_a_request_that_did_not_leave_waits_for_the_next_connection_if_there_is_no_other() {
    let network = Network::serving(&["a:1"]);
    let channel = connected(&network, &["a:1"]).await;
    // One that has answered is redialed at once when it is lost.
    call(&channel).await.unwrap();
    network.crash("a:1");
    network.serve("a:1");
    assert_eq!(within(SOON, served_by(&channel)).await, "a:1");
    assert_eq!(network.dials("a:1").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn c22_calls_that_wait_for_ready_succeed_once_a_failing_endpoint_is_back() {
    let network = Network::new();
    let channel = Channel::balance(["a:1"])
        .unwrap()
        .connector(network.connector());
    let channel = channel.connect_lazy().unwrap();
    until_it_is(&channel, "a:1", Condition::Failing).await;
    let mut calls = JoinSet::new();
    for _ in 0..10 {
        let mut client = client(&channel);
        calls.spawn(async move { client.say_hello(waiting_for_ready(hello("Ada"))).await });
    }
    // Longer than a call without wait-for-ready would wait.
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(call(&channel).await.unwrap_err().code(), Code::Unavailable);
    network.serve("a:1");
    for reply in within(Duration::from_secs(150), calls.join_all()).await {
        assert_eq!(reply.unwrap().into_inner().served_by, "a:1");
    }
}

#[tokio::test(start_paused = true)]
async fn c24_the_caller_s_timeout_covers_the_response_body_too() {
    let network = Network::serving(&["a:1"]);
    let channel = connected(&network, &["a:1"]).await;
    let start = Instant::now();
    let timeout = Duration::from_millis(2_500);
    let request = with_timeout(hellos(100, 1_000), timeout);
    let mut replies = client(&channel)
        .say_hellos(request)
        .await
        .unwrap()
        .into_inner();
    for _ in 0..2 {
        replies.next().await.unwrap().unwrap();
    }
    let status = replies.next().await.unwrap().unwrap_err();
    assert_took(start, timeout);
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(
        status.message(),
        "service greeter: endpoint a:1: no end of the response within 2.5s"
    );
}

#[tokio::test(start_paused = true)]
async fn c24_a_stream_that_never_pauses_ends_at_the_deadline_too() {
    let network = Network::serving(&["a:1"]);
    let channel = connected(&network, &["a:1"]).await;
    let request = with_timeout(hellos(10_000, 0), Duration::from_secs(1));
    let mut replies = client(&channel)
        .say_hellos(request)
        .await
        .unwrap()
        .into_inner();
    replies.next().await.unwrap().unwrap();
    // Everything the window lets through is there now, and the deadline has not been looked at.
    tokio::time::advance(Duration::from_secs(2)).await;
    let rest: Vec<_> = within(SOON, replies.collect()).await;
    let status = rest.last().unwrap().as_ref().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn c24_the_caller_s_timeout_leaves_as_what_remains_of_it() {
    let network = Network::new();
    network.cut("a:1");
    let (said, source) = source();
    let channel = builder(&network, source)
        .timeout(SOON)
        .connect_lazy()
        .unwrap();
    let mut calls = JoinSet::new();
    let mut caller = client(&channel);
    let request = with_timeout(hello("header:grpc-timeout"), Duration::from_secs(10));
    calls.spawn(async move { caller.say_hello(request).await });
    tokio::time::sleep(Duration::from_secs(4)).await;
    network.serve("b:1");
    said.snapshot(&["b:1"]);
    let reply = calls.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(reply.into_inner().message, "6000000u");

    let reply = client(&channel)
        .say_hello(hello("header:grpc-timeout"))
        .await
        .unwrap();
    assert_eq!(
        reply.into_inner().message,
        "none",
        "the channel's own is not sent"
    );
}

#[tokio::test(start_paused = true)]
async fn c24_the_channel_s_timeout_ends_with_the_headers_and_cuts_no_stream() {
    let network = Network::serving(&["a:1"]);
    let timeout = Duration::from_millis(1_500);
    let builder = Channel::balance(["a:1"])
        .unwrap()
        .name("greeter")
        .timeout(timeout);
    let channel = builder
        .connector(network.connector())
        .connect()
        .await
        .unwrap();
    let replies = client(&channel)
        .say_hellos(hellos(10, 1_000))
        .await
        .unwrap();
    let replies: Vec<_> = replies.into_inner().collect().await;
    assert_eq!(replies.into_iter().filter(Result::is_ok).count(), 10);

    let start = Instant::now();
    let status = client(&channel).say_hello(hello("hang")).await.unwrap_err();
    assert_took(start, timeout);
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(
        status.message(),
        "service greeter: endpoint a:1: no response within 1.5s"
    );
}

#[tokio::test(start_paused = true)]
async fn what_breaks_in_flight_is_unavailable_and_names_service_and_endpoint() {
    let network = Network::serving(&["a:1"]);
    let channel = connected(&network, &["a:1"]).await;
    let mut replies = client(&channel)
        .say_hellos(hellos(10, 1_000))
        .await
        .unwrap()
        .into_inner();
    let mut calls = JoinSet::new();
    let mut caller = client(&channel);
    calls.spawn(async move { caller.say_hello(hello("hang")).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    network.crash("a:1");
    let of_call = calls.join_next().await.unwrap().unwrap().unwrap_err();
    let of_body = replies.next().await.unwrap().unwrap_err();
    for status in [of_call, of_body] {
        assert_eq!(status.code(), Code::Unavailable);
        let message = status.message();
        assert!(
            message.starts_with("service greeter: endpoint a:1: "),
            "{message}"
        );
        assert_eq!(kind(&status), CallErrorKind::Interrupted);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_name_the_channel_beside_the_caller_and_keep_their_path() {
    let network = Network::serving(&["a:1"]);
    let channel = connected(&network, &["a:1"]).await;
    let ours = concat!("switchboard/", env!("CARGO_PKG_VERSION"));
    let reply = client(&channel)
        .say_hello(hello("header:user-agent"))
        .await
        .unwrap();
    assert_eq!(reply.into_inner().message, ours);

    let mut request = Request::new(hello("header:user-agent"));
    request
        .metadata_mut()
        .insert("user-agent", "shop/2".parse().unwrap());
    let reply = client(&channel).say_hello(request).await.unwrap();
    assert_eq!(reply.into_inner().message, format!("shop/2 {ours}"));

    let reply = client(&channel)
        .say_hello(hello("header:te"))
        .await
        .unwrap();
    assert_eq!(reply.into_inner().message, "trailers");

    // With an origin of its own, which the channel replaces.
    let origin = http::Uri::from_static("https://elsewhere:1");
    let mut client = GreeterClient::with_origin(channel, origin);
    assert_eq!(
        client
            .say_hello(hello("Ada"))
            .await
            .unwrap()
            .into_inner()
            .served_by,
        "a:1"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_time_is_over_before_it_begins_is_not_sent() {
    let servers = TaskTracker::new();
    let requests = Arc::new(AtomicUsize::new(0));
    let (on_servers, counted) = (servers.clone(), requests.clone());
    let builder = Channel::balance(["a:1"]).unwrap().connector(move |_| {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let counted = counted.clone();
        on_servers.spawn(async move {
            let mut server = h2::server::handshake(theirs).await.expect("HTTP/2");
            while let Some(Ok(_request)) = server.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        std::future::ready(Ok(ours))
    });
    let channel = builder.connect().await.unwrap();
    // As often as it takes for the connection's task to be quicker than the end of a call, on some
    // other thread.
    for _ in 0..5_000 {
        let request = with_timeout(hello("Ada"), Duration::ZERO);
        let status = client(&channel).say_hello(request).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }
    channel.close().await;
    servers.close();
    within(SOON, servers.wait()).await;
    assert_eq!(requests.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn who_repeats_a_call_that_fails_at_once_leaves_others_their_turn() {
    let network = Network::new();
    let channel = Channel::balance(["a:1"]).unwrap();
    let channel = channel.connector(network.connector());
    let channel = channel.connect_lazy().unwrap();
    until_it_is(&channel, "a:1", Condition::Failing).await;
    let mut others = JoinSet::from_iter([async {}]);
    for _ in 0..1000 {
        call(&channel).await.unwrap_err();
    }
    assert!(others.try_join_next().is_some());
}
