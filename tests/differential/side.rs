//! One of the two servers, and what it was asked and has said in a sequence.

use std::{collections::BTreeMap, time::Duration};

use etcd_client::proto::{
    PbDeleteRequest, PbPutRequest, PbTxnOpRequest, PbTxnRequest, PbTxnRequestOp, PbWatchResponse,
};
use switchboard_test_support::{Change, RawEtcd, RawWatch, Version, WatchOf};

use crate::{
    answer::{Answer, Told, told},
    operation::{Clock, Operation},
};

/// How long a server may take to say what it has to. A real one looks after watches of the past
/// every 100 ms.
const LIMIT: Duration = Duration::from_secs(10);

/// The id of what is told of no single watch: refusals, and progress.
const NOBODY: i64 = -1;

/// Progress is logged as this. Whether it or a refusal comes first is chance in later versions.
const PROGRESS: i64 = -2;

/// What was told to each watch of each stream, in order.
pub(crate) type Logs = BTreeMap<(usize, i64), Vec<Told>>;

/// The server's end of a sequence.
#[derive(Debug)]
pub(crate) struct Side {
    etcd: RawEtcd,
    /// The real server's version, whichever of the two this is: both are asked the same.
    real: Version,
    clock: Clock,
    streams: BTreeMap<usize, Stream>,
    /// Some watch may still be told of the past.
    is_behind: bool,
    /// The revision it was compacted at last.
    compacted: i64,
}

/// A stream of watches, and what came on it.
#[derive(Debug)]
struct Stream {
    raw: RawWatch,
    watches: BTreeMap<i64, Watch>,
    /// By watch, in order.
    log: BTreeMap<i64, Vec<Told>>,
}

/// A watch that was made, and not cancelled by us.
#[derive(Debug)]
struct Watch {
    request: WatchOf,
    /// The revision of its last event.
    seen: i64,
    /// Deletions at its first revision are passed over. A compaction at that revision may have
    /// taken them along, or they are of the sequence before, which only the real server has seen.
    passes_deletions: bool,
    /// The server has cancelled it. Servers do so at different times, so nothing but what is awaited
    /// may depend on it.
    is_over: bool,
}

impl Side {
    /// Begins a sequence on a server whose other clients are idle.
    pub(crate) async fn begin(etcd: RawEtcd, real: Version) -> Self {
        let base = etcd.clear().await;
        let clock = Clock { base, now: base };
        Self {
            etcd,
            real,
            clock,
            streams: BTreeMap::new(),
            is_behind: false,
            compacted: base,
        }
    }

    /// Does an operation and returns what comes of it.
    pub(crate) async fn perform(&mut self, operation: Operation) -> Result<Answer, String> {
        let base = self.clock.base;
        let (answer, revision) = match operation {
            Operation::Range(mut request) => {
                self.clock.range(&mut request);
                Answer::new(self.etcd.range(request).await, base, Answer::Range)
            }
            Operation::Put(request) => Answer::new(self.etcd.put(request).await, base, Answer::Put),
            Operation::Delete(request) => {
                Answer::new(self.etcd.delete(request).await, base, Answer::Delete)
            }
            Operation::Txn(mut request) => {
                self.clock.txn(&mut request);
                Answer::new(self.etcd.txn(request).await, base, Answer::Txn)
            }
            Operation::Compact(mut request) => {
                if self.is_behind {
                    // Whether that or the compaction comes first would be chance.
                    self.settle().await?;
                }
                request.revision = self.clock.real(request.revision);
                let answer = self.etcd.compact(request).await;
                if answer.is_ok() {
                    self.compacted = request.revision;
                }
                Answer::new(answer, base, Answer::Compact)
            }
            Operation::Grant(request) => {
                Answer::new(self.etcd.grant(request).await, base, Answer::Grant)
            }
            Operation::Revoke(id) => Answer::new(self.etcd.revoke(id).await, base, Answer::Revoke),
            Operation::KeepAlive(ids) => {
                Answer::new(self.etcd.keep_alive(ids).await, base, Answer::KeepAlive)
            }
            Operation::TimeToLive(request) => {
                let answer = self.etcd.time_to_live(request).await;
                Answer::new(answer, base, Answer::TimeToLive)
            }
            Operation::Leases => Answer::new(self.etcd.leases().await, base, Answer::Leases),
            Operation::Watch(stream, request) => {
                self.watch(stream, request).await?;
                (Answer::OnStream, None)
            }
            Operation::Cancel(stream, id) => {
                self.settle().await?;
                self.ask(stream, WatchOf::cancel(id)).await?;
                if let Some(stream) = self.streams.get_mut(&stream) {
                    stream.watches.remove(&id);
                }
                (Answer::OnStream, None)
            }
            Operation::Progress(stream) => {
                self.settle().await?;
                if self.is_progress_known(stream) {
                    self.ask_progress(stream).await?;
                }
                (Answer::OnStream, None)
            }
        };
        if let Some(revision) = revision {
            self.clock.now = self.clock.now.max(revision);
        }
        Ok(answer)
    }

