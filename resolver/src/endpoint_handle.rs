//! What the balancer knows of one endpoint, and how it tells its task.

use std::{io, sync::Arc};

use tokio::{sync::mpsc, task, time::Instant};

use crate::{
    Endpoint, Load,
    ejection::{Change, Witness},
    endpoint_task::{Command, Report},
    error::chain,
    outlook::{Observed, Trouble},
    state::{Condition, EndpointState},
    transport::{Capacity, InFlight, Transport},
    view::Target,
};

/// What the balancer knows of one endpoint's task.
pub(crate) struct EndpointHandle {
    pub(crate) task: task::Id,
    endpoint: Endpoint,
    /// Dropped to tell the task that the endpoint is no longer wanted; `None` too when the task
    /// has panicked.
    commands: Option<mpsc::UnboundedSender<Command>>,
    pub(crate) condition: Condition,
    /// It has vanished from what the source lists, and is kept connected.
    is_reserved: bool,
    /// It is not called, since its calls fail.
    is_ejected: bool,
    /// Where its calls tell how they ended, if it is judged by that.
    witness: Option<Witness>,
    load: Arc<Load>,
    last_trouble: Option<Trouble>,
    /// The way there, while there is one.
    pub(crate) target: Option<Arc<Target>>,
    /// How many calls there are, on all its connections.
    in_flight: InFlight,
    /// How many there may be.
    pub(crate) capacity: Capacity,
    /// All this as it is shown. Kept, so that a report costs its own endpoint's and not those of
    /// thousands.
    pub(crate) state: Arc<EndpointState>,
}

impl EndpointHandle {
    pub(crate) fn new(
        task: task::Id,
        endpoint: Endpoint,
        commands: mpsc::UnboundedSender<Command>,
        condition: Condition,
        witness: Option<Witness>,
        capacity: Capacity,
    ) -> Self {
        Self {
            task,
            state: Arc::new(EndpointState::new(
                &endpoint,
                condition,
                false,
                None,
                InFlight::default(),
            )),
            endpoint,
            commands: Some(commands),
            condition,
            is_reserved: false,
            is_ejected: false,
            witness,
            load: Arc::default(),
            last_trouble: None,
            target: None,
            in_flight: InFlight::default(),
            capacity,
        }
    }

    pub(crate) fn observe(&self) -> Observed<'_> {
        Observed {
            endpoint: &self.endpoint,
            condition: self.condition,
            last_trouble: self.last_trouble.as_ref(),
        }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn is_reserved(&self) -> bool {
        self.is_reserved
    }

    /// Returns whether there is a connection, whether it is called or not.
    pub(crate) fn is_connected(&self) -> bool {
        self.target.is_some()
    }

    /// Keeps the endpoint, which is not listed any more, as long as its connection is.
    pub(crate) fn reserve(&mut self) {
        self.is_reserved = true;
        self.tell(Command::Vanished);
        self.show();
    }

    /// Takes in that the endpoint is listed again.
    pub(crate) fn relist(&mut self, endpoint: Endpoint) {
        self.is_reserved = false;
        self.tell(Command::Listed);
        match self.endpoint == endpoint {
            true => self.show(),
            false => self.update(endpoint),
        }
    }

    pub(crate) fn tell(&self, command: Command) {
        if let Some(commands) = &self.commands {
            // The task is gone only if it has just panicked, and then there is nobody to tell.
            let _ = commands.send(command);
        }
    }

    pub(crate) fn calls_in_flight(&self) -> usize {
        self.state.calls_in_flight()
    }

    /// Returns whether it can be told anything, which one that has panicked cannot.
    pub(crate) fn is_heard(&self) -> bool {
        self.commands.is_some()
    }

    /// Takes in that the source says something else of the endpoint.
    pub(crate) fn update(&mut self, endpoint: Endpoint) {
        self.endpoint = endpoint.clone();
        let transport = self.target.as_ref().map(|it| it.transport.clone());
        self.aim(transport);
        self.tell(Command::Update(endpoint));
        self.show();
    }

    pub(crate) fn take_in(&mut self, report: Report) {
        self.condition = report.condition;
        // Its task does not know what it was ejected for.
        let known = self.last_trouble.take();
        self.last_trouble = match report.last_trouble {
            Some(told) if known.as_ref().is_none_or(|it| it.at <= told.at) => Some(told),
            _ => known,
        };
        self.aim(report.transport);
        self.show();
    }

    fn aim(&mut self, transport: Option<Transport>) {
        if let Some(transport) = &transport {
            self.in_flight = self.in_flight.with(transport);
        }
        self.target = transport.map(|transport| {
            Arc::new(Target {
                endpoint: self.endpoint.clone(),
                transport,
                witness: self.witness.clone(),
                load: self.load.clone(),
            })
        });
    }

