//! The body of a request, on its way.
//!
//! Most are over with their first message, which is there from the start. So what is there is read
//! first: a body that ends with it is sent with its request, can be sent again if that was refused,
//! and costs no task.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};

use crate::transport::BoxError;

/// How much is read ahead of a body that goes on, in bytes: what is read is held twice for a moment.
const AHEAD: usize = 64 * 1024;

/// The body of a request: what of it was read, and the rest.
#[derive(Default)]
pub(crate) struct RequestBody {
    /// Most have one message, for which nothing is allocated here.
    first: Option<Bytes>,
    more: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    /// `None` once all of it was read.
    rest: Option<Rest>,
}

/// What is still to be read of a body.
///
/// Bodies of clients made by tonic are of this type already, and are not boxed once more.
pub(crate) struct Rest(tonic::body::Body);

impl RequestBody {
    pub(crate) fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self {
            rest: Some(Rest(tonic::body::Body::new(body))),
            ..Self::default()
        }
    }

    /// Reads what is there, and waits for nothing.
    ///
    /// # Errors
    ///
    /// What the body itself failed with.
    pub(crate) async fn read_ahead(&mut self) -> Result<(), BoxError> {
        let mut read = 0;
        while let Some(rest) = &mut self.rest
            // Once more after the first message, however large: most bodies end with it.
            && (self.more.is_empty() || read <= AHEAD)
        {
            let frame = match poll_fn(|cx| Poll::Ready(rest.poll_frame(cx))).await {
                Poll::Ready(frame) => frame.transpose()?,
                Poll::Pending => break,
            };
            match frame.map(Frame::into_data) {
                None => self.rest = None,
                Some(Ok(data)) => {
                    read += data.len();
                    self.push(data);
                }
                Some(Err(frame)) => {
                    self.trailers = frame.into_trailers().ok();
                    self.rest = None;
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, data: Bytes) {
        match self.first {
            None => self.first = Some(data),
            Some(_) => self.more.push(data),
        }
    }

    /// Returns whether all of it was read: it can be sent any number of times.
    pub(crate) fn is_whole(&self) -> bool {
        self.rest.is_none()
    }

    /// Returns whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_whole() && self.first.is_none() && self.trailers.is_none()
    }

    /// Returns what was read of it: its data, and its trailers.
    pub(crate) fn read(&self) -> (impl Iterator<Item = &Bytes>, Option<&HeaderMap>) {
        (self.first.iter().chain(&self.more), self.trailers.as_ref())
    }

    /// Takes out what is still to be read.
    pub(crate) fn take_rest(&mut self) -> Option<Rest> {
        self.rest.take()
    }
}

impl Rest {
    /// Polls for the next frame. A body that panics fails instead: whoever reads it has other things
    /// to do.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let poll = AssertUnwindSafe(|| Pin::new(&mut self.0).poll_frame(cx));
        match catch_unwind(poll) {
            Ok(poll) => poll.map(|frame| frame.map(|it| it.map_err(Into::into))),
            Err(_panic) => Poll::Ready(Some(Err(Panicked.into()))),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the request's body panicked")]
struct Panicked;
