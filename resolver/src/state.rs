//! What can be seen of a channel from outside.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use serde::{Serialize, Serializer};

use crate::{Address, Endpoint, error::chain, outlook::Trouble, transport::InFlight};

/// What a channel knows at one moment: what its source last said, and how each endpoint is.
///
/// ```
/// use switchboard_resolver::Channel;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let channel = Channel::balance(["127.0.0.1:1"])?.name("greeter").connect_lazy()?;
/// assert_eq!(channel.state().service.as_deref(), Some("greeter"));
/// # channel.close().await;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ChannelState {
    /// The service's name, if the channel was given one.
    pub service: Option<String>,
    /// What the source last said.
    pub source: SourceState,
    /// Whether calls go to endpoints that the source does not list any more.
    pub reserve: ReserveUse,
    /// How it chooses who is called.
    pub config: ServiceConfigState,
    /// The endpoints of the last snapshot and those in reserve, ordered by their addresses, then those
    /// that still drain. One that has not changed is shared with the states before.
    pub endpoints: Vec<Arc<EndpointState>>,
}

/// How a channel chooses who is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ServiceConfigState {
    /// The policy's name.
    pub policy: String,
    /// The configuration that was told last and is in force; `None` if the channel is as it was built.
    pub adopted: Option<Arc<str>>,
    /// What is wrong with the last configuration that was told, if something is: the one before stays in
    /// force.
    pub rejected: Option<String>,
    /// The groups of the [`Split`](crate::Split) that no endpoint is in that is listed, such as one that is
    /// misspelt: their calls go to the others.
    pub empty_groups: Vec<String>,
}

/// What a channel's source last said.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
#[non_exhaustive]
pub enum SourceState {
    /// Nothing yet.
    Pending,
    /// The endpoints are known and right.
    Fresh,
    /// The endpoints are known and may be out of date.
    Stale {
        /// When they were last known to be right; serialized as `seconds` since then.
        #[serde(rename = "seconds", serialize_with = "seconds_since")]
        since: Instant,
        /// What stands in the way.
        cause: String,
    },
    /// The endpoints cannot be found out; those of an earlier snapshot stay in use.
    Failed {
        /// What stands in the way.
        cause: String,
    },
    /// The source has ended, as when its registry was closed, or the channel was closed. The
    /// endpoints of the last snapshot stay in use, right or not: nothing will replace them.
    ///
    /// A fixed list ([`Channel::balance`](crate::Channel::balance)) never ends: it is right by
    /// definition. A source that ends while it is stale or failed stays so, with its cause.
    Ended,
}

/// Whether calls go to endpoints that the source does not list any more; see
/// [`ReservePolicy`](crate::ReservePolicy).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReserveUse {
    /// They do not.
    Unused,
    /// Too few of those that are listed are READY: those in reserve are called, too.
    Used,
    /// Nothing is listed, and the last stable set is used as if it were.
    LastSet,
}

/// How one endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EndpointState {
    /// Its addresses, in the order they are tried.
    pub addresses: Vec<Address>,
    /// What the source says of it beside its addresses.
    pub metadata: BTreeMap<String, String>,
    /// Whether it can be called.
    pub condition: Condition,
    /// Whether it has vanished from what the source lists, and is kept connected in case that too many
    /// do ([`ReservePolicy`](crate::ReservePolicy)).
    pub is_reserved: bool,
    /// Why it last failed to connect, lost its connection, was not healthy or was ejected, even if it has
    /// been READY since.
    pub last_error: Option<String>,
    calls_in_flight: InFlight,
}

/// Whether an endpoint can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Condition {
    /// It is dialed for the first time, or again after its connection was lost; or it is connected, and
    /// its health is asked for ([`ChannelBuilder::health`](crate::ChannelBuilder::health)). Calls wait
    /// for it.
    Connecting,
    /// It could not be reached, and is redialed in growing intervals until it is, and, if its health is
    /// watched, until that is known. Calls do not wait for it.
    Failing,
    /// It is connected and has spoken HTTP/2, and says that it serves if its health is watched. Calls go
    /// there.
    Ready,
    /// It is connected, and is silent although a call waits for it and it was pinged. Calls go
    /// elsewhere until it is heard again, unless all are so.
    Suspect,
    /// It is connected, and its calls fail: it gets none for a while, unless all are so
    /// ([`Ejection`](crate::Ejection)).
    Ejected,
    /// It is connected, and its health service says that it does not serve, or nothing that can be
    /// trusted. Calls do not go there, nor wait for it; the connection is kept.
    Unhealthy,
    /// It is not connected, since nobody has called the channel for a while. The next call connects.
    Idle,
    /// It is no longer wanted: it gets no new calls, and those in flight finish.
    Draining,
}

impl EndpointState {
    pub(crate) fn new(
        endpoint: &Endpoint,
        condition: Condition,
        is_reserved: bool,
        last_trouble: Option<&Trouble>,
        calls_in_flight: InFlight,
    ) -> Self {
        Self {
            addresses: endpoint.addresses().to_vec(),
            metadata: endpoint.metadata().clone(),
            condition,
            is_reserved,
            last_error: last_trouble.map(|it| chain(&*it.cause)),
            calls_in_flight,
        }
    }

    /// Returns how many calls are in flight now, also on connections that take no more of them;
    /// serialized as `calls_in_flight`.
    pub fn calls_in_flight(&self) -> usize {
        self.calls_in_flight.get()
    }
}

fn seconds_since<S: Serializer>(since: &Instant, serializer: S) -> Result<S::Ok, S::Error> {
    let now = tokio::time::Instant::now().into_std();
    serializer.serialize_f64(now.saturating_duration_since(*since).as_secs_f64())
}
