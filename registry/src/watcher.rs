//! A prefix of etcd's keys, followed: the performer of [`watch`](crate::watch).

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::watch as channel;
use tokio_util::sync::CancellationToken;

use crate::{
    clock,
    etcd::{
        Etcd, EtcdError, KeyEvent, KeyPage, KeyValue, Keys, Kind, Message, Reachable, Watching,
        next_message,
    },
    watch::{Cancel, Change, Freshness, Page, Put, Step, Watch},
};

/// What is known of the prefix: the last whole list, if there was one, and whether it is up to
/// date.
#[derive(Debug, Clone)]
pub(crate) struct View<T> {
    pub(crate) listing: Option<Arc<Listing<T>>>,
    pub(crate) freshness: Freshness,
}

impl<T> View<T> {
    /// Returns the list if it is another one than `shown`.
    pub(crate) fn news(&self, shown: &Option<Arc<Listing<T>>>) -> Option<Arc<Listing<T>>> {
        let shown = shown.as_ref().map(Arc::as_ptr);
        self.listing
            .clone()
            .filter(|listing| Some(Arc::as_ptr(listing)) != shown)
    }
}

/// All values under the prefix at one revision, ordered by key.
#[derive(Debug)]
pub(crate) struct Listing<T> {
    pub(crate) revision: i64,
    pub(crate) values: Vec<T>,
}

/// How a key and its value become a `T`; what does not is left out.
pub(crate) type Decode<T> =
    Box<dyn Fn(&[u8], &[u8]) -> Result<T, Box<dyn std::error::Error>> + Send>;

/// What follows the prefix.
pub(crate) struct Watcher<T> {
    etcd: Etcd,
    reachable: Reachable,
    prefix: String,
    decode: Decode<T>,
    watch: Watch<T>,
    stream: Option<Watching>,
    /// At which revision a key was last rejected, so that each value is told of once.
    rejected: BTreeMap<Vec<u8>, i64>,
    view: channel::Sender<View<T>>,
    rng: fastrand::Rng,
}

/// What a watcher waits for.
enum Event {
    Stop,
    Message(Result<Message, EtcdError>),
    Reachable,
    Time,
}

impl<T: Clone + Send> Watcher<T> {
    pub(crate) fn new(
        etcd: Etcd,
        prefix: String,
        decode: Decode<T>,
    ) -> (Self, channel::Receiver<View<T>>) {
        let watch = Watch::new();
        let (view, receiver) = channel::channel(View {
            listing: None,
            freshness: watch.freshness().clone(),
        });
        let watcher = Self {
            reachable: etcd.reachable(),
            etcd,
            prefix,
            decode,
            watch,
            stream: None,
            rejected: BTreeMap::new(),
            view,
            rng: fastrand::Rng::new(),
        };
        (watcher, receiver)
    }

