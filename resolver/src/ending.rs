//! Tells those who count calls how each of them ended.
//!
//! A call ends once: with a code, whether its server said it or the channel did, or by being given up
//! by its caller. Who counts is asked only then, so a call that nobody counts costs nothing more.

use http::{HeaderMap, HeaderName, StatusCode};
use tonic::Code;

use crate::metrics::CallMetrics;

/// What a call has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It ended with this code.
    Code(Code),
    /// Its caller has dropped it.
    GivenUp,
}

/// Tells how one call ended, once, at the latest when it is dropped.
#[derive(Debug)]
pub(crate) struct Ending {
    has_ended: bool,
    metrics: CallMetrics,
}

impl Ending {
    /// Is told at the start of a call.
    pub(crate) fn begin(metrics: CallMetrics) -> Self {
        Self {
            has_ended: false,
            metrics,
        }
    }

    /// Takes in the headers of the response, which are all of it if they name its status.
    pub(crate) fn headers(&mut self, status: StatusCode, headers: &HeaderMap) {
        if let Some(code) = code_in(headers) {
            self.end(End::Code(code));
        } else if status != StatusCode::OK {
            self.end(End::Code(code_of(status)));
        }
    }

    /// Takes in that the response is over, with these trailers if there were any.
    pub(crate) fn trailers(&mut self, trailers: Option<&HeaderMap>) {
        let code = trailers.and_then(code_in);
        self.end(End::Code(code.unwrap_or(Code::Unknown)));
    }

    /// Takes in that the call failed.
    pub(crate) fn failed(&mut self, code: Code) {
        self.end(End::Code(code));
    }

    fn end(&mut self, end: End) {
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        self.metrics.ended(end);
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.end(End::GivenUp);
    }
}

/// Returns the code that a response's trailers name, or its headers where they are all of it.
fn code_in(headers: &HeaderMap) -> Option<Code> {
    static STATUS: HeaderName = HeaderName::from_static("grpc-status");
    headers
        .get(&STATUS)
        .map(|it| Code::from_bytes(it.as_bytes()))
}

/// The code of a response that is none of gRPC's, such as a proxy's: the table of gRPC's
/// `http-grpc-status-mapping.md`.
fn code_of(status: StatusCode) -> Code {
    match status {
        StatusCode::BAD_REQUEST => Code::Internal,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND => Code::Unimplemented,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Code::Unavailable,
        _ => Code::Unknown,
    }
}
