//! What a server does when it is told to stop, seen from its clients.

use std::{net::SocketAddr, pin::Pin, time::Duration};

use switchboard::{Channel, Drain, Instance, Registry, ServeError};
use switchboard_proto::{
    HelloReply, HelloRequest, HellosRequest,
    greeter_client::GreeterClient,
    greeter_server::{Greeter, GreeterServer},
};
use switchboard_test_support::{Etcd, eventually};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};
use tokio_stream::{Empty, Stream, StreamExt};
use tonic::{
    Request, Response, Status, Streaming, async_trait,
    transport::{Server, server::Router},
};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_client::HealthClient, health_server::HealthServer},
    server::{HealthReporter, HealthService},
};

const SOON: Duration = Duration::from_secs(5);
const QUICK: Drain = Drain {
    deregister: Duration::from_secs(1),
    linger: Duration::ZERO,
    finish: Duration::from_millis(500),
    revoke: Duration::from_secs(1),
    total: Duration::from_secs(10),
};

/// Greets without end, in messages of 64 KiB, and tells when it begins.
struct Endless(mpsc::UnboundedSender<()>);

#[async_trait]
impl Greeter for Endless {
    type SayHellosStream = Pin<Box<dyn Stream<Item = Result<HelloReply, Status>> + Send>>;
    type ChatStream = Empty<Result<HelloReply, Status>>;

    async fn say_hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn say_hellos(
        &self,
        _: Request<HellosRequest>,
    ) -> Result<Response<Self::SayHellosStream>, Status> {
        self.0.send(()).expect("the test listens");
        let reply = HelloReply {
            message: "x".repeat(64 << 10),
            ..HelloReply::default()
        };
        let replies = tokio_stream::iter(std::iter::repeat(Ok(reply)));
        Ok(Response::new(Box::pin(replies)))
    }

    async fn greet_all(
        &self,
        _: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<HelloReply>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn chat(
        &self,
        _: Request<Streaming<HelloRequest>>,
    ) -> Result<Response<Self::ChatStream>, Status> {
        Err(Status::unimplemented(""))
    }
}

fn endless() -> (Router, mpsc::UnboundedReceiver<()>) {
    let (begun, begins) = mpsc::unbounded_channel();
    let router = Server::builder().add_service(GreeterServer::new(Endless(begun)));
    (router, begins)
}

/// A server that serves, and what stops it.
struct Serving {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinSet<Result<(), ServeError>>,
    begins: mpsc::UnboundedReceiver<()>,
}

impl Serving {
    async fn start(etcd: &Etcd, drain: Drain, require_published: Option<Duration>) -> Self {
        let registry = Registry::builder(etcd.endpoint()).expect("a target");
        let registry = registry.connect_lazy().expect("a runtime");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let instance = Instance::new("greeter", address.to_string()).expect("an instance");
        let (stop, stopped) = oneshot::channel();
        let (router, begins) = endless();
        let serve = registry.serve(instance, router, listener).drain(drain);
        let serve = match require_published {
            Some(limit) => serve.require_published(limit),
            None => serve,
        };
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
            stop,
            served,
            begins,
        }
    }
}

/// A call of `SayHellos` over a connection that nobody reads from, with windows as large as they
/// can be.
async fn deaf_call(address: SocketAddr) -> TcpStream {
    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }
    fn text(text: &str) -> Vec<u8> {
        [&[text.len() as u8], text.as_bytes()].concat()
    }
    let largest = (i32::MAX as u32).to_be_bytes();
    let growth = (i32::MAX as u32 - 65_535).to_be_bytes();
    let headers = [
        // POST and http, of HPACK's static table; then literals under names of it, and one under
        // its own.
        vec![0x83, 0x86],
        [vec![0x04], text("/greeter.v1.Greeter/SayHellos")].concat(),
        [vec![0x01], text("greeter")].concat(),
        [vec![0x0f, 0x10], text("application/grpc")].concat(),
        [vec![0x00], text("te"), text("trailers")].concat(),
    ];
    let bytes = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, &[&[0, 4], &largest[..]].concat()),
        frame(8, 0, 0, &growth),
        frame(1, 4, 1, &headers.concat()),
        frame(0, 1, 1, &[0; 5]),
    ];
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(&bytes.concat()).await.expect("it reads");
    stream
}

#[tokio::test]
async fn a_client_that_no_longer_reads_does_not_keep_a_server_from_ending() {
    let etcd = Etcd::start().await;
    let mut serving = Serving::start(&etcd, QUICK, None).await;
    let _deaf = deaf_call(serving.address).await;
    serving.begins.recv().await.expect("the call has begun");
    serving.stop.send(()).expect("it serves");
    let served = timeout(SOON, serving.served.join_next()).await;
    let served = served.expect("it ends in time").expect("the one");
    served.unwrap().unwrap();
}

