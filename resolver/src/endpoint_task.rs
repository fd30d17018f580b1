//! The task that keeps one endpoint connected.
//!
//! It does what its [`Subchannel`] decides, one thing at a time, and reports each change to the
//! balancer. It lives until its endpoint is removed and the last stream on its connections has
//! ended.

use std::{error::Error, fmt, io, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use http::uri::{Authority, Scheme};
use tokio::{sync::mpsc, task, time::Instant};
use tokio_util::task::TaskTracker;

use crate::{
    Address, Backoff, Cause, Endpoint, Security,
    connector::Connector,
    endpoint_set::EndpointKey,
    error::chain,
    outlook::Failure,
    state::Condition,
    subchannel::{Event, Step, Subchannel},
    tls::Tls,
    transport::{self, Connection, Transport},
};

/// How the endpoints of a channel are connected to.
#[derive(Debug)]
pub(crate) struct Dialing {
    pub(crate) connector: Connector,
    /// What is put around the connector's byte streams.
    pub(crate) tls: Option<Tls>,
    pub(crate) connect_timeout: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) settings: transport::Settings,
    /// What `:authority` is; the endpoint's own address if `None`.
    pub(crate) authority: Option<Authority>,
}

/// What the balancer tells the task. That it drops its sender means that the endpoint was removed.
#[derive(Debug)]
pub(crate) enum Command {
    /// Ends a backoff.
    Redial,
    /// Replaces the endpoint by one with the same addresses, maybe in another order; it counts from
    /// the next dial on.
    Update(Arc<Endpoint>),
}

/// What the task tells the balancer, whenever it changes.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) key: EndpointKey,
    /// Whose report it is: an endpoint that comes back has a second task while its first one
    /// drains.
    pub(crate) task: task::Id,
    pub(crate) condition: Condition,
    pub(crate) last_failure: Option<Failure>,
    /// The way to the endpoint while it is READY.
    pub(crate) transport: Option<Transport>,
}

/// Keeps one endpoint connected; `run` is the task.
pub(crate) struct EndpointTask {
    pub(crate) key: EndpointKey,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) dialing: Arc<Dialing>,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    pub(crate) reports: mpsc::UnboundedSender<Report>,
    pub(crate) rng: fastrand::Rng,
}

/// What has become of the way to the endpoint.
struct Link {
    work: Work,
    /// While it is READY.
    transport: Option<Transport>,
    last_failure: Option<Failure>,
}

/// What the task goes on from. Short-lived: what is large in it moves on at once.
#[allow(clippy::large_enum_variant)]
enum Input {
    /// `None` when the endpoint was removed.
    Command(Option<Command>),
    Outcome(Outcome),
}

/// The one thing the task is doing.
enum Work {
    Dialing(BoxFuture<'static, Result<(Transport, Connection), Refused>>),
    Waiting(Instant),
    Serving(Connection),
    Draining(BoxFuture<'static, ()>),
}

/// How that ended. As short-lived.
#[allow(clippy::large_enum_variant)]
enum Outcome {
    Dialed(Result<(Transport, Connection), Refused>),
    Waited,
    Lost(Cause),
    Drained,
}

/// Why an endpoint could not be connected to: each of its addresses with what happened there.
#[derive(Debug, Clone)]
struct Refused(Vec<(Address, Cause)>);

impl EndpointTask {
    /// Keeps the endpoint connected until it is removed and its last stream has ended.
    pub(crate) async fn run(mut self) {
        // hyper's tasks. Streams may outlive their connection's readiness, after a GOAWAY for one,
        // so all connections share one tracker, and draining waits for it.
        let tasks = TaskTracker::new();
        let mut subchannel = Subchannel::new(self.dialing.backoff);
        let mut link = Link {
            work: Work::Dialing(self.dial(&tasks)),
            transport: None,
            last_failure: None,
        };
        loop {
            let is_wanted = subchannel.condition() != Condition::Draining;
            let input = tokio::select! {
                biased;
                command = self.commands.recv(), if is_wanted => Input::Command(command),
                outcome = link.work.outcome() => Input::Outcome(outcome),
            };
            let now = Instant::now().into_std();
            let Some(event) = self.event(input, &mut link, now) else {
                continue;
            };
            let Some(step) = subchannel.handle(event, now, &mut self.rng) else {
                continue;
            };
            if step != Step::Serve {
                link.transport = None;
            }
            link.work = match step {
                Step::Serve => link.work,
                Step::Dial => Work::Dialing(self.dial(&tasks)),
                Step::WaitUntil(at) => Work::Waiting(Instant::from_std(at)),
                Step::Drain => Work::Draining(link.work.drain(&tasks)),
                Step::End => return,
            };
            // The balancer is gone only when it panicked, and then there is nobody to tell.
            let _ = self.reports.send(Report {
                key: self.key.clone(),
                task: task::id(),
                condition: subchannel.condition(),
                last_failure: link.last_failure.clone(),
                transport: link.transport.clone(),
            });
        }
    }

    /// Takes in what the task was told or what its work came to, and returns what that is to the
    /// subchannel.
    fn event(&mut self, input: Input, link: &mut Link, now: std::time::Instant) -> Option<Event> {
        Some(match input {
            Input::Command(Some(Command::Update(endpoint))) => {
                self.endpoint = endpoint;
                return None;
            }
            Input::Command(Some(Command::Redial)) => Event::Reset,
            Input::Command(None) => Event::Removed,
            Input::Outcome(Outcome::Dialed(Ok((transport, connection)))) => {
                link.transport = Some(transport);
                link.work = Work::Serving(connection);
                Event::Connected
            }
            Input::Outcome(Outcome::Dialed(Err(refused))) => {
                let cause = Arc::new(refused);
                link.last_failure = Some(Failure { at: now, cause });
                Event::Refused
            }
            Input::Outcome(Outcome::Waited) => Event::Elapsed,
            Input::Outcome(Outcome::Lost(cause)) => {
                link.last_failure = Some(Failure { at: now, cause });
                let transport = link.transport.as_ref();
                let answered = transport.is_some_and(Transport::has_answered);
                Event::Lost { answered }
            }
            Input::Outcome(Outcome::Drained) => Event::Drained,
        })
    }

    /// Tries the addresses in order until one is connected. Each gets an equal share of the time
    /// that is left, so that one that hangs leaves some to the next.
    fn dial(
        &self,
        tasks: &TaskTracker,
    ) -> BoxFuture<'static, Result<(Transport, Connection), Refused>> {
        let endpoint = self.endpoint.clone();
        let dialing = self.dialing.clone();
        let tasks = tasks.clone();
        Box::pin(async move {
            let end = Instant::now() + dialing.connect_timeout;
            let mut refusals = Vec::new();
            let addresses = endpoint.addresses();
            for (tried, address) in addresses.iter().enumerate() {
                let now = Instant::now();
                let share = end.duration_since(now) / (addresses.len() - tried) as u32;
                match dialing.dial(address, share, &tasks).await {
                    Ok(connected) => return Ok(connected),
                    Err(cause) => refusals.push((address.clone(), cause)),
                }
            }
            Err(Refused(refusals))
        })
    }
}

impl Dialing {
    /// Returns whether endpoints are spoken to inside TLS.
    pub(crate) fn security(&self) -> Security {
        match self.tls {
            Some(_) => Security::Tls,
            None => Security::Plaintext,
        }
    }

