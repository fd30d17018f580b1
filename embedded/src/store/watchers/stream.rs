//! One client's watch call: its watchers, and what waits to be told to it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
};

use etcd_client::proto::PbWatchResponse;
use prost::Message;

use super::WatchId;
use crate::store::{
    LARGEST_MESSAGE, StoreError, header,
    history::{Event, History},
    span::Span,
};

/// How much may wait for a reader, in answers and in bytes, before its watchers fall behind: with
/// more, one slow reader holds much memory; with less, it is cut off by a compaction sooner.
const MOST_WAITING: usize = 1024;
const MOST_BYTES_WAITING: usize = 1 << 20;

/// How many events a watcher that is behind reads at once, whole revisions given.
const BATCH: usize = 1000;

/// The name of no watcher: of a refused one, and of progress that counts for all.
const NO_ID: WatchId = -1;

/// What a client asks to watch.
#[derive(Debug, Clone)]
pub(crate) struct WatchRequest {
    pub(crate) span: Span,
    /// The first revision wanted; 0 is the next one.
    pub(crate) start: i64,
    /// The name that the client gives; 0 leaves it to us.
    pub(crate) id: WatchId,
    pub(crate) kinds: Kinds,
    /// Events are to tell what was before.
    pub(crate) previous: bool,
    /// It wants to hear from time to time how far it has come.
    pub(crate) progress: bool,
    /// Large answers may be cut up.
    pub(crate) fragment: bool,
}

/// Which events are wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kinds {
    pub(crate) puts: bool,
    pub(crate) deletions: bool,
}

