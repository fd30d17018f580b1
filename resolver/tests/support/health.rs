//! Servers that say of themselves whether they serve, and channels that watch that.

use std::time::Duration;

use prost::Message;
use switchboard_embedded::Listener;
use switchboard_resolver::{Backoff, Channel, ChannelBuilder, HealthCheck};
use tokio::time::Instant;
use tonic_health::{pb::HealthCheckResponse, server::HealthReporter};

use super::{
    Network, SOON, served_by, until_ready,
    wire::{RST_STREAM, Wire, data, message},
    within,
};

pub const SECOND: Duration = Duration::from_secs(1);
pub const MINUTE: Duration = Duration::from_secs(60);

pub const SAYS_SERVING: i32 = 1;
pub const SAYS_NOT_SERVING: i32 = 2;

/// A channel that watches its servers' health.
pub fn watched(network: &Network, addresses: &[&str]) -> Channel {
    let builder = Channel::balance(addresses.iter().copied()).expect("addresses");
    let builder = builder.name("greeter").connector(network.connector());
    let builder = builder.health(HealthCheck::of_server());
    builder.connect_lazy().expect("a channel")
}

/// Starts servers that tell how they are.
pub fn reporting(addresses: &[&str]) -> (Network, Vec<HealthReporter>) {
    let network = Network::new();
    let start = |address: &&str| {
        let reporter = HealthReporter::new();
        network.serve_reporting(address, &reporter);
        reporter
    };
    let reporters = addresses.iter().map(start).collect();
    (network, reporters)
}

pub fn last_error(channel: &Channel) -> String {
    let state = channel.state();
    state.endpoints[0].last_error.clone().unwrap_or_default()
}

/// A server frame by frame whose health is watched, and the stream of that watch.
pub async fn asked(
    settings: &[(u16, u32)],
    configure: impl FnOnce(ChannelBuilder) -> ChannelBuilder,
) -> (Channel, Listener, Wire, u32) {
    let network = switchboard_embedded::Network::new();
    let mut listener = network.listen("a:1").expect("nobody there");
    let builder = Channel::balance(["a:1"])
        .expect("an address")
        .name("greeter")
        .backoff(Backoff {
            jitter: 0.0,
            ..Backoff::default()
        })
        .health(HealthCheck::of_server())
        .connector(network.connector("channel"));
    let channel = configure(builder).connect_lazy().expect("a channel");
    let mut wire = within(SOON, Wire::accept(&mut listener, settings)).await;
    let stream = within(SOON, wire.request()).await.expect("a watch");
    (channel, listener, wire, stream)
}

/// The same, of a server that has said it serves.
pub async fn serving(
    settings: &[(u16, u32)],
    configure: impl FnOnce(ChannelBuilder) -> ChannelBuilder,
) -> (Channel, Listener, Wire, u32) {
    let (channel, listener, mut wire, stream) = asked(settings, configure).await;
    wire.headers(stream).await;
    says(&mut wire, stream, SAYS_SERVING).await;
    until_ready(&channel, &["a:1"]).await;
    (channel, listener, wire, stream)
}

pub async fn says(wire: &mut Wire, stream: u32, status: i32) {
    let said = HealthCheckResponse { status }.encode_to_vec();
    wire.send_raw(&data(stream, &message(&said))).await;
}

/// Waits for the next watch to be opened, and returns when that was and its stream.
pub async fn asked_again(wire: &mut Wire) -> (Instant, u32) {
    let stream = within(10 * MINUTE, wire.request()).await.expect("a watch");
    (Instant::now(), stream)
}

/// Waits until the stream is reset.
pub async fn until_reset(wire: &mut Wire, stream: u32) {
    let reset = async {
        loop {
            let frame = wire.next().await.expect("a connection that stays");
            if frame.kind == RST_STREAM && frame.stream == stream {
                break;
            }
        }
    };
    within(SOON, reset).await;
}

/// Reads until the client has ended the connection.
pub async fn until_ended(wire: &mut Wire) {
    within(SOON, async { while wire.next().await.is_some() {} }).await;
}

/// Makes a call and answers it.
pub async fn call_and_answer(channel: &Channel, wire: &mut Wire) -> String {
    let answering = async {
        let stream = wire.request().await.expect("a request");
        wire.answer(stream, "a:1").await;
    };
    let (served, ()) = within(SOON, async { tokio::join!(served_by(channel), answering) }).await;
    served
}
