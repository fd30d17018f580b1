//! Whether servers say that they serve: `grpc.health.v1`, watched over the connections that calls take
//! (gRPC's A17).
//!
//! [`Watch`](watch::Watch) decides what an answer means and when a server is asked again;
//! [`watching`] is the task that asks, one for each connection, which ends with it.

mod client;
mod watch;
mod watching;

use std::{sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;

pub(crate) use self::{watch::Verdict, watching::Watching};
use crate::{Backoff, Endpoint, transport::Transport};

/// How long a server may take for its first answer. Shorter, and one that is slow to begin is taken for
/// one that is unhealthy; longer, and calls wait for one that will never say.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Which health servers are asked for, and how long they may take to say.
///
/// For [`ChannelBuilder::health`](crate::ChannelBuilder::health). Each connected server's
/// `grpc.health.v1.Health/Watch` is called over the connection that its calls take (gRPC's A17). What
/// comes of it:
///
/// - Until the first answer an endpoint is not READY: it stays what it was, connecting or failing.
/// - SERVING: it is READY.
/// - NOT_SERVING, SERVICE_UNKNOWN or any other answer: it is
///   [`Unhealthy`](crate::Condition::Unhealthy). It stays connected and is not called; while no other
///   endpoint is READY, calls fail at once with what it says, or wait if they carry
///   [`WaitForReady`](crate::WaitForReady).
/// - UNIMPLEMENTED: it counts as healthy, and is not asked again on that connection.
/// - No answer in time, a stream that breaks or ends, an answer that is none, or more of them than
///   anybody needs (more than 10 changes, or 1,000 answers, within a second): it is unhealthy and is
///   asked again, with the channel's backoff. That starts over with each stream that brings an answer,
///   unless it brings too many. A stream that was good for a while is opened again at once: the endpoint
///   is connecting meanwhile.
///
/// One that is not healthy and says no more is asked anew after 30 s, or a host that went without a word
/// would not be missed. [`EndpointState::last_error`](crate::EndpointState::last_error) tells which it was.
///
/// It takes one of the streams that a server allows at a time. A server that allows one only, or comes
/// to, is not watched on that connection, and counts as healthy; that is logged, and is its last error.
/// The watch is no call: it is not among those in flight, and keeps neither the channel from going idle
/// nor a connection open.
///
/// ```
/// use std::time::Duration;
/// use switchboard_resolver::{Channel, HealthCheck};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let health = HealthCheck::of_service("helloworld.Greeter").answer_timeout(Duration::from_secs(2));
/// let channel = Channel::balance(["10.0.0.1:50051"])?.health(health).connect_lazy()?;
/// # channel.close().await;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    of: Of,
    pub(crate) answer_timeout: Duration,
}

/// Whose health is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Of {
    Server,
    Service(Arc<str>),
    Channel,
}

impl HealthCheck {
    /// Asks for the health of the server as a whole, the service named "". Servers that have a health
    /// service know that one.
    pub fn of_server() -> Self {
        Self::new(Of::Server)
    }

    /// Asks for the health of one of the server's services, by its full name, such as
    /// `helloworld.Greeter`. Servers made with tonic break off the watch on one that they do not know,
    /// with NOT_FOUND, and others answer SERVICE_UNKNOWN: both are unhealthy.
    pub fn of_service(name: impl Into<String>) -> Self {
        Self::new(Of::Service(name.into().into()))
    }

    /// Asks for the health of the service with the channel's own name
    /// ([`ChannelBuilder::name`](crate::ChannelBuilder::name)), which must be set. Servers have to report
    /// that one, or all are unhealthy: it is the name that was dialed, and rarely that of a gRPC service.
    pub fn of_channel() -> Self {
        Self::new(Of::Channel)
    }

    /// Sets how long a server may take for its first answer until it counts as unhealthy, and is asked
    /// again later; 5 s unless set. Calls wait for it until then, if there is no other.
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.answer_timeout = timeout.min(crate::builder::NEVER);
        self
    }

    fn new(of: Of) -> Self {
        Self {
            of,
            answer_timeout: ANSWER_TIMEOUT,
        }
    }

    pub(crate) fn is_of_channel(&self) -> bool {
        self.of == Of::Channel
    }

    /// Returns what the servers of a channel with this name are asked.
    pub(crate) fn into_asked(self, channel: Option<&Arc<str>>) -> Asked {
        Asked {
            service: match self.of {
                Of::Server => Arc::default(),
                Of::Service(name) => name,
                Of::Channel => channel.cloned().unwrap_or_default(),
            },
            channel: channel.cloned(),
            answer_timeout: self.answer_timeout,
        }
    }
}

impl Default for HealthCheck {
    /// That of the server as a whole.
    fn default() -> Self {
        Self::of_server()
    }
}

/// What servers are asked, and by whom.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    service: Arc<str>,
    /// The channel's name, for the log.
    channel: Option<Arc<str>>,
    answer_timeout: Duration,
}

impl Asked {
    /// Watches an endpoint's health over one of its connections, on one of `tasks`.
    pub(crate) fn watch(
        &self,
        endpoint: Endpoint,
        transport: Transport,
        backoff: Backoff,
        rng: fastrand::Rng,
        tasks: &TaskTracker,
    ) -> Watching {
        Watching::start(self.clone(), endpoint, transport, backoff, rng, tasks)
    }
}
