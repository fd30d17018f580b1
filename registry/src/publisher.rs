//! An instance, kept in etcd: the performer of [`publication`](crate::publication), and its handle.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use switchboard_resolver::Cause;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    Instance, InstanceError, InstanceId, Layout, Namespace, Registry, ServiceName, clock,
    etcd::{Etcd, EtcdError, KeyValue, Kind, Reachable, Reading, Written},
    layout::Record,
    publication::{Found, IdKind, Publication, Status, Step, Write},
    session::{Session, SessionState},
};

/// An instance that is kept in etcd, for as long as this lives.
///
/// Whatever happens to etcd or to the connection, it is put back; [`status`](Self::status) says how
/// it is. Dropping it takes the instance away too, in the background; [`stop`](Self::stop) waits for
/// that.
pub struct Publisher {
    service: ServiceName,
    ttl: Duration,
    commands: mpsc::UnboundedSender<Command>,
    status: watch::Receiver<PublicationStatus>,
    /// What is published stays so while this lives, whatever becomes of the other handles.
    _registry: Registry,
}

/// How a publication is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum PublicationStatus {
    /// On its way into etcd, or out of it.
    Registering,
    /// In etcd.
    Published {
        /// The lease that it is under.
        lease: i64,
        /// Since when, without a break that we know of.
        since: Instant,
    },
    /// Taken out of etcd, until [`Publisher::resume`].
    Paused,
    /// Not in etcd as wanted, and tried again.
    Retrying {
        /// What stands in the way.
        cause: Arc<PublishError>,
    },
    /// A newer publication of the same server has the key. It is put back once that one is gone.
    Superseded,
    /// Out of etcd for good.
    Stopped,
}

/// Why an instance is not published.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The instance has no endpoint that others can dial.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The given id names another server, which is alive. Choose another id, or stop that server.
    #[error("id taken: {key} (expected: an id that no other server has)")]
    IdTaken {
        /// The key in etcd.
        key: String,
    },
    /// etcd does not let us. It is tried again every 10 s, until somebody changes that.
    #[error("etcd refuses to publish {service}")]
    Denied {
        /// The service.
        service: ServiceName,
        /// What etcd says.
        #[source]
        cause: Cause,
    },
    /// etcd cannot be reached, or cannot answer.
    #[error("etcd does not take {service} now")]
    Unavailable {
        /// The service.
        service: ServiceName,
        /// What stands in the way.
        #[source]
        cause: Cause,
    },
    /// A newer publication of the same server has the key.
    #[error("{service} was superseded by a newer publication of the same server")]
    Superseded {
        /// The service.
        service: ServiceName,
    },
    /// The publisher was stopped, or its registry closed.
    #[error("{service} was stopped")]
    Stopped {
        /// The service.
        service: ServiceName,
    },
}

impl PublishError {
    /// Returns whether waiting alone may mend it.
    fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

#[derive(Debug)]
enum Command {
    Pause(Done),
    Resume(Done),
    Update(Box<Instance>, Done),
    Stop(Done),
}

/// Told when etcd holds what was asked for, or will not.
type Done = oneshot::Sender<Result<(), PublishError>>;

impl Publisher {
    pub(crate) fn start(registry: Registry, instance: Instance) -> Result<Self, PublishError> {
        check(&instance)?;
        let (commands, received) = mpsc::unbounded_channel();
        let (status_sender, status) = watch::channel(PublicationStatus::Registering);
        let service = instance.service().clone();
        let ttl = registry.shared.ttl;
        let place = Place {
            layout: registry.shared.layout,
            namespace: registry.shared.namespace.clone(),
        };
        let session = registry.shared.session().clone();
        let etcd = registry.shared.etcd.clone();
        let (record, id) = place.record(&instance);
        let performer = Performer {
            publication: Publication::new(record, id),
            instance,
            place,
            session: session.state(),
            doubts: session,
            reachable: etcd.reachable(),
            etcd,
            ttl,
            closing: registry.shared.ending.asked.clone(),
            waiting: Vec::new(),
            status: status_sender,
            rng: fastrand::Rng::new(),
        };
        registry
            .shared
            .ending
            .writers
            .spawn_on(performer.run(received), &registry.shared.runtime);
        Ok(Self {
            service,
            ttl,
            commands,
            status,
            _registry: registry,
        })
    }

