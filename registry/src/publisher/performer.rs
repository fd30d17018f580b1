//! What keeps one instance in etcd: the performer of [`publication`](crate::publication).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use etcd_client::{EventType, WatchResponse};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{PublicationStatus, PublishError};
use crate::{
    Instance, InstanceId, Layout, Namespace, clock,
    etcd::{
        Etcd, EtcdError, KeyValue, Keys, Kind, Reachable, Reading, Watching, Written, next_message,
    },
    layout::Record,
    publication::{Found, IdKind, Publication, Status, Step, Write},
    registry::Shared,
    session::{Session, SessionState},
};

/// What a handle asks for.
#[derive(Debug)]
pub(super) enum Command {
    Pause(Done),
    Resume(Done),
    Update(Box<Instance>, Done),
    Stop(Done),
}

/// Told when etcd holds what was asked for, or will not.
pub(super) type Done = oneshot::Sender<Result<(), PublishError>>;

/// What keeps one instance in etcd.
pub(super) struct Performer {
    publication: Publication,
    instance: Instance,
    place: Place,
    session: watch::Receiver<SessionState>,
    doubts: Session,
    etcd: Etcd,
    reachable: Reachable,
    /// The watch on the key, and which key that is.
    stream: Option<Watching>,
    watched: String,
    ttl: Duration,
    closing: CancellationToken,
    waiting: Vec<Done>,
    status: watch::Sender<PublicationStatus>,
    rng: fastrand::Rng,
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

/// What a performer waits for.
enum Event {
    Asked(Option<Command>),
    Closing,
    Session,
    Seen(Result<WatchResponse, EtcdError>),
    Reachable,
    Time,
}

impl Performer {
    pub(super) fn new(
        shared: &Shared,
        instance: Instance,
        status: watch::Sender<PublicationStatus>,
    ) -> Self {
        let place = Place {
            layout: shared.layout,
            namespace: shared.namespace.clone(),
        };
        let (record, id) = place.record(&instance);
        let (session, etcd) = (shared.session().clone(), shared.etcd.clone());
        Self {
            publication: Publication::new(record, id),
            instance,
            place,
            session: session.state(),
            doubts: session,
            reachable: etcd.reachable(),
            etcd,
            stream: None,
            watched: String::new(),
            ttl: shared.ttl,
            closing: shared.ending.asked.clone(),
            waiting: Vec::new(),
            status,
            rng: fastrand::Rng::new(),
        }
    }

    pub(super) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        // How long to go on trying to delete the key once nobody waits for it.
        let mut patience = None;
        let mut is_abandoned = false;
        let mut is_closing = false;
        self.take_session();
        loop {
            let step = self.publication.next(clock::now());
            self.report();
            if matches!(step, Step::Wait | Step::WaitUntil(_)) && self.watch().await {
                // What is known may have changed meanwhile.
                continue;
            }
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
                seen = next_message(&mut self.stream), if self.stream.is_some() => Event::Seen(seen),
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
                Event::Seen(seen) => self.see(seen),
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

    /// Opens the watch on the key, if there is to be one and there is not. Returns whether it was
    /// tried.
    async fn watch(&mut self) -> bool {
        let Some((key, from)) = self.publication.watches() else {
            return false;
        };
        if self.stream.is_some() && self.watched == key {
            return false;
        }
        self.watched = key.to_owned();
        match self.etcd.watch(Keys::One(&self.watched), from).await {
            Ok(stream) => self.stream = Some(stream),
            Err(error) => self.see(Err(error)),
        }
        true
    }

    /// Takes in what the watch on the key says.
    fn see(&mut self, seen: Result<WatchResponse, EtcdError>) {
        let now = clock::now();
        let seen = match seen {
            // Compacted, or refused: what the key holds now is to be read.
            Ok(message) if message.canceled() => Err(EtcdError::cancelled(message.cancel_reason())),
            seen => seen,
        };
        match seen {
            Ok(message) => {
                self.publication.watching();
                for event in message.events() {
                    let Some(kv) = event.kv() else { continue };
                    let found = match event.event_type() {
                        EventType::Put => Some(self.found(KeyValue::from(kv))),
                        EventType::Delete => None,
                    };
                    self.publication
                        .seen(self.watched.clone(), found, kv.mod_revision(), now);
                }
            }
            Err(error) => {
                self.stream = None;
                self.publication.lost_sight(&self.watched);
                let step = Step::Read {
                    keys: vec![self.watched.clone()],
                };
                self.publication
                    .failed(&step, error.into_cause(), now, &mut self.rng);
            }
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

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}
