//! The task that keeps one endpoint connected.
//!
//! It does what its [`Subchannel`] decides, one thing at a time, and reports each change to the
//! balancer. It lives until its endpoint is removed and the last stream on its connections has
//! ended.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll};

use futures::future::BoxFuture;
use tokio::{
    sync::mpsc,
    task::{self, coop::unconstrained},
    time::Instant,
};
use tokio_util::task::TaskTracker;

use crate::{
    Endpoint,
    dialing::{DialError, Dialing},
    endpoint_set::EndpointKey,
    health::{Verdict, Watching},
    outlook::Trouble,
    state::Condition,
    subchannel::{Event, Step, Subchannel},
    transport::{self, Capacity, Connection, Transport},
};

/// What the balancer tells the task. That it drops its sender means that the endpoint was removed.
#[derive(Debug)]
pub(crate) enum Command {
    /// Ends a backoff.
    ResetBackoff,
    /// Lets the connection go until it is woken: the channel is not called any more.
    Rest,
    /// Dials again: the channel is called.
    Wake,
    /// The endpoint is not listed any more: its connection is not replaced when it is lost.
    Vanished,
    /// It is listed again.
    Listed,
    /// Replaces the endpoint by one with the same addresses, maybe in another order; it counts from
    /// the next dial on.
    Update(Endpoint),
}

/// What the task tells the balancer, whenever it changes.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) key: EndpointKey,
    /// Whose report it is: an endpoint that comes back has a second task while its first one
    /// drains.
    pub(crate) task: task::Id,
    pub(crate) condition: Condition,
    pub(crate) last_trouble: Option<Trouble>,
    /// The way to the endpoint while there is one.
    pub(crate) transport: Option<Transport>,
}

/// Keeps one endpoint connected; `run` is the task.
pub(crate) struct EndpointTask {
    pub(crate) endpoint: Endpoint,
    pub(crate) dialing: Arc<Dialing>,
    /// What its connections have in common.
    pub(crate) capacity: Capacity,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    pub(crate) reports: mpsc::UnboundedSender<Report>,
    pub(crate) rng: fastrand::Rng,
}

/// What has become of the way to the endpoint.
struct Link {
    work: Work,
    /// While it is connected.
    transport: Option<Transport>,
    /// While that connection's health is watched. What an earlier one says is dropped with its watch.
    watching: Option<Watching>,
    last_trouble: Option<Trouble>,
}

/// What the task goes on from.
#[allow(
    clippy::large_enum_variant,
    reason = "what is large in it moves on at once"
)]
enum Input {
    /// `None` when the endpoint was removed.
    Command(Option<Command>),
    /// `None` when the health is not watched any more.
    Verdict(Option<Verdict>),
    Outcome(Outcome),
}

/// The one thing the task is doing.
enum Work {
    Dialing(BoxFuture<'static, Result<(Transport, Connection), DialError>>),
    Waiting(Instant),
    Resting,
    Serving(Box<Connection>),
    Draining(BoxFuture<'static, ()>),
}

/// How that ended, or goes on.
#[allow(
    clippy::large_enum_variant,
    reason = "what is large in it moves on at once"
)]
enum Outcome {
    Dialed(Result<(Transport, Connection), DialError>),
    Waited,
    Connection {
        event: transport::Event,
        has_answered: bool,
    },
    Drained,
}

impl EndpointTask {
    /// Keeps the endpoint connected until it is removed and its last stream has ended.
    pub(crate) async fn run(mut self, mut subchannel: Subchannel) {
        // Connections that take no more calls while some are in flight, and what those still have to
        // send. They may outlive the connection after them, so draining waits for all.
        let tasks = TaskTracker::new();
        let mut link = Link {
            work: match subchannel.condition() {
                Condition::Idle => Work::Resting,
                _ => Work::Dialing(self.dial(&tasks)),
            },
            transport: None,
            watching: None,
            last_trouble: None,
        };
        loop {
            let is_wanted = subchannel.condition() != Condition::Draining;
            let input = tokio::select! {
                biased;
                command = next(&mut self.commands), if is_wanted => Input::Command(command),
                verdict = verdict(&mut link.watching), if link.watching.is_some() => Input::Verdict(verdict),
                outcome = link.work.outcome() => Input::Outcome(outcome),
            };
            let now = Instant::now().into_std();
            let Some(event) = self.event(input, &mut link, &tasks, now) else {
                continue;
            };
            let Some(step) = subchannel.handle(event, now, &mut self.rng) else {
                continue;
            };
            let next = match step {
                Step::Serve => None,
                Step::Dial => Some(Work::Dialing(self.dial(&tasks))),
                Step::WaitUntil(at) => Some(Work::Waiting(Instant::from_std(at))),
                Step::Rest => Some(Work::Resting),
                Step::Drain => Some(Work::draining(tasks.clone())),
                Step::End => return,
            };
            if let Some(next) = next {
                link.transport = None;
                link.watching = None;
                if let Work::Serving(connection) = std::mem::replace(&mut link.work, next) {
                    tasks.spawn(connection.finish());
                }
            }
            // The balancer is gone only when it panicked, and then there is nobody to tell.
            let _ = self.reports.send(Report {
                key: self.endpoint.key().clone(),
                task: task::id(),
                condition: subchannel.condition(),
                last_trouble: link.last_trouble.clone(),
                transport: link.transport.clone(),
            });
        }
    }

