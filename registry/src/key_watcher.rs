//! Watches the keys of a registry's publications, each by itself and all over one stream.
//!
//! A stream that breaks is not opened again from here: each publication is told, and reads its key
//! before it asks for another watch, since nobody knows what was missed, nor whether etcd is still
//! the one that it was.
//!
//! Only a stream whose token has ended, so that etcd adds no watch to it, is replaced from here: it was
//! answered just now, and each watch goes on where it was.
//!
//! Watches are opened in a lull of requests for them. They miss nothing by that, since each starts
//! at a revision; and while a thousand publications begin, etcd is left to their writes.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, sync::mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock,
    etcd::{Etcd, EtcdError, KeyStream, Kind, Message},
};

/// How long no further watch must have been asked for before those that were are opened. Shorter
/// than a write takes, and there is no lull between two of them.
const LULL: Duration = Duration::from_millis(20);

/// How long a watch waits for a lull at most. A key that others delete is to be back within a
/// second.
const LONGEST_WAIT: Duration = Duration::from_millis(250);

/// How many watches are opened before their answers are read. Those of thousands would fill what
/// HTTP/2 lets etcd send ahead, and then etcd reads no further.
const BATCH: usize = 64;

/// Where publications have their keys watched.
#[derive(Debug, Clone)]
pub(crate) struct KeyWatcher {
    requests: mpsc::UnboundedSender<Request>,
    last_id: Arc<AtomicI64>,
}

/// A watch on one key, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct KeyWatch {
    id: i64,
    key: String,
    news: mpsc::UnboundedReceiver<News>,
    requests: mpsc::UnboundedSender<Request>,
}

/// What a watch says; an error is its last word.
pub(crate) type News = Result<Message, Arc<EtcdError>>;

#[derive(Debug)]
enum Request {
    Watch(Wanted),
    Leave { id: i64 },
}

/// A watch that is asked for.
#[derive(Debug)]
struct Wanted {
    id: i64,
    key: String,
    /// The first revision that it has not told of.
    from: i64,
    news: mpsc::UnboundedSender<News>,
}

impl KeyWatcher {
    /// Starts the watcher on `tasks`, until `stop`.
    pub(crate) fn start(
        etcd: Etcd,
        stop: CancellationToken,
        tasks: &TaskTracker,
        runtime: &Handle,
    ) -> Self {
        let (requests, received) = mpsc::unbounded_channel();
        let performer = Performer {
            etcd,
            stream: None,
            has_opened: false,
            majority: 0,
            watches: BTreeMap::new(),
            wanted: BTreeMap::new(),
            lull: None,
        };
        tasks.spawn_on(performer.run(received, stop), runtime);
        Self {
            requests,
            last_id: Arc::default(),
        }
    }

    /// Watches `key`, from a revision on.
    pub(crate) fn watch(&self, key: &str, from: i64) -> KeyWatch {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, news) = mpsc::unbounded_channel();
        let key = key.to_owned();
        // Once the registry is closed nobody answers, which is told as the end of the watch.
        let _ = self.requests.send(Request::Watch(Wanted {
            id,
            key: key.clone(),
            from,
            news: sender,
        }));
        KeyWatch {
            id,
            key,
            news,
            requests: self.requests.clone(),
        }
    }
}

impl KeyWatch {
    /// Returns the key that is watched.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Waits for what the watch says next.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it loses nothing.
    pub(crate) async fn news(&mut self) -> News {
        match self.news.recv().await {
            Some(news) => news,
            None => Err(Arc::new(EtcdError::ended())),
        }
    }
}

impl Drop for KeyWatch {
    fn drop(&mut self) {
        // Whoever would have to end it has ended.
        let _ = self.requests.send(Request::Leave { id: self.id });
    }
}

/// Opens and ends the watches, over one stream.
struct Performer {
    etcd: Etcd,
    stream: Option<KeyStream>,
    /// Whether etcd has opened a watch over it.
    has_opened: bool,
    /// Where a majority was, as it was told while the stream was open.
    majority: i64,
    watches: BTreeMap<i64, Wanted>,
    /// Those that are not open yet.
    wanted: BTreeMap<i64, Wanted>,
    lull: Option<Lull>,
}

/// When those that are not open yet are to be opened.
struct Lull {
    begins: Instant,
    at_last: Instant,
}

enum Event {
    Stop,
    Message(Result<(Option<i64>, Message), EtcdError>),
    Asked(Request),
    Lull,
}

