//! From when a server is published until a call to it is answered, and from when it is taken out until
//! the last call has reached it; beside a put, until a watch hears of it.
//!
//! A server serves before it is published and after it is taken out: what is measured is how soon
//! others know.

mod callers;
mod server;
mod watch;

use std::{sync::Arc, time::Instant};

use etcd_client::{Client, EventType};
use switchboard::{Channel, ChannelState, Condition, EndpointState, Publisher, Registry};
use switchboard_test_support::Etcd;

use self::{
    callers::Callers,
    server::{SERVICE, Server},
    watch::Watch,
};
use crate::report::Report;

/// How many servers come and go in a round.
const MOVES: usize = 20;

/// How many servers stay: so many that one that is gone is not called for want of others.
const STAYING: usize = 3;

/// Where no registry looks.
const RAW: &str = "/raw/moves";

pub(crate) async fn run(etcd: &Etcd, rounds: usize, report: &mut Report) {
    let mut stage = Stage::set(etcd).await;
    let mut moves = Vec::new();
    for _ in 0..rounds * MOVES {
        moves.push(stage.come_and_go().await);
    }
    stage.registry.close().await;
    let column = |of: fn(&Move) -> f64| moves.iter().map(of).collect();
    let mut add = |case, of| report.add_delay(case, column(of), column(|it| it.put_to_event));
    add("registered to first call", |it| it.registered_to_first);
    add("its put in a watch to first call", |it| it.put_to_first);
    add("deregistered to last call", |it| it.deregistered_to_last);
    add("its deletion in a watch to last call", |it| {
        it.deletion_to_last
    });
}

/// What took how long with one server, in microseconds.
struct Move {
    registered_to_first: f64,
    put_to_first: f64,
    put_to_event: f64,
    deregistered_to_last: f64,
    deletion_to_last: f64,
}

/// What all moves have in common.
struct Stage {
    /// That of the servers. Some stay, so it has its lease.
    registry: Registry,
    _staying: Vec<(Server, Publisher)>,
    /// That of the callers, who have a registry of their own.
    channel: Channel,
    watch: Watch,
    client: Client,
    raw: Watch,
}

impl Stage {
    async fn set(etcd: &Etcd) -> Self {
        let registry = Registry::connect(etcd.endpoint()).await.unwrap();
        let mut staying = Vec::new();
        for _ in 0..STAYING {
            let server = Server::start().await;
            let publisher = registry.publish(server.instance()).unwrap();
            publisher.published().await.unwrap();
            staying.push((server, publisher));
        }
        let callers = Registry::connect(etcd.endpoint()).await.unwrap();
        let channel = callers.dial(SERVICE).connect().await.unwrap();
        until(&channel, |state| {
            let is_ready = |it: &&Arc<EndpointState>| it.condition == Condition::Ready;
            state.endpoints.iter().filter(is_ready).count() == STAYING
        })
        .await;
        Self {
            registry,
            _staying: staying,
            channel,
            watch: Watch::open(etcd, &format!("/microservices/{SERVICE}/")).await,
            client: Client::connect([etcd.endpoint()], None).await.unwrap(),
            raw: Watch::open(etcd, RAW).await,
        }
    }

    /// Has a server come, be called, and go.
    async fn come_and_go(&mut self) -> Move {
        let server = Server::start().await;
        let mut callers = Callers::start(&self.channel, &server.address);

        let registered = Instant::now();
        let publisher = self.registry.publish(server.instance()).unwrap();
        let put = self.watch.next(EventType::Put).await;
        let first = callers.next_answer().await;
        publisher.published().await.unwrap();

        let put_to_event = self.put().await;

        let deregistered = Instant::now();
        let (done, deletion) = tokio::join!(publisher.stop(), self.watch.next(EventType::Delete));
        done.unwrap();
        until(&self.channel, |state| {
            find(state, &server.address).is_none_or(|it| it.is_reserved)
        })
        .await;
        // Then no call is on its way any more.
        callers.stop().await;
        let last = server.last_call();
        let address = server.end().await;
        until(&self.channel, |state| find(state, &address).is_none()).await;

        Move {
            registered_to_first: micros(registered, first),
            put_to_first: micros(put, first),
            put_to_event,
            deregistered_to_last: micros(deregistered, last),
            deletion_to_last: micros(deletion, last),
        }
    }

    /// Puts a key, and returns how long it took until a watch heard of it.
    async fn put(&mut self) -> f64 {
        let begin = Instant::now();
        let put = self.client.put(RAW, "", None);
        let (put, heard) = tokio::join!(put, self.raw.next(EventType::Put));
        put.unwrap();
        micros(begin, heard)
    }
}

/// Returns the microseconds from one moment to another, which are less than 0 if that one was before.
fn micros(from: Instant, to: Instant) -> f64 {
    let after = to.saturating_duration_since(from).as_secs_f64();
    let before = from.saturating_duration_since(to).as_secs_f64();
    (after - before) * 1e6
}

async fn until(channel: &Channel, is_so: impl Fn(&ChannelState) -> bool) {
    let mut states = channel.watch_state();
    states.wait_for(|state| is_so(state)).await.unwrap();
}

fn find<'a>(state: &'a ChannelState, address: &str) -> Option<&'a EndpointState> {
    let mut endpoints = state.endpoints.iter();
    let found = endpoints.find(|it| it.addresses[0].to_string() == address);
    found.map(Arc::as_ref)
}
