//! The ways of calling four servers that are compared.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use switchboard::Channel;
use switchboard_proto::{HelloRequest, HellosRequest, greeter_client::GreeterClient};
use tonic::transport;

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

/// How many servers they call.
pub(crate) const SERVERS: usize = 4;

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
                let mut clients = Vec::new();
                for server in servers {
                    let channel = endpoint(server).connect().await.unwrap();
                    clients.push(GreeterClient::new(channel));
                }
                Client::ByHand(ByHand {
                    clients: clients.into(),
                    turn: Arc::default(),
                })
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
    ByHand(ByHand),
    Switchboard(GreeterClient<Channel>),
}

impl Client {
    /// Makes one unary call, which succeeds.
    pub(crate) async fn call(&mut self, request: tonic::Request<HelloRequest>) {
        self.try_call(request).await.expect("an answer");
    }

    /// Makes one unary call.
    pub(crate) async fn try_call(
        &mut self,
        request: tonic::Request<HelloRequest>,
    ) -> Result<(), tonic::Status> {
        let answer = match self {
            Self::Tonic(client) => client.say_hello(request).await,
            Self::ByHand(clients) => clients.next().say_hello(request).await,
            Self::Switchboard(client) => client.say_hello(request).await,
        };
        answer.map(drop)
    }

    /// Reads a stream to its end.
    pub(crate) async fn stream(&mut self, request: HellosRequest) {
        let mut replies = match self {
            Self::Tonic(client) => client.say_hellos(request).await,
            Self::ByHand(clients) => clients.next().say_hellos(request).await,
            Self::Switchboard(client) => client.say_hellos(request).await,
        }
        .expect("an answer")
        .into_inner();
        while replies.message().await.expect("a message").is_some() {}
    }
}

/// Clients that are called in turn.
#[derive(Clone)]
pub(crate) struct ByHand {
    clients: Arc<[GreeterClient<transport::Channel>]>,
    turn: Arc<AtomicUsize>,
}

impl ByHand {
    fn next(&self) -> GreeterClient<transport::Channel> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.clients[turn % self.clients.len()].clone()
    }
}
