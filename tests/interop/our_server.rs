//! A greeter as users of switchboard serve it, which tells what becomes of calls that are not
//! answered, and does as some names ask, as the one in Go does.

use std::{pin::Pin, time::Duration};

use prost::Message;
use switchboard::{Drain, Instance, Registry, ServeError};
use switchboard_embedded::EmbeddedEtcd;
use switchboard_proto::{
    HelloReply, HelloRequest, HellosRequest, Polite,
    greeter_server::{Greeter, GreeterServer},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};
use tokio_stream::{Stream, StreamExt};
use tonic::{
    Code, Request, Response, Status, Streaming,
    codec::CompressionEncoding,
    codegen::http,
    metadata::{KeyAndValueRef, MetadataMap},
    transport::{Server, ServerTlsConfig},
};
use tower::util::MapRequestLayer;

use crate::{go::LIMIT, status};

/// A server that is published in an etcd, and serves until it is told to stop.
pub(crate) struct OurServer {
    pub(crate) address: String,
    events: mpsc::UnboundedReceiver<Event>,
    stop: oneshot::Sender<()>,
    served: JoinSet<Result<(), ServeError>>,
}

/// What became of a call that is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Began,
    /// Its future was dropped.
    Ended,
}

/// Clients that were told an address do not hear that it is gone: there is nothing to linger for.
const QUICK: Drain = Drain {
    deregister: Duration::from_secs(2),
    linger: Duration::from_millis(100),
    finish: Duration::from_secs(20),
    revoke: Duration::from_secs(2),
    total: Duration::from_secs(28),
};

impl OurServer {
    pub(crate) async fn start(etcd: &EmbeddedEtcd) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registry = Registry::builder("etcd:2379").unwrap();
        let registry = registry.connector(etcd.connector()).connect_lazy().unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let instance = Instance::new("greeter", address).unwrap();
        Self::serve(listener, vec![(registry, instance)], QUICK, None)
    }

    /// Serves, and is published in each of these places. Its stop takes the time of `drain`.
    pub(crate) fn serve(
        listener: TcpListener,
        mut places: Vec<(Registry, Instance)>,
        drain: Drain,
        tls: Option<ServerTlsConfig>,
    ) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        let (sender, events) = mpsc::unbounded_channel();
        let greeter = GreeterServer::new(Witness {
            polite: Polite {
                address: address.clone(),
            },
            events: sender,
        })
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(64 << 20);

        // Tiny messages that come faster than they are read, ten thousand of them, would otherwise
        // end the connection with ENHANCE_YOUR_CALM: h2 lets as many wait as fit half the window.
        let mut server = Server::builder().initial_connection_window_size((1 << 31) - 1);
        if let Some(tls) = tls {
            server = server.tls_config(tls).unwrap();
        }
        let router = server
            .layer(MapRequestLayer::new(keep_authority))
            .add_service(greeter);
        let (stop, stopped) = oneshot::channel();
        let (registry, instance) = places.remove(0);
        let mut serve = registry.serve(instance, router, listener).drain(drain);
        for (registry, instance) in places {
            serve = serve.also_published(registry, instance);
        }
        let serve = serve.with_graceful_shutdown(async {
            // A sender that is dropped is no signal.
            if stopped.await.is_err() {
                std::future::pending().await
            }
        });
        let mut served = JoinSet::new();
        served.spawn(serve.into_future());
        Self {
            address,
            events,
            stop,
            served,
        }
    }

    /// Waits for what becomes of a call that is not answered.
    pub(crate) async fn event(&mut self) -> Event {
        let event = timeout(LIMIT, self.events.recv()).await;
        event.expect("in time").expect("the server serves")
    }

    /// Stops it as SIGTERM would, and waits until it has stopped.
    pub(crate) async fn stop(mut self) {
        self.stop.send(()).unwrap();
        let served = timeout(LIMIT, self.served.join_next()).await;
        served.expect("in time").unwrap().unwrap().unwrap();
    }
}

/// What a client believes that the server is called.
#[derive(Clone)]
struct Authority(String);

/// Lets the greeter know it: tonic does not tell.
fn keep_authority<Body>(mut request: http::Request<Body>) -> http::Request<Body> {
    let authority = request.uri().authority().map(ToString::to_string);
    if let Some(authority) = authority {
        request.extensions_mut().insert(Authority(authority));
    }
    request
}

/// Greets, and does what some names ask for.
struct Witness {
    polite: Polite,
    events: mpsc::UnboundedSender<Event>,
}

