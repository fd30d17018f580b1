//! The way of one call: pick an endpoint, or wait for one; send; pick again if it did not leave.
//!
//! - A pick takes no lock and asks no task.
//! - A request that did not leave goes to another endpoint, unseen by the caller and as often as it
//!   takes. The connection that did not take it is closed by then and never picked again, so this
//!   ends in a sent request or in a wait, and never spins.
//! - Every wait has an end, which [`Deadline::wait`] decides. Only a caller who asks for it waits
//!   for ever.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderValue, Request, Response, Uri,
    header::{TE, USER_AGENT},
    uri::PathAndQuery,
};
use tokio::time::{Instant, timeout_at};

use crate::{
    CallError, ResponseBody, ServedBy, WaitForReady,
    body::{RequestBody, Wanted},
    deadline::{Deadline, GRPC_TIMEOUT, PATIENCE, Wait},
    outlook::Obstacle,
    transport::{SendError, Transport},
    view::{Target, View, Views},
};

/// What all calls of a channel share.
#[derive(Debug)]
pub(crate) struct Calls {
    pub(crate) service: Option<Arc<str>>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) views: Arc<Views>,
}

impl Calls {
    /// Makes one call; `wanted` belongs to the body of its request.
    pub(crate) async fn call(
        &self,
        mut request: Request<RequestBody>,
        wanted: Wanted,
    ) -> Result<Response<ResponseBody>, CallError> {
        let now = Instant::now().into_std();
        let deadline = Deadline::new(request.headers(), self.timeout, now);
        let wait_for_ready = request.extensions().get::<WaitForReady>().is_some();
        set_headers(request.headers_mut());
        loop {
            let Target {
                endpoint,
                transport,
            } = self.pick(&deadline, wait_for_ready).await?;
            aim(&mut request, &transport);
            let now = Instant::now().into_std();
            if let Some(timeout) = deadline.grpc_timeout(now) {
                request.headers_mut().insert(GRPC_TIMEOUT, timeout);
            }
            let sending = transport.send(request);
            let sent = match deadline.of_headers() {
                // Over before it began: to poll it once would be to send it.
                Some(at) if at <= now => None,
                Some(at) => timeout_at(Instant::from_std(at), sending).await.ok(),
                None => Some(sending.await),
            };
            match sent {
                Some(Ok(response)) => {
                    let service = self.service.clone();
                    let (mut parts, body) = response.into_parts();
                    parts.extensions.insert(ServedBy(endpoint.clone()));
                    let body = ResponseBody::new(body, wanted, deadline, service, endpoint);
                    return Ok(Response::from_parts(parts, body));
                }
                Some(Err(SendError::Unsent(returned))) => request = *returned,
                Some(Err(SendError::Interrupted(cause))) => {
                    return Err(CallError::interrupted(&self.service, &endpoint, cause));
                }
                None => {
                    let waited = deadline.of_headers().map(|at| deadline.since_start(at));
                    return Err(CallError::deadline_in_flight(
                        &self.service,
                        &endpoint,
                        "response",
                        waited.unwrap_or_default(),
                    ));
                }
            }
        }
    }

    /// Waits until an endpoint is READY, as a call would that has as long as `limit`.
    pub(crate) async fn ready(&self, limit: Duration) -> Result<(), CallError> {
        let now = Instant::now().into_std();
        let deadline = Deadline::new(&HeaderMap::new(), Some(limit), now);
        self.pick(&deadline, false).await.map(drop)
    }

    /// Returns where the call goes, as soon as there is somewhere.
    async fn pick(&self, deadline: &Deadline, wait_for_ready: bool) -> Result<Target, CallError> {
        let mut wait = None;
        loop {
            let changed = self.views.changed();
            let obstacle = match &**self.views.load() {
                View::Ready(picker) => match picker.pick(|it| !it.transport.is_closed()) {
                    Some(target) => return Ok(target.clone()),
                    None => Obstacle::Lost,
                },
                View::Waiting(obstacle) => obstacle.clone(),
                View::Failing(obstacle) if wait_for_ready => obstacle.clone(),
                View::Failing(obstacle) => {
                    return Err(CallError::nothing_to_call(&self.service, obstacle));
                }
                View::Closed => return Err(CallError::closed(&self.service)),
            };
            let now = || Instant::now().into_std();
            match *wait.get_or_insert_with(|| deadline.wait(wait_for_ready, now())) {
                Wait::Until(end) => {
                    let waiting = timeout_at(Instant::from_std(end), changed);
                    waiting.await.map_err(|_| {
                        let waited = deadline.since_start(end);
                        CallError::deadline_while_waiting(&self.service, &obstacle, waited)
                    })?;
                }
                Wait::Patience(end) => {
                    let waiting = timeout_at(Instant::from_std(end), changed);
                    waiting.await.map_err(|_| {
                        CallError::gave_up_waiting(&self.service, &obstacle, PATIENCE)
                    })?;
                }
                Wait::Forever => changed.await,
            }
        }
    }
}

/// Sets what every gRPC request has, where the caller did not.
fn set_headers(headers: &mut HeaderMap) {
    const OURS: &str = concat!("switchboard/", env!("CARGO_PKG_VERSION"));
    headers
        .entry(TE)
        .or_insert(HeaderValue::from_static("trailers"));
    let combined = headers.get(USER_AGENT).and_then(|theirs| {
        let combined = [theirs.as_bytes(), b" ", OURS.as_bytes()].concat();
        HeaderValue::from_bytes(&combined).ok()
    });
    let ours = combined.unwrap_or(HeaderValue::from_static(OURS));
    headers.insert(USER_AGENT, ours);
}

/// Aims the request at the server at the other end, keeping its path.
fn aim(request: &mut Request<RequestBody>, transport: &Transport) {
    let path = request.uri().path_and_query().cloned();
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(transport.scheme().clone());
    parts.authority = Some(transport.authority().clone());
    parts.path_and_query = Some(path.unwrap_or(PathAndQuery::from_static("/")));
    *request.uri_mut() = Uri::from_parts(parts).expect("all three parts are there");
}
