//! The same calls through the channel and through tonic's own: callers see the same.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

mod support;

use std::pin::Pin;

use bytes::Bytes;
use futures::Stream;
use hyper_util::rt::TokioIo;
use support::*;
use switchboard_proto::{
    HelloReply, HelloRequest, HellosRequest,
    greeter_client::GreeterClient,
    greeter_server::{Greeter, GreeterServer},
};
use tokio_stream::StreamExt;
use tonic::{
    Code, Request, Response, Status, Streaming,
    body::Body,
    metadata::{KeyAndValueRef, MetadataMap, MetadataValue},
    transport::Endpoint,
};
use tower::{BoxError, Service, service_fn};

type Replies = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

/// Does as it is called.
struct Particular;

impl Particular {
    /// A reply with the metadata that came with the request.
    fn reply<T>(&self, metadata: &MetadataMap, message: T) -> Result<Response<T>, Status> {
        let mut response = Response::new(message);
        for entry in metadata.iter() {
            let map = response.metadata_mut();
            match entry {
                KeyAndValueRef::Ascii(key, value) if key.as_str().starts_with("x-") => {
                    map.append(key, value.clone());
                }
                KeyAndValueRef::Binary(key, value) => {
                    map.append_bin(key, value.clone());
                }
                KeyAndValueRef::Ascii(..) => {}
            }
        }
        Ok(response)
    }

    /// All that a status can have.
    fn status() -> Status {
        let mut metadata = MetadataMap::new();
        metadata.append("x-why", "one".parse().unwrap());
        metadata.append("x-why", "two".parse().unwrap());
        metadata.append_bin(
            "x-bytes-bin",
            MetadataValue::from_bytes(&[0, 159, 146, 150]),
        );
        let details = vec![8, 10, 0, 255].into();
        Status::with_details_and_metadata(Code::Aborted, "50 % ä\n!", details, metadata)
    }

    fn replies(name: String) -> Replies {
        let replies = ["one", "two", "three"].map(|message| {
            Ok(HelloReply {
                message: message.into(),
                served_by: name.clone(),
            })
        });
        let end = (name == "fail late").then(|| Err(Self::status()));
        Box::pin(tokio_stream::iter(replies.into_iter().chain(end)))
    }
}

#[tonic::async_trait]
impl Greeter for Particular {
    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        if request.get_ref().name == "fail" {
            return Err(Self::status());
        }
        let message = request.get_ref().name.clone();
        let reply = HelloReply {
            message,
            ..Default::default()
        };
        self.reply(request.metadata(), reply)
    }

    type SayHellosStream = Replies;

    async fn say_hellos(
        &self,
        request: Request<HellosRequest>,
    ) -> Result<Response<Replies>, Status> {
        let name = request.get_ref().name.clone();
        if name == "fail" {
            return Err(Self::status());
        }
        self.reply(request.metadata(), Self::replies(name))
    }

    async fn greet_all(
        &self,
        request: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<HelloReply>, Status> {
        let (metadata, _, mut requests) = request.into_parts();
        let mut last = HelloReply::default();
        while let Some(request) = requests.next().await {
            last.message = request?.name;
            if last.message == "fail" {
                return Err(Self::status());
            }
        }
        self.reply(&metadata, last)
    }

    type ChatStream = Replies;

    async fn chat(
        &self,
        request: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<Replies>, Status> {
        let (metadata, _, mut requests) = request.into_parts();
        let first = requests.next().await.transpose()?;
        let name = first.map(|it| it.name).unwrap_or_default();
        if name == "fail" {
            return Err(Self::status());
        }
        self.reply(&metadata, Self::replies(name))
    }
}

/// What a caller sees of a call.
#[derive(Debug, PartialEq)]
struct Seen {
    metadata: Vec<String>,
    replies: Vec<HelloReply>,
    status: Option<(Code, String, Vec<u8>, Vec<String>)>,
}

/// But for what says when.
fn shown(metadata: &MetadataMap) -> Vec<String> {
    let mut shown: Vec<_> = metadata
        .iter()
        .map(|entry| match entry {
            KeyAndValueRef::Ascii(key, value) => format!("{key}: {value:?}"),
            KeyAndValueRef::Binary(key, value) => format!("{key}: {:?}", value.to_bytes()),
        })
        .filter(|it| !it.starts_with("date: "))
        .collect();
    shown.sort();
    shown
}

impl Seen {
    fn failed(status: &Status) -> Self {
        Self {
            metadata: Vec::new(),
            replies: Vec::new(),
            status: Some((
                status.code(),
                status.message().to_owned(),
                status.details().to_vec(),
                shown(status.metadata()),
            )),
        }
    }

    fn unary(called: Result<Response<HelloReply>, Status>) -> Self {
        match called {
            Ok(reply) => Self {
                metadata: shown(reply.metadata()),
                replies: vec![reply.into_inner()],
                status: None,
            },
            Err(status) => Self::failed(&status),
        }
    }

    async fn streaming(called: Result<Response<Streaming<HelloReply>>, Status>) -> Self {
        let replies = match called {
            Ok(replies) => replies,
            Err(status) => return Self::failed(&status),
        };
        let metadata = shown(replies.metadata());
        let mut stream = replies.into_inner();
        let mut replies = Vec::new();
        loop {
            match stream.next().await {
                Some(Ok(reply)) => replies.push(reply),
                Some(Err(status)) => {
                    return Self {
                        metadata,
                        replies,
                        ..Self::failed(&status)
                    };
                }
                None => break,
            }
        }
        let trailers = stream.trailers().await.unwrap();
        let status = trailers.map(|it| (Code::Ok, String::new(), Vec::new(), shown(&it)));
        Self {
            metadata,
            replies,
            status,
        }
    }
}

fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.append("x-text", "one".parse().unwrap());
    metadata.append("x-text", "two, and three".parse().unwrap());
    metadata.append("x-empty", "".parse().unwrap());
    metadata.append("x-long", "y".repeat(6000).parse().unwrap());
    metadata.append_bin("x-any-bin", MetadataValue::from_bytes(&[0, 1, 255, 128]));
    metadata.append_bin("x-none-bin", MetadataValue::from_bytes(&[]));
    request
}

