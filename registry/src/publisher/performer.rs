//! What keeps one instance in etcd: the performer of [`publication`](crate::publication).

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{PublicationStatus, PublishError};
use crate::{
    Instance, LayoutError, Registry, clock,
    etcd::{Etcd, EtcdError, KeyEvent, KeyValue, Kind, Message, Reachable, Reading, Written},
    instance::Id,
    key_watcher::{KeyWatch, KeyWatcher, News},
    layout::Place,
    lease::{LeaseId, Standing},
    metrics::PublicationMetrics,
    publication::{Found, Publication, Status, Step, Turn, Write},
    session::{Session, SessionState},
    strays::Strays,
    turns::{Ticket, Turns},
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
    place: Arc<Place>,
    /// The session's last lease, which an instance may take its id from; 0 before there is one:
    /// then nothing is put.
    lease: LeaseId,
    session: watch::Receiver<SessionState>,
    doubts: Session,
    etcd: Etcd,
    reachable: Reachable,
    turns: Turns,
    /// Places in the lines at the keys that it may write.
    tickets: BTreeMap<String, Ticket>,
    gate: Arc<Semaphore>,
    key_watcher: KeyWatcher,
    strays: Strays,
    watch: Option<KeyWatch>,
    ttl: Duration,
    closing: CancellationToken,
    waiting: Vec<Waiting>,
    status: watch::Sender<PublicationStatus>,
    /// Whether the log says that it is in etcd.
    is_logged: bool,
    metrics: PublicationMetrics,
    rng: fastrand::Rng,
}

/// Somebody who waits for a command to be done.
struct Waiting {
    until: Until,
    done: Done,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// That the instance is in etcd, or would be but for a pause.
    There,
    /// That it is gone.
    Gone,
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
    Turn,
    Seen(News),
    Reachable,
    Permitted(OwnedSemaphorePermit),
    Time,
}

impl Performer {
    pub(super) fn new(
        registry: &Registry,
        instance: Instance,
        status: watch::Sender<PublicationStatus>,
    ) -> Result<Self, LayoutError> {
        let shared = &registry.shared;
        let (record, id) = registry.place.record(&instance, 0)?;
        let (session, etcd) = (shared.session().clone(), shared.etcd.clone());
        Ok(Self {
            publication: Publication::new(record, id),
            metrics: PublicationMetrics::new(instance.service()),
            instance,
            place: registry.place.clone(),
            lease: 0,
            session: session.state(),
            doubts: session,
            reachable: etcd.reachable(),
            etcd,
            turns: shared.turns.clone(),
            tickets: BTreeMap::new(),
            gate: shared.gate.clone(),
            key_watcher: shared.key_watcher().clone(),
            strays: shared.strays().clone(),
            watch: None,
            ttl: shared.ttl,
            closing: shared.ending.asked.clone(),
            waiting: Vec::new(),
            status,
            is_logged: false,
            rng: fastrand::Rng::new(),
        })
    }