    /// Ends the sequence: waits until every watch has told all, and returns what was told on each
    /// stream to each watch.
    pub(crate) async fn end(mut self) -> Result<Logs, String> {
        while self.settle().await? {}
        let logs = self.streams.into_iter().flat_map(|(number, stream)| {
            stream
                .log
                .into_iter()
                .map(move |(id, told)| ((number, id), told))
        });
        Ok(logs.collect())
    }

    async fn watch(&mut self, number: usize, mut request: WatchOf) -> Result<(), String> {
        request.start_revision = self.clock.real(request.start_revision);
        let (base, now, compacted) = (self.clock.base, self.clock.now, self.compacted);
        let create = request.clone().create();
        let stream = match self.streams.get_mut(&number) {
            Some(stream) => {
                stream.raw.send(create);
                stream
            }
            None => {
                let raw = self.etcd.watch(create).await;
                let raw = raw.map_err(|status| format!("no stream: {status:?}"))?;
                let stream = Stream {
                    raw,
                    watches: BTreeMap::new(),
                    log: BTreeMap::new(),
                };
                self.streams.entry(number).or_insert(stream)
            }
        };
        let answer = stream.until(base, |answer| answer.created).await?;
        if !answer.canceled {
            let start = request.start_revision;
            let are_deletions_kept = self.real.has(Change::DeletionsKept);
            let watch = Watch {
                seen: 0,
                passes_deletions: start == base || start == compacted && !are_deletions_kept,
                request,
                is_over: false,
            };
            stream.watches.insert(answer.watch_id, watch);
            self.is_behind |= start != 0 && start <= now;
        }
        Ok(())
    }

    /// Sends what etcd may leave unanswered, and waits until it has been looked at.
    async fn ask(
        &mut self,
        number: usize,
        request: etcd_client::proto::PbWatchRequest,
    ) -> Result<(), String> {
        let Some(stream) = self.streams.get_mut(&number) else {
            return Ok(());
        };
        let base = self.clock.base;
        stream.raw.send(request);
        // This is answered in any case, and in its turn.
        let empty = WatchOf {
            key: b"b".to_vec(),
            range_end: b"a".to_vec(),
            ..WatchOf::default()
        };
        stream.raw.send(empty.create());
        stream.until(base, |answer| answer.created).await?;
        Ok(())
    }

    /// Asks a stream for its progress, and waits until that has come if it comes. It comes before
    /// what is told of a watch that is made afterwards.
    async fn ask_progress(&mut self, number: usize) -> Result<(), String> {
        let Some(stream) = self.streams.get_mut(&number) else {
            return Ok(());
        };
        let marker = WatchOf {
            key: b"marker".to_vec(),
            ..WatchOf::default()
        };
        stream.raw.send(WatchOf::progress());
        stream.raw.send(marker.clone().create());
        let made = stream
            .until(self.clock.base, |answer| answer.created)
            .await?;
        self.write([sentinel(marker.key)].into_iter()).await?;
        let is_of_marker = |answer: &PbWatchResponse| {
            answer.watch_id == made.watch_id && !answer.events.is_empty()
        };
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.until(self.clock.base, is_of_marker).await?;
        }
        self.ask(number, WatchOf::cancel(made.watch_id)).await
    }

    /// Whether both answer a progress request, or neither does. Every version answers where all
    /// watches have come as far as the server, and the earliest where they have not, too.
    fn is_progress_known(&self, number: usize) -> bool {
        let now = self.clock.now;
        let is_there = |it: &Watch| !it.is_over && it.request.start_revision <= now;
        self.streams.get(&number).is_some_and(|stream| {
            let mut watches = stream.watches.values();
            self.real.has(Change::NoProgressBeforeTheStart)
                || watches.len() > 0 && watches.all(is_there)
        })
    }

    /// Has every watch tell what it has to: puts and deletes a key of each, and waits for either.
    /// Returns whether some are left, which begin in the future.
    async fn settle(&mut self) -> Result<bool, String> {
        let watches = self.streams.values().flat_map(|it| it.watches.values());
        let mut keys: Vec<_> = watches.map(|watch| watch.first_key()).collect();
        keys.sort();
        keys.dedup();
        if keys.is_empty() {
            return Ok(false);
        }
        let put = self.write(keys.iter().cloned().map(sentinel)).await?;
        let delete = self.write(keys.into_iter().map(erasure)).await?;
        let mut is_one_left = false;
        for stream in self.streams.values_mut() {
            while stream.lacks(put, delete) {
                stream.until(self.clock.base, |_| true).await?;
            }
            let mut watches = stream.watches.values();
            is_one_left |= watches.any(|watch| watch.request.start_revision > delete);
        }
        self.is_behind = false;
        Ok(is_one_left)
    }

    async fn write(
        &mut self,
        operations: impl Iterator<Item = PbTxnRequestOp>,
    ) -> Result<i64, String> {
        let request = PbTxnRequest {
            success: operations.collect(),
            ..PbTxnRequest::default()
        };
        let answer = self.etcd.txn(request).await;
        let answer = answer.map_err(|status| format!("no sentinel: {status:?}"))?;
        self.clock.now = answer.header.expect("a header").revision;
        Ok(self.clock.now)
    }
}

