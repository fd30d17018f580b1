//! One request over one connection, up to the headers of its response.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};

use super::{Failure, Pump, Slot, Transport, cause};
use crate::request_body::RequestBody;

/// A request that was handed to h2. Dropping it resets its stream.
pub(crate) struct Exchange {
    response: h2::client::ResponseFuture,
    call: OnConnection,
    /// How much the byte stream had accepted when the request was handed to h2.
    written_before: u64,
}

/// What a call holds of its connection until it is over.
pub(crate) struct OnConnection {
    slot: Slot,
    /// If its body is still being sent.
    pump: Option<Pump>,
}

impl Transport {
    /// Hands a request to h2, its whole body with it or what of it was read.
    ///
    /// # Errors
    ///
    /// If the connection takes no more calls, or this one cannot be said in HTTP/2; the body is left as
    /// it was.
    pub(crate) fn send(
        &self,
        head: Request<()>,
        body: &mut RequestBody,
        slot: Slot,
        now: std::time::Instant,
    ) -> Result<Exchange, Failure> {
        let written_before = self.shared.traffic.written();
        if slot.is_of_call() {
            // Noted before it is sent: it may be answered before this goes on.
            self.shared.begin(now);
            // One that is alone on its connection has nobody to leave with.
            if self.shared.slots.taken() > 1 {
                self.shared.queues();
            }
        }
        let sent = self.sender.clone().send_request(head, body.is_empty());
        let (response, mut stream) = sent.map_err(|error| {
            let cause = cause(error, self.shared.lost());
            if !self.takes_no_calls() {
                return Failure::Unsendable(cause);
            }
            // Not to be picked again before its task has seen it, too.
            self.shared.slots.close();
            Failure::Unsent(cause)
        })?;
        write(&mut stream, body);
        let pump = body
            .take_rest()
            .map(|rest| Pump::start(stream, rest, &self.shared));
        Ok(Exchange {
            response,
            call: OnConnection { slot, pump },
            written_before,
        })
    }

    /// Returns whether the connection is lost, or has no stream left.
    fn takes_no_calls(&self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        matches!(
            self.sender.clone().poll_ready(&mut nobody),
            Poll::Ready(Err(_))
        )
    }
}

/// Hands what was read of a body to h2, which holds what the server has no room for yet: the caller
/// held it until now. A stream that is reset already tells that by its response.
fn write(stream: &mut SendStream<Bytes>, body: &RequestBody) {
    let (data, trailers) = body.read();
    let mut data = data.peekable();
    while let Some(part) = data.next() {
        let is_last = data.peek().is_none() && trailers.is_none() && body.is_whole();
        let _ = stream.send_data(part.clone(), is_last);
    }
    if let Some(trailers) = trailers {
        // Those that HTTP/2 forbids are refused, and the stream would never end.
        if stream.send_trailers(trailers.clone()).is_err() {
            stream.send_reset(Reason::INTERNAL_ERROR);
        }
    }
}

impl Exchange {
    /// Polls for the headers of the response. Not to be polled again once they are there.
    pub(crate) fn poll_headers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<RecvStream>, Failure>> {
        let response = ready!(Pin::new(&mut self.response).poll(cx));
        Poll::Ready(match response {
            Ok(response) => {
                self.call.answered();
                Ok(response)
            }
            Err(error) => Err(match self.call.body_failure() {
                Some(failure) => failure,
                None => {
                    let shared = &self.call.slot.shared;
                    let has_left = shared.traffic.written() != self.written_before;
                    Failure::before_headers(error, shared.lost(), has_left)
                }
            }),
        })
    }

    /// Returns what the call holds of its connection.
    pub(crate) fn into_call(self) -> OnConnection {
        self.call
    }
}

impl OnConnection {
    fn body_failure(&mut self) -> Option<Failure> {
        let failure = self.pump.as_mut().and_then(Pump::failure);
        failure.map(Failure::Body)
    }

    /// Notes that a part of the response was read.
    pub(crate) fn answered(&self) {
        // What is no call says nothing of what calls can expect.
        if self.slot.is_of_call() {
            self.slot.shared.answered();
        }
    }

    /// Returns what a response that broke off is to be told with.
    pub(crate) fn failure(&mut self, error: h2::Error) -> Failure {
        match self.body_failure() {
            Some(failure) => failure,
            None => Failure::Interrupted(cause(error, self.slot.shared.lost())),
        }
    }
}