    /// Takes in what has become of it by how its calls ended. One line at WARN when it is ejected, one
    /// at INFO when it is back.
    pub(crate) fn judged(&mut self, change: &Change, service: Option<&str>) {
        let service = service.unwrap_or_default();
        let endpoint = &self.endpoint;
        match change {
            Change::Ejected {
                reason,
                time,
                times,
                ..
            } => {
                let seconds = time.as_secs_f64();
                match self.is_ejected {
                    false => {
                        tracing::warn!(name: "endpoint_ejected", service, %endpoint, %reason, seconds, times, "endpoint is not called for a while");
                    }
                    true => {
                        tracing::debug!(name: "endpoint_still_ejected", service, %endpoint, %reason, seconds, times, "endpoint is not called for longer");
                    }
                }
                self.last_trouble = Some(Trouble {
                    at: Instant::now().into_std(),
                    cause: Arc::new(io::Error::other(format!("ejected: {reason}"))),
                });
                self.is_ejected = true;
            }
            Change::OnTrial { .. } => {
                tracing::debug!(name: "endpoint_on_trial", service, %endpoint, "endpoint gets one call");
            }
            Change::Readmitted { after, .. } => {
                let seconds = after.as_secs_f64();
                tracing::info!(name: "endpoint_readmitted", service, %endpoint, seconds, "endpoint is called again");
                self.is_ejected = false;
            }
        }
        self.show();
    }

    /// Takes in that the task has panicked.
    pub(crate) fn panicked(&mut self) {
        self.commands = None;
        self.condition = Condition::Failing;
        self.target = None;
        self.last_trouble = Some(Trouble {
            at: Instant::now().into_std(),
            cause: Arc::new(io::Error::other("its connector has panicked")),
        });
        self.show();
    }

    /// Tells the task to drain.
    pub(crate) fn into_draining(mut self) -> Self {
        self.commands = None;
        self.target = None;
        self.is_reserved = false;
        self.condition = Condition::Draining;
        self.show();
        self
    }

    fn show(&mut self) {
        let condition = match self.condition {
            Condition::Ready | Condition::Suspect if self.is_ejected => Condition::Ejected,
            condition => condition,
        };
        self.state = Arc::new(EndpointState::new(
            &self.endpoint,
            condition,
            self.is_reserved,
            self.last_trouble.as_ref(),
            self.in_flight.clone(),
        ));
    }

    /// One line at WARN when an endpoint begins to fail, or to be unhealthy, one at INFO when it is back;
    /// what is between is for debugging.
    pub(crate) fn log(&self, service: Option<&str>, report: &Report) {
        let service = service.unwrap_or_default();
        let endpoint = &self.endpoint;
        let cause = report.last_trouble.as_ref().map(|it| chain(&*it.cause));
        let cause = cause.unwrap_or_default();
        match (self.condition, report.condition) {
            (Condition::Failing | Condition::Unhealthy, Condition::Failing) => {
                tracing::debug!(name: "endpoint_still_failing", service, %endpoint, cause, "endpoint still fails");
            }
            (_, Condition::Failing) => {
                tracing::warn!(name: "endpoint_failing", service, %endpoint, cause, "endpoint fails");
            }
            (Condition::Failing | Condition::Unhealthy, Condition::Unhealthy) => {
                tracing::debug!(name: "endpoint_still_unhealthy", service, %endpoint, cause, "endpoint is connected, and not healthy");
            }
            // A server that stops leaves the list first, and then says so.
            (_, Condition::Unhealthy) if self.is_reserved => {
                tracing::debug!(name: "endpoint_unhealthy", service, %endpoint, cause, "endpoint in reserve is not healthy");
            }
            (_, Condition::Unhealthy) => {
                tracing::warn!(name: "endpoint_unhealthy", service, %endpoint, cause, "endpoint is not healthy");
            }
            (_, Condition::Suspect) => {
                tracing::warn!(name: "endpoint_suspect", service, %endpoint, "endpoint is silent");
            }
            (Condition::Suspect, Condition::Ready) => {
                tracing::info!(name: "endpoint_ready", service, %endpoint, "endpoint answers again");
            }
            (Condition::Failing, Condition::Ready) => {
                tracing::info!(name: "endpoint_ready", service, %endpoint, "endpoint is back");
            }
            (Condition::Unhealthy, Condition::Ready) => {
                tracing::info!(name: "endpoint_ready", service, %endpoint, "endpoint is healthy again");
            }
            (_, Condition::Ready) => {
                tracing::debug!(name: "endpoint_ready", service, %endpoint, "endpoint is ready");
            }
            (_, Condition::Connecting) if report.transport.is_some() => {
                tracing::debug!(name: "endpoint_asked", service, %endpoint, cause, "endpoint is asked for its health");
            }
            (_, Condition::Connecting) => {
                tracing::debug!(name: "endpoint_lost", service, %endpoint, cause, "connection lost");
            }
            (_, Condition::Idle) => {
                tracing::debug!(name: "endpoint_idle", service, %endpoint, "endpoint is not called any more");
            }
            // None that its task reports.
            (_, Condition::Ejected) => {}
            (_, Condition::Draining) => {
                tracing::debug!(name: "reserve_lost", service, %endpoint, cause, "connection in reserve lost");
            }
        }
    }
}