    /// Waits until the instance is in etcd.
    ///
    /// # Errors
    ///
    /// What waiting does not mend: the id is taken, etcd refuses, a newer publication of the same
    /// server has taken over, or this one was stopped. Except for the last it is tried on in the
    /// background.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it changes nothing.
    pub async fn published(&self) -> Result<(), PublishError> {
        let mut status = self.status.clone();
        let settled = status.wait_for(|status| match status {
            PublicationStatus::Registering | PublicationStatus::Paused => false,
            PublicationStatus::Retrying { cause } => !cause.is_passing(),
            PublicationStatus::Published { .. } => true,
            PublicationStatus::Superseded | PublicationStatus::Stopped => true,
        });
        let service = self.service.clone();
        match settled.await.as_deref() {
            Ok(PublicationStatus::Published { .. }) => Ok(()),
            Ok(PublicationStatus::Retrying { cause }) => Err(PublishError::clone(cause)),
            Ok(PublicationStatus::Superseded) => Err(PublishError::Superseded { service }),
            _ => Err(PublishError::Stopped { service }),
        }
    }

    /// Takes the instance out of etcd and keeps everything else, so that [`resume`](Self::resume) is
    /// quick. Returns when it is gone, however long etcd is away.
    ///
    /// # Errors
    ///
    /// etcd refuses, or the publisher was stopped.
    ///
    /// # Cancel safety
    ///
    /// Once polled it is paused all the same; only the waiting is given up.
    pub async fn pause(&self) -> Result<(), PublishError> {
        self.ask(Command::Pause).await
    }

    /// Puts the instance back into etcd, and takes the key over if a newer publication of the same
    /// server has it. Returns when it is there, however long etcd is away.
    ///
    /// # Errors
    ///
    /// As [`published`](Self::published).
    ///
    /// # Cancel safety
    ///
    /// Once polled it is resumed all the same; only the waiting is given up.
    pub async fn resume(&self) -> Result<(), PublishError> {
        self.ask(Command::Resume).await
    }

    /// Puts `instance` in the place of the one before. If its id is another one, the new key comes
    /// and the old one goes in one transaction. A paused publisher stays so.
    ///
    /// # Errors
    ///
    /// The instance is of another service or has nothing that can be dialed: then nothing changes.
    /// Otherwise as [`published`](Self::published).
    ///
    /// # Cancel safety
    ///
    /// Once polled the instance is replaced all the same; only the waiting is given up.
    pub async fn update(&self, instance: Instance) -> Result<(), PublishError> {
        check(&instance)?;
        if instance.service() != &self.service {
            let (given, expected) = (instance.service().clone(), self.service.clone());
            return Err(InstanceError::Service { given, expected }.into());
        }
        self.ask(|done| Command::Update(Box::new(instance), done))
            .await
    }

    /// Takes the instance out of etcd for good. It is gone when this returns.
    ///
    /// # Errors
    ///
    /// etcd did not confirm that within one TTL. It is tried on in the background until the registry
    /// closes; without renewals the key then goes with its lease.
    ///
    /// # Cancel safety
    ///
    /// Once polled it is stopped all the same; only the waiting is given up.
    pub async fn stop(self) -> Result<(), PublishError> {
        match tokio::time::timeout(self.ttl, self.ask(Command::Stop)).await {
            Ok(Err(PublishError::Stopped { .. })) => Ok(()),
            Ok(answer) => answer,
            Err(_) => match &*self.status.borrow() {
                PublicationStatus::Retrying { cause } => Err(PublishError::clone(cause)),
                _ => Err(PublishError::Unavailable {
                    service: self.service.clone(),
                    cause: Arc::new(Unconfirmed(self.ttl)),
                }),
            },
        }
    }

    /// Returns a watch on how the publication is. It ends with [`PublicationStatus::Stopped`].
    pub fn status(&self) -> watch::Receiver<PublicationStatus> {
        self.status.clone()
    }

