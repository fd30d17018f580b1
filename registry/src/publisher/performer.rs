//! What keeps one instance in etcd: the performer of [`publication`](crate::publication).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{PublicationStatus, PublishError};
use crate::{
    Instance, InstanceId, Layout, Namespace, clock,
    etcd::{
        Etcd, EtcdError, KeyEvent, KeyValue, Keys, Kind, Message, Reachable, Reading, Watching,
        Written, next_message,
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
    watch: Option<KeyWatch>,
    ttl: Duration,
    closing: CancellationToken,
    waiting: Vec<Done>,
    status: watch::Sender<PublicationStatus>,
    rng: fastrand::Rng,
}

/// A watch on one key.
struct KeyWatch {
    key: String,
    stream: Watching,
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
            .origins()
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

/// Who wants the instance in etcd.
enum Owner {
    /// A handle.
    Holds,
    /// Nobody any more.
    Dropped,
    /// The registry is closing: until when to go on trying to take it out.
    Closing { until: Instant },
}

/// What a performer waits for.
enum Event {
    Asked(Option<Command>),
    Closing,
    Session,
    Seen(Result<Message, EtcdError>),
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
            watch: None,
            ttl: shared.ttl,
            closing: shared.ending.asked.clone(),
            waiting: Vec::new(),
            status,
            rng: fastrand::Rng::new(),
        }
    }

    pub(super) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut owner = Owner::Holds;
        self.take_session();
        loop {
            let step = self.publication.next(clock::now());
            self.report();
            if matches!(step, Step::Wait | Step::WaitUntil(_)) && self.follow().await {
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
            let patience = match owner {
                Owner::Closing { until } if until <= clock::now() => return,
                Owner::Closing { until } => Some(until),
                Owner::Holds | Owner::Dropped => None,
            };
            let event = tokio::select! {
                biased;
                command = commands.recv(), if matches!(owner, Owner::Holds) => Event::Asked(command),
                () = self.closing.cancelled(), if patience.is_none() => Event::Closing,
                Ok(()) = self.session.changed() => Event::Session,
                seen = next_message(self.watch.as_mut().map(|watch| &mut watch.stream)), if self.watch.is_some() => Event::Seen(seen),
                () = self.reachable.again() => Event::Reachable,
                () = clock::until(earliest(wait, patience)) => Event::Time,
            };
            match event {
                Event::Asked(Some(command)) => self.obey(command),
                Event::Asked(None) => {
                    owner = Owner::Dropped;
                    self.publication.stop();
                }
                Event::Closing => {
                    owner = Owner::Closing {
                        until: clock::now() + self.ttl,
                    };
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
        self.waiting.retain(|done| !done.is_closed());
        self.waiting.push(done);
        // What keeps the session from having a lease keeps this from being done.
        self.take_session();
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
    async fn follow(&mut self) -> bool {
        let Some((key, from)) = self.publication.watches() else {
            return false;
        };
        if self.watch.as_ref().is_some_and(|watch| watch.key == key) {
            return false;
        }
        let key = key.to_owned();
        match self.etcd.watch(Keys::One(&key), from).await {
            Ok(stream) => self.watch = Some(KeyWatch { key, stream }),
            Err(error) => self.lose_sight(key, error),
        }
        true
    }

    /// Takes in what the watch on the key says.
    fn see(&mut self, seen: Result<Message, EtcdError>) {
        let now = clock::now();
        let error = match seen {
            Ok(Message::Opened { .. } | Message::Progress) => return self.publication.watching(),
            Ok(Message::Events(events)) => {
                for event in events {
                    let (key, found, revision) = match event {
                        KeyEvent::Put(kv) => {
                            let revision = kv.revision;
                            (kv.key.clone(), Some(self.found(kv)), revision)
                        }
                        KeyEvent::Delete { key, revision } => (key, None, revision),
                    };
                    let key = String::from_utf8_lossy(&key).into_owned();
                    self.publication.seen(key, found, revision, now);
                }
                return;
            }
            // Compacted, or refused: what the key holds now is to be read.
            Ok(Message::Cancelled { error, .. }) | Err(error) => error,
        };
        if let Some(KeyWatch { key, .. }) = self.watch.take() {
            self.lose_sight(key, error);
        }
    }

    fn lose_sight(&mut self, key: String, error: EtcdError) {
        self.publication.lost_sight(&key);
        let step = Step::Read { keys: vec![key] };
        self.fail(&step, error, clock::now());
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
            ..
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
        let status = self.status();
        let refusal = status.refusal(self.instance.service());
        if self.publication.is_settled() {
            self.answer(Ok(()));
        } else if let Some(refusal) = refusal {
            self.answer(Err(refusal));
        }
        let was = self.status.borrow().clone();
        if !status.is_like(&was) {
            self.log(&was, &status);
            self.status.send_replace(status);
        }
    }

    fn answer(&mut self, answer: Result<(), PublishError>) {
        for done in self.waiting.drain(..) {
            // Who no longer waits need not be told.
            let _ = done.send(answer.clone());
        }
    }

    fn status(&self) -> PublicationStatus {
        let service = self.instance.service().clone();
        let error = match self.publication.status() {
            Status::Registering => return PublicationStatus::Registering,
            Status::Published { lease } => {
                let since = clock::now();
                return PublicationStatus::Published { lease, since };
            }
            Status::Paused => return PublicationStatus::Paused,
            Status::Superseded => return PublicationStatus::Superseded,
            Status::Stopped => return PublicationStatus::Stopped,
            Status::IdTaken { key } => PublishError::IdTaken { key },
            Status::Denied { cause } => PublishError::Denied { service, cause },
            Status::Retrying { cause } => PublishError::Unavailable { service, cause },
        };
        let cause = Arc::new(error);
        PublicationStatus::Retrying { cause }
    }

    fn log(&self, was: &PublicationStatus, is: &PublicationStatus) {
        let (service, id) = (self.instance.service(), self.instance.id());
        match is {
            PublicationStatus::Published { lease, .. } => {
                tracing::info!(name: "registered", %service, %id, lease, "published")
            }
            PublicationStatus::Paused => tracing::info!(name: "paused", %service, %id, "paused"),
            PublicationStatus::Stopped => {
                tracing::info!(name: "deregistered", %service, %id, "not in etcd any more")
            }
            PublicationStatus::Superseded => {
                tracing::warn!(name: "superseded", %service, %id, "a newer publication of this server has taken over")
            }
            PublicationStatus::Retrying { cause }
                if !matches!(was, PublicationStatus::Retrying { .. }) =>
            {
                let reason = cause.reason().unwrap_or_default();
                tracing::warn!(name: "not_registered", %service, %id, %cause, reason, "not published");
            }
            PublicationStatus::Retrying { .. } | PublicationStatus::Registering => {}
        }
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}
