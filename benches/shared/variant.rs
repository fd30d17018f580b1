//! The ways of calling four servers that are compared.

use std::{
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use switchboard::{
    Channel, ChannelBuilder, Ejection, Endpoint, Filter, HealthCheck, LeastRequest, P2cEwma,
    RingHash, SlowStart, Split, Update, WeightedRoundRobin,
};
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
    /// The same, with a filter for each call.
    Filtered(fn() -> Filter),
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
pub(crate) const CHOOSING: [Variant; 6] = [
    Variant::ours("switchboard with ejection", |plain| {
        plain.ejection(Ejection::default())
    }),
    Variant::ours("switchboard with weighted_round_robin", |plain| {
        plain.policy(WeightedRoundRobin::new())
    }),
    Variant::ours("switchboard with least_request", |plain| {
        plain.policy(LeastRequest::default())
    }),
    Variant::ours("switchboard with p2c_ewma", |plain| plain.policy(P2cEwma)),
    Variant::ours("switchboard with p2c_ewma and ejection", |plain| {
        plain.policy(P2cEwma).ejection(Ejection::default())
    }),
    Variant::ours("switchboard with ring_hash", |plain| {
        plain.policy(RingHash::new().or_random())
    }),
];

/// Our channel with one thing more each that makes no difference to calls here, other than what it costs.
pub(crate) const COSTING: [Variant; 6] = [
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
    // Half of the endpoints.
    Variant::new(
        "switchboard with a filter",
        Way::Filtered(|| Filter::version("v2")),
    ),
    Variant::ours("switchboard with a split", |plain| {
        plain.split(Split::by_version([("v1", 50.0), ("v2", 50.0)]).unwrap())
    }),
    // All of the endpoints.
    Variant::ours("switchboard with a zone", |plain| plain.prefer_zone("a")),
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
            Way::Switchboard(set_up) => Client::Switchboard(ours(servers, set_up).await, None),
            Way::Filtered(filter) => {
                Client::Switchboard(ours(servers, |plain| plain).await, Some(filter()))
            }
        }
    }
}

/// Connects our channel to all servers, half of which are of another version.
async fn ours(
    servers: &[String],
    set_up: fn(ChannelBuilder) -> ChannelBuilder,
) -> GreeterClient<Channel> {
    let endpoint = |(address, version): (&String, _)| {
        let endpoint = Endpoint::new(address.parse().unwrap());
        let endpoint = endpoint.with_metadata("zone", "a");
        endpoint.with_metadata("version", version)
    };
    let versions = ["v1", "v2"].into_iter().cycle();
    let endpoints = servers.iter().zip(versions).map(endpoint).collect();
    let source = tokio_stream::once(Update::Snapshot(endpoints));
    let channel = set_up(Channel::builder(source)).connect_lazy().unwrap();
    let mut states = channel.watch_state();
    let all = |state: &Arc<switchboard::ChannelState>| {
        let mut endpoints = state.endpoints.iter();
        endpoints.len() == servers.len()
            && endpoints.all(|it| it.condition == switchboard::Condition::Ready)
    };
    states.wait_for(all).await.unwrap();
    GreeterClient::new(channel)
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
    /// Perhaps with a filter for each call.
    Switchboard(GreeterClient<Channel>, Option<Filter>),
}

impl Client {
    /// Makes one unary call, which succeeds.
    pub(crate) async fn call(&mut self, request: tonic::Request<HelloRequest>) {
        self.try_call(request).await.expect("an answer");
    }

    /// Makes one unary call.
    pub(crate) async fn try_call(
        &mut self,
        mut request: tonic::Request<HelloRequest>,
    ) -> Result<(), tonic::Status> {
        let answer = match self {
            Self::Tonic(client) => client.say_hello(request).await,
            Self::ByHand(clients) => clients.next().say_hello(request).await,
            Self::Switchboard(client, filter) => {
                if let Some(filter) = filter {
                    request.extensions_mut().insert(filter.clone());
                }
                client.say_hello(request).await
            }
        };
        answer.map(drop)
    }

    /// Reads a stream to its end.
    pub(crate) async fn stream(&mut self, request: HellosRequest) {
        let mut replies = match self {
            Self::Tonic(client) => client.say_hellos(request).await,
            Self::ByHand(clients) => clients.next().say_hellos(request).await,
            Self::Switchboard(client, _) => client.say_hellos(request).await,
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
