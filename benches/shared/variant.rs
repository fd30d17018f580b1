//! The ways of calling four servers that are compared.

use std::{
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use switchboard::{Channel, ChannelBuilder, Ejection, HealthCheck, SlowStart};
use switchboard_proto::{HelloRequest, HellosRequest, greeter_client::GreeterClient};
use tonic::transport;

/// How calls are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Variant {
    name: &'static str,
    way: Way,
}

#[derive(Debug, Clone, Copy)]
enum Way {
    /// One plain channel of tonic's, to one server. What all others are measured by.
    Tonic,
    /// Four of them, picked by hand.
    TonicByHand,
    /// tonic's `balance_list` over four servers.
    TonicBalance,
    /// Our channel over four servers, set up so.
    Switchboard(fn(ChannelBuilder) -> ChannelBuilder),
}

/// How many servers they call.
pub(crate) const SERVERS: usize = 4;

/// tonic's ways, and our channel as it is unless more is asked of it.
pub(crate) const VARIANTS: [Variant; 4] = [
    Variant::new("tonic", Way::Tonic),
    Variant::new("tonic by hand", Way::TonicByHand),
    Variant::new("tonic balance", Way::TonicBalance),
    Variant::ours("switchboard", |plain| plain),
];

/// Our channel where it calls other servers than it would.
pub(crate) const CHOOSING: [Variant; 1] = [Variant::ours("switchboard with ejection", |plain| {
    plain.ejection(Ejection::default())
})];

/// Our channel with one thing more each that makes no difference to calls here, other than what it costs.
pub(crate) const COSTING: [Variant; 3] = [
    // One that no call meets.
    Variant::ours("switchboard with a limit", |plain| {
        plain.max_calls_in_flight_per_endpoint(1_000)
    }),
    Variant::ours("switchboard with slow start", |plain| {
        plain.slow_start(SlowStart::default())
    }),
    Variant::ours("switchboard with health", |plain| {
        plain.health(HealthCheck::of_server())
    }),
];

impl Variant {
    const fn new(name: &'static str, way: Way) -> Self {
        Self { name, way }
    }

    const fn ours(name: &'static str, set_up: fn(ChannelBuilder) -> ChannelBuilder) -> Self {
        Self::new(name, Way::Switchboard(set_up))
    }

    /// Returns all there are.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        VARIANTS.into_iter().chain(CHOOSING).chain(COSTING)
    }

    pub(crate) fn name(self) -> &'static str {
        self.name
    }

    /// Returns its name as an argument.
    pub(crate) fn word(self) -> String {
        self.name.replace(' ', "-")
    }

    /// Connects to the servers.
    pub(crate) async fn connect(self, servers: &[String]) -> Client {
        let endpoint = |address: &String| {
            transport::Endpoint::from_shared(format!("http://{address}")).unwrap()
        };
        match self.way {
            Way::Tonic => {
                let channel = endpoint(&servers[0]).connect().await.unwrap();
                Client::Tonic(GreeterClient::new(channel))
            }
            Way::TonicByHand => {
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
            Way::TonicBalance => {
                let channel = transport::Channel::balance_list(servers.iter().map(endpoint));
                Client::Tonic(GreeterClient::new(channel))
            }
            Way::Switchboard(set_up) => {
                let plain = Channel::balance(servers.iter().map(String::as_str)).unwrap();
                let channel = set_up(plain).connect_lazy().unwrap();
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

impl FromStr for Variant {
    type Err = String;

    /// Takes the name with `-` for each space.
    fn from_str(word: &str) -> Result<Self, String> {
        let found = Self::all().find(|it| it.word() == word);
        found.ok_or_else(|| {
            let words: Vec<_> = Self::all().map(Self::word).collect();
            format!("variant: {word:?} (expected: {})", words.join(", "))
        })
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