    async fn dial(
        &self,
        address: &Address,
        patience: Duration,
        tasks: &TaskTracker,
    ) -> Result<(Transport, Connection), Cause> {
        let end = Instant::now() + patience;
        let timed_out = |what: &str| -> Cause {
            let text = format!("{what} within {patience:?}");
            Arc::new(io::Error::new(io::ErrorKind::TimedOut, text))
        };
        let authority = match &self.authority {
            Some(authority) => authority.clone(),
            None => Authority::try_from(address.to_string())
                .map_err(|error| -> Cause { Arc::new(error) })?,
        };
        // Before the address is dialed: what is wrong with our own files is no server's business.
        let tls = match &self.tls {
            Some(tls) => {
                let prepared = tokio::time::timeout_at(end, tls.prepare(address)).await;
                let prepared = prepared.map_err(|_| timed_out("the files of TLS were not read"))?;
                Some(prepared.map_err(|error| -> Cause { Arc::new(error) })?)
            }
            None => None,
        };
        let mut io = tokio::time::timeout_at(end, self.connector.connect(address))
            .await
            .map_err(|_| timed_out("no connection"))?
            .map_err(|error| -> Cause { Arc::new(error) })?;
        if let Some(tls) = tls {
            io = tokio::time::timeout_at(end, tls.run(io))
                .await
                .map_err(|_| timed_out("connected, but no TLS handshake with the server"))?
                .map_err(|error| -> Cause { Arc::new(error) })?;
        }
        let scheme = match self.security() {
            Security::Plaintext => Scheme::HTTP,
            Security::Tls => Scheme::HTTPS,
        };
        let handshake = transport::handshake(io, scheme, authority, self.settings, tasks);
        tokio::time::timeout_at(end, handshake)
            .await
            .map_err(|_| timed_out("connected, but no HTTP/2 settings from the server"))?
    }
}

impl Work {
    /// Waits until the work has ended. Cancel safe: it goes on where it was.
    async fn outcome(&mut self) -> Outcome {
        match self {
            Self::Dialing(dial) => Outcome::Dialed(dial.await),
            Self::Waiting(until) => {
                tokio::time::sleep_until(*until).await;
                Outcome::Waited
            }
            Self::Serving(connection) => Outcome::Lost(connection.lost().await),
            Self::Draining(drain) => {
                drain.await;
                Outcome::Drained
            }
        }
    }

    /// Ends the work, except for the streams in flight, and waits for those.
    fn drain(self, tasks: &TaskTracker) -> BoxFuture<'static, ()> {
        let connection = match self {
            Self::Serving(connection) => Some(connection),
            // Dropped here and now: a dial that is half done holds its connection open.
            Self::Dialing(_) | Self::Waiting(_) | Self::Draining(_) => None,
        };
        let tasks = tasks.clone();
        Box::pin(async move {
            if let Some(mut connection) = connection {
                // Over once the last sender is dropped; calls that are just being sent still have
                // one.
                connection.lost().await;
            }
            tasks.close();
            tasks.wait().await;
        })
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot connect: ")?;
        if let [(_, cause)] = &self.0[..] {
            return write!(f, "{}", chain(&**cause));
        }
        for (index, (address, cause)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{address}: {}", chain(&**cause))?;
        }
        Ok(())
    }
}

impl Error for Refused {}