type Replies = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;

#[tonic::async_trait]
impl Greeter for Witness {
    async fn say_hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloReply>, Status> {
        let metadata = request.metadata().clone();
        let authority = request.extensions().get().cloned();
        let name = &*request.get_ref().name;
        let word = |name| metadata.get(name).map_or("none", |it| it.to_str().unwrap());
        let message = match name.split_once(':').unwrap_or((name, "")) {
            ("hang", _) => {
                let _ended = Began::now(&self.events);
                std::future::pending::<String>().await
            }
            ("wait", milliseconds) => {
                let time = Duration::from_millis(milliseconds.parse().unwrap());
                tokio::time::sleep(time).await;
                "at last".to_owned()
            }
            ("fail", _) => return Err(failure(&metadata)),
            ("deadline", _) => milliseconds(word("grpc-timeout")),
            ("compression", _) => word("grpc-encoding").to_owned(),
            ("authority", _) => authority.map_or_else(String::new, |Authority(it)| it),
            _ => return Ok(echo(&metadata, self.polite.say_hello(request).await?)),
        };
        let served_by = self.polite.address.clone();
        Ok(Response::new(HelloReply { message, served_by }))
    }

    type SayHellosStream = Replies;

    async fn say_hellos(
        &self,
        request: Request<HellosRequest>,
    ) -> Result<Response<Replies>, Status> {
        self.polite.say_hellos(request).await
    }

    async fn greet_all(
        &self,
        request: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<HelloReply>, Status> {
        self.polite.greet_all(request).await
    }

    type ChatStream = Replies;

    async fn chat(
        &self,
        request: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<Replies>, Status> {
        let metadata = request.metadata().clone();
        let response = echo(&metadata, self.polite.chat(request).await?);
        Ok(response.map(|replies| -> Replies {
            Box::pin(replies.map(move |reply| match reply? {
                reply if reply.message == "Hello, fail!" => Err(failure(&metadata)),
                reply => Ok(reply),
            }))
        }))
    }
}

/// Tells when a call has ended.
struct Began(mpsc::UnboundedSender<Event>);

impl Began {
    fn now(events: &mpsc::UnboundedSender<Event>) -> Self {
        // Who does not listen any more has no more to hear.
        let _ = events.send(Event::Began);
        Self(events.clone())
    }
}

impl Drop for Began {
    fn drop(&mut self) {
        let _ = self.0.send(Event::Ended);
    }
}

/// Sends back what begins with `echo-`.
fn echo<T>(metadata: &MetadataMap, mut response: Response<T>) -> Response<T> {
    copy("echo-", metadata, response.metadata_mut());
    response
}

/// A failure with details, and with what begins with `trail-`: trailers of tonic's servers have
/// metadata when a call fails.
fn failure(metadata: &MetadataMap) -> Status {
    let (code, message) = (Code::ResourceExhausted, "no luck today: 100 % ü\n");
    let status = status::Status {
        code: code.into(),
        message: message.to_owned(),
        details: vec![status::Any {
            type_url: "type.googleapis.com/google.protobuf.StringValue".to_owned(),
            value: String::from("tomorrow").encode_to_vec(),
        }],
    };
    let mut trailers = MetadataMap::new();
    copy("trail-", metadata, &mut trailers);
    Status::with_details_and_metadata(code, message, status.encode_to_vec().into(), trailers)
}

fn copy(prefix: &str, from: &MetadataMap, to: &mut MetadataMap) {
    for entry in from.iter() {
        match entry {
            KeyAndValueRef::Ascii(key, value) if key.as_str().starts_with(prefix) => {
                to.append(key, value.clone());
            }
            KeyAndValueRef::Binary(key, value) if key.as_str().starts_with(prefix) => {
                to.append_bin(key, value.clone());
            }
            _ => {}
        }
    }
}

/// Returns how many milliseconds a `grpc-timeout` is; what is none stays as it is.
fn milliseconds(timeout: &str) -> String {
    let (number, unit) = timeout.split_at(timeout.len() - 1);
    let Ok(number) = number.parse::<u64>() else {
        return timeout.to_owned();
    };
    let milliseconds = match unit {
        "S" => number * 1_000,
        "m" => number,
        "u" => number / 1_000,
        "n" => number / 1_000_000,
        _ => panic!("{timeout} (expected: seconds or less)"),
    };
    milliseconds.to_string()
}
