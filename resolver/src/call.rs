//! The way of one call: pick an endpoint, or wait for one; send; pick again if it did not leave.
//!
//! - A pick takes no lock and asks no task. It takes a slot, which is given back exactly once,
//!   wherever the call ends.
//! - A request that h2 did not take goes to another endpoint, and so does a whole one that never left,
//!   unseen by the caller and as often as it takes. The connection that did not take it is closed by then
//!   and never picked again, so this ends in a sent request or in a wait, and never spins.
//! - One that the server says it did not process does so once (gRPC's A6), if its body was whole before
//!   it was sent; another endpoint that can be called is preferred then.
//! - One that failed otherwise is made again if its method has a retry policy that says so (`again.rs`).
//! - A call that fails at once counts against its task's turn, so that one who repeats it in a loop
//!   starves nobody.
//! - Every wait has an end, which [`Deadline::wait`] decides. Only a caller who asks for it waits
//!   for ever.

mod again;

use std::{future::poll_fn, pin::pin, sync::Arc, time::Duration};

use h2::RecvStream;
use http::Response;
use tokio::{
    task::{coop::consume_budget, yield_now},
    time::{Instant, timeout_at},
};

use self::again::Course;
use crate::{
    CallError, Endpoint, Filter, ResponseBody, ServedBy,
    chance::Chance,
    deadline::{Deadline, PATIENCE, Wait},
    ejection::Admission,
    ending::Ending,
    idleness::Activity,
    load::Burden,
    metrics::CallMetrics,
    outlook::Obstacle,
    request_body::RequestBody,
    request_head::RequestHead,
    response_body::drop_broken_details,
    selection::{Miss, Selection},
    service_config::Methods,
    transport::{Exchange, Failure, OnConnection, Slot, Vacancy},
    view::{Target, View, Views},
};

/// What all calls of a channel share.
#[derive(Debug)]
pub(crate) struct Calls {
    pub(crate) service: Option<Arc<str>>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) methods: Arc<Methods>,
    /// For what varies from call to call.
    pub(crate) chance: Chance,
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
    /// Whether somebody looks at what the call puts on the endpoint.
    is_measured: bool,
    slot: Slot,
}

/// What a look at the endpoints has come to.
enum Pick<P> {
    Picked(P),
    /// Nothing can be called now.
    Blocked(Obstacle),
}

