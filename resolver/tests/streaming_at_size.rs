//! Streams of many messages, and of large ones; and those who read or send slowly, or not at all.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

mod support;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::Stream;
use support::{wire::*, *};
use switchboard_proto::{
    HelloReply, HelloRequest, HellosRequest, Polite,
    greeter_client::GreeterClient,
    greeter_server::{Greeter, GreeterServer},
};
use switchboard_resolver::Channel;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Code, Request, Response, Status, Streaming};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

type Replies = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

/// A greeter that counts what it has taken and given.
#[derive(Clone, Default)]
struct Counting(Arc<Counts>);

#[derive(Default)]
struct Counts {
    taken: AtomicUsize,
    given: AtomicUsize,
}

/// How long it takes over a message.
const SLOWLY: Duration = Duration::from_millis(10);

#[tonic::async_trait]
impl Greeter for Counting {
    async fn say_hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(HelloReply::default()))
    }

    type SayHellosStream = Replies;

    /// Gives as many as are taken.
    async fn say_hellos(
        &self,
        request: Request<HellosRequest>,
    ) -> Result<Response<Replies>, Status> {
        let HellosRequest { name, count, .. } = request.into_inner();
        let counts = self.0.clone();
        let replies = (0..count).map(move |_| {
            counts.given.fetch_add(1, SeqCst);
            Ok(HelloReply {
                message: name.clone(),
                ..Default::default()
            })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(replies))))
    }

    /// Takes them slowly.
    async fn greet_all(
        &self,
        request: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<HelloReply>, Status> {
        let mut requests = request.into_inner();
        while let Some(request) = requests.next().await {
            request?;
            self.0.taken.fetch_add(1, SeqCst);
            tokio::time::sleep(SLOWLY).await;
        }
        Ok(Response::new(HelloReply::default()))
    }

    type ChatStream = Replies;

    /// Has an opinion before anything is said.
    async fn chat(&self, _: Request<Streaming<HelloRequest>>) -> Result<Response<Replies>, Status> {
        Err(Status::failed_precondition("not today"))
    }
}

/// A channel to one greeter who counts.
async fn counted() -> (Channel, Arc<Counts>) {
    let network = Network::new();
    let greeter = Counting::default();
    let counts = greeter.0.clone();
    network.serve_as("a:1", large(greeter));
    (connected(&network, &["a:1"]).await, counts)
}

fn large<T: Greeter>(greeter: T) -> GreeterServer<T> {
    GreeterServer::new(greeter).max_decoding_message_size(usize::MAX)
}

/// A channel to a polite greeter, who takes messages of any size.
async fn polite() -> Channel {
    let network = Network::new();
    let address = "a:1".to_owned();
    network.serve_as("a:1", large(Polite { address }));
    connected(&network, &["a:1"]).await
}

fn taking_all(channel: &Channel) -> GreeterClient<Channel> {
    client(channel).max_decoding_message_size(usize::MAX)
}

fn hellos(size: usize, count: usize) -> HellosRequest {
    HellosRequest {
        name: "x".repeat(size),
        count: count as u32,
        interval_ms: 0,
    }
}

fn names(size: usize, count: usize) -> impl Iterator<Item = HelloRequest> + Send {
    let name = hello(&"x".repeat(size));
    std::iter::repeat_n(name, count)
}

/// Ready one after the other, each after a pause.
fn with_pauses<T: Send>(items: impl Iterator<Item = T> + Send) -> impl Stream<Item = T> + Send {
    tokio_stream::iter(items).then(async |item| {
        tokio::task::yield_now().await;
        item
    })
}

async fn whole(replies: Streaming<HelloReply>) -> Vec<usize> {
    let sizes = replies.map(|reply| reply.unwrap().message.len());
    within(SOON, sizes.collect()).await
}

