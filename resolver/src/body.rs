//! The bodies of a request and of its response.

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep},
};

use crate::{CallError, Endpoint, deadline::Deadline};

/// The body of a request, on its way.
///
/// It is polled by the tasks of its connection, which must not suffer for it: one that panics ends
/// with an error instead. And they would go on with it after the call was given up, so it ends with
/// an error then too, which resets the stream.
pub(crate) struct RequestBody {
    body: UnsyncBoxBody<Bytes, BoxError>,
    given_up: oneshot::Receiver<Infallible>,
}

/// Held while the call of a request is wanted.
pub(crate) struct Wanted(
    #[allow(dead_code, reason = "only to be dropped")] oneshot::Sender<Infallible>,
);

type BoxError = Box<dyn Error + Send + Sync>;

impl RequestBody {
    pub(crate) fn new<B>(body: B) -> (Self, Wanted)
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (wanted, given_up) = oneshot::channel();
        let body = body.map_err(Into::into).boxed_unsync();
        (Self { body, given_up }, Wanted(wanted))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if Pin::new(&mut self.given_up).poll(cx).is_ready() {
            let cancelled = h2::Error::from(h2::Reason::CANCEL);
            return Poll::Ready(Some(Err(cancelled.into())));
        }
        let poll = AssertUnwindSafe(|| Pin::new(&mut self.body).poll_frame(cx));
        catch_unwind(poll)
            .unwrap_or_else(|_panic| Poll::Ready(Some(Err("the request's body panicked".into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a response, on its way.
///
/// It ends at the caller's deadline, if there is one, with DEADLINE_EXCEEDED, and if its connection
/// breaks, with UNAVAILABLE. Dropping it resets the stream and leaves the connection usable.
pub struct ResponseBody {
    /// `None` once it has ended.
    incoming: Option<Incoming>,
    /// `None` once it has ended: what the caller still has to say is of no use then.
    wanted: Option<Wanted>,
    expiry: Option<Expiry>,
    service: Option<Arc<str>>,
    endpoint: Arc<Endpoint>,
}

struct Expiry {
    sleep: Pin<Box<Sleep>>,
    deadline: Deadline,
}

impl ResponseBody {
    pub(crate) fn new(
        incoming: Incoming,
        wanted: Wanted,
        deadline: Deadline,
        service: Option<Arc<str>>,
        endpoint: Arc<Endpoint>,
    ) -> Self {
        // Most unary responses have ended with their headers or do with the next frame, but whether
        // one will cannot be known here, and a timer costs nothing before it is polled.
        let expiry = deadline.of_body().map(|at| Expiry {
            sleep: Box::pin(tokio::time::sleep_until(Instant::from_std(at))),
            deadline,
        });
        Self {
            incoming: Some(incoming),
            wanted: Some(wanted),
            expiry,
            service,
            endpoint,
        }
    }

    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<CallError> {
        match &mut self.expiry {
            Some(expiry) => expiry.sleep.as_mut().poll(cx).map(|()| self.expired()),
            None => Poll::Pending,
        }
    }

    fn is_overdue(&self) -> bool {
        let expiry = self.expiry.as_ref();
        expiry.is_some_and(|expiry| Instant::now() >= expiry.sleep.deadline())
    }

    fn expired(&self) -> CallError {
        let waited = self.expiry.as_ref().map_or(Duration::ZERO, |expiry| {
            let at = expiry.sleep.deadline().into_std();
            expiry.deadline.since_start(at)
        });
        let missing = "end of the response";
        CallError::deadline_in_flight(&self.service, &self.endpoint, missing, waited)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = CallError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CallError>>> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(None);
        };
        let result = match Pin::new(incoming).poll_frame(cx) {
            // A server that sends without a pause must not outrun the deadline, which is polled
            // only in pauses. And one that breaks off then does it because of the
            // deadline.
            Poll::Ready(Some(_)) if self.is_overdue() => Some(Err(self.expired())),
            Poll::Ready(Some(Ok(frame))) => return Poll::Ready(Some(Ok(frame))),
            Poll::Ready(Some(Err(error))) => Some(Err(CallError::interrupted(
                &self.service,
                &self.endpoint,
                Arc::new(error),
            ))),
            Poll::Ready(None) => None,
            Poll::Pending => Some(Err(ready!(self.poll_expired(cx)))),
        };
        self.incoming = None;
        self.wanted = None;
        Poll::Ready(result)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.incoming {
            Some(incoming) => incoming.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("endpoint", &self.endpoint)
            .field("ended", &self.incoming.is_none())
            .finish()
    }
}