impl Picked {
    /// Takes the right to call a target, if it can be had.
    fn take(target: &Arc<Target>, is_measured: bool) -> Option<Self> {
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
                    is_measured,
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
    /// What succeeds returns where it is: a response that another function handed on would be copied once
    /// more each time.
    pub(crate) async fn call(
        &self,
        head: &mut RequestHead,
        body: &mut RequestBody,
    ) -> Result<Response<ResponseBody>, CallError> {
        let mut ending = Ending::begin(self.metrics.begin(), head.configured.clone());
        self.activity.note();
        if let Err(error) = body.read_ahead().await {
            let error = CallError::body(&self.service, error);
            ending.failed(&error);
            return Err(error);
        }
        let mut course = Course::new(body.is_whole());
        'again: loop {
            // What it holds of an endpoint is given back with its end, before anything is waited for.
            let attempt = 'attempt: {
                let picking = self.pick(head, &course.tried);
                // In this order: the leave is given back before the slot, as its contract has it.
                let Picked {
                    target,
                    slot,
                    admission,
                    is_measured,
                } = match picking.await {
                    Ok(picked) => picked,
                    Err(error) => break 'attempt Err(error),
                };
                let now = Instant::now().into_std();
                // Over before it began: not to be sent.
                if head.deadline.of_headers().is_some_and(|at| at <= now) {
                    break 'attempt Err(self.no_response(&target, &head.deadline));
                }
                let request = head.request(&target.transport, now);
                let burden = is_measured.then(|| Burden::new(target.load.clone(), now));
                ending.sent(&target, admission, burden);
                let exchange = match target.transport.send(request, body, slot, now) {
                    Ok(exchange) => exchange,
                    Err(failure) => {
                        // No server has seen it.
                        ending.sent_back();
                        if let Failure::Unsent(_) = failure {
                            self.metrics.unsent();
                            continue 'again;
                        }
                        break 'attempt Err(self.failed(&target, failure));
                    }
                };
                match headers(exchange, &head.deadline).await {
                    Some(Ok((response, call))) => {
                        match self.again_after(&response, &mut course, head, &mut ending, &target) {
                            Some(wait) => Ok(wait),
                            None => return Ok(self.response(response, call, head, &target, ending)),
                        }
                    }
                    Some(Err(Failure::Unsent(_))) if course.is_whole => {
                        self.metrics.unsent();
                        ending.sent_back();
                        continue 'again;
                    }
                    Some(Err(Failure::Refused(_))) if course.is_whole && !course.was_refused => {
                        self.metrics.refused();
                        ending.sent_back();
                        course.was_refused = true;
                        course.tried.push(target.endpoint.clone());
                        continue 'again;
                    }
                    Some(Err(failure)) => Err(self.failed(&target, failure)),
                    None => Err(self.no_response(&target, &head.deadline)),
                }
            };
            let wait = match attempt {
                Ok(wait) => wait,
                Err(error) => {
                    match self.again_after_failure(&error, &mut course, head, &mut ending) {
                        Some(wait) => wait,
                        None => {
                            ending.failed(&error);
                            return Err(course.end(error));
                        }
                    }
                }
            };
            // Hardly any call waits here, and none is to be larger for it.
            Box::pin(self.wait_to_begin_again(wait, &course, head, &mut ending)).await;
        }
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
        let mut extensions = head.take_extensions();
        extensions.insert(ServedBy(endpoint.clone()));
        extensions.extend(parts.extensions);
        parts.extensions = extensions;
        let service = self.service.clone();
        let body = ResponseBody::new(stream, call, head.deadline, service, endpoint, ending);
        Response::from_parts(parts, body)
    }

    fn failed(&self, target: &Target, failure: Failure) -> CallError {
        CallError::failed(&self.service, &target.endpoint, failure)
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
        self.wait(&deadline, false, None, |_| Ok(())).await
    }

    /// Returns where the call goes, as soon as there is somewhere: to none that it has `tried`, if it can go
    /// elsewhere.
    async fn pick(&self, head: &RequestHead, tried: &[Endpoint]) -> Result<Picked, CallError> {
        // Those who wait were first; one of them may just have been woken.
        if self.vacancy.is_awaited() {
            yield_now().await;
        }
        match self.look(head.wait_for_ready, |from| self.pick_now(from, head, tried)) {
            Ok(Pick::Picked(picked)) => Ok(picked),
            // Hardly any call has to, and none is to be larger for it. It takes whatever comes first.
            Ok(Pick::Blocked(_)) => {
                let waiting = async {
                    let _waiting = self.metrics.waiting();
                    let pick = |from: &Selection| self.pick_now(from, head, &[]);
                    let filter = head.info().filter();
                    self.wait(&head.deadline, head.wait_for_ready, filter, pick)
                        .await
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

    /// Waits until there is something to call that can be picked.
    async fn wait<P>(
        &self,
        deadline: &Deadline,
        wait_for_ready: bool,
        filter: Option<&Filter>,
        pick: impl Fn(&Selection) -> Result<P, Miss>,
    ) -> Result<P, CallError> {
        let wait = deadline.wait(wait_for_ready, Instant::now().into_std());
        let waiting = self.vacancy.wait(filter.map(Filter::hash));
        loop {
            // Before it is looked again, so that nothing is missed that changes meanwhile.
            let changed = self.views.changed();
            let mut given_back = pin!(waiting.given_back());
            given_back.as_mut().enable();
            let obstacle = match self.look(wait_for_ready, &pick)? {
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

    /// Picks one of those that can be called now, if there is one: none that was `tried`, if there is another.
    fn pick_now(
        &self,
        selection: &Selection,
        head: &RequestHead,
        tried: &[Endpoint],
    ) -> Result<Picked, Miss> {
        let call = head.info();
        let take = |target: &Arc<Target>| Picked::take(target, selection.reads_load());
        let pick = || {
            if !tried.is_empty() {
                let is_other =
                    |it: &&Arc<Target>| !tried.iter().any(|one| one.key() == it.endpoint.key());
                let other = selection.pick(&call, |it| Some(it).filter(is_other).and_then(take))?;
                if other.is_some() {
                    return Ok(other);
                }
            }
            selection.pick(&call, take)
        };
        pick()?.ok_or_else(|| selection.obstacle(&call))
    }

    /// Looks at what can be called now, and picks if there is something.
    fn look<P>(
        &self,
        wait_for_ready: bool,
        pick: impl FnOnce(&Selection) -> Result<P, Miss>,
    ) -> Result<Pick<P>, CallError> {
        Ok(match &**self.views.load() {
            View::Ready(selection) => match pick(selection) {
                Ok(picked) => Pick::Picked(picked),
                Err(Miss::Blocked(obstacle)) => Pick::Blocked(obstacle),
                Err(Miss::Nobody(obstacle)) if wait_for_ready => Pick::Blocked(obstacle),
                Err(Miss::Nobody(obstacle)) => {
                    return Err(CallError::nothing_to_call(&self.service, &obstacle));
                }
                Err(Miss::Refused(error)) => {
                    return Err(CallError::not_picked(&self.service, error));
                }
            },
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
