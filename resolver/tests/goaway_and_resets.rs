//! What a server takes back: connections, streams, and calls that it did not process.

mod support;

use std::{pin::pin, time::Duration};

use support::{wire::*, *};
use switchboard_proto::HellosRequest;
use switchboard_resolver::{CallErrorKind, Channel};
use tokio::{task::JoinSet, time::Instant};
use tonic::Code;

/// No timer of a channel is as short.
const AT_ONCE: Duration = Duration::from_millis(10);

/// Has one call answered.
async fn answer_one(channel: &Channel, wire: &mut Wire) {
    let server = async {
        let stream = wire.request().await.expect("a request");
        wire.answer(stream, "a:1").await;
    };
    let (served, ()) = tokio::join!(within(SOON, served_by(channel)), server);
    assert_eq!(served, "a:1");
}

#[tokio::test(start_paused = true)]
async fn c33_a_goaway_every_100_ms_fails_no_call() {
    let (channel, mut listener, first) = wired(&[], |it| it).await;
    let mut servers = JoinSet::new();
    servers.spawn(async move {
        let mut draining = JoinSet::new();
        let mut wire = first;
        loop {
            let end = Instant::now() + Duration::from_millis(100);
            while let Ok(Some(stream)) = tokio::time::timeout_at(end, wire.request()).await {
                wire.answer(stream, "a:1").await;
            }
            wire.go_away(LAST, NO_ERROR).await;
            draining.spawn(async move {
                while let Some(stream) = wire.request().await {
                    wire.answer(stream, "a:1").await;
                }
            });
            wire = Wire::accept(&mut listener, &[]).await;
        }
    });
    let start = Instant::now();
    let mut calls = 0;
    while start.elapsed() < Duration::from_secs(10) {
        assert_eq!(served_by(&channel).await, "a:1");
        tokio::time::sleep(Duration::from_millis(3)).await;
        calls += 1;
    }
    assert!(calls > 1000, "{calls}");
}

#[tokio::test(start_paused = true)]
async fn c35_unary_calls_above_a_goaway_are_sent_again_elsewhere() {
    let (channel, mut listener, mut wire) = wired(&[], |it| it).await;
    // One that has answered is redialed at once when it leaves.
    answer_one(&channel, &mut wire).await;
    let mut calls = JoinSet::new();
    for _ in 0..5 {
        let channel = channel.clone();
        calls.spawn(async move { served_by(&channel).await });
    }
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(wire.request().await.expect("a request"));
    }
    // The first two are processed.
    wire.go_away(streams[1], NO_ERROR).await;
    for stream in &streams[..2] {
        wire.answer(*stream, "the first connection").await;
    }
    let mut second = Wire::accept(&mut listener, &[]).await;
    for _ in 0..3 {
        let stream = second.request().await.expect("a request");
        second.answer(stream, "the second connection").await;
    }
    let mut served = calls.join_all().await;
    served.sort();
    let expected = [
        &["the first connection"; 2][..],
        &["the second connection"; 3],
    ]
    .concat();
    assert_eq!(served, expected);
}

#[tokio::test(start_paused = true)]
async fn c35_a_streaming_call_above_a_goaway_that_has_begun_to_send_is_unavailable() {
    let (channel, _listener, mut wire) = wired(&[], |it| it).await;
    let call = async {
        let requests = tokio_stream::StreamExt::chain(
            tokio_stream::iter([hello("Ada")]),
            tokio_stream::pending(),
        );
        client(&channel).greet_all(requests).await
    };
    let server = async {
        while wire.next().await.expect("a frame").kind != DATA {}
        wire.go_away(0, NO_ERROR).await;
    };
    let (reply, ()) = tokio::join!(within(SOON, call), server);
    let status = reply.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(kind(&status), CallErrorKind::Unsent, "it was not processed");
}

#[tokio::test(start_paused = true)]
async fn c35_a_goaway_without_a_call_is_noticed_too() {
    for is_used in [false, true] {
        let (channel, mut listener, mut wire) = wired(&[], |it| it).await;
        if is_used {
            answer_one(&channel, &mut wire).await;
        }
        wire.go_away(LAST, NO_ERROR).await;
        // No call and no timer is needed for it.
        let mut second = within(AT_ONCE, Wire::accept(&mut listener, &[])).await;
        assert!(wire.next().await.is_none_or(|frame| frame.kind == GOAWAY));
        answer_one(&channel, &mut second).await;
    }
}

#[tokio::test(start_paused = true)]
async fn c35_a_goaway_is_noticed_while_a_stream_goes_on() {
    let (channel, mut listener, mut wire) = wired(&[], |it| it).await;
    let mut greeter = client(&channel);
    let opening = greeter.say_hellos(HellosRequest::default());
    let answering = async {
        let stream = wire.request().await.expect("a request");
        wire.headers(stream).await;
        stream
    };
    let (hellos, stream) = tokio::join!(opening, answering);
    let mut hellos = hellos.expect("headers").into_inner();
    wire.go_away(LAST, NO_ERROR).await;
    let mut second = within(AT_ONCE, Wire::accept(&mut listener, &[])).await;
    answer_one(&channel, &mut second).await;
    wire.message(stream, "the first connection").await;
    wire.trailers(stream).await;
    let hello = within(SOON, hellos.message()).await.expect("a message");
    assert_eq!(hello.expect("one").served_by, "the first connection");
    assert!(within(SOON, hellos.message()).await.expect("OK").is_none());
}