    /// Takes in what the task was told or what its work came to, and returns what that is to the
    /// subchannel.
    fn event(
        &mut self,
        input: Input,
        link: &mut Link,
        tasks: &TaskTracker,
        now: std::time::Instant,
    ) -> Option<Event> {
        Some(match input {
            Input::Command(Some(Command::Update(endpoint))) => {
                self.endpoint = endpoint;
                return None;
            }
            Input::Command(Some(Command::ResetBackoff)) => Event::ResetBackoff,
            Input::Command(Some(Command::Rest)) => Event::Rest,
            Input::Command(Some(Command::Wake)) => Event::Wake,
            Input::Command(Some(Command::Vanished)) => Event::Vanished,
            Input::Command(Some(Command::Listed)) => Event::Listed,
            Input::Command(None) => Event::Removed,
            Input::Verdict(None) => {
                link.watching = None;
                return None;
            }
            Input::Verdict(Some(verdict)) => {
                if let Some(illness) = verdict.illness() {
                    let cause = Arc::new(illness.clone());
                    link.last_trouble = Some(Trouble { at: now, cause });
                }
                match verdict {
                    Verdict::Healthy | Verdict::Unwatched(_) => Event::Healthy,
                    Verdict::Unknown(_) => Event::HealthUnknown,
                    Verdict::Unhealthy(_) => Event::Unhealthy,
                }
            }
            Input::Outcome(Outcome::Dialed(Ok((transport, connection)))) => {
                let asked = self.dialing.health.as_ref();
                link.watching = asked.map(|asked| {
                    let (endpoint, backoff) = (self.endpoint.clone(), self.dialing.backoff);
                    let rng = self.rng.fork();
                    asked.watch(endpoint, transport.clone(), backoff, rng, tasks)
                });
                link.transport = Some(transport);
                link.work = Work::Serving(Box::new(connection));
                Event::Connected {
                    is_watched: link.watching.is_some(),
                }
            }
            Input::Outcome(Outcome::Dialed(Err(error))) => {
                let cause = Arc::new(error);
                link.last_trouble = Some(Trouble { at: now, cause });
                Event::DialFailed
            }
            Input::Outcome(Outcome::Waited) => Event::Elapsed,
            Input::Outcome(Outcome::Connection {
                event,
                has_answered,
            }) => match event {
                transport::Event::Silent => Event::Silent,
                transport::Event::Heard => Event::Heard,
                transport::Event::Leaving(cause) | transport::Event::Closed(cause) => {
                    link.last_trouble = Some(Trouble { at: now, cause });
                    Event::Lost {
                        answered: has_answered,
                    }
                }
            },
            Input::Outcome(Outcome::Drained) => Event::Drained,
        })
    }

    fn dial(
        &self,
        tasks: &TaskTracker,
    ) -> BoxFuture<'static, Result<(Transport, Connection), DialError>> {
        let (endpoint, dialing, tasks) =
            (self.endpoint.clone(), self.dialing.clone(), tasks.clone());
        let capacity = self.capacity.clone();
        Box::pin(async move { dialing.dial(&endpoint, &tasks, &capacity).await })
    }
}

/// Waits for what an endpoint's health service says next; `None` once it will say nothing more. Cancel
/// safe.
async fn verdict(watching: &mut Option<Watching>) -> Option<Verdict> {
    match watching {
        Some(watching) => next(&mut watching.verdicts).await,
        None => std::future::pending().await,
    }
}

/// Waits for what the task is told next; `None` once there will be nothing. Cancel safe.
///
/// It is polled whenever the connection has something to do, for nothing most often: so it asks once,
/// and from then on looks whether there is anything, which costs less.
async fn next<T>(receiver: &mut mpsc::UnboundedReceiver<T>) -> Option<T> {
    let mut has_asked = false;
    poll_fn(|cx| {
        if has_asked && receiver.is_empty() && !receiver.is_closed() {
            return Poll::Pending;
        }
        has_asked = true;
        // Not put off when the task has done much: it would not ask again.
        let next = poll_fn(|cx| receiver.poll_recv(cx));
        pin!(unconstrained(next)).poll(cx)
    })
    .await
}

impl Work {
    /// Waits until the work has ended, or has something to tell. Cancel safe: it goes on where it
    /// was.
    async fn outcome(&mut self) -> Outcome {
        match self {
            Self::Dialing(dial) => Outcome::Dialed(dial.await),
            Self::Waiting(until) => {
                tokio::time::sleep_until(*until).await;
                Outcome::Waited
            }
            Self::Resting => std::future::pending().await,
            Self::Serving(connection) => {
                let event = connection.event().await;
                let has_answered = connection.has_answered();
                Outcome::Connection {
                    event,
                    has_answered,
                }
            }
            Self::Draining(drain) => {
                drain.await;
                Outcome::Drained
            }
        }
    }

    /// Waits for the tasks that still have something to do.
    fn draining(tasks: TaskTracker) -> Self {
        Self::Draining(Box::pin(async move {
            tasks.close();
            tasks.wait().await;
        }))
    }
}