impl Kinds {
    fn includes(self, event: &Event) -> bool {
        match event.live {
            Some(_) => self.puts,
            None => self.deletions,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Stream {
    watchers: BTreeMap<WatchId, Watcher>,
    next_id: WatchId,
    /// Those that a compaction ended: their names are taken until the client ends them too.
    compacted: BTreeSet<WatchId>,
    /// Those that are behind; they take turns.
    behind: BTreeSet<WatchId>,
    /// Whose turn it was last.
    last_read: WatchId,
    outbox: VecDeque<Delivery>,
    /// The bytes of events in it.
    waiting: usize,
}

#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) span: Span,
    /// The first revision that was asked for; 0 was the next one.
    start: i64,
    kinds: Kinds,
    previous: bool,
    fragment: bool,
    progress: Progress,
    position: Position,
}

#[derive(Debug, Clone, Copy)]
enum Position {
    /// It is told of each revision as it comes, from this one on.
    Synced { from: i64 },
    /// It reads the history, from this revision on.
    Behind { next: i64 },
}

/// Whether a watcher is told how far it has come.
#[derive(Debug, Clone, Copy)]
enum Progress {
    NotAsked,
    /// It heard nothing since the last report.
    Quiet,
    /// It did, which says as much.
    Told,
}

/// What a revision did to what a watcher watches.
#[derive(Debug)]
pub(super) enum News {
    Events(Vec<Event>),
    /// There is no room for it in the outbox.
    TooMuch,
}

impl Default for News {
    fn default() -> Self {
        Self::Events(Vec::new())
    }
}

impl News {
    /// Adds an event, as long as there is any room.
    pub(super) fn add(&mut self, event: &Event, room: &mut usize) {
        match self {
            Self::Events(events) if *room > 0 => {
                *room = room.saturating_sub(event.size());
                events.push(event.clone());
            }
            _ => *self = Self::TooMuch,
        }
    }
}

#[derive(Debug)]
enum Delivery {
    Message(Box<PbWatchResponse>),
    Events {
        id: WatchId,
        events: Vec<Event>,
        /// What the answer says the store was at.
        revision: i64,
        previous: bool,
        fragment: bool,
    },
}

impl Stream {
    /// Adds a watcher, or says why not. Returns its name and what it watches if it is synced.
    pub(super) fn create(
        &mut self,
        request: WatchRequest,
        history: &History,
    ) -> Option<(WatchId, Span)> {
        let id = match self.name(&request) {
            Ok(id) => id,
            Err(reason) => {
                self.say(PbWatchResponse {
                    header: header(history.revision()),
                    watch_id: NO_ID,
                    created: true,
                    canceled: true,
                    cancel_reason: reason,
                    ..PbWatchResponse::default()
                });
                return None;
            }
        };
        self.say(PbWatchResponse {
            header: header(history.revision()),
            watch_id: id,
            created: true,
            ..PbWatchResponse::default()
        });
        let next = history.revision() + 1;
        let position = match request.start {
            0 => Position::Synced { from: next },
            start if start >= next => Position::Synced { from: start },
            start => Position::Behind { next: start },
        };
        let span = request.span.clone();
        self.watchers.insert(
            id,
            Watcher {
                span: request.span,
                start: request.start,
                kinds: request.kinds,
                previous: request.previous,
                fragment: request.fragment,
                progress: match request.progress {
                    true => Progress::Quiet,
                    false => Progress::NotAsked,
                },
                position,
            },
        );
        match position {
            Position::Synced { .. } => Some((id, span)),
            Position::Behind { .. } => {
                self.behind.insert(id);
                None
            }
        }
    }

    /// The name of a new watcher, or why there is none.
    fn name(&mut self, request: &WatchRequest) -> Result<WatchId, String> {
        if request.start < 0 {
            return Err(StoreError::Compacted.to_string());
        }
        if request.span.is_empty() {
            return Err("mvcc: watcher range is empty".to_owned());
        }
        if request.id == 0 {
            while self.is_taken(self.next_id) {
                self.next_id += 1;
            }
            self.next_id += 1;
            return Ok(self.next_id - 1);
        }
        if self.is_taken(request.id) {
            let reason = "mvcc: duplicate watch ID provided on the WatchStream";
            return Err(reason.to_owned());
        }
        Ok(request.id)
    }

    fn is_taken(&self, id: WatchId) -> bool {
        self.watchers.contains_key(&id) || self.compacted.contains(&id)
    }

    /// Ends a watcher, if there is one of that name.
    pub(super) fn cancel(&mut self, id: WatchId, history: &History) -> Option<Watcher> {
        if !self.is_taken(id) {
            return None;
        }
        self.behind.remove(&id);
        self.compacted.remove(&id);
        self.say(PbWatchResponse {
            header: header(history.revision()),
            watch_id: id,
            canceled: true,
            ..PbWatchResponse::default()
        });
        self.watchers.remove(&id)
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many bytes of events it may be told at once.
    pub(super) fn room(&self) -> usize {
        match self.outbox.len() < MOST_WAITING {
            true => MOST_BYTES_WAITING.saturating_sub(self.waiting),
            false => 0,
        }
    }

    /// Tells a synced watcher what happened at a revision. Returns what it watches if it is behind
    /// from now on, since its reader does not keep up.
    pub(super) fn announce(&mut self, id: WatchId, news: News, revision: i64) -> Option<&Span> {
        let watcher = self.watchers.get_mut(&id)?;
        if !matches!(watcher.position, Position::Synced { from } if from <= revision) {
            return None;
        }
        match news {
            News::Events(mut events) => {
                events.retain(|event| watcher.kinds.includes(event));
                if !events.is_empty() {
                    self.tell(id, events, revision);
                }
                None
            }
            News::TooMuch => {
                watcher.position = Position::Behind { next: revision };
                self.behind.insert(id);
                Some(&self.watchers[&id].span)
            }
        }
    }

    /// Lets watchers that are behind read on, once their reader has taken all that waited. Returns
    /// those that are synced now.
    pub(super) fn catch_up(&mut self, history: &History) -> Vec<(WatchId, Span)> {
        let mut synced = Vec::new();
        while self.outbox.is_empty()
            && let Some(id) = self.next_behind()
        {
            let Some(watcher) = self.watchers.get_mut(&id) else {
                continue;
            };
            let Position::Behind { next } = watcher.position else {
                continue;
            };
            if next < history.compacted() {
                self.watchers.remove(&id);
                self.compacted.insert(id);
                self.say(PbWatchResponse {
                    header: header(0),
                    watch_id: id,
                    canceled: true,
                    compact_revision: history.compacted(),
                    ..PbWatchResponse::default()
                });
                continue;
            }
            let (mut events, end) = read(history, &watcher.span, next);
            watcher.position = match end {
                Some(next) => Position::Behind { next },
                None => Position::Synced {
                    from: history.revision() + 1,
                },
            };
            match end {
                Some(_) => {
                    self.behind.insert(id);
                }
                None => synced.push((id, watcher.span.clone())),
            }
            events.retain(|event| watcher.kinds.includes(event));
            if !events.is_empty() {
                self.tell(id, events, history.revision());
            }
        }
        synced
    }

    /// Takes out the one that is behind whose turn it is.
    fn next_behind(&mut self) -> Option<WatchId> {
        let after = (Bound::Excluded(self.last_read), Bound::Unbounded);
        let next = self.behind.range(after).next().or(self.behind.first());
        let id = *next?;
        self.last_read = id;
        self.behind.take(&id)
    }

    /// Tells how far all watchers have come, unless one of them has not come that far: then nothing
    /// is told, not later either.
    pub(super) fn request_progress(&mut self, history: &History) {
        // One that starts in the future has not come anywhere, be it only the next revision
        // (`mvcc/watchable_store.go`), nor has one that a compaction ended.
        let has_begun = |watcher: &Watcher| watcher.start <= history.revision();
        let is_anywhere = !self.watchers.is_empty() && self.watchers.values().all(has_begun);
        if is_anywhere && self.behind.is_empty() && self.compacted.is_empty() {
            // What waits is told before.
            self.say(PbWatchResponse {
                header: header(history.revision()),
                watch_id: NO_ID,
                ..PbWatchResponse::default()
            });
        }
    }

    pub(super) fn report_progress(&mut self, history: &History) {
        let revision = history.revision();
        let mut reports = Vec::new();
        for (id, watcher) in &mut self.watchers {
            let is_synced =
                matches!(watcher.position, Position::Synced { .. }) && watcher.start <= revision;
            match watcher.progress {
                Progress::NotAsked => {}
                Progress::Quiet if is_synced => reports.push(*id),
                Progress::Quiet | Progress::Told => watcher.progress = Progress::Quiet,
            }
        }
        for id in reports {
            self.say(PbWatchResponse {
                header: header(revision),
                watch_id: id,
                ..PbWatchResponse::default()
            });
        }
    }

    /// Takes out what is to be told next.
    pub(super) fn next(&mut self) -> Option<PbWatchResponse> {
        match self.outbox.pop_front()? {
            Delivery::Message(message) => Some(*message),
            Delivery::Events {
                id,
                events,
                revision,
                previous,
                fragment,
            } => {
                self.waiting -= size(&events);
                let message = PbWatchResponse {
                    header: header(revision),
                    watch_id: id,
                    events: events.iter().map(|event| event.message(previous)).collect(),
                    ..PbWatchResponse::default()
                };
                let mut fragments = match fragment {
                    true => fragments(message).into_iter(),
                    false => vec![message].into_iter(),
                };
                let first = fragments.next();
                for fragment in fragments.rev() {
                    self.outbox
                        .push_front(Delivery::Message(Box::new(fragment)));
                }
                first
            }
        }
    }

    pub(super) fn into_watchers(self) -> impl Iterator<Item = (WatchId, Watcher)> {
        self.watchers.into_iter()
    }

    fn say(&mut self, message: PbWatchResponse) {
        self.outbox.push_back(Delivery::Message(Box::new(message)));
    }

    fn tell(&mut self, id: WatchId, events: Vec<Event>, revision: i64) {
        let Some(watcher) = self.watchers.get_mut(&id) else {
            return;
        };
        if let Progress::Quiet = watcher.progress {
            watcher.progress = Progress::Told;
        }
        self.waiting += size(&events);
        self.outbox.push_back(Delivery::Events {
            id,
            events,
            revision,
            previous: watcher.previous,
            fragment: watcher.fragment,
        });
    }
}

fn size(events: &[Event]) -> usize {
    events.iter().map(Event::size).sum()
}

/// Reads on from a revision, whole revisions. Returns where to go on, unless that was all.
fn read(history: &History, span: &Span, next: i64) -> (Vec<Event>, Option<i64>) {
    let mut events: Vec<Event> = Vec::new();
    for event in history.events(span, next) {
        let is_new = events
            .last()
            .is_some_and(|last| last.revision != event.revision);
        if is_new && events.len() >= BATCH {
            return (events, Some(event.revision));
        }
        events.push(event);
    }
    (events, None)
}

/// Cuts an answer up so that no part is larger than a message may be, unless one event is.
fn fragments(mut message: PbWatchResponse) -> Vec<PbWatchResponse> {
    if message.encoded_len() < LARGEST_MESSAGE {
        return vec![message];
    }
    let events = std::mem::take(&mut message.events);
    let empty = PbWatchResponse {
        fragment: true,
        ..message
    };
    let mut parts = vec![empty.clone()];
    let mut size = 0;
    for event in events {
        let more = event.encoded_len();
        if size > 0 && size + more >= LARGEST_MESSAGE {
            parts.push(empty.clone());
            size = 0;
        }
        size += more;
        parts
            .last_mut()
            .expect("there is one from the start")
            .events
            .push(event);
    }
    parts
        .last_mut()
        .expect("there is one from the start")
        .fragment = false;
    parts
}
