//! A range of etcd's keys, followed step by step: the performer of [`watch`](crate::watch).
//!
//! It runs in no task of its own: whoever wants to know drives it ([`watcher`](crate::watcher) shows
//! the whole range to many, [`tail`](crate::tail) hands on each put to one, [`journal`](crate::journal)
//! all that happens).

mod rejected;

use std::time::Instant;

use futures::FutureExt;
use tokio_util::task::AbortOnDropHandle;

use self::rejected::Rejected;
use crate::{
    ServiceName, clock,
    etcd::{
        Etcd, EtcdError, KeyEvent, KeyPage, KeyRange, KeyValue, Kind, Message, PageSize, Part,
        Reachable, Watching,
    },
    metrics::WatchMetrics,
    trouble::Trouble,
    watch::{Cancel, Change, Fingerprint, Page, Put, Step, Watch},
};

/// How a key and its value become something.
pub(crate) trait Reader: Send {
    /// What they become.
    type Value: Clone + Send;

    /// Returns the service that the keys are of, if they are of one.
    fn service(&self) -> Option<&ServiceName> {
        None
    }

    /// Reads a key. What is none of our business is `None`; what cannot be read is left out too, and
    /// told of.
    ///
    /// It is called for each put in the order of revisions, and, where the range is listed, for each
    /// key that there is, in the order of keys; for some more than once.
    fn read(&mut self, kv: &KeyValue) -> Result<Option<Self::Value>, Box<dyn std::error::Error>>;

    /// Reads that a key is gone, among the puts, in the order of revisions.
    fn read_deletion(&mut self, key: &[u8], revision: i64) {
        let _ = (key, revision);
    }

    /// Tells what it was that was read since this was called last.
    fn settle(&mut self, what: Settled) {
        let _ = what;
    }
}

/// What a reader has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// All that the range held at this revision, which is known already or not.
    Listed { revision: i64, is_known: bool },
    /// What has happened next, and maybe, before that, what was read already.
    Happened,
    /// Nothing: a part of a list that is read anew, or what has happened in another history.
    Discarded,
}

/// What follows the range.
pub(crate) struct Follower<R: Reader> {
    etcd: Etcd,
    reachable: Reachable,
    range: KeyRange,
    /// Keys up to this one are left out of lists.
    floor: Option<Vec<u8>>,
    reader: R,
    /// A key in the range that is none of our business has an entry too: a list goes on after it, a
    /// watch resumes at it, and it takes the place of one that was ours.
    watch: Watch<Option<R::Value>>,
    /// What etcd was asked and has not answered yet. It outlives whoever gives up waiting, so that one
    /// who never waits for long gets on all the same; also the runtime where that one was.
    asked: Option<AbortOnDropHandle<Answer>>,
    stream: Option<Watching>,
    page_size: PageSize,
    rejected: Rejected,
    metrics: WatchMetrics,
    rng: fastrand::Rng,
}

/// What etcd said to a request.
enum Answer {
    Listed(Result<KeyPage, EtcdError>),
    Opened(Result<Box<(Watching, Message)>, EtcdError>),
    Confirmed(Result<i64, EtcdError>),
    LoggedIn(Result<(), EtcdError>),
}

/// What a follower waits for.
enum Event {
    Message(Result<Message, EtcdError>),
    Reachable,
    Time,
}

impl<R: Reader> Follower<R> {
    /// Follows `range` from now on, or as it was at the revision that `watch` begins at.
    pub(crate) fn new(
        etcd: Etcd,
        range: KeyRange,
        reader: R,
        watch: Watch<Option<R::Value>>,
    ) -> Self {
        Self {
            reachable: etcd.reachable(),
            etcd,
            range,
            floor: None,
            metrics: WatchMetrics::new(reader.service()),
            reader,
            watch,
            asked: None,
            stream: None,
            page_size: PageSize::default(),
            rejected: Rejected::default(),
            rng: fastrand::Rng::new(),
        }
    }

    pub(crate) fn reader(&mut self) -> &mut R {
        &mut self.reader
    }

    /// Returns what is followed, and what is known of it.
    pub(crate) fn known(&mut self) -> (&KeyRange, &mut Watch<Option<R::Value>>) {
        (&self.range, &mut self.watch)
    }

    /// Returns how many values could not be read.
    pub(crate) fn rejected(&self) -> usize {
        self.rejected.len()
    }

    /// Has it counted how it goes.
    pub(crate) fn measure(&mut self) {
        let rejected = self.rejected.len();
        self.metrics.show(self.watch.freshness(), rejected);
    }

    /// Leaves keys up to this one out of lists from now on.
    pub(crate) fn set_floor(&mut self, floor: Option<Vec<u8>>) {
        self.floor = floor;
    }

    /// Begins anew, with another watch.
    pub(crate) fn restart(&mut self, watch: Watch<Option<R::Value>>) {
        self.watch = watch;
        self.asked = None;
        self.stream = None;
    }

    /// Takes in what etcd has said already, without waiting. A stream that was given up is not asked:
    /// what it brings may be of another history than what was listed since.
    pub(crate) fn take_what_is_there(&mut self) {
        while self.watch.is_watching()
            && let Some(stream) = &mut self.stream
            && let Some(message) = stream.message().now_or_never()
        {
            self.hear(message);
        }
    }

    /// Returns what to do next.
    pub(crate) fn next(&mut self) -> Step {
        self.watch.next(clock::now(), &mut self.rng)
    }