    /// Follows the prefix until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let step = self.watch.next(clock::now(), &mut self.rng);
            self.report();
            let is_receiving = matches!(step, Step::Receive { .. });
            let until = match step {
                Step::Receive { until } | Step::WaitUntil(until) => until,
                step => {
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return,
                        () = self.perform(step) => {}
                    }
                    continue;
                }
            };
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => Event::Stop,
                message = next_message(self.stream.as_mut()), if is_receiving => Event::Message(message),
                () = self.reachable.again() => Event::Reachable,
                () = clock::until(Some(until)) => Event::Time,
            };
            match event {
                Event::Stop => return,
                Event::Message(Ok(message)) => self.take(message),
                Event::Message(Err(error)) => self.fail(error),
                Event::Reachable => self.watch.reachable(),
                Event::Time => {}
            }
        }
    }

    async fn perform(&mut self, step: Step) {
        let done = match step {
            Step::List { after, revision } => self.list(after, revision).await,
            Step::Open { from } => self.open(from).await,
            Step::AskProgress => self.ask_progress().await,
            Step::Confirm => self.confirm().await,
            Step::LogIn => Err(EtcdError::no_user()),
            Step::Receive { .. } | Step::WaitUntil(_) => Ok(()),
        };
        if let Err(error) = done {
            self.fail(error);
        }
    }

    async fn list(&mut self, after: Option<Vec<u8>>, revision: i64) -> Result<(), EtcdError> {
        match self
            .etcd
            .list(&self.prefix, after.as_deref(), revision)
            .await
        {
            Ok(response) => {
                let page = self.page(response);
                self.watch.page(page, clock::now());
                Ok(())
            }
            Err(error) if error.kind == Kind::Compacted => {
                self.watch.list_compacted();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn page(&mut self, page: KeyPage) -> Page<T> {
        let KeyPage {
            revision,
            keys,
            more,
        } = page;
        let entries = keys.into_iter().map(|kv| self.put(kv)).collect();
        Page {
            revision,
            entries,
            more,
        }
    }

    async fn open(&mut self, from: i64) -> Result<(), EtcdError> {
        self.stream = None;
        let mut stream = self.etcd.watch(Keys::Under(&self.prefix), from).await?;
        let first = stream.message().await?;
        self.stream = Some(stream);
        self.take(first);
        Ok(())
    }

    async fn ask_progress(&mut self) -> Result<(), EtcdError> {
        if let Some(stream) = &mut self.stream {
            stream.ask_progress().await?;
        }
        self.watch.asked(clock::now());
        Ok(())
    }

    async fn confirm(&mut self) -> Result<(), EtcdError> {
        let revision = self.etcd.revision().await?;
        self.watch.confirmed(revision, clock::now(), &mut self.rng);
        Ok(())
    }

    /// Takes in what the watch says.
    fn take(&mut self, message: Message) {
        let now = clock::now();
        match message {
            Message::Opened { revision } => self.watch.opened(revision, now),
            Message::Progress => self.watch.progress(now),
            Message::Events(events) => {
                let changes = events.into_iter().map(|event| self.change(event)).collect();
                self.watch.events(changes, now);
            }
            Message::Cancelled { compacted, error } => {
                self.stream = None;
                let why = match error.kind {
                    _ if compacted => Cancel::Compacted,
                    Kind::Token => Cancel::Token,
                    _ => Cancel::Other(error.into_cause()),
                };
                self.watch.cancelled(why, now, &mut self.rng);
            }
        }
    }

    fn change(&mut self, event: KeyEvent) -> Change<T> {
        match event {
            KeyEvent::Put(kv) => Change::Put(self.put(kv)),
            KeyEvent::Delete { key, revision } => {
                self.rejected.remove(&key);
                Change::Delete { key, revision }
            }
        }
    }

    fn put(&mut self, kv: KeyValue) -> Put<T> {
        let KeyValue {
            key,
            value,
            lease,
            revision,
        } = kv;
        let value = match (self.decode)(&key, &value) {
            Ok(value) => Some(value),
            Err(cause) => {
                if self.rejected.insert(key.clone(), revision) != Some(revision) {
                    let key = String::from_utf8_lossy(&key);
                    tracing::warn!(name: "record_rejected", %key, revision, %cause, "left out");
                }
                None
            }
        };
        Put {
            key,
            value,
            revision,
            lease,
        }
    }

    fn fail(&mut self, error: EtcdError) {
        self.stream = None;
        self.watch
            .failed(error.into_cause(), clock::now(), &mut self.rng);
    }

    /// Shows what is known to those who follow.
    fn report(&mut self) {
        let has_changed = self.watch.take_changed();
        let freshness = self.watch.freshness();
        let was = self.view.borrow().freshness.clone();
        if !has_changed && freshness.is_like(&was) {
            return;
        }
        match (&was, freshness) {
            (Freshness::Fresh, Freshness::Stale { cause, .. }) => {
                tracing::warn!(name: "watch_stale", prefix = self.prefix, %cause, "the list may be out of date");
            }
            (Freshness::Unread { cause: None }, Freshness::Unread { cause: Some(cause) }) => {
                tracing::warn!(name: "watch_stale", prefix = self.prefix, %cause, "the list cannot be read");
            }
            (Freshness::Stale { .. } | Freshness::Unread { cause: Some(_) }, Freshness::Fresh) => {
                tracing::info!(name: "watch_fresh", prefix = self.prefix, "the list is up to date");
            }
            _ => {}
        }
        let (watch, freshness) = (&self.watch, freshness.clone());
        self.view.send_modify(|view| {
            if has_changed {
                let values = watch
                    .entries()
                    .values()
                    .map(|entry| entry.value.clone())
                    .collect();
                view.listing = Some(Arc::new(Listing {
                    revision: watch.revision(),
                    values,
                }));
            }
            view.freshness = freshness;
        });
    }
}

impl Freshness {
    /// Whether nothing has changed that is worth telling.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Fresh, Self::Fresh) => true,
            (Self::Unread { cause }, Self::Unread { cause: other }) => {
                cause.as_ref().map(ToString::to_string) == other.as_ref().map(ToString::to_string)
            }
            (
                Self::Stale { since, cause },
                Self::Stale {
                    since: other,
                    cause: other_cause,
                },
            ) => since == other && cause.to_string() == other_cause.to_string(),
            _ => false,
        }
    }
}
