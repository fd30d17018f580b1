//! The way of one call: pick an endpoint, or wait for one; send; pick again if it did not leave.
//!
//! - A pick takes no lock and asks no task. It takes a slot, which is given back exactly once,
//!   wherever the call ends.
//! - A request that h2 did not take goes to another endpoint, and so does a whole one that never left,
//!   unseen by the caller and as often as it takes. The connection that did not take it is closed by then
//!   and never picked again, so this ends in a sent request or in a wait, and never spins.
//! - One that the server says it did not process does so once (gRPC's A6), if its body was whole before
//!   it was sent; another endpoint that can be called is preferred then.
//! - A call that fails at once counts against its task's turn, so that one who repeats it in a loop
//!   starves nobody.
//! - Every wait has an end, which [`Deadline::wait`] decides. Only a caller who asks for it waits
//!   for ever.

use std::{future::poll_fn, pin::pin, sync::Arc, time::Duration};

use h2::RecvStream;
use http::Response;
use tokio::{
    task::{coop::consume_budget, yield_now},
    time::{Instant, timeout_at},
};

use crate::{
    CallError, Endpoint, ResponseBody, ServedBy,
    deadline::{Deadline, PATIENCE, Wait},
    ejection::Admission,
    ending::Ending,
    idleness::Activity,
    metrics::CallMetrics,
    outlook::Obstacle,
    request_body::RequestBody,
    request_head::RequestHead,
    response_body::drop_broken_details,
    transport::{Exchange, Failure, OnConnection, Slot, Vacancy},
    view::{Target, View, Views},
};

/// What all calls of a channel share.
#[derive(Debug)]
pub(crate) struct Calls {
    pub(crate) service: Option<Arc<str>>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) views: Arc<Views>,
    pub(crate) vacancy: Arc<Vacancy>,
    pub(crate) activity: Arc<Activity>,
    pub(crate) metrics: CallMetrics,
}

/// Where a call goes, with the right to do so.
struct Picked {
    target: Arc<Target>,
    /// If the endpoint is judged by how its calls end.
    admission: Option<Admission>,
    slot: Slot,
}

/// What a look at the endpoints has come to.
enum Pick {
    Picked(Picked),
    /// Nothing can be called now.
    Blocked(Obstacle),
}

impl Picked {
    /// Takes the right to call a target, if it can be had.
    fn take(target: &Arc<Target>) -> Option<Self> {
        loop {
            let witness = target.witness.as_ref();
            let admission = match witness {
                Some(witness) => Some(witness.admit()?),
                None => None,
            };
            if let Some(slot) = target.transport.slot() {
                let target = target.clone();
                return Some(Self {
                    target,
                    admission,
                    slot,
                });
            }
            // Whoever was told of a slot meanwhile may have found the turn taken, and waits for another.
            let had_turn = admission.is_some_and(Admission::give_back);
            if !had_turn || !target.transport.has_room() {
                return None;
            }
        }
    }
}

