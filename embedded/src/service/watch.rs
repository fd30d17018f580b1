//! Watches.
//!
//! Nothing is pushed: what is to be told is taken from the store when the client has room for it, and
//! then one of its requests is read as well. So a client that does not read holds up nobody but
//! itself.

use std::{sync::Arc, time::Duration};

use etcd_client::proto::{PbWatchRequest, PbWatchRequestUnion, PbWatchResponse, PbWatchService};
use futures::{
    FutureExt, StreamExt,
    stream::{self, BoxStream},
};
use tokio::{
    sync::Notify,
    time::{Instant, Interval, MissedTickBehavior},
};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    shared::Shared,
    store::{Kinds, Span, StreamId, WatchRequest},
};

/// How often a watcher that asked for it hears how far it has come (`v3rpc/watch.go`).
const REPORTS: Duration = Duration::from_secs(600);

/// `WatchCreateRequest.FilterType`.
const NO_PUTS: i32 = 0;
const NO_DELETIONS: i32 = 1;

pub(super) struct Watch(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl PbWatchService for Watch {
    type WatchStream = BoxStream<'static, Result<PbWatchResponse, Status>>;

    async fn watch(
        &self,
        requests: Request<Streaming<PbWatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.0.admit()?;
        let (id, woken) = self.0.open_stream();
        let reader = Reader {
            shared: self.0.clone(),
            id,
            woken,
            requests: Some(requests.into_inner()),
            reports: None,
        };
        let responses = stream::unfold(reader, |mut reader| async {
            let response = reader.next().await?;
            Some((response, reader))
        });
        Ok(Response::new(responses.boxed()))
    }
}

/// One client's watch call.
struct Reader {
    shared: Arc<Shared>,
    id: StreamId,
    woken: Arc<Notify>,
    /// Nothing once the client has said all it has to say; it may go on listening.
    requests: Option<Streaming<PbWatchRequest>>,
    /// Nothing until a watcher wants to hear how far it has come.
    reports: Option<Interval>,
}

enum Event {
    Request(Result<Option<PbWatchRequest>, Status>),
    Woken,
    Report,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<PbWatchResponse, Status>> {
        loop {
            let response = self.shared.with(|store, _| store.poll_stream(self.id));
            if let Some(response) = response {
                // A watch that always has something to tell could not be cancelled otherwise.
                let request = next_request(&mut self.requests).now_or_never();
                return match request.map(|request| self.take(request)) {
                    Some(Err(status)) => Some(Err(status)),
                    Some(Ok(())) | None => Some(Ok(response)),
                };
            }
            let event = tokio::select! {
                biased;
                request = next_request(&mut self.requests) => Event::Request(request),
                () = self.woken.notified() => Event::Woken,
                () = next_report(&mut self.reports) => Event::Report,
            };
            match event {
                Event::Request(request) => {
                    if let Err(status) = self.take(request) {
                        return Some(Err(status));
                    }
                }
                Event::Woken => {}
                Event::Report => self.shared.with(|store, _| store.report_progress(self.id)),
            }
        }
    }

    fn take(&mut self, request: Result<Option<PbWatchRequest>, Status>) -> Result<(), Status> {
        match request? {
            Some(request) => self.handle(request),
            None => self.requests = None,
        }
        Ok(())
    }

    fn handle(&mut self, request: PbWatchRequest) {
        match request.request_union {
            Some(PbWatchRequestUnion::CreateRequest(request)) => {
                if request.progress_notify && self.reports.is_none() {
                    self.reports = Some(reports());
                }
                // An empty key is the first there can be.
                let key = match &request.key[..] {
                    [] => &[0],
                    key => key,
                };
                let request = WatchRequest {
                    span: Span::new(key, &request.range_end),
                    start: request.start_revision,
                    id: request.watch_id,
                    kinds: Kinds {
                        puts: !request.filters.contains(&NO_PUTS),
                        deletions: !request.filters.contains(&NO_DELETIONS),
                    },
                    previous: request.prev_kv,
                    progress: request.progress_notify,
                    fragment: request.fragment,
                };
                self.shared.with(|store, _| store.watch(self.id, request));
            }
            Some(PbWatchRequestUnion::CancelRequest(request)) => {
                self.shared
                    .with(|store, _| store.cancel_watch(self.id, request.watch_id));
            }
            Some(PbWatchRequestUnion::ProgressRequest(_)) => {
                self.shared.with(|store, _| store.request_progress(self.id));
            }
            None => {}
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.close_stream(self.id);
    }
}

async fn next_request(
    requests: &mut Option<Streaming<PbWatchRequest>>,
) -> Result<Option<PbWatchRequest>, Status> {
    match requests {
        Some(requests) => requests.message().await,
        None => std::future::pending().await,
    }
}

async fn next_report(reports: &mut Option<Interval>) {
    match reports {
        Some(reports) => {
            reports.tick().await;
        }
        None => std::future::pending().await,
    }
}

fn reports() -> Interval {
    let mut reports = tokio::time::interval_at(Instant::now() + REPORTS, REPORTS);
    reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
    reports
}