    /// Does it.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it misses nothing: what was not done is what to do next, and goes on meanwhile.
    pub(crate) async fn perform(&mut self, step: Step) {
        let done = match step {
            Step::AskProgress => self.ask_progress().await,
            Step::Receive { until } => return self.wait(until, true).await,
            Step::WaitUntil(until) => return self.wait(until, false).await,
            Step::List { .. } | Step::Open { .. } | Step::Confirm | Step::LogIn => {
                if self.asked.is_none() {
                    self.asked = self.ask(step);
                }
                let Some(asked) = &mut self.asked else {
                    return;
                };
                let answer = asked.await;
                self.asked = None;
                match answer {
                    Ok(answer) => self.hear_answer(answer),
                    // The registry's runtime is no more.
                    Err(_) => Err(EtcdError::ended()),
                }
            }
        };
        if let Err(error) = done {
            self.fail(error);
        }
    }

    /// Sends a request; `None` for what is none.
    fn ask(&mut self, step: Step) -> Option<AbortOnDropHandle<Answer>> {
        let (etcd, range) = (self.etcd.clone(), self.range.clone());
        let asked = match step {
            Step::List { after, revision } => {
                if after.is_none() {
                    self.rejected.begin_list();
                    self.reader.settle(Settled::Discarded);
                }
                let (after, size) = (after.or_else(|| self.floor.clone()), self.page_size);
                async move {
                    let after = after.as_deref();
                    let listed = etcd.list(&range, after, revision, size, Part::Whole);
                    Answer::Listed(listed.await)
                }
                .boxed()
            }
            Step::Open { from } => {
                self.stream = None;
                async move { Answer::Opened(open(&etcd, &range, from).await.map(Box::new)) }.boxed()
            }
            Step::Confirm => {
                async move { Answer::Confirmed(etcd.revision(range.start()).await) }.boxed()
            }
            Step::LogIn => async move { Answer::LoggedIn(etcd.log_in().await) }.boxed(),
            Step::AskProgress | Step::Receive { .. } | Step::WaitUntil(_) => return None,
        };
        Some(self.etcd.run(asked))
    }

    fn hear_answer(&mut self, answer: Answer) -> Result<(), EtcdError> {
        let now = clock::now();
        match answer {
            Answer::Listed(listed) => return self.listed(listed),
            Answer::Opened(opened) => {
                let (stream, first) = *opened?;
                self.stream = Some(stream);
                self.take(first);
            }
            Answer::Confirmed(revision) => self.watch.confirmed(revision?, now, &mut self.rng),
            Answer::LoggedIn(done) => {
                done?;
                self.watch.logged_in();
            }
        }
        Ok(())
    }

    async fn wait(&mut self, until: Instant, is_receiving: bool) {
        let event = tokio::select! {
            biased;
            message = next_message(self.stream.as_mut()), if is_receiving => Event::Message(message),
            () = self.reachable.again() => Event::Reachable,
            () = clock::until(Some(until)) => Event::Time,
        };
        match event {
            Event::Message(message) => self.hear(message),
            Event::Reachable => self.watch.reachable(),
            Event::Time => {}
        }
    }

    fn hear(&mut self, message: Result<Message, EtcdError>) {
        match message {
            Ok(message) => self.take(message),
            Err(error) => self.fail(error),
        }
    }

    fn listed(&mut self, listed: Result<KeyPage, EtcdError>) -> Result<(), EtcdError> {
        match listed {
            Ok(response) => {
                let page = self.page(response);
                let is_whole = !page.more;
                let is_known = self.watch.page(page, clock::now());
                if is_whole {
                    self.rejected.end_list();
                    self.metrics.listed();
                    let revision = self.watch.revision();
                    self.reader.settle(Settled::Listed { revision, is_known });
                }
                Ok(())
            }
            Err(error) if error.kind == Kind::Compacted => {
                self.watch.list_compacted();
                Ok(())
            }
            Err(error) => {
                if error.kind == Kind::TooLarge {
                    self.page_size = self.page_size.smaller().unwrap_or(self.page_size);
                }
                Err(error)
            }
        }
    }

    fn page(&mut self, page: KeyPage) -> Page<Option<R::Value>> {
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

    async fn ask_progress(&mut self) -> Result<(), EtcdError> {
        if let Some(stream) = &mut self.stream {
            stream.ask_progress().await?;
        }
        self.watch.asked(clock::now());
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
                let is_ours = self.watch.events(changes, now);
                self.reader.settle(match is_ours {
                    true => Settled::Happened,
                    false => Settled::Discarded,
                });
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

    fn change(&mut self, event: KeyEvent) -> Change<Option<R::Value>> {
        match event {
            KeyEvent::Put(kv) => Change::Put(self.put(kv)),
            KeyEvent::Delete { key, revision } => {
                self.rejected.accept(&key, revision);
                self.reader.read_deletion(&key, revision);
                Change::Delete { key, revision }
            }
        }
    }

    fn put(&mut self, kv: KeyValue) -> Put<Option<R::Value>> {
        let read = self.reader.read(&kv);
        let fingerprint = Fingerprint::of(&kv);
        let KeyValue { key, revision, .. } = kv;
        let value = match read {
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
            fingerprint,
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
}

/// Opens a watch, and waits for what it says first.
async fn open(etcd: &Etcd, range: &KeyRange, from: i64) -> Result<(Watching, Message), EtcdError> {
    let mut stream = etcd.watch(range, from).await?;
    let first = stream.message().await?;
    Ok((stream, first))
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