    async fn ask(&self, command: impl FnOnce(Done) -> Command) -> Result<(), PublishError> {
        let stopped = || PublishError::Stopped {
            service: self.service.clone(),
        };
        let (done, answer) = oneshot::channel();
        self.commands.send(command(done)).map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.borrow();
        f.debug_struct("Publisher")
            .field("service", &self.service)
            .field("status", &*status)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no answer in {} s", _0.as_secs())]
struct Unconfirmed(Duration);

/// What is published must be of use to somebody.
fn check(instance: &Instance) -> Result<(), InstanceError> {
    match instance
        .endpoints()
        .iter()
        .find(|endpoint| endpoint.address().is_unspecified())
    {
        Some(endpoint) => Err(InstanceError::Unspecified(endpoint.address().clone())),
        None if instance.endpoints().is_empty() => {
            Err(InstanceError::NoEndpoint(instance.service().clone()))
        }
        None => Ok(()),
    }
}

/// Where records go.
#[derive(Debug)]
struct Place {
    layout: Layout,
    namespace: Namespace,
}

impl Place {
    fn record(&self, instance: &Instance) -> (Record, IdKind) {
        let derived = instance
            .endpoints()
            .first()
            .map(|endpoint| InstanceId::derived(instance.service(), endpoint.address()));
        let id = if derived.as_ref() == Some(instance.id()) {
            IdKind::Derived
        } else {
            IdKind::Given
        };
        (self.layout.encode(&self.namespace, instance), id)
    }
}

/// What keeps one instance in etcd.
struct Performer {
    publication: Publication,
    instance: Instance,
    place: Place,
    session: watch::Receiver<SessionState>,
    doubts: Session,
    etcd: Etcd,
    reachable: Reachable,
    ttl: Duration,
    closing: CancellationToken,
    waiting: Vec<Done>,
    status: watch::Sender<PublicationStatus>,
    rng: fastrand::Rng,
}

/// What a performer waits for.
enum Event {
    Asked(Option<Command>),
    Closing,
    Session,
    Reachable,
    Time,
}

impl Performer {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        // How long to go on trying to delete the key once nobody waits for it.
        let mut patience = None;
        let mut is_abandoned = false;
        let mut is_closing = false;
        self.take_session();
        loop {
            let step = self.publication.next(clock::now());
            self.report();
            let wait = match &step {
                Step::Done => return,
                Step::WaitUntil(at) => Some(*at),
                Step::Wait => None,
                Step::Read { .. } | Step::Write(_) => {
                    self.perform(step).await;
                    Some(clock::now())
                }
            };
            if patience.is_some_and(|until| until <= clock::now()) {
                return;
            }
            let event = tokio::select! {
                biased;
                command = commands.recv(), if !is_abandoned => Event::Asked(command),
                () = self.closing.cancelled(), if !is_closing => Event::Closing,
                Ok(()) = self.session.changed() => Event::Session,
                () = self.reachable.again() => Event::Reachable,
                () = clock::until(earliest(wait, patience)) => Event::Time,
            };
            match event {
                Event::Asked(Some(command)) => self.obey(command),
                Event::Asked(None) => {
                    is_abandoned = true;
                    self.publication.stop();
                }
                Event::Closing => {
                    is_closing = true;
                    patience = Some(clock::now() + self.ttl);
                    self.publication.stop();
                }
                Event::Session => self.take_session(),
                Event::Reachable => self.publication.reachable(),
                Event::Time => {}
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let done = match command {
            Command::Pause(done) => {
                self.publication.pause();
                done
            }
            Command::Resume(done) => {
                self.publication.resume();
                done
            }
            Command::Update(instance, done) => {
                let (record, id) = self.place.record(&instance);
                self.instance = *instance;
                self.publication.update(record, id);
                done
            }
            Command::Stop(done) => {
                self.publication.stop();
                done
            }
        };
        self.waiting.push(done);
    }

    fn take_session(&mut self) {
        let SessionState { standing, cause } = self.session.borrow_and_update().clone();
        self.publication.session(standing, cause);
    }

    async fn perform(&mut self, step: Step) {
        let answer = match &step {
            Step::Read { keys } => self.etcd.read(keys).await.map(Written::Refused),
            Step::Write(write) => self.etcd.write(write).await,
            Step::Wait | Step::WaitUntil(_) | Step::Done => return,
        };
        let now = clock::now();
        match (answer, step) {
            (Ok(Written::Done { revision }), Step::Write(write)) => {
                self.publication.written(write, revision)
            }
            (Ok(Written::Done { .. }), _) => {}
            (Ok(Written::Refused(Reading { revision, keys })), _) => {
                let found = keys
                    .into_iter()
                    .map(|(key, held)| (key, held.map(|held| self.found(held))))
                    .collect();
                self.publication.found(found, revision, now);
            }
            (Err(error), step) => self.fail(&step, error, now),
        }
    }

    fn fail(&mut self, step: &Step, error: EtcdError, now: Instant) {
        match (error.kind, step) {
            (Kind::LeaseNotFound, Step::Write(Write { lease, .. })) => {
                self.doubts.doubt(*lease);
                self.publication
                    .lease_gone(*lease, error.into_cause(), now, &mut self.rng);
            }
            (Kind::Denied, _) => self.publication.denied(error.into_cause(), now),
            _ => self
                .publication
                .failed(step, error.into_cause(), now, &mut self.rng),
        }
    }

    fn found(&self, held: KeyValue) -> Found {
        let KeyValue {
            value,
            lease,
            revision,
        } = held;
        let theirs = self.place.layout.decode(self.instance.service(), &value);
        let same_server = theirs.is_ok_and(|theirs| theirs.is_same_server(&self.instance));
        Found {
            value,
            lease,
            revision,
            same_server,
        }
    }

    /// Tells those who watch, and those who wait for a command to be done.
    fn report(&mut self) {
        let service = self.instance.service();
        let error = match self.publication.status() {
            Status::IdTaken { key } => Some(PublishError::IdTaken { key }),
            Status::Denied { cause } => Some(PublishError::Denied {
                service: service.clone(),
                cause,
            }),
            Status::Superseded => Some(PublishError::Superseded {
                service: service.clone(),
            }),
            _ => None,
        };
        if self.publication.is_settled() {
            self.waiting
                .drain(..)
                .for_each(|done| drop(done.send(Ok(()))));
        } else if let Some(error) = &error {
            self.waiting
                .drain(..)
                .for_each(|done| drop(done.send(Err(error.clone()))));
        }
        let status = match (self.publication.status(), error) {
            (Status::Registering, _) => PublicationStatus::Registering,
            (Status::Published { lease }, _) => PublicationStatus::Published {
                lease,
                since: clock::now(),
            },
            (Status::Paused, _) => PublicationStatus::Paused,
            (Status::Stopped, _) => PublicationStatus::Stopped,
            (Status::Superseded, _) => PublicationStatus::Superseded,
            (Status::Retrying { cause }, _) => {
                let cause = PublishError::Unavailable {
                    service: service.clone(),
                    cause,
                };
                PublicationStatus::Retrying {
                    cause: Arc::new(cause),
                }
            }
            (_, Some(error)) => PublicationStatus::Retrying {
                cause: Arc::new(error),
            },
            (_, None) => PublicationStatus::Registering,
        };
        let was = self.status.borrow().clone();
        if !status.is_like(&was) {
            self.log(&was, &status);
            self.status.send_replace(status);
        }
    }

    fn log(&self, was: &PublicationStatus, is: &PublicationStatus) {
        let (service, id) = (self.instance.service(), self.instance.id());
        match is {
            PublicationStatus::Published { lease, .. } => {
                tracing::info!(name: "registered", %service, %id, lease, "published")
            }
            PublicationStatus::Paused => tracing::info!(name: "paused", %service, %id, "paused"),
            PublicationStatus::Stopped => {
                tracing::info!(name: "deregistered", %service, %id, "taken out of etcd")
            }
            PublicationStatus::Superseded => {
                tracing::warn!(name: "superseded", %service, %id, "a newer publication of this server has taken over")
            }
            PublicationStatus::Retrying { cause }
                if !matches!(was, PublicationStatus::Retrying { .. }) =>
            {
                let reason = std::error::Error::source(&**cause)
                    .map(ToString::to_string)
                    .unwrap_or_default();
                tracing::warn!(name: "not_registered", %service, %id, %cause, reason, "not published");
            }
            PublicationStatus::Retrying { .. } | PublicationStatus::Registering => {}
        }
    }
}

impl PublicationStatus {
    /// Whether nothing has changed that is worth telling.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Published { lease, .. }, Self::Published { lease: other, .. }) => lease == other,
            (Self::Retrying { cause }, Self::Retrying { cause: other }) => {
                cause.to_string() == other.to_string()
            }
            (this, other) => std::mem::discriminant(this) == std::mem::discriminant(other),
        }
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}
