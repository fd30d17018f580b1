//! A prefix of etcd's keys, followed: the performer of [`watch`](crate::watch).

mod rejected;

use std::sync::Arc;

use switchboard_resolver::Cause;
use tokio::sync::watch as channel;
use tokio_util::sync::CancellationToken;

use self::rejected::Rejected;
use crate::{
    clock,
    etcd::{
        Etcd, EtcdError, KeyEvent, KeyPage, KeyValue, Kind, Message, PageSize, Part, Reachable,
        Watching,
    },
    trouble::Trouble,
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

    /// Returns why there is no list, nor will be one until somebody changes that.
    pub(crate) fn refusal(&self) -> Option<Cause> {
        match &self.freshness {
            Freshness::Denied { cause } => Some(cause.clone()),
            Freshness::Unread { .. } | Freshness::Fresh | Freshness::Stale { .. } => None,
        }
    }
}

/// All values under the prefix at one revision, and those that are carried over from another
/// history, ordered by key.
#[derive(Debug)]
pub(crate) struct Listing<T> {
    pub(crate) revision: i64,
    pub(crate) values: Vec<T>,
    /// How many values could not be decoded.
    pub(crate) rejected: usize,
}

/// How a key and its value become a `T`. What is none of our business is `None`; what cannot be
/// decoded is left out too, and told of.
pub(crate) type Decode<T> =
    Box<dyn Fn(&[u8], &[u8]) -> Result<Option<T>, Box<dyn std::error::Error>> + Send>;

/// What follows the prefix.
pub(crate) struct Watcher<T> {
    etcd: Etcd,
    reachable: Reachable,
    prefix: String,
    decode: Decode<T>,
    /// A key under the prefix that is none of our business has an entry too: a list goes on after
    /// it, a watch resumes at it, and it takes the place of one that was ours.
    watch: Watch<Option<T>>,
    stream: Option<Watching>,
    page_size: PageSize,
    rejected: Rejected,
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
            page_size: PageSize::default(),
            rejected: Rejected::default(),
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
            Step::LogIn => self.log_in().await,
            Step::Receive { .. } | Step::WaitUntil(_) => Ok(()),
        };
        if let Err(error) = done {
            self.fail(error);
        }
    }

    async fn list(&mut self, after: Option<Vec<u8>>, revision: i64) -> Result<(), EtcdError> {
        if after.is_none() {
            self.rejected.begin_list();
        }
        let (after, size) = (after.as_deref(), self.page_size);
        let listed = self
            .etcd
            .list(&self.prefix, after, revision, size, Part::Whole);
        match listed.await {
            Ok(response) => {
                let page = self.page(response);
                if !page.more {
                    self.rejected.end_list();
                }
                self.watch.page(page, clock::now());
                Ok(())
            }
            Err(error) if error.kind == Kind::Compacted => {
                self.watch.list_compacted();
                Ok(())
            }
            Err(error) => {
                if error.kind == Kind::TooLarge {
                    self.page_size = size.smaller().unwrap_or(size);
                }
                Err(error)
            }
        }
    }

    fn page(&mut self, page: KeyPage) -> Page<Option<T>> {
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
        let mut stream = self.etcd.watch(&self.prefix, from).await?;
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
        let revision = self.etcd.revision(&self.prefix).await?;
        self.watch.confirmed(revision, clock::now(), &mut self.rng);
        Ok(())
    }

    async fn log_in(&mut self) -> Result<(), EtcdError> {
        self.etcd.log_in().await?;
        self.watch.logged_in();
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
            Message::Cancelled(error) => {
                self.stream = None;
                let why = match error.kind {
                    Kind::Compacted => Cancel::Compacted,
                    Kind::Token => Cancel::Token,
                    Kind::Denied => Cancel::Denied(error.into_cause()),
                    _ => Cancel::Other(error.into_cause()),
                };
                self.watch.cancelled(why, now, &mut self.rng);
            }
        }
    }

    fn change(&mut self, event: KeyEvent) -> Change<Option<T>> {
        match event {
            KeyEvent::Put(kv) => Change::Put(self.put(kv)),
            KeyEvent::Delete { key, revision } => {
                self.rejected.accept(&key, revision);
                Change::Delete { key, revision }
            }
        }
    }

    fn put(&mut self, kv: KeyValue) -> Put<Option<T>> {
        let KeyValue {
            key,
            value,
            lease,
            revision,
        } = kv;
        let value = match (self.decode)(&key, &value) {
            Ok(value) => {
                self.rejected.accept(&key, revision);
                Some(value)
            }
            Err(cause) => {
                if self.rejected.reject(&key, revision) {
                    let key = String::from_utf8_lossy(&key);
                    let reason = cause.source().map(ToString::to_string).unwrap_or_default();
                    tracing::warn!(name: "record_rejected", %key, revision, %cause, reason, "left out");
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
        let now = clock::now();
        let is_too_large = error.kind == Kind::TooLarge;
        match error.into_trouble() {
            Trouble::Passing(cause) if is_too_large => {
                self.watch.too_large(cause, now, &mut self.rng);
            }
            Trouble::Passing(cause) => self.watch.failed(cause, now, &mut self.rng),
            Trouble::Denied(cause) => self.watch.denied(cause, now),
        }
    }

    /// Shows what is known to those who follow.
    fn report(&mut self) {
        let rejected = self.rejected.len();
        let has_changed = self.watch.take_changed() || self.is_off(rejected);
        let freshness = self.watch.freshness();
        let was = self.view.borrow().freshness.clone();
        if !has_changed && freshness.is_like(&was) {
            return;
        }
        match (&was, freshness) {
            (Freshness::Fresh, Freshness::Stale { cause, .. }) => {
                tracing::warn!(name: "watch_stale", prefix = self.prefix, %cause, "the list may be out of date");
            }
            (
                Freshness::Unread { cause: None },
                Freshness::Unread { cause: Some(cause) } | Freshness::Denied { cause },
            ) => {
                tracing::warn!(name: "watch_stale", prefix = self.prefix, %cause, "the list cannot be read");
            }
            (
                Freshness::Stale { .. }
                | Freshness::Unread { cause: Some(_) }
                | Freshness::Denied { .. },
                Freshness::Fresh,
            ) => {
                tracing::info!(name: "watch_fresh", prefix = self.prefix, "the list is up to date");
            }
            _ => {}
        }
        let (watch, freshness) = (&self.watch, freshness.clone());
        self.view.send_modify(|view| {
            if has_changed {
                let values = watch
                    .entries()
                    .into_iter()
                    .filter_map(|(_, entry)| entry.value.clone())
                    .collect();
                view.listing = Some(Arc::new(Listing {
                    revision: watch.revision(),
                    values,
                    rejected,
                }));
            }
            view.freshness = freshness;
        });
    }

    /// Returns whether the list that is shown was made when another number of records was left out.
    fn is_off(&self, rejected: usize) -> bool {
        let view = self.view.borrow();
        view.listing
            .as_ref()
            .is_some_and(|listing| listing.rejected != rejected)
    }
}

/// Waits for what a watch says; one that is not open has ended.
///
/// # Cancel safety
///
/// Cancelling it loses no message.
async fn next_message(stream: Option<&mut Watching>) -> Result<Message, EtcdError> {
    match stream {
        Some(stream) => stream.message().await,
        None => Err(EtcdError::ended()),
    }
}