fn sentinel(key: Vec<u8>) -> PbTxnRequestOp {
    let request = PbPutRequest {
        key,
        value: b"sentinel".to_vec(),
        ..PbPutRequest::default()
    };
    PbTxnRequestOp {
        request: Some(PbTxnOpRequest::RequestPut(request)),
    }
}

fn erasure(key: Vec<u8>) -> PbTxnRequestOp {
    let request = PbDeleteRequest {
        key,
        ..PbDeleteRequest::default()
    };
    PbTxnRequestOp {
        request: Some(PbTxnOpRequest::RequestDeleteRange(request)),
    }
}

impl Stream {
    /// Takes what comes until one is as awaited, and returns that.
    async fn until(
        &mut self,
        base: i64,
        is_awaited: impl Fn(&PbWatchResponse) -> bool,
    ) -> Result<PbWatchResponse, String> {
        loop {
            let answer = match self.raw.next_within(LIMIT).await {
                Some(Ok(answer)) => answer,
                Some(Err(status)) => return Err(format!("the stream ended: {status:?}")),
                None => return Err(self.silence()),
            };
            self.take(answer.clone(), base)?;
            if is_awaited(&answer) {
                return Ok(answer);
            }
        }
    }

    fn take(&mut self, answer: PbWatchResponse, base: i64) -> Result<(), String> {
        let id = answer.watch_id;
        if answer.canceled
            && !answer.created
            && let Some(watch) = self.watches.get_mut(&id)
        {
            watch.is_over = true;
        }
        if let Some(last) = answer.events.last() {
            let first = answer.events[0].kv.as_ref().expect("a key").mod_revision;
            let last = last.kv.as_ref().expect("a key").mod_revision;
            let header = answer.header.as_ref().expect("a header").revision;
            if header < last {
                return Err(format!("an event from after its header: {answer:?}"));
            }
            if let Some(watch) = self.watches.get_mut(&id) {
                // Its other half must have come in the same message, but for fragments.
                if first <= watch.seen && !watch.request.fragment {
                    return Err(format!("a revision in two pieces: {answer:?}"));
                }
                watch.seen = last;
            }
        }
        let mut told = told(answer, base);
        let id = match told[..] {
            [Told::Progress { .. }] if id == NOBODY => PROGRESS,
            _ => id,
        };
        if let Some(watch) = self.watches.get(&id).filter(|it| it.passes_deletions) {
            let start = watch.request.start_revision - base;
            told.retain(|told| !told.is_deletion_at(start));
        }
        self.log.entry(id).or_default().extend(told);
        Ok(())
    }

    /// Returns whether a watch has still to tell of those revisions.
    fn lacks(&self, put: i64, delete: i64) -> bool {
        self.watches.values().any(|watch| watch.lacks(put, delete))
    }

    fn silence(&self) -> String {
        let watches = &self.watches;
        let nobody = self.log.get(&NOBODY);
        format!("silent for {LIMIT:?}, with {watches:?}, and told nobody {nobody:?}")
    }
}

impl Watch {
    /// The key that it begins with, whatever is watched after it.
    fn first_key(&self) -> Vec<u8> {
        match &self.request.key[..] {
            [] => vec![0],
            key => key.to_vec(),
        }
    }

    fn lacks(&self, put: i64, delete: i64) -> bool {
        let start = self.request.start_revision;
        let tells = |revision, filter| start <= revision && !self.request.filters.contains(&filter);
        let (sees_put, sees_delete) = (tells(put, 0), tells(delete, 1));
        let lacks = (sees_put && self.seen < put) || (sees_delete && self.seen < delete);
        lacks && !self.is_over
    }
}