impl Calls {
    /// Makes one call, up to the headers of its response: sends the request as often as it takes.
    ///
    /// All that fails leaves by one way, past who counts. What succeeds returns where it is: a response
    /// that another function handed on would be copied once more each time.
    pub(crate) async fn call(
        &self,
        head: &mut RequestHead,
        body: &mut RequestBody,
    ) -> Result<Response<ResponseBody>, CallError> {
        let mut ending = Ending::begin(self.metrics.begin());
        self.activity.note();
        let deadline = head.deadline;
        let error = 'failed: {
            if let Err(error) = body.read_ahead().await {
                break 'failed CallError::body(&self.service, error);
            }
            let mut refuser = None::<Endpoint>;
            loop {
                let picking = self.pick(&deadline, head.wait_for_ready, refuser.as_ref());
                // In this order: the leave is given back before the slot, as its contract has it.
                let Picked {
                    target,
                    slot,
                    admission,
                } = match picking.await {
                    Ok(picked) => picked,
                    Err(error) => break 'failed error,
                };
                let now = Instant::now().into_std();
                // Over before it began: not to be sent.
                if deadline.of_headers().is_some_and(|at| at <= now) {
                    break 'failed self.no_response(&target, &deadline);
                }
                let can_be_repeated = body.is_whole();
                let request = head.request(&target.transport, now);
                ending.sent(&target, admission);
                let exchange = match target.transport.send(request, body, slot, now) {
                    Ok(exchange) => exchange,
                    Err(failure) => {
                        // No server has seen it.
                        ending.sent_back();
                        if let Failure::Unsent(_) = failure {
                            self.metrics.unsent();
                            continue;
                        }
                        break 'failed CallError::failed(&self.service, &target.endpoint, failure);
                    }
                };
                match headers(exchange, &deadline).await {
                    Some(Ok((response, call))) => {
                        return Ok(self.response(response, call, head, &target, ending));
                    }
                    Some(Err(Failure::Unsent(_))) if can_be_repeated => {
                        self.metrics.unsent();
                        ending.sent_back();
                    }
                    Some(Err(Failure::Refused(_))) if can_be_repeated && refuser.is_none() => {
                        self.metrics.refused();
                        ending.sent_back();
                        refuser = Some(target.endpoint.clone());
                    }
                    Some(Err(failure)) => {
                        break 'failed CallError::failed(&self.service, &target.endpoint, failure);
                    }
                    None => break 'failed self.no_response(&target, &deadline),
                }
            }
        };
        ending.failed(&error);
        Err(error)
    }

    fn response(
        &self,
        response: Response<RecvStream>,
        call: OnConnection,
        head: &mut RequestHead,
        target: &Target,
        mut ending: Ending,
    ) -> Response<ResponseBody> {
        let (mut parts, stream) = response.into_parts();
        ending.headers(parts.status, &parts.headers);
        drop_broken_details(&mut parts.headers);
        let endpoint = target.endpoint.clone();
        let mut extensions = std::mem::take(&mut head.extensions);
        extensions.insert(ServedBy(endpoint.clone()));
        extensions.extend(parts.extensions);
        parts.extensions = extensions;
        let service = self.service.clone();
        let body = ResponseBody::new(stream, call, head.deadline, service, endpoint, ending);
        Response::from_parts(parts, body)
    }

    fn no_response(&self, target: &Target, deadline: &Deadline) -> CallError {
        let waited = deadline.of_headers().map(|at| deadline.since_start(at));
        CallError::deadline_in_flight(
            &self.service,
            &target.endpoint,
            "response",
            waited.unwrap_or_default(),
        )
    }

    /// Waits until an endpoint is READY, as a call would that has as long as `limit`.
    pub(crate) async fn ready(&self, limit: Duration) -> Result<(), CallError> {
        let now = Instant::now().into_std();
        let deadline = Deadline::new(None, Some(limit), now);
        // No call waits.
        self.wait(&deadline, false).await.map(drop)
    }

    /// Returns where the call goes, as soon as there is somewhere: not to its `refuser`, if it can go
    /// elsewhere.
    async fn pick(
        &self,
        deadline: &Deadline,
        wait_for_ready: bool,
        refuser: Option<&Endpoint>,
    ) -> Result<Picked, CallError> {
        // Those who wait were first; one of them may just have been woken.
        if self.vacancy.is_awaited() {
            yield_now().await;
        }
        match self.look(wait_for_ready, refuser) {
            Ok(Pick::Picked(picked)) => Ok(picked),
            // Hardly any call has to, and none is to be larger for it. It takes whatever comes first.
            Ok(Pick::Blocked(_)) => {
                let waiting = async {
                    let _waiting = self.metrics.waiting();
                    self.wait(deadline, wait_for_ready).await
                };
                Box::pin(waiting).await
            }
            Err(error) => {
                // A caller who tries again at once would not let those run who connect.
                consume_budget().await;
                Err(error)
            }
        }
    }

    async fn wait(&self, deadline: &Deadline, wait_for_ready: bool) -> Result<Picked, CallError> {
        let wait = deadline.wait(wait_for_ready, Instant::now().into_std());
        let waiting = self.vacancy.wait();
        loop {
            // Before it is looked again, so that nothing is missed that changes meanwhile.
            let changed = self.views.changed();
            let mut given_back = pin!(waiting.given_back());
            given_back.as_mut().enable();
            let obstacle = match self.look(wait_for_ready, None)? {
                Pick::Picked(picked) => return Ok(picked),
                Pick::Blocked(obstacle) => obstacle,
            };
            let news = async {
                tokio::select! {
                    () = changed => {}
                    () = given_back => {}
                }
            };
            match wait {
                Wait::Until(end) => {
                    let waiting = timeout_at(Instant::from_std(end), news);
                    waiting.await.map_err(|_| {
                        let waited = deadline.since_start(end);
                        CallError::deadline_while_waiting(&self.service, &obstacle, waited)
                    })?;
                }
                Wait::Patience(end) => {
                    let waiting = timeout_at(Instant::from_std(end), news);
                    waiting.await.map_err(|_| {
                        CallError::gave_up_waiting(&self.service, &obstacle, PATIENCE)
                    })?;
                }
                Wait::Forever => news.await,
            }
        }
    }

    /// Picks what can be called now, if there is something.
    fn look(&self, wait_for_ready: bool, refuser: Option<&Endpoint>) -> Result<Pick, CallError> {
        Ok(match &**self.views.load() {
            View::Ready(picker) => {
                let take = Picked::take;
                let picked = match refuser {
                    None => picker.pick(take),
                    Some(refuser) => {
                        let is_other = |it: &&Arc<Target>| it.endpoint.key() != refuser.key();
                        let other = picker.pick(|it| Some(it).filter(is_other).and_then(take));
                        other.or_else(|| picker.pick(take))
                    }
                };
                match picked {
                    Some(picked) => Pick::Picked(picked),
                    None => {
                        let busy = picker.targets().iter().find(|it| !it.transport.is_closed());
                        Pick::Blocked(match busy {
                            Some(target) => Obstacle::Busy(target.endpoint.clone()),
                            None => Obstacle::Lost,
                        })
                    }
                }
            }
            View::Waiting(obstacle) => Pick::Blocked(obstacle.clone()),
            View::Failing(obstacle) if wait_for_ready => Pick::Blocked(obstacle.clone()),
            View::Failing(obstacle) => {
                return Err(CallError::nothing_to_call(&self.service, obstacle));
            }
            View::Idle => {
                self.activity.wake();
                Pick::Blocked(Obstacle::Idle)
            }
            View::Closed => return Err(CallError::closed(&self.service)),
        })
    }
}

/// Waits for the headers of a response; `None` if the deadline comes first.
async fn headers(
    mut exchange: Exchange,
    deadline: &Deadline,
) -> Option<Result<(Response<RecvStream>, OnConnection), Failure>> {
    let headers = poll_fn(|cx| exchange.poll_headers(cx));
    let answered = match deadline.of_headers() {
        Some(at) => {
            let at = Instant::from_std(at);
            let answered = timeout_at(at, headers).await.ok()?;
            // A server that knows the deadline ends the call then, too, with a reset or a status of
            // its own, which may be seen before the time is.
            let is_over = match &answered {
                Ok(response) => response.body().is_end_stream(),
                Err(Failure::Body(_)) => false,
                Err(_) => true,
            };
            if is_over && Instant::now() >= at {
                return None;
            }
            answered
        }
        None => headers.await,
    };
    Some(answered.map(|response| (response, exchange.into_call())))
}
