//! What a channel knows, as JSON, while a server goes and comes back.
//!
//!     cargo run --example state
//!
//! The etcd and the network are in memory. It takes a few seconds, and fails if the channel does not see what
//! happens.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use switchboard::{Channel, ChannelState, Condition, Instance, Registry, ReserveUse, SourceState};
use switchboard_embedded::{EmbeddedEtcd, Network};
use switchboard_proto::{
    HellosRequest, Polite, greeter_client::GreeterClient, greeter_server::GreeterServer,
};
use tokio::task::JoinSet;
use tonic::transport::Server;

const ADDRESS: &str = "greeter-1:50051";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tokio::time::timeout(Duration::from_secs(30), show())
        .await
        .context("it takes too long")?
}

async fn show() -> anyhow::Result<()> {
    let (etcd, network) = (EmbeddedEtcd::start(), Network::new());
    let registry = Registry::builder("etcd:2379")?.connector(etcd.connector());
    let registry = registry.connect().await?;
    let channel = registry
        .dial("greeter")
        .connector(network.connector("client"));
    let channel = channel.connect_lazy()?;

    until(&channel, |state| {
        state.endpoints.is_empty() && is_fresh(state)
    })
    .await?;
    print("there is no server", &channel)?;

    let servers = serve(&network)?;
    let instance = Instance::new("greeter", ADDRESS)?;
    let publisher = registry.publish(instance)?;
    until(&channel, |state| is(state, Condition::Ready)).await?;
    print("a server is there", &channel)?;

    let endless = HellosRequest {
        count: u32::MAX,
        ..HellosRequest::default()
    };
    let replies = GreeterClient::new(channel.clone())
        .say_hellos(endless)
        .await?;
    print("a call is in flight", &channel)?;

    drop(servers);
    network.link("client", ADDRESS).reset();
    until(&channel, |state| is(state, Condition::Failing)).await?;
    drop(replies);
    print("the server has crashed; etcd does not know yet", &channel)?;

    let _servers = serve(&network)?;
    until(&channel, |state| is(state, Condition::Ready)).await?;
    print(
        "it is back, and what went wrong is still to be seen",
        &channel,
    )?;

    publisher.stop().await?;
    until(&channel, |state| state.reserve == ReserveUse::LastSet).await?;
    print(
        "it has left etcd; an empty list is no list, so it stays in use",
        &channel,
    )
}

/// Starts a greeter, which ends with what this returns.
fn serve(network: &Network) -> anyhow::Result<JoinSet<Result<(), tonic::transport::Error>>> {
    let listener = network.listen(ADDRESS)?;
    let greeter = GreeterServer::new(Polite {
        address: ADDRESS.to_owned(),
    });
    let mut servers = JoinSet::new();
    servers.spawn(
        Server::builder()
            .add_service(greeter)
            .serve_with_incoming(listener),
    );
    Ok(servers)
}

fn print(what: &str, channel: &Channel) -> anyhow::Result<()> {
    let state = channel.state();
    println!("{what}:\n{}\n", serde_json::to_string_pretty(&*state)?);
    Ok(())
}

/// Waits until the channel's state is so.
async fn until(
    channel: &Channel,
    mut is_so: impl FnMut(&ChannelState) -> bool,
) -> anyhow::Result<()> {
    let mut states = channel.watch_state();
    states
        .wait_for(|state: &Arc<ChannelState>| is_so(state))
        .await?;
    Ok(())
}

fn is(state: &ChannelState, condition: Condition) -> bool {
    let mut endpoints = state.endpoints.iter();
    endpoints.any(|endpoint| endpoint.condition == condition)
}

/// Whether etcd has said which servers there are.
fn is_fresh(state: &ChannelState) -> bool {
    matches!(state.source, SourceState::Fresh)
}
