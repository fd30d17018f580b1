//! The ways of calling four servers that are compared.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use http::{Request, Response};
use switchboard::Channel;
use switchboard_proto::{HelloRequest, HellosRequest, greeter_client::GreeterClient};
use tonic::{body::Body, transport};
use tower::Service;

/// How calls are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Variant {
    /// One plain channel of tonic's, to one server. What all others are measured by.
    Tonic,
    /// Four of them, picked by hand.
    TonicByHand,
    /// tonic's `balance_list` over four servers.
    TonicBalance,
    /// Our channel over four servers.
    Switchboard,
}

pub(crate) const VARIANTS: [Variant; 4] = [
    Variant::Tonic,
    Variant::TonicByHand,
    Variant::TonicBalance,
    Variant::Switchboard,
];

impl Variant {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tonic => "tonic",
            Self::TonicByHand => "tonic by hand",
            Self::TonicBalance => "tonic balance",
            Self::Switchboard => "switchboard",
        }
    }

    /// Connects to the servers.
    pub(crate) async fn connect(self, servers: &[String]) -> Client {
        let endpoint = |address: &String| {
            transport::Endpoint::from_shared(format!("http://{address}")).unwrap()
        };
        match self {
            Self::Tonic => {
                let channel = endpoint(&servers[0]).connect().await.unwrap();
                Client::Tonic(GreeterClient::new(channel))
            }
            Self::TonicByHand => {
                let mut channels = Vec::new();
                for server in servers {
                    channels.push(endpoint(server).connect().await.unwrap());
                }
                Client::ByHand(GreeterClient::new(ByHand::new(channels)))
            }
            Self::TonicBalance => {
                let channel = transport::Channel::balance_list(servers.iter().map(endpoint));
                Client::Tonic(GreeterClient::new(channel))
            }
            Self::Switchboard => {
                let channel = Channel::balance(servers.iter().map(String::as_str)).unwrap();
                let channel = channel.connect_lazy().unwrap();
                let mut states = channel.watch_state();
                let all = |state: &Arc<switchboard::ChannelState>| {
                    state.endpoints.len() == servers.len()
                        && state
                            .endpoints
                            .iter()
                            .all(|it| it.condition == switchboard::Condition::Ready)
                };
                states.wait_for(all).await.unwrap();
                Client::Switchboard(GreeterClient::new(channel))
            }
        }
    }
}

/// A client of one of the variants, which is cheap to clone.
#[derive(Clone)]
pub(crate) enum Client {
    Tonic(GreeterClient<transport::Channel>),
    ByHand(GreeterClient<ByHand>),
    Switchboard(GreeterClient<Channel>),
}

impl Client {
    /// Makes one unary call.
    pub(crate) async fn call(&mut self, request: tonic::Request<HelloRequest>) {
        match self {
            Self::Tonic(client) => client.say_hello(request).await,
            Self::ByHand(client) => client.say_hello(request).await,
            Self::Switchboard(client) => client.say_hello(request).await,
        }
        .expect("an answer");
    }

    /// Reads a stream to its end.
    pub(crate) async fn stream(&mut self, request: HellosRequest) {
        let mut replies = match self {
            Self::Tonic(client) => client.say_hellos(request).await,
            Self::ByHand(client) => client.say_hellos(request).await,
            Self::Switchboard(client) => client.say_hellos(request).await,
        }
        .expect("an answer")
        .into_inner();
        while replies.message().await.expect("a message").is_some() {}
    }
}

/// Channels that are called in turn.
#[derive(Clone)]
pub(crate) struct ByHand {
    channels: Arc<[transport::Channel]>,
    turn: Arc<AtomicUsize>,
}

impl ByHand {
    fn new(channels: Vec<transport::Channel>) -> Self {
        Self {
            channels: channels.into(),
            turn: Arc::default(),
        }
    }
}

impl Service<Request<Body>> for ByHand {
    type Response = Response<Body>;
    type Error = transport::Error;
    type Future = <transport::Channel as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), transport::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut channel = self.channels[turn % self.channels.len()].clone();
        // tonic's channel takes what it is given once it has a place in its queue, and has one for a
        // clone of its own: it is ready or it is broken.
        let ready = channel.poll_ready(&mut Context::from_waker(std::task::Waker::noop()));
        assert!(ready.is_ready(), "a queue of 1,024 that is full");
        channel.call(request)
    }
}
