//! A policy of one's own: the cheapest server first, and the next one when it can take no more calls.
//!
//!     cargo run --example own_policy
//!
//! What a server costs is in its metadata, or it costs nothing. Servers, and the network, are in memory.

use std::sync::Arc;
use switchboard::*;
use switchboard_embedded::Network;
use switchboard_proto::{HellosRequest, Polite, greeter_client::*, greeter_server::*};
use tonic::transport::Server;

#[derive(Debug)]
struct CheapestFirst;
impl Policy for CheapestFirst {
    fn name(&self) -> &str {
        "cheapest_first"
    }
    fn picker(&self, candidates: &[Candidate], _seed: u64) -> Box<dyn Picker> {
        let mut all: Vec<_> = (0..candidates.len()).collect();
        let says = |it: usize| candidates[it].endpoint().metadata().get("price");
        all.sort_by_key(|it| says(*it).and_then(|it| it.parse::<u32>().ok()));
        Box::new(ByPrice(all))
    }
}

/// The numbers of those that may be called, the cheapest first: who cannot take a call leaves it to the next.
#[derive(Debug)]
struct ByPrice(Vec<usize>);
impl Picker for ByPrice {
    fn pick(&self, _: &CallInfo, take: &mut dyn FnMut(usize) -> bool) -> Result<(), PickError> {
        self.0.iter().any(|it| take(*it));
        Ok(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (network, mut servers, mut listed) = (Network::new(), tokio::task::JoinSet::new(), vec![]);
    for (address, price) in [("ada:1", "12"), ("bob:1", "7")].map(|it| (it.0.to_owned(), it.1)) {
        listed.push(Endpoint::new(address.parse()?).with_metadata("price", price));
        let incoming = network.listen(&address)?;
        let server = Server::builder().add_service(GreeterServer::new(Polite { address }));
        servers.spawn(server.serve_with_incoming(incoming));
    }
    let channel = Channel::builder(tokio_stream::iter([Update::Snapshot(listed)]));
    let channel = channel.max_calls_in_flight_per_endpoint(2);
    let channel = channel.connector(network.connector("me"));
    let channel = channel.policy(CheapestFirst).connect_lazy()?;
    let is_ready = |it: &Arc<EndpointState>| it.condition == Condition::Ready;
    let all = |it: &Arc<ChannelState>| it.endpoints.iter().filter(|it| is_ready(it)).count() == 2;
    channel.watch_state().wait_for(all).await?;
    let (mut greeter, mut calls) = (GreeterClient::new(channel), Vec::new());
    for number in 1..=4 {
        let call = greeter.say_hellos(HellosRequest::default()).await?;
        println!("call {number}: {:?}", call.extensions().get::<ServedBy>());
        calls.push(call);
    }
    Ok(())
}
