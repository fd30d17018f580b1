//! grpc-go's default policy: a connection that pings more than once in five minutes is closed with
//! ENHANCE_YOUR_CALM, after two that were forgiven. All in real time, since the server's is.

use std::time::Duration;

use switchboard_proto::{HelloReply, HelloRequest};
use switchboard_test_support::Signal;
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::{Client, channel, client, greet, hello, until_ready, within};
use crate::go::{Connections, Go};

/// A client that pings once a second would be closed after five, one that pings when nothing was
/// heard for 250 ms after two.
const TIME: Duration = Duration::from_secs(16);

const ONE_THAT_LIVES: Connections = Connections { begun: 1, ended: 0 };

pub(crate) async fn a_server_that_freezes_again_and_again_is_not_pinged_to_anger(go: Go) {
    let (a, mut b) = tokio::join!(go.serve(&[]), go.serve(&[]));
    let channel = channel(&[&a, &b]).await;
    let client = Client::new(channel.clone());
    let mut streams = [
        IdleStream::open(&client).await,
        IdleStream::open(&client).await,
    ];
    assert_ne!(streams[0].server, streams[1].server);

    let begin = Instant::now();
    while begin.elapsed() < TIME {
        b.signal(Signal::STOP);
        // What is answered would be a sign of life, which makes up for a ping.
        let (one, other) = tokio::join!(unanswered(&client), unanswered(&client));
        for error in [one, other] {
            assert_eq!(error.code(), Code::DeadlineExceeded, "{error:?}");
        }
        b.signal(Signal::CONT);
        until_ready(&channel).await;
    }
    for stream in &mut streams {
        stream.goes_on().await;
    }
    for server in [a, b] {
        assert_eq!(server.end().await, ONE_THAT_LIVES);
    }
}

pub(crate) async fn an_idle_stream_and_a_slow_call_are_not_pinged_to_anger(go: Go) {
    let server = go.serve(&[]).await;
    let client = client(&[&server]).await;
    let mut stream = IdleStream::open(&client).await;
    let quiet = Instant::now() + TIME;
    greet(&client, "wait:5000").await.unwrap();
    tokio::time::sleep_until(quiet).await;
    stream.goes_on().await;
    assert_eq!(server.end().await, ONE_THAT_LIVES);
}

/// Makes a call that is not answered, and returns what it fails with.
async fn unanswered(client: &Client) -> Status {
    let call = within(Duration::from_millis(900), hello("hang"));
    client.clone().say_hello(call).await.unwrap_err()
}

/// A stream on which nothing is said.
struct IdleStream {
    names: mpsc::Sender<HelloRequest>,
    replies: Streaming<HelloReply>,
    server: String,
}

impl IdleStream {
    async fn open(client: &Client) -> Self {
        let (names, receiver) = mpsc::channel(1);
        names.send(hello("you")).await.unwrap();
        let replies = client.clone().chat(ReceiverStream::new(receiver)).await;
        let mut replies = replies.unwrap().into_inner();
        let first = replies.message().await.unwrap().unwrap();
        Self {
            names,
            replies,
            server: first.served_by,
        }
    }

    async fn goes_on(&mut self) {
        self.names.send(hello("still you")).await.unwrap();
        let reply = self.replies.message().await.unwrap().unwrap();
        assert_eq!(reply.message, "Hello, still you!");
        assert_eq!(reply.served_by, self.server);
    }
}