#[tokio::test(start_paused = true)]
async fn c34_calls_on_a_connection_that_leaves_are_in_flight_like_all() {
    let (channel, mut listener, mut wire) = wired(&[], |it| it).await;
    let in_flight = || channel.state().endpoints[0].calls_in_flight();
    let mut calls = JoinSet::new();
    let mut wires = Vec::new();
    // All but the last have left.
    for count in 1..=3 {
        let caller = channel.clone();
        calls.spawn(async move { served_by(&caller).await });
        let stream = wire.request().await.expect("a request");
        assert_eq!(in_flight(), count);
        wire.go_away(LAST, NO_ERROR).await;
        let next = within(SOON, Wire::accept(&mut listener, &[])).await;
        wires.push((std::mem::replace(&mut wire, next), stream));
        until_ready(&channel, &["a:1"]).await;
        assert_eq!(in_flight(), count);
    }
    for (left, (mut wire, stream)) in wires.into_iter().enumerate().rev() {
        wire.answer(stream, "a:1").await;
        let answered = within(SOON, calls.join_next()).await;
        assert_eq!(answered.expect("a call").expect("no panic"), "a:1");
        assert_eq!(in_flight(), left);
    }
}

#[tokio::test(start_paused = true)]
async fn c36_one_refused_stream_is_not_seen() {
    let (channel, _listener, mut wire) = wired(&[], |it| it).await;
    let server = async {
        let stream = wire.request().await.expect("a request");
        wire.reset(stream, REFUSED_STREAM).await;
        let stream = wire.request().await.expect("the same request");
        wire.answer(stream, "a:1").await;
    };
    let (served, ()) = tokio::join!(served_by(&channel), server);
    assert_eq!(served, "a:1");
}

#[tokio::test(start_paused = true)]
async fn c36_a_refused_call_goes_to_another_endpoint_if_there_is_one() {
    let network = switchboard_embedded::Network::new();
    let mut listeners = ["a:1", "b:1"].map(|it| network.listen(it).expect("nobody there"));
    let channel = Channel::balance(["a:1", "b:1"])
        .expect("addresses")
        .name("greeter")
        .connector(network.connector("channel"))
        .connect_lazy()
        .expect("a channel");
    let mut refusing = Wire::accept(&mut listeners[0], &[]).await;
    let mut serving = Wire::accept(&mut listeners[1], &[]).await;
    until_ready(&channel, &["a:1", "b:1"]).await;
    let mut servers = JoinSet::new();
    servers.spawn(async move {
        while let Some(stream) = refusing.request().await {
            refusing.reset(stream, REFUSED_STREAM).await;
        }
    });
    servers.spawn(async move {
        while let Some(stream) = serving.request().await {
            serving.answer(stream, "b:1").await;
        }
    });
    // As many as there are endpoints: the turn of the one that refuses comes again at once.
    for _ in 0..20 {
        let calls = [served_by(&channel), served_by(&channel)];
        let served = within(SOON, futures::future::join_all(calls)).await;
        assert_eq!(served, ["b:1"; 2]);
    }
}