    pub(super) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut owner = Owner::Holds;
        let mut permit = None;
        self.take_session();
        loop {
            self.take_turn();
            let step = self.publication.next(clock::now());
            self.report();
            self.follow();
            let wait = match (&step, permit.take()) {
                (Step::Done, _) => return,
                (Step::WaitUntil(at), _) => Some(*at),
                (Step::Wait, _) => None,
                (Step::Read { .. } | Step::Write(_), None) => None,
                (Step::Read { .. } | Step::Write(_), Some(_permit)) => {
                    // Boxed, since a request needs kilobytes: thousands of publications wait, and
                    // a few are at etcd.
                    Box::pin(self.perform(&step)).await;
                    Some(clock::now())
                }
            };
            let is_due = wait.is_none() && matches!(step, Step::Read { .. } | Step::Write(_));
            let patience = match owner {
                Owner::Closing { until } if until <= clock::now() => return,
                Owner::Closing { until } => Some(until),
                Owner::Holds | Owner::Dropped => None,
            };
            let ticket = self
                .publication
                .claims()
                .and_then(|key| self.tickets.get_mut(key));
            let event = tokio::select! {
                biased;
                command = commands.recv(), if matches!(owner, Owner::Holds) => Event::Asked(command),
                () = self.closing.cancelled(), if patience.is_none() => Event::Closing,
                Ok(()) = self.session.changed() => Event::Session,
                () = changed(ticket) => Event::Turn,
                news = news(self.watch.as_mut()) => Event::Seen(news),
                () = self.reachable.again() => Event::Reachable,
                Ok(permit) = self.gate.clone().acquire_owned(), if is_due => Event::Permitted(permit),
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
                Event::Seen(news) => self.see(news),
                Event::Reachable => self.publication.reachable(),
                Event::Permitted(granted) => permit = Some(granted),
                Event::Turn | Event::Time => {}
            }
        }
    }

    /// Joins the line at the wanted key, leaves those at keys that are done with, and passes the
    /// key on to who has asked for it.
    fn take_turn(&mut self) {
        let publication = &mut self.publication;
        self.tickets.retain(|key, _| publication.concerns(key));
        let Some(key) = publication.claims() else {
            return publication.turn(Turn::Next);
        };
        if !self.tickets.contains_key(key) {
            let identity = self.instance.identity();
            let ticket = self.turns.join(key, identity, publication.id());
            self.tickets.insert(key.to_owned(), ticket);
        }
        if let Some(ticket) = publication.claims().and_then(|key| self.tickets.get(key)) {
            publication.turn(ticket.turn());
            if publication.let_go() {
                ticket.pass();
                publication.turn(ticket.turn());
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let (until, done) = match command {
            Command::Pause(done) => {
                self.publication.pause();
                (Until::Gone, done)
            }
            Command::Resume(done) => {
                if self.publication.resume() {
                    // Back to the front of the line, if a newer one has come meanwhile.
                    self.tickets.retain(|_, ticket| ticket.turn() == Turn::Ours);
                }
                (Until::There, done)
            }
            Command::Update(instance, done) => match self.replace(*instance) {
                Ok(()) => (Until::There, done),
                Err(refusal) => {
                    // Who no longer waits need not be told.
                    let _ = done.send(Err(refusal.into()));
                    return;
                }
            },
            Command::Stop(done) => {
                self.publication.stop();
                (Until::Gone, done)
            }
        };
        self.waiting.retain(|waiting| !waiting.done.is_closed());
        self.waiting.push(Waiting { until, done });
        // What keeps the session from having a lease keeps this from being done.
        self.take_session();
    }

    fn take_session(&mut self) {
        let session = self.session.borrow_and_update().clone();
        self.publication.had(session.former);
        self.publication.session(session.standing, session.trouble);
        if let Standing::Held { id, .. } = session.standing
            && id != self.lease
        {
            self.lease = id;
            if matches!(self.instance.id_rule(), Id::OfLease(_)) {
                // The layout had a place for it under the lease before.
                let _ = self.replace(self.instance.clone());
            }
        }
    }

    /// Publishes `instance` from now on; if the layout has no place for it, nothing changes.
    fn replace(&mut self, instance: Instance) -> Result<(), LayoutError> {
        let (record, id) = self.place.record(&instance, self.lease)?;
        if let Some(ticket) = self.tickets.get(&record.key) {
            ticket.rename(instance.identity(), id);
        }
        self.instance = instance;
        self.publication.update(record, id);
        Ok(())
    }

    async fn perform(&mut self, step: &Step) {
        let answer = match step {
            Step::Read { keys } => self.etcd.read(keys).await.map(Written::Refused),
            Step::Write(write) => self.etcd.write(write).await,
            Step::Wait | Step::WaitUntil(_) | Step::Done => return,
        };
        let now = clock::now();
        match (answer, step) {
            (Ok(Written::Done { revision }), Step::Write(write)) => {
                self.publication.written(write.clone(), revision)
            }
            (Ok(Written::Done { .. }), _) => {}
            (Ok(Written::Refused(Reading { revision, keys })), _) => {
                let found = keys
                    .into_iter()
                    .map(|(key, held)| (key, held.map(|held| self.found(held))))
                    .collect();
                self.publication.found(found, revision, now);
            }
            (Err(error), step) => self.fail(step, Arc::new(error), now),
        }
    }

    /// Has the key watched, if it is to be and is not.
    fn follow(&mut self) {
        let watched = self.watch.as_ref().map(KeyWatch::key);
        match self.publication.watches() {
            Some((key, from)) if watched != Some(key) => {
                self.watch = Some(self.key_watcher.watch(key, from));
            }
            _ if watched != self.publication.claims() => self.watch = None,
            _ => {}
        }
    }

    /// Takes in what the watch on the key says.
    fn see(&mut self, news: News) {
        let now = clock::now();
        let error = match news {
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
            Ok(_) => return self.publication.watching(),
            // What the key holds now is to be read.
            Err(error) => error,
        };
        if let Some(watch) = self.watch.take() {
            let key = watch.key().to_owned();
            self.publication.lost_sight(&key);
            // That history is forgotten is no trouble: there is a newer one to go on from.
            if error.kind != Kind::Compacted {
                self.fail(&Step::Read { keys: vec![key] }, error, now);
            }
        }
    }

    fn fail(&mut self, step: &Step, error: Arc<EtcdError>, now: Instant) {
        self.metrics.retried();
        match (error.kind, step) {
            (Kind::LeaseNotFound, Step::Write(Write { lease, .. })) => {
                self.doubts.doubt(*lease);
                self.publication
                    .lease_gone(*lease, error, now, &mut self.rng);
            }
            (Kind::Denied, _) => self.publication.denied(error, now),
            _ => {
                if let Step::Write(Write {
                    put: Some(put),
                    lease,
                    ..
                }) = step
                {
                    self.strays.look_after(&put.record.key, *lease);
                }
                self.publication.failed(step, error, now, &mut self.rng)
            }
        }
    }

    fn found(&self, held: KeyValue) -> Found {
        let KeyValue {
            key,
            value,
            lease,
            revision,
            ..
        } = held;
        let theirs = self.place.decode(self.instance.service(), &key, &value);
        let same_server =
            matches!(theirs, Ok(Some(theirs)) if theirs.is_same_server(&self.instance));
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
        self.answer(&status);
        let was = self.status.borrow().clone();
        if !status.is_like(&was) {
            self.log(&was, &status);
            self.metrics.show(&status);
            self.status.send_replace(status);
        }
    }

    /// Answers those who wait for a command, if it is done or refused.
    fn answer(&mut self, status: &PublicationStatus) {
        if self.waiting.is_empty() {
            return;
        }
        let refusal = status.refusal(self.instance.service());
        let is_settled = self.publication.is_settled();
        if !is_settled && refusal.is_none() {
            return;
        }
        let is_stopped = matches!(status, PublicationStatus::Stopped);
        for Waiting { until, done } in self.waiting.drain(..) {
            // What was to be there, and was stopped before it was, is settled and not done.
            let is_done = is_settled && !(is_stopped && until == Until::There);
            let answer = match &refusal {
                Some(refusal) if !is_done => Err(refusal.clone()),
                _ => Ok(()),
            };
            // Who no longer waits need not be told.
            let _ = done.send(answer);
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

    fn log(&mut self, was: &PublicationStatus, is: &PublicationStatus) {
        let (service, id) = (self.instance.service(), self.instance.id());
        match is {
            PublicationStatus::Published { lease, .. } => {
                tracing::info!(name: "registered", %service, %id, lease, "published")
            }
            PublicationStatus::Paused => tracing::info!(name: "paused", %service, %id, "paused"),
            PublicationStatus::Stopped if self.is_logged => {
                tracing::info!(name: "deregistered", %service, %id, "not in etcd any more")
            }
            PublicationStatus::Stopped => {
                tracing::info!(name: "stopped", %service, %id, "stopped; it was not in etcd")
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
        self.is_logged = match is {
            PublicationStatus::Published { .. } => true,
            PublicationStatus::Retrying { .. } | PublicationStatus::Registering => self.is_logged,
            PublicationStatus::Paused
            | PublicationStatus::Superseded
            | PublicationStatus::Stopped => false,
        };
    }
}

/// Waits until it is another one's turn at a key, or this one's.
async fn changed(ticket: Option<&mut Ticket>) {
    match ticket {
        Some(ticket) => ticket.changed().await,
        None => std::future::pending().await,
    }
}

/// Waits for what the watch on a key says.
async fn news(watch: Option<&mut KeyWatch>) -> News {
    match watch {
        Some(watch) => watch.news().await,
        None => std::future::pending().await,
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}
