//! Who watches what, and what they are still to be told.
//!
//! A watcher is *synced* while each new revision is put into its stream's outbox at once, and
//! *behind* while it reads the history at its reader's pace: at first if it starts in the past, and
//! later if its reader is so slow that the outbox is full. So a reader that never reads costs a
//! bounded amount of memory.
//!
//! Of each watcher: it is told that it was created before anything else, each event at most once, in
//! order, and none of its revisions in two answers unless it asked for fragments.

mod stream;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use bytes::Bytes;
use etcd_client::proto::PbWatchResponse;

pub(crate) use self::stream::{Kinds, WatchRequest};
use self::stream::{News, Stream};
use super::{history::History, span::Span};

/// One watch call of one client, which may hold many watchers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamId(pub(crate) u64);

/// A watcher's name within its stream.
pub(crate) type WatchId = i64;

#[derive(Debug, Default)]
pub(crate) struct Watchers {
    streams: BTreeMap<StreamId, Stream>,
    synced: Synced,
    /// Streams that may have something to say.
    woken: BTreeSet<StreamId>,
}

/// The synced watchers, by the key that their spans begin with.
#[derive(Debug, Default)]
struct Synced {
    keys: BTreeMap<Bytes, BTreeMap<Handle, Span>>,
    ranges: BTreeMap<Bytes, BTreeMap<Handle, Span>>,
}

type Handle = (StreamId, WatchId);

impl Watchers {
    pub(crate) fn open(&mut self, stream: StreamId) {
        self.streams.insert(stream, Stream::default());
    }

    pub(crate) fn close(&mut self, stream: StreamId) {
        for (id, watcher) in self
            .streams
            .remove(&stream)
            .into_iter()
            .flat_map(Stream::into_watchers)
        {
            self.synced.remove(&watcher.span, (stream, id));
        }
        self.woken.remove(&stream);
    }

    pub(crate) fn create(&mut self, stream: StreamId, request: WatchRequest, history: &History) {
        let Some(open) = self.streams.get_mut(&stream) else {
            return;
        };
        if let Some((id, span)) = open.create(request, history) {
            self.synced.insert(span, (stream, id));
        }
        self.woken.insert(stream);
    }

    pub(crate) fn cancel(&mut self, stream: StreamId, id: WatchId, history: &History) {
        let Some(open) = self.streams.get_mut(&stream) else {
            return;
        };
        if let Some(watcher) = open.cancel(id, history) {
            self.synced.remove(&watcher.span, (stream, id));
        }
        self.woken.insert(stream);
    }

    /// Asks how far the watchers of a stream have come.
    pub(crate) fn request_progress(&mut self, stream: StreamId, history: &History) {
        if let Some(open) = self.streams.get_mut(&stream) {
            open.request_progress(history);
            self.woken.insert(stream);
        }
    }

    /// Tells the watchers that asked for it how far they have come, if they heard nothing since the
    /// last time.
    pub(crate) fn report_progress(&mut self, stream: StreamId, history: &History) {
        if let Some(open) = self.streams.get_mut(&stream) {
            open.report_progress(history);
            self.woken.insert(stream);
        }
    }

    /// Tells the synced watchers of the history's last revision.
    pub(crate) fn announce(&mut self, history: &History) {
        let mut told: BTreeMap<Handle, News> = BTreeMap::new();
        let mut rooms: BTreeMap<StreamId, usize> = BTreeMap::new();
        for event in history.last_events() {
            for (stream, id) in self.synced.of(&event.key) {
                let Some(open) = self.streams.get(&stream) else {
                    continue;
                };
                let room = rooms.entry(stream).or_insert_with(|| open.room());
                told.entry((stream, id)).or_default().add(&event, room);
            }
        }
        for ((stream, id), news) in told {
            let Some(open) = self.streams.get_mut(&stream) else {
                continue;
            };
            if let Some(span) = open.announce(id, news, history.revision()) {
                self.synced.remove(span, (stream, id));
            }
            self.woken.insert(stream);
        }
    }

    /// The next thing to tell a stream's reader, who has taken all before.
    pub(crate) fn poll(&mut self, stream: StreamId, history: &History) -> Option<PbWatchResponse> {
        let open = self.streams.get_mut(&stream)?;
        let caught_up = open.catch_up(history);
        for (id, span) in caught_up {
            self.synced.insert(span, (stream, id));
        }
        open.next()
    }

    /// How many bytes of events wait for a stream's reader.
    #[cfg(test)]
    pub(crate) fn waiting(&self, stream: StreamId) -> usize {
        self.streams[&stream].waiting()
    }

    /// The streams that may have something to say since this was last asked.
    pub(crate) fn take_woken(&mut self) -> BTreeSet<StreamId> {
        std::mem::take(&mut self.woken)
    }
}

impl Synced {
    fn map(&mut self, span: &Span) -> &mut BTreeMap<Bytes, BTreeMap<Handle, Span>> {
        match span {
            Span::Key(_) => &mut self.keys,
            Span::Range { .. } | Span::From(_) => &mut self.ranges,
        }
    }

    fn insert(&mut self, span: Span, watcher: Handle) {
        let watchers = self.map(&span).entry(span.start().clone()).or_default();
        watchers.insert(watcher, span);
    }

    fn remove(&mut self, span: &Span, watcher: Handle) {
        let map = self.map(span);
        if let Some(watchers) = map.get_mut(span.start()) {
            watchers.remove(&watcher);
            if watchers.is_empty() {
                map.remove(span.start());
            }
        }
    }

    /// Those that watch a key.
    fn of(&self, key: &[u8]) -> impl Iterator<Item = Handle> {
        let exact = self.keys.get(key).into_iter();
        let begun = self
            .ranges
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)));
        let watchers = exact.chain(begun.map(|(_, watchers)| watchers)).flatten();
        watchers
            .filter(|(_, span)| span.contains(key))
            .map(|(handle, _)| *handle)
    }
}