#[tokio::test]
async fn a_signal_ends_the_wait_for_being_published() {
    let mut etcd = Etcd::start().await;
    etcd.kill().await;
    let mut serving = Serving::start(&etcd, QUICK, Some(Duration::from_secs(600))).await;
    serving.stop.send(()).expect("it serves");
    let served = timeout(SOON, serving.served.join_next()).await;
    let served = served.expect("it ends in time").expect("the one");
    served.unwrap().unwrap();
}

#[tokio::test]
async fn dropped_a_server_ends_its_calls_too() {
    let etcd = Etcd::start().await;
    let mut serving = Serving::start(&etcd, QUICK, None).await;
    let target = format!("http://{}", serving.address);
    let mut client = GreeterClient::connect(target).await.expect("it listens");
    let request = HellosRequest::default();
    let mut replies = client.say_hellos(request).await.unwrap().into_inner();
    replies.next().await.expect("a reply").unwrap();
    serving.served.abort_all();
    let end = async { while let Some(Ok(_)) = replies.next().await {} };
    timeout(SOON, end).await.expect("the call ends");
}

#[tokio::test]
async fn lingering_ends_with_the_total_however_long_the_parts_are() {
    let etcd = Etcd::start().await;
    let drain = Drain {
        linger: Duration::MAX,
        finish: Duration::MAX,
        total: Duration::from_secs(2),
        ..QUICK
    };
    let mut serving = Serving::start(&etcd, drain, None).await;
    serving.stop.send(()).expect("it serves");
    let served = timeout(SOON, serving.served.join_next()).await;
    let served = served.expect("it ends in time").expect("the one");
    served.unwrap().unwrap();
}

/// Follows the health of the whole server.
async fn health(address: SocketAddr) -> Streaming<tonic_health::pb::HealthCheckResponse> {
    let channel = Channel::balance([address])
        .expect("an address")
        .connect()
        .await;
    let mut client = HealthClient::new(channel.expect("it listens"));
    let whole = HealthCheckRequest::default();
    client
        .watch(whole)
        .await
        .expect("it has health")
        .into_inner()
}

#[tokio::test]
async fn health_is_serving_until_the_key_is_gone_and_calls_go_on_until_the_linger_is_over() {
    let etcd = Etcd::start().await;
    let drain = Drain {
        linger: Duration::from_secs(2),
        ..QUICK
    };
    let mut serving = Serving::start(&etcd, drain, Some(SOON)).await;
    let mut health = health(serving.address).await;
    let serving_status = |status: ServingStatus| status as i32;
    let first = health.message().await.unwrap().expect("a status");
    assert_eq!(first.status, serving_status(ServingStatus::Serving));
    let mut etcd = etcd.client().await;
    let key = Instance::new("greeter", serving.address.to_string()).unwrap();
    let key = format!("/microservices/greeter/{}", key.id());
    let is_there = eventually(SOON, "it is published", async || {
        match etcd.get(key.as_str(), None).await.unwrap().count() {
            1 => Ok(()),
            count => Err(count),
        }
    });
    is_there.await;

    serving.stop.send(()).expect("it serves");
    let second = health.message().await.unwrap().expect("a status");
    assert_eq!(second.status, serving_status(ServingStatus::NotServing));
    assert_eq!(etcd.get(key.as_str(), None).await.unwrap().count(), 0);
    let target = format!("http://{}", serving.address);
    let mut late = GreeterClient::connect(target)
        .await
        .expect("it still listens");
    let answer = late.say_hello(HelloRequest::default()).await;
    assert_eq!(
        answer.unwrap_err().code(),
        tonic::Code::Unimplemented,
        "the server's answer"
    );
    let served = timeout(SOON, serving.served.join_next()).await;
    served
        .expect("it ends in time")
        .expect("the one")
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn the_callers_own_health_service_is_reported_to() {
    let etcd = Etcd::start().await;
    let registry = Registry::connect(etcd.endpoint()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let reporter = HealthReporter::new();
    let service = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
    let router = Server::builder().add_service(service);
    let instance = Instance::new("greeter", address.to_string()).unwrap();
    let serve = registry
        .serve(instance, router, listener)
        .health_reporter(reporter);
    let mut served = JoinSet::new();
    served.spawn(serve.into_future());
    let mut health = health(address).await;
    // It begins as the caller has it, and is SERVING at once.
    let serving = async {
        while health.message().await.unwrap().expect("a status").status
            != ServingStatus::Serving as i32
        {}
    };
    timeout(SOON, serving).await.expect("it serves");
}
