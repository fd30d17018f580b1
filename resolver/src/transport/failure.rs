//! What becomes of a call whose stream or connection broke: whether it may be sent again.
//!
//! - h2 did not take it: it was not sent.
//! - The server reset it with REFUSED_STREAM, or left it out of a GOAWAY: it was not processed
//!   (RFC 9113, sections 6.8 and 8.7).
//! - The connection broke, and the byte stream has accepted nothing since the call was handed to h2:
//!   it was not sent. Bytes are counted below our TLS; of a connector's own byte stream it is believed
//!   that a write that fails has accepted nothing, which is `AsyncWrite`'s contract.
//! - Otherwise it may have been processed.

use std::{io, sync::Arc};

use crate::Cause;

/// Why a call has no response.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was not sent.
    Unsent(Cause),
    /// It cannot be sent, over whatever connection.
    Unsendable(Cause),
    /// The server says that it did not process it.
    Refused(Cause),
    /// It was sent, or may have been.
    Interrupted(Cause),
    /// Its own body failed.
    Body(BoxError),
}

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Failure {
    /// `lost` is why the connection was lost, if it was; `has_left` whether the byte stream has
    /// accepted anything since.
    pub(super) fn before_headers(error: h2::Error, lost: Option<Cause>, has_left: bool) -> Self {
        let is_refused = error.is_remote()
            && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM));
        let is_broken = error.is_io();
        let cause = cause(error, lost);
        match () {
            () if is_refused => Self::Refused(cause),
            () if is_broken && !has_left => Self::Unsent(cause),
            () => Self::Interrupted(cause),
        }
    }
}

/// Why a connection is over that the server closed without a word.
pub(super) const HUNG_UP: &str = "the server closed the connection";

/// A cause that there is no error for.
pub(super) fn closed(text: &'static str) -> Cause {
    Arc::new(io::Error::new(io::ErrorKind::ConnectionAborted, text))
}

/// Why a stream broke; that of the connection says more.
pub(super) fn cause(error: h2::Error, lost: Option<Cause>) -> Cause {
    match (error.get_io().map(io::Error::kind), lost) {
        (None, _) => Arc::new(error),
        (Some(_), Some(lost)) => lost,
        // What h2 says of the streams of a connection that ended.
        (Some(io::ErrorKind::BrokenPipe), None) => closed(HUNG_UP),
        (Some(_), None) => Arc::new(error),
    }
}
