//! A network in memory: greeter servers by address, and what can go wrong on the way to them.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test file has a copy of its own, and uses a part"
)]

pub mod health;
mod logged;
mod network;
pub mod retrying;
pub mod scripted;
pub mod selecting;
pub mod tuned;
pub mod wire;
pub mod zone;

use std::{sync::Arc, time::Duration};

use futures::Stream;
use switchboard_proto::{HelloReply, HelloRequest, greeter_client::GreeterClient};
use switchboard_resolver::{
    CallError, CallErrorKind, Cause, Channel, ChannelBuilder, ChannelState, Condition, EmptyPolicy,
    Endpoint, ReservePolicy, Source, SourceState, Update, WaitForReady,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Status};

pub use logged::Logged;
pub use network::Network;

/// Waits for something that must happen: the limit is virtual time where the clock is paused.
pub async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, future).await.expect("in time")
}

/// Long enough for everything but a backoff that has grown.
pub const SOON: Duration = Duration::from_secs(60);

/// Waits until the channel's state is as wanted.
pub async fn until(channel: &Channel, wanted: impl FnMut(&Arc<ChannelState>) -> bool) {
    let mut states = channel.watch_state();
    let waited = tokio::time::timeout(SOON, states.wait_for(wanted)).await;
    if !matches!(waited, Ok(Ok(_))) {
        panic!(
            "the state never came; the last one was {:#?}",
            channel.state()
        );
    }
}

/// Waits until the endpoint with this first address is in this condition.
pub async fn until_it_is(channel: &Channel, address: &str, condition: Condition) {
    until(channel, |state| {
        condition_of(state, address) == Some(condition)
    })
    .await;
}

/// Waits until exactly these endpoints are listed and all are READY; others may be in reserve.
pub async fn until_ready(channel: &Channel, addresses: &[&str]) {
    until(channel, |state| {
        let listed = state.endpoints.iter().filter(|it| !it.is_reserved);
        listed.count() == addresses.len()
            && addresses
                .iter()
                .all(|address| condition_of(state, address) == Some(Condition::Ready))
    })
    .await;
}

/// Waits until the source is in trouble, and returns why.
pub async fn trouble(channel: &Channel) -> String {
    let mut found = None;
    until(channel, |state| {
        found = match &state.source {
            SourceState::Stale { cause, .. } => Some(format!("stale: {cause}")),
            SourceState::Failed { cause } => Some(format!("failed: {cause}")),
            _ => None,
        };
        found.is_some()
    })
    .await;
    found.expect("some trouble")
}

pub async fn until_fresh(channel: &Channel) {
    until(channel, |state| state.source == SourceState::Fresh).await;
}

pub fn condition_of(state: &ChannelState, address: &str) -> Option<Condition> {
    let mut endpoints = state.endpoints.iter();
    let endpoint = endpoints.find(|it| it.addresses[0].to_string() == address);
    endpoint.map(|it| it.condition)
}

/// A source that says what it is told to.
pub fn source() -> (Said, impl Source) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Said(sender), UnboundedReceiverStream::new(receiver))
}

#[derive(Clone)]
pub struct Said(mpsc::UnboundedSender<Update>);

impl Said {
    pub fn snapshot(&self, addresses: &[&str]) {
        self.endpoints(addresses.iter().map(|it| endpoint(&[it])).collect());
    }

    pub fn endpoints(&self, endpoints: Vec<Endpoint>) {
        self.say(Update::Snapshot(endpoints));
    }

    pub fn failed(&self, text: &str) {
        self.say(Update::Failed { cause: cause(text) });
    }

    pub fn say(&self, update: Update) {
        self.try_say(update).expect("a channel that listens");
    }

    /// The same, where the channel may be closed.
    pub fn try_say(&self, update: Update) -> Result<(), Closed> {
        self.0.send(update).map_err(|_| Closed)
    }
}

#[derive(Debug)]
pub struct Closed;

/// A configuration that says what it is told to.
pub fn configs() -> (Configs, impl Stream<Item = Option<String>>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Configs(sender), UnboundedReceiverStream::new(receiver))
}

pub struct Configs(mpsc::UnboundedSender<Option<String>>);

impl Configs {
    pub fn say(&self, text: impl Into<String>) {
        self.tell(Some(text.into()));
    }

    /// `None` says that there is none any more.
    pub fn tell(&self, text: Option<String>) {
        self.0.send(text).expect("a channel that listens");
    }
}

pub fn cause(text: &str) -> Cause {
    Cause::from(Box::<dyn std::error::Error + Send + Sync>::from(text))
}

pub fn endpoint(addresses: &[&str]) -> Endpoint {
    let mut addresses = addresses.iter().map(|it| it.parse().expect("an address"));
    let first = Endpoint::new(addresses.next().expect("one address or more"));
    addresses.fold(first, Endpoint::with_address)
}

/// A channel named `greeter` over the network.
pub fn builder(network: &Network, source: impl Source) -> ChannelBuilder {
    Channel::builder(source)
        .name("greeter")
        .connector(network.connector())
}

/// That a source which lists nothing is believed.
pub fn accepting_empty() -> ReservePolicy {
    ReservePolicy {
        empty: EmptyPolicy::Accept,
        ..ReservePolicy::default()
    }
}

/// That what a source does not list any more is not kept.
pub fn without_reserve() -> ReservePolicy {
    ReservePolicy {
        limit: Duration::ZERO,
        ..accepting_empty()
    }
}

/// The same over a fixed list, with every endpoint READY.
pub async fn connected(network: &Network, addresses: &[&str]) -> Channel {
    let builder = Channel::balance(addresses.iter().copied()).expect("addresses");
    let builder = builder.name("greeter").connector(network.connector());
    let channel = builder.connect_lazy().expect("a channel");
    until_ready(&channel, addresses).await;
    channel
}

pub fn client(channel: &Channel) -> GreeterClient<Channel> {
    GreeterClient::new(channel.clone())
}

pub fn hello(name: &str) -> HelloRequest {
    HelloRequest { name: name.into() }
}

/// Makes one unary call.
pub async fn call(channel: &Channel) -> Result<HelloReply, Status> {
    let reply = client(channel).say_hello(hello("Ada")).await?;
    Ok(reply.into_inner())
}

/// Makes one unary call and returns the address of who answered.
pub async fn served_by(channel: &Channel) -> String {
    call(channel).await.expect("an answer").served_by
}

/// Why the call failed that ended with this status.
#[track_caller]
pub fn kind(status: &Status) -> CallErrorKind {
    let error = std::error::Error::source(status).and_then(|it| it.downcast_ref::<CallError>());
    error.expect("a CallError").kind()
}

/// Counts who answers how many of `calls` calls.
pub async fn shares(channel: &Channel, calls: usize) -> std::collections::BTreeMap<String, usize> {
    let mut shares = std::collections::BTreeMap::new();
    for _ in 0..calls {
        *shares.entry(served_by(channel).await).or_default() += 1;
    }
    shares
}

pub fn waiting_for_ready<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(WaitForReady);
    request
}

pub fn with_timeout<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

/// Asserts that the time since `start` is `expected`, or at most 50 ms more.
#[track_caller]
pub fn assert_took(start: Instant, expected: Duration) {
    let took = start.elapsed();
    let range = expected..=expected + Duration::from_millis(50);
    assert!(range.contains(&took), "took {took:?}, not {expected:?}");
}