impl Performer {
    async fn run(
        mut self,
        mut requests: mpsc::UnboundedReceiver<Request>,
        stop: CancellationToken,
    ) {
        loop {
            let lull = self.lull.as_ref().map(Lull::at);
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => Event::Stop,
                message = next_message(self.stream.as_mut()) => Event::Message(message),
                Some(request) = requests.recv() => Event::Asked(request),
                () = clock::until(lull) => Event::Lull,
            };
            let done = match event {
                Event::Stop => return,
                Event::Message(Ok((id, message))) => self.tell(id, message).await,
                Event::Message(Err(error)) => Err(error),
                Event::Asked(Request::Watch(wanted)) => {
                    self.lull = Some(Lull::after(self.lull.take(), clock::now()));
                    self.wanted.insert(wanted.id, wanted);
                    Ok(())
                }
                Event::Asked(Request::Leave { id }) => self.leave(id).await,
                Event::Lull => self.open().await,
            };
            if let Err(error) = done {
                self.lose(error);
            }
        }
    }

    /// Opens some of the watches that are wanted.
    async fn open(&mut self) -> Result<(), EtcdError> {
        for _ in 0..BATCH {
            let Some((id, wanted)) = self.wanted.pop_first() else {
                self.lull = None;
                break;
            };
            let wanted = self.watches.entry(id).or_insert(wanted);
            match &mut self.stream {
                Some(stream) => stream.add(id, &wanted.key, wanted.from).await?,
                None => {
                    (self.has_opened, self.majority) = (false, 0);
                    let stream = self.etcd.watch_key(id, &wanted.key, wanted.from);
                    self.stream = Some(stream.await?);
                }
            }
        }
        Ok(())
    }

    async fn leave(&mut self, id: i64) -> Result<(), EtcdError> {
        let is_open = self.watches.remove(&id).is_some();
        if !is_open {
            self.wanted.remove(&id);
            return Ok(());
        }
        match &mut self.stream {
            Some(_) if self.watches.is_empty() => {
                self.stream = None;
                Ok(())
            }
            Some(stream) => stream.remove(id).await,
            None => Ok(()),
        }
    }

    /// Tells what a watch has said to whoever asked for it.
    async fn tell(&mut self, id: Option<i64>, message: Message) -> Result<(), EtcdError> {
        match (id, message) {
            (Some(id), Message::Cancelled(error)) => self.end(id, error).await,
            (Some(id), Message::Opened { revision }) => {
                self.has_opened = true;
                self.begin(id, revision).await
            }
            (Some(id), message) => {
                if let Some(watch) = self.watches.get_mut(&id) {
                    if let Message::Events(events) = &message
                        && let Some(last) = events.last()
                    {
                        watch.from = last.revision() + 1;
                    }
                    let _ = watch.news.send(Ok(message));
                }
                Ok(())
            }
            // A token that is refused from the beginning is not one that has ended.
            (None, Message::Cancelled(error)) if error.kind == Kind::Token && self.has_opened => {
                self.replace().await
            }
            // One of those that were just asked for: which one, etcd does not say.
            (None, Message::Cancelled(error)) => Err(error),
            (None, _) => Ok(()),
        }
    }

    /// Ends a watch, and tells whoever asked for it why.
    async fn end(&mut self, id: i64, error: EtcdError) -> Result<(), EtcdError> {
        let Some(watch) = self.watches.remove(&id) else {
            // The answer to its end.
            return Ok(());
        };
        // Who has left need not be told.
        let _ = watch.news.send(Err(Arc::new(error)));
        // etcd keeps one that it has cancelled for a compaction until it is told to.
        match &mut self.stream {
            Some(stream) => stream.remove(id).await,
            None => Ok(()),
        }
    }

    /// A watch is open, at a member that is at `revision`. Where that is not as far as its key was read, it lags;
    /// or etcd has gone back since, and the watch would tell nothing until all of that is made up for.
    async fn begin(&mut self, id: i64, revision: i64) -> Result<(), EtcdError> {
        let Some(watch) = self.watches.get(&id) else {
            return Ok(());
        };
        let (key, read_at) = (watch.key.clone(), watch.from - 1);
        if revision.max(self.majority) < read_at {
            match self.etcd.revision(&key).await {
                Ok(majority) => self.majority = majority,
                Err(error) => return self.end(id, error).await,
            }
            if self.majority < read_at {
                return self.end(id, EtcdError::gone_back(self.majority)).await;
            }
        }
        if let Some(watch) = self.watches.get(&id) {
            let _ = watch.news.send(Ok(Message::Opened { revision }));
        }
        Ok(())
    }

    /// The token of the stream has ended: another one takes its place, with another token.
    async fn replace(&mut self) -> Result<(), EtcdError> {
        self.etcd.log_in().await?;
        self.stream = None;
        self.wanted.append(&mut self.watches);
        self.lull = Some(Lull::over(clock::now()));
        Ok(())
    }

    /// The stream has broken, with all that was watched over it, or was to be.
    fn lose(&mut self, error: EtcdError) {
        let error = Arc::new(error);
        self.stream = None;
        // Those that are not open yet, too: etcd may be another one.
        let watches = std::mem::take(&mut self.watches).into_values();
        for watch in watches.chain(std::mem::take(&mut self.wanted).into_values()) {
            let _ = watch.news.send(Err(error.clone()));
        }
    }
}

impl Lull {
    /// A watch was asked for, maybe `after` others that wait, too.
    fn after(others: Option<Self>, now: Instant) -> Self {
        Self {
            begins: now + LULL,
            at_last: others.map_or(now + LONGEST_WAIT, |it| it.at_last),
        }
    }

    /// There is nothing to wait for.
    fn over(now: Instant) -> Self {
        Self {
            begins: now,
            at_last: now,
        }
    }

    fn at(&self) -> Instant {
        self.begins.min(self.at_last)
    }
}

/// Waits for what a stream says; one that is not open says nothing.
async fn next_message(stream: Option<&mut KeyStream>) -> Result<(Option<i64>, Message), EtcdError> {
    match stream {
        Some(stream) => stream.message().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