#[tokio::test(start_paused = true)]
async fn c36_two_refused_streams_are_unavailable() {
    let (channel, _listener, mut wire) = wired(&[], |it| it).await;
    let server = async {
        for _ in 0..2 {
            let stream = wire.request().await.expect("a request");
            wire.reset(stream, REFUSED_STREAM).await;
        }
        let third = tokio::time::timeout(SOON, wire.request()).await;
        assert!(third.is_err(), "it is not sent once more: {third:?}");
    };
    let (reply, ()) = tokio::join!(call(&channel), server);
    let status = reply.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("endpoint a:1"), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn c37_what_may_have_been_processed_is_never_sent_twice() {
    let (channel, mut listener, mut wire) = wired(&[], |it| it).await;
    let server = async {
        wire.request().await.expect("a request");
        // The connection ends.
        drop(wire);
        let mut second = Wire::accept(&mut listener, &[]).await;
        let again = tokio::time::timeout(SOON, second.request()).await;
        assert!(again.is_err(), "it is sent again: {again:?}");
    };
    let (reply, ()) = tokio::join!(call(&channel), server);
    let status = reply.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(kind(&status), CallErrorKind::Interrupted);
    let expected = "service greeter: endpoint a:1: the server closed the connection";
    assert_eq!(status.message(), expected);
}

/// grpc-go's server resets a call at its deadline, tonic's answers that it was cancelled.
#[tokio::test(start_paused = true)]
async fn c37_a_call_that_the_server_ends_at_the_deadline_has_exceeded_it() {
    for answers in [false, true] {
        let (channel, _listener, mut wire) = wired(&[], |it| it).await;
        let mut client = client(&channel);
        let timeout = Duration::from_secs(1);
        let mut call = pin!(client.say_hello(with_timeout(hello("Ada"), timeout)));
        assert!(futures::poll!(&mut call).is_pending());
        let stream = wire.request().await.expect("a request");

        // Its answer is there before the call is looked at.
        tokio::time::advance(timeout).await;
        match answers {
            true => wire.status(stream, "1").await,
            false => wire.reset(stream, CANCEL).await,
        }
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let error = call.await.expect_err("the time is over");
        assert_eq!(error.code(), Code::DeadlineExceeded, "{error:?}");
        assert_eq!(kind(&error), CallErrorKind::DeadlineExceeded);
    }
}

#[tokio::test(start_paused = true)]
async fn c39_a_call_that_is_dropped_resets_its_stream_and_frees_its_slot() {
    let (channel, _listener, mut wire) = wired(&[(MAX_STREAMS, 1)], |it| it).await;
    for _ in 0..10 {
        let mut calls = JoinSet::new();
        let dropped = channel.clone();
        calls.spawn(async move { call(&dropped).await });
        let stream = wire.request().await.expect("a request");
        calls.shutdown().await;
        let frame = wire.next().await.expect("a frame");
        assert_eq!((frame.kind, frame.stream), (RST_STREAM, stream));
    }
    assert_eq!(channel.state().endpoints[0].calls_in_flight(), 0);
    answer_one(&channel, &mut wire).await;
}

#[tokio::test(start_paused = true)]
async fn c40_a_thousand_calls_at_once_never_exceed_a_limit_of_one_stream() {
    let (channel, _listener, mut wire) = wired(&[(MAX_STREAMS, 1)], |it| it).await;
    let mut calls = JoinSet::new();
    for _ in 0..1000 {
        let channel = channel.clone();
        calls.spawn(async move { served_by(&channel).await });
    }
    let server = async {
        for _ in 0..1000 {
            let stream = wire.request().await.expect("a request");
            // Time for another one to come, if there is one.
            let other = tokio::time::timeout(Duration::from_millis(1), wire.next()).await;
            assert!(other.is_err(), "beside stream {stream}: {other:?}");
            // Nor does one lie in h2, which would hold it back.
            assert_eq!(channel.state().endpoints[0].calls_in_flight(), 1);
            wire.answer(stream, "a:1").await;
        }
    };
    let (served, ()) = tokio::join!(within(SOON, calls.join_all()), server);
    assert_eq!(served, vec!["a:1"; 1000]);
}

#[tokio::test(start_paused = true)]
async fn c40_limits_rise_and_fall() {
    let (channel, _listener, mut wire) = wired(&[(MAX_STREAMS, 1)], |it| it).await;
    let mut calls = JoinSet::new();
    for _ in 0..9 {
        let channel = channel.clone();
        calls.spawn(async move { served_by(&channel).await });
    }
    let mut streams = vec![wire.request().await.expect("a request")];
    wire.settings(&[(MAX_STREAMS, 5)]).await;
    for _ in 1..5 {
        streams.push(within(SOON, wire.request()).await.expect("a request"));
    }
    wire.settings(&[(MAX_STREAMS, 2)]).await;
    // As many as are above the limit end without another one taking their place.
    for stream in streams.drain(..3) {
        wire.answer(stream, "a:1").await;
        let other = tokio::time::timeout(Duration::from_millis(1), wire.request()).await;
        assert!(other.is_err(), "{other:?}");
    }
    while let Some(stream) = streams.pop() {
        wire.answer(stream, "a:1").await;
        let next = tokio::time::timeout(Duration::from_millis(1), wire.request()).await;
        streams.extend(next.ok().flatten());
    }
    assert_eq!(calls.join_all().await, ["a:1"; 9]);
}

#[tokio::test(start_paused = true)]
#[allow(
    clippy::disallowed_methods,
    reason = "the paused clock stands still while a task does not yield"
)]
async fn c40_a_limit_that_rises_by_billions_lets_those_who_wait_through_at_once() {
    let (channel, _listener, mut wire) = wired(&[(MAX_STREAMS, 1)], |it| it).await;
    let mut calls = JoinSet::new();
    for _ in 0..10 {
        let channel = channel.clone();
        calls.spawn(async move { served_by(&channel).await });
    }
    let mut streams = vec![wire.request().await.expect("a request")];
    let start = std::time::Instant::now();
    wire.settings(&[(MAX_STREAMS, u32::MAX)]).await;
    for _ in 1..10 {
        streams.push(within(SOON, wire.request()).await.expect("a request"));
    }
    // Counted one by one, they take half a minute.
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    for stream in streams {
        wire.answer(stream, "a:1").await;
    }
    assert_eq!(calls.join_all().await, ["a:1"; 10]);
}