fn names(name: &str) -> Request<impl Stream<Item = HelloRequest> + Send + 'static> {
    let names = vec![hello(name), hello("last")];
    request(tokio_stream::iter(names).then(async |name| {
        tokio::task::yield_now().await;
        name
    }))
}

/// Makes calls of all four kinds, and returns what is seen of them.
async fn see<S, B>(service: S) -> Vec<Seen>
where
    S: Service<http::Request<Body>, Response = http::Response<B>> + Clone,
    S::Error: Into<BoxError> + Send + Sync,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError> + Send> + Default + Send + 'static,
{
    let mut seen = Vec::new();
    let mut plain = GreeterClient::new(service.clone());
    for name in ["", "Ada", "fail", "fail late"] {
        seen.push(Seen::unary(plain.say_hello(request(hello(name))).await));
        let hellos = HellosRequest {
            name: name.into(),
            ..Default::default()
        };
        seen.push(Seen::streaming(plain.say_hellos(request(hellos)).await).await);
        seen.push(Seen::unary(plain.greet_all(names(name)).await));
        seen.push(Seen::streaming(plain.chat(names(name)).await).await);
    }
    let mut small = GreeterClient::new(service.clone()).max_decoding_message_size(2);
    seen.push(Seen::unary(small.say_hello(hello("Ada")).await));
    let mut marking = GreeterClient::with_interceptor(service.clone(), |mut call: Request<()>| {
        call.metadata_mut()
            .insert("x-by", "an interceptor".parse().unwrap());
        Ok(call)
    });
    seen.push(Seen::unary(marking.say_hello(request(hello("Ada"))).await));
    seen.push(Seen::streaming(marking.chat(names("Ada")).await).await);
    let refusing = |_: Request<()>| Err(Status::unauthenticated("who is it?"));
    let mut refusing = GreeterClient::with_interceptor(service, refusing);
    seen.push(Seen::unary(refusing.say_hello(hello("Ada")).await));
    seen
}

#[tokio::test(start_paused = true)]
async fn c44_callers_see_what_they_see_through_tonics_own_channel() {
    let network = Network::new();
    network.serve_as("a:1", GreeterServer::new(Particular));
    let ours = connected(&network, &["a:1"]).await;
    let ours = within(SOON, see(ours)).await;

    let connect = network.connector();
    let connect = service_fn(move |uri| {
        let connecting = connect(uri);
        async move { connecting.await.map(TokioIo::new) }
    });
    let tonics = Endpoint::from_static("http://a:1").connect_with_connector_lazy(connect);
    let tonics = within(SOON, see(tonics)).await;

    assert_eq!(ours.len(), 20);
    for (ours, tonics) in ours.iter().zip(&tonics) {
        assert_eq!(ours, tonics);
    }
    // They are not all alike because nothing came through.
    let replied = |seen: &&Seen| !seen.replies.is_empty() && seen.metadata.len() >= 7;
    assert_eq!(ours.iter().filter(replied).count(), 14, "{ours:#?}");
    let failed = |seen: &&Seen| matches!(&seen.status, Some((Code::Aborted, _, details, metadata)) if details.len() == 4 && metadata.len() >= 3);
    assert_eq!(ours.iter().filter(failed).count(), 6, "{ours:#?}");
}
