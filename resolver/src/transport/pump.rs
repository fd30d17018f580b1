//! Sends a body that does not end with its first messages, on a task of its own: the caller may read
//! the response meanwhile, or not.
//!
//! It ends when the body does, when the server resets the stream, when the connection ends, or when
//! the call is over for its caller.

use std::{convert::Infallible, future::poll_fn, sync::Arc, task::Poll};

use super::{BoxError, Shared};
use crate::request_body::Rest;
use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Frame;
use tokio::sync::oneshot;

/// Held by whoever the call is for: dropping it ends the pump.
pub(crate) struct Pump {
    _wanted: oneshot::Sender<Infallible>,
    failed: oneshot::Receiver<BoxError>,
}

impl Pump {
    /// Sends the rest of a body, which ends the stream.
    ///
    /// It runs where the connection does: that of the caller may end before the call.
    pub(super) fn start(stream: SendStream<Bytes>, rest: Rest, shared: &Arc<Shared>) -> Self {
        let (wanted, given_up) = oneshot::channel();
        let (failed, failure) = oneshot::channel();
        let pump = pump(stream, rest, shared.clone(), given_up, failed);
        shared.tasks.spawn_on(pump, &shared.runtime);
        Self {
            _wanted: wanted,
            failed: failure,
        }
    }

    /// Returns what the body failed with, if that is why the stream was reset.
    pub(super) fn failure(&mut self) -> Option<BoxError> {
        self.failed.try_recv().ok()
    }
}

/// Why a body is not sent any further.
enum End {
    /// Nobody waits for it.
    GivenUp,
    /// The server wants no more of it.
    Reset,
    Failed(BoxError),
}

async fn pump(
    mut stream: SendStream<Bytes>,
    mut rest: Rest,
    shared: Arc<Shared>,
    mut given_up: oneshot::Receiver<Infallible>,
    failed: oneshot::Sender<BoxError>,
) {
    let sent = send(&mut stream, &mut rest, &shared, &mut given_up).await;
    match sent {
        Ok(()) | Err(End::Reset) => {}
        Err(End::GivenUp) => stream.send_reset(Reason::CANCEL),
        Err(End::Failed(error)) => {
            // Told before the reset is seen. Nobody may listen any more.
            let _ = failed.send(error);
            stream.send_reset(Reason::CANCEL);
        }
    }
}

async fn send(
    stream: &mut SendStream<Bytes>,
    rest: &mut Rest,
    shared: &Shared,
    given_up: &mut oneshot::Receiver<Infallible>,
) -> Result<(), End> {
    loop {
        let frame = tokio::select! {
            biased;
            _ = &mut *given_up => return Err(End::GivenUp),
            _ = poll_fn(|cx| stream.poll_reset(cx)) => return Err(End::Reset),
            frame = poll_fn(|cx| rest.poll_frame(cx)) => frame,
        };
        let frame = frame.transpose().map_err(End::Failed)?;
        match frame.map(Frame::into_data) {
            None => return stream.send_data(Bytes::new(), true).map_err(|_| End::Reset),
            Some(Ok(data)) => {
                tokio::select! {
                    biased;
                    _ = &mut *given_up => return Err(End::GivenUp),
                    sent = send_data(stream, data, shared) => sent?,
                }
            }
            Some(Err(frame)) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                return stream.send_trailers(trailers).map_err(|error| {
                    // If it is because HTTP/2 forbids them, the stream would never end.
                    End::Failed(error.into())
                });
            }
        }
    }
}

/// Sends as the server makes room.
async fn send_data(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
    shared: &Shared,
) -> Result<(), End> {
    stream.reserve_capacity(data.len());
    while !data.is_empty() {
        let room = poll_fn(|cx| match stream.poll_reset(cx) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => stream.poll_capacity(cx),
        });
        let Some(Ok(room)) = room.await else {
            return Err(End::Reset);
        };
        let part = data.split_to(room.min(data.len()));
        shared.queues();
        stream.send_data(part, false).map_err(|_| End::Reset)?;
    }
    Ok(())
}
