//! The body of a response, on its way.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, HeaderName};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tonic::metadata::MetadataMap;

use crate::{CallError, Endpoint, deadline::Deadline, ending::Ending, transport::OnConnection};

/// How much the caller takes before the server may send as much again, in bytes, while there is more
/// to take. Less, and each small response pays for what its end gives back anyway; more, and a fast
/// stream stands still at the end of its window.
const RELEASED_AT_ONCE: usize = 32 * 1024;

/// The body of a response, on its way.
///
/// It ends at the caller's deadline, if there is one, with DEADLINE_EXCEEDED, and if its connection
/// breaks, with UNAVAILABLE. Dropping it resets the stream and leaves the connection usable. While it
/// is not read, the server can send no more than the stream's window.
pub struct ResponseBody {
    /// `None` once it has ended, and the connection has nothing more to do for it.
    incoming: Option<Incoming>,
    expiry: Option<Expiry>,
    service: Option<Arc<str>>,
    /// `None` if nobody sent it.
    endpoint: Option<Endpoint>,
    ending: Ending,
}

struct Incoming {
    stream: RecvStream,
    call: OnConnection,
    /// How much the caller has taken that the server may not send again yet, in bytes.
    unreleased: usize,
    next: Next,
}

/// What is looked for next of a response. h2 hands it out in its order, whatever is asked for.
#[derive(Debug, Clone, Copy)]
enum Next {
    FirstData,
    /// Trailers: most responses have one message. Data, if they are not there: never worth a wait.
    TrailersOrData,
    Data,
    /// Trailers, or none: all data was read.
    Trailers,
}

/// The end of a call that has one.
struct Expiry {
    at: Instant,
    deadline: Deadline,
    /// Made when the server lets us wait: most unary responses are there as a whole.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl ResponseBody {
    pub(crate) fn new(
        stream: RecvStream,
        call: OnConnection,
        deadline: Deadline,
        service: Option<Arc<str>>,
        endpoint: Endpoint,
        ending: Ending,
    ) -> Self {
        let expiry = deadline.of_body().map(|at| Expiry {
            at: Instant::from_std(at),
            deadline,
            sleep: None,
        });
        let incoming = Incoming {
            stream,
            call,
            unreleased: 0,
            next: Next::FirstData,
        };
        Self {
            incoming: Some(incoming),
            expiry,
            service,
            endpoint: Some(endpoint),
            ending,
        }
    }
}

impl Default for ResponseBody {
    /// Makes one that has ended, with nothing in it: that of a call which one of tonic's
    /// interceptors has refused.
    fn default() -> Self {
        Self {
            incoming: None,
            expiry: None,
            service: None,
            endpoint: None,
            ending: Ending::default(),
        }
    }
}

impl Expiry {
    fn is_over(&self) -> bool {
        Instant::now() >= self.at
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let at = self.at;
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        sleep.as_mut().poll(cx)
    }

    fn error(&self, service: &Option<Arc<str>>, endpoint: &Endpoint) -> CallError {
        let waited = self.deadline.since_start(self.at.into_std());
        CallError::deadline_in_flight(service, endpoint, "end of the response", waited)
    }
}

impl Incoming {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        loop {
            match self.next {
                Next::TrailersOrData => match self.poll_trailers(cx) {
                    Poll::Ready(trailers) => return Poll::Ready(trailers),
                    Poll::Pending => self.next = Next::Data,
                },
                Next::FirstData | Next::Data => match self.stream.poll_data(cx)? {
                    Poll::Ready(Some(data)) => {
                        if let Next::FirstData = self.next {
                            self.next = Next::TrailersOrData;
                        }
                        self.taken(data.len())?;
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    Poll::Ready(None) => self.next = Next::Trailers,
                    Poll::Pending => {
                        // Never waited for with room held back, however small the window.
                        self.release()?;
                        return Poll::Pending;
                    }
                },
                Next::Trailers => return self.poll_trailers(cx),
            }
        }
    }

    fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let trailers = ready!(self.stream.poll_trailers(cx)?);
        Poll::Ready(trailers.map(|mut trailers| {
            drop_broken_details(&mut trailers);
            Ok(Frame::trailers(trailers))
        }))
    }

    /// Notes that so much is the caller's now.
    fn taken(&mut self, bytes: usize) -> Result<(), h2::Error> {
        self.call.answered();
        self.unreleased += bytes;
        if self.unreleased < RELEASED_AT_ONCE {
            return Ok(());
        }
        self.release()
    }

    /// Lets the server send as much again as the caller took. What is left when a response ends is
    /// given back by h2.
    fn release(&mut self) -> Result<(), h2::Error> {
        match std::mem::take(&mut self.unreleased) {
            0 => Ok(()),
            taken => self.stream.flow_control().release_capacity(taken),
        }
    }
}

/// Takes out a status' details that are not base64: tonic's clients panic on them.
pub(crate) fn drop_broken_details(headers: &mut HeaderMap) {
    static DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
    // Beside a status, which is all there is most often.
    if headers.len() < 2 {
        return;
    }
    // There are a few, and to look at each costs less than to look one up.
    let Some((_, value)) = headers.iter().find(|(name, _)| **name == DETAILS) else {
        return;
    };
    let details = HeaderMap::from_iter([(DETAILS.clone(), value.clone())]);
    let details = MetadataMap::from_headers(details);
    let details = details.get_bin(DETAILS.as_str()).map(|it| it.to_bytes());
    if let Some(Err(_)) = details {
        headers.remove(&DETAILS);
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = CallError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CallError>>> {
        let Self {
            incoming,
            expiry,
            service,
            endpoint,
            ending,
        } = &mut *self;
        let (Some(open), Some(endpoint)) = (&mut *incoming, endpoint) else {
            return Poll::Ready(None);
        };
        let result = match (open.poll_frame(cx), expiry) {
            // A server that sends without a pause must not outrun the deadline, which is polled only
            // in pauses. One that breaks off then does so because of the deadline.
            (Poll::Ready(Some(_)), Some(expiry)) if expiry.is_over() => {
                Some(Err(expiry.error(service, endpoint)))
            }
            (Poll::Ready(Some(Ok(frame))), _) if frame.is_data() => {
                return Poll::Ready(Some(Ok(frame)));
            }
            (Poll::Ready(Some(Ok(trailers))), _) => Some(Ok(trailers)),
            (Poll::Ready(Some(Err(error))), _) => {
                let failure = open.call.failure(error);
                Some(Err(CallError::failed(service, endpoint, failure)))
            }
            (Poll::Ready(None), _) => None,
            (Poll::Pending, None) => return Poll::Pending,
            (Poll::Pending, Some(expiry)) => {
                ready!(expiry.poll(cx));
                Some(Err(expiry.error(service, endpoint)))
            }
        };
        *incoming = None;
        match &result {
            Some(Ok(frame)) => ending.trailers(frame.trailers_ref()),
            Some(Err(error)) => ending.failed(error),
            None => ending.trailers(None),
        }
        Poll::Ready(result)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.incoming {
            Some(_) => SizeHint::default(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_details_that_are_no_base64_are_taken_out() {
        for (details, is_kept) in [
            ("CAUSAHg=", true),
            ("CAUSAHg", true),
            ("", true),
            ("!!!", false),
        ] {
            let name = HeaderName::from_static("grpc-status-details-bin");
            let status = (HeaderName::from_static("grpc-status"), "3".parse().unwrap());
            let details_bin = (name.clone(), details.parse().unwrap());
            let mut headers = HeaderMap::from_iter([status, details_bin]);
            drop_broken_details(&mut headers);
            assert_eq!(headers.contains_key(name), is_kept, "{details}");
        }
    }
}