#[tokio::test(start_paused = true)]
async fn c41_calls_of_all_four_kinds_are_whole_at_any_size() {
    let channel = polite().await;
    let greeting = "Hello, !".len();
    for (size, count) in [
        (0, 0),
        (3, 0),
        (3, 1),
        (3, 10_000),
        (8 * MIB, 1),
        (8 * MIB, 3),
    ] {
        let mut client = taking_all(&channel);
        let expected = vec![greeting + size; count];
        if count == 1 {
            let reply = client.say_hello(hello(&"x".repeat(size))).await.unwrap();
            assert_eq!(reply.into_inner().message.len(), expected[0]);
        }
        let replies = client.say_hellos(hellos(size, count)).await.unwrap();
        assert_eq!(whole(replies.into_inner()).await, expected);

        let joined = greeting + (count * (size + 2)).saturating_sub(2);
        let at_once = tokio_stream::iter(names(size, count));
        let reply = client.greet_all(at_once).await.unwrap();
        assert_eq!(reply.into_inner().message.len(), joined);
        let paused = with_pauses(names(size, count));
        let reply = client.greet_all(paused).await.unwrap();
        assert_eq!(reply.into_inner().message.len(), joined);

        let at_once = tokio_stream::iter(names(size, count));
        let replies = client.chat(at_once).await.unwrap();
        assert_eq!(whole(replies.into_inner()).await, expected);
        let replies = client.chat(with_pauses(names(size, count))).await.unwrap();
        assert_eq!(whole(replies.into_inner()).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn c42_a_slow_reader_holds_the_server_back() {
    // What may be under way: the stream's window, the server's own buffers, and the network.
    const UNDER_WAY: usize = 2 * MIB;
    let (channel, counts) = counted().await;
    let request = hellos(64 * KIB, 1000);
    let replies = client(&channel).say_hellos(request).await.unwrap();
    let mut replies = replies.into_inner();
    let mut read = 0;
    tokio::time::sleep(Duration::from_secs(10)).await;
    while let Some(reply) = within(SOON, replies.next()).await {
        let given = counts.given.load(SeqCst);
        let ahead = (given - read) * 64 * KIB;
        assert!(ahead <= UNDER_WAY, "{given} given, {read} read");
        read += 1;
        reply.unwrap();
        tokio::time::sleep(SLOWLY).await;
    }
    assert_eq!(read, 1000);
}

#[tokio::test(start_paused = true)]
async fn messages_larger_than_the_window_come_through() {
    for window in [100, 20_000, 40_000] {
        let network = Network::new();
        network.serve_as("a:1", large(Counting::default()));
        let channel = Channel::balance(["a:1"]).unwrap();
        let channel = channel.stream_window(window).connector(network.connector());
        let channel = channel.connect_lazy().unwrap();
        let replies = client(&channel).say_hellos(hellos(64 * KIB, 3)).await;
        let mut replies = replies.unwrap().into_inner();
        for _ in 0..3 {
            let reply = within(SOON, replies.next()).await.unwrap();
            assert_eq!(reply.unwrap().message.len(), 64 * KIB, "{window}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c42_a_slow_server_holds_the_sender_back() {
    const UNDER_WAY: usize = 2 * MIB;
    let (channel, counts) = counted().await;
    let sent = Arc::new(AtomicUsize::new(0));
    let (counting, most) = (sent.clone(), Arc::new(AtomicUsize::new(0)));
    let (ahead, taken) = (most.clone(), counts.clone());
    let requests = names(64 * KIB, 1000).inspect(move |_| {
        let sent = counting.fetch_add(1, SeqCst) + 1;
        ahead.fetch_max(sent - taken.taken.load(SeqCst), SeqCst);
    });
    // All of them are there from the start.
    let mut client = client(&channel);
    let reply = client.greet_all(futures::stream::iter(requests));
    within(SOON, reply).await.unwrap();
    assert_eq!(counts.taken.load(SeqCst), 1000);
    let most = most.load(SeqCst) * 64 * KIB;
    assert!(
        most <= UNDER_WAY,
        "{most} bytes ahead (expected: at most {UNDER_WAY})"
    );
}

#[tokio::test(start_paused = true)]
async fn c42_a_slow_sender_is_waited_for() {
    let (channel, counts) = counted().await;
    let requests = tokio_stream::iter(names(64 * KIB, 100)).then(async |name| {
        tokio::time::sleep(Duration::from_secs(10)).await;
        name
    });
    let mut client = client(&channel);
    let call = client.greet_all(requests);
    within(Duration::from_secs(1001), call).await.unwrap();
    assert_eq!(counts.taken.load(SeqCst), 100);
}

/// Makes calls on the connection that these replies are on, unread; and reads those in the end.
async fn beside(unread: Vec<Streaming<HelloReply>>, channel: &Channel, expected: Vec<usize>) {
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..10 {
        within(SOON, call(channel)).await.unwrap();
        let requests = with_pauses(names(64 * KIB, 10));
        within(SOON, client(channel).greet_all(requests))
            .await
            .unwrap();
    }
    for replies in unread {
        assert_eq!(whole(replies).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn c42_three_unread_streams_of_2_mib_hinder_no_other_call() {
    let channel = polite().await;
    let mut unread = Vec::new();
    for _ in 0..3 {
        let replies = client(&channel).say_hellos(hellos(64 * KIB, 32)).await;
        unread.push(replies.unwrap().into_inner());
    }
    beside(unread, &channel, vec![64 * KIB + 8; 32]).await;
}

#[tokio::test(start_paused = true)]
async fn c42_an_unread_stream_of_100_000_tiny_messages_hinders_no_other_call() {
    let channel = polite().await;
    let replies = client(&channel).say_hellos(hellos(3, 100_000)).await;
    let unread = vec![replies.unwrap().into_inner()];
    beside(unread, &channel, vec![11; 100_000]).await;
}

#[tokio::test(start_paused = true)]
async fn c43_three_hundred_messages_are_sent_while_nobody_reads_the_response() {
    let channel = polite().await;
    let (sender, receiver) = mpsc::channel(1);
    let requests = ReceiverStream::new(receiver);
    let replies = client(&channel).chat(requests).await.unwrap();
    for name in names(100, 300) {
        within(SOON, sender.send(name)).await.unwrap();
        tokio::time::sleep(SLOWLY).await;
    }
    drop(sender);
    assert_eq!(whole(replies.into_inner()).await, vec![108; 300]);
}

#[tokio::test(start_paused = true)]
async fn c43_an_early_status_reaches_a_caller_who_still_sends() {
    let (channel, _counts) = counted().await;
    let large = tokio_stream::iter(names(8 * MIB, 10));
    let endless = tokio_stream::iter(names(3, 1)).chain(tokio_stream::pending());
    let busy = with_pauses(names(64 * KIB, 100_000));
    let calls: [Pin<Box<dyn Stream<Item = HelloRequest> + Send>>; 3] =
        [Box::pin(large), Box::pin(endless), Box::pin(busy)];
    for requests in calls {
        let status = within(SOON, client(&channel).chat(requests)).await;
        let status = status.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
        assert_eq!(status.message(), "not today");
    }
    within(SOON, channel.close()).await;
}

#[tokio::test(start_paused = true)]
async fn c43_an_early_status_and_a_reset_after_it_are_the_status() {
    let network = switchboard_embedded::Network::new();
    let mut listener = network.listen("a:1").unwrap();
    let channel = Channel::balance(["a:1"]).unwrap();
    let channel = channel.connector(network.connector("channel"));
    let channel = channel.connect_lazy().unwrap();
    let mut servers = JoinSet::new();
    servers.spawn(async move {
        let mut wire = Wire::accept(&mut listener, &[]).await;
        while let Some(frame) = wire.next().await {
            if frame.kind == HEADERS {
                let status = headers(frame.stream, &[("grpc-status", "9")]);
                let mut status = status;
                status[4] |= END_STREAM;
                let reset = frame_of_reset(frame.stream);
                wire.send_raw(&[status, reset].concat()).await;
            }
        }
    });
    for size in [3, 8 * MIB] {
        let requests = tokio_stream::iter(names(size, 1)).chain(tokio_stream::pending());
        let status = within(SOON, client(&channel).chat(requests)).await;
        assert_eq!(status.unwrap_err().code(), Code::FailedPrecondition);
    }
    within(SOON, channel.close()).await;
}

/// RST_STREAM with NO_ERROR: no more of the request is wanted.
fn frame_of_reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &NO_ERROR.to_be_bytes())
}
