//! A stream of watches, as it is on the wire.

use std::time::Duration;

use etcd_client::proto::{PbWatchRequest, PbWatchRequestUnion, PbWatchResponse};
use tokio::{sync::mpsc::UnboundedSender, time::timeout};
use tonic::{Status, Streaming};

/// How long an answer may take. etcd looks after watches of the past every 100 ms; machines that
/// test are busy.
const LIMIT: Duration = Duration::from_secs(20);

/// A stream of watches that is open; see [`RawEtcd::watch`](crate::RawEtcd::watch). It ends when
/// this is dropped.
#[derive(Debug)]
pub struct RawWatch {
    requests: Option<UnboundedSender<PbWatchRequest>>,
    answers: Streaming<PbWatchResponse>,
}

impl RawWatch {
    pub(crate) fn new(
        requests: UnboundedSender<PbWatchRequest>,
        answers: Streaming<PbWatchResponse>,
    ) -> Self {
        Self {
            requests: Some(requests),
            answers,
        }
    }

    /// Sends a request. Whether the stream still stands is told by its answers.
    pub fn send(&self, request: PbWatchRequest) {
        if let Some(requests) = &self.requests {
            let _ = requests.send(request);
        }
    }

    /// Waits for the next answer.
    ///
    /// # Errors
    ///
    /// The status that the stream ended with.
    ///
    /// # Panics
    ///
    /// If there is none within 20 s, or the stream ends without a status.
    pub async fn next(&mut self) -> Result<PbWatchResponse, Status> {
        let next = self.next_within(LIMIT).await;
        next.unwrap_or_else(|| panic!("a watch: no answer within {LIMIT:?}"))
    }

    /// Waits for the next answer for that long.
    ///
    /// # Errors
    ///
    /// The status that the stream ended with.
    ///
    /// # Panics
    ///
    /// If the stream ends without a status.
    pub async fn next_within(
        &mut self,
        limit: Duration,
    ) -> Option<Result<PbWatchResponse, Status>> {
        let answer = timeout(limit, self.answers.message()).await.ok()?;
        let answer = answer.transpose();
        Some(answer.expect("a stream of watches ends with a status"))
    }

    /// Says that no further request comes. Answers may.
    pub fn ask_no_more(&mut self) {
        self.requests = None;
    }
}

/// What a watch is to be: the fields of etcd's `WatchCreateRequest`, whose type etcd-client keeps
/// to itself.
#[derive(Debug, Clone, Default)]
#[allow(clippy::exhaustive_structs, missing_docs, reason = "they are etcd's")]
pub struct WatchOf {
    pub key: Vec<u8>,
    pub range_end: Vec<u8>,
    pub start_revision: i64,
    pub progress_notify: bool,
    /// 0 leaves out puts, 1 deletions.
    pub filters: Vec<i32>,
    pub prev_kv: bool,
    pub watch_id: i64,
    pub fragment: bool,
}

impl WatchOf {
    /// Returns the request that makes it.
    pub fn create(self) -> PbWatchRequest {
        let mut union = PbWatchRequestUnion::CreateRequest(Default::default());
        if let PbWatchRequestUnion::CreateRequest(request) = &mut union {
            request.key = self.key;
            request.range_end = self.range_end;
            request.start_revision = self.start_revision;
            request.progress_notify = self.progress_notify;
            request.filters = self.filters;
            request.prev_kv = self.prev_kv;
            request.watch_id = self.watch_id;
            request.fragment = self.fragment;
        }
        PbWatchRequest {
            request_union: Some(union),
        }
    }

    /// Returns the request that ends the watch of that id.
    pub fn cancel(id: i64) -> PbWatchRequest {
        let mut union = PbWatchRequestUnion::CancelRequest(Default::default());
        if let PbWatchRequestUnion::CancelRequest(request) = &mut union {
            request.watch_id = id;
        }
        PbWatchRequest {
            request_union: Some(union),
        }
    }

    /// Returns the request that asks how far the stream is.
    pub fn progress() -> PbWatchRequest {
        PbWatchRequest {
            request_union: Some(PbWatchRequestUnion::ProgressRequest(Default::default())),
        }
    }
}
