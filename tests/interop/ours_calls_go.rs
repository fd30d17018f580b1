//! Our channel against grpc-go's server.

pub(crate) mod deadlines;
pub(crate) mod goaway;
pub(crate) mod limits;
pub(crate) mod messages;
pub(crate) mod pings;
pub(crate) mod restarts;
pub(crate) mod streaming;

use std::{sync::Arc, time::Duration};

use switchboard::{Channel, ChannelState, Condition};
use switchboard_proto::{HelloReply, HelloRequest, HellosRequest, greeter_client::GreeterClient};
use tonic::Request;

use crate::go::{GoServer, LIMIT};

type Client = GreeterClient<Channel>;

/// The largest message that is taken; tonic's own limit is 4 MiB.
const LARGEST: usize = 64 << 20;

/// Returns a client of all servers, once each is READY.
async fn client(servers: &[&GoServer]) -> Client {
    GreeterClient::new(channel(servers).await).max_decoding_message_size(LARGEST)
}

/// Returns a channel to all servers, once each is READY.
async fn channel(servers: &[&GoServer]) -> Channel {
    let addresses = servers.iter().map(|it| &*it.address);
    let channel = Channel::balance(addresses).unwrap().connect_lazy().unwrap();
    until_ready(&channel).await;
    channel
}

/// Waits until all of a channel's endpoints are READY.
async fn until_ready(channel: &Channel) {
    let is_ready = |state: &Arc<ChannelState>| {
        let mut endpoints = state.endpoints.iter();
        !state.endpoints.is_empty() && endpoints.all(|it| it.condition == Condition::Ready)
    };
    let mut states = channel.watch_state();
    let ready = tokio::time::timeout(LIMIT, states.wait_for(is_ready)).await;
    assert!(ready.is_ok(), "never ready: {:#?}", channel.state());
}

fn hello(name: impl Into<String>) -> HelloRequest {
    HelloRequest { name: name.into() }
}

fn hellos(name: &str, count: u32, interval_ms: u32) -> HellosRequest {
    HellosRequest {
        name: name.into(),
        count,
        interval_ms,
    }
}

/// A request with a deadline.
fn within<T>(limit: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

/// Makes one unary call.
async fn greet(client: &Client, name: &str) -> Result<HelloReply, tonic::Status> {
    let reply = client.clone().say_hello(hello(name)).await?;
    Ok(reply.into_inner())
}
