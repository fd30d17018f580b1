//! Tells those who count calls how each of them ended.
//!
//! A call ends once: with a code, whether its server said it or the channel did, or by being given up
//! by its caller. Nobody looks for the code of a call that nobody counts.

use http::{HeaderMap, HeaderName, StatusCode};
use tonic::Code;

use crate::{
    CallError, CallErrorKind,
    ejection::{Admission, Verdict, Witness},
    metrics::CountedCall,
    view::Target,
};

/// Tells how one call ended, once, at the latest when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    /// What its server is judged by, if it is.
    judged: Option<(Witness, Admission)>,
    counted: CountedCall,
}

impl Ending {
    /// Makes one for a call that begins.
    pub(crate) fn begin(counted: CountedCall) -> Self {
        let judged = None;
        Self { judged, counted }
    }

    /// Takes in that the call was sent to an endpoint, with the leave to be.
    pub(crate) fn sent(&mut self, target: &Target, admission: Option<Admission>) {
        if let (Some(witness), Some(admission)) = (&target.witness, admission) {
            self.judged = Some((witness.clone(), admission));
        }
    }

    /// Takes in that the call goes elsewhere: what it has met says nothing of a server.
    pub(crate) fn sent_back(&mut self) {
        self.end(None);
    }

    /// Takes in that the response has begun; with its headers it is over if they name its status. One on
    /// trial has succeeded with them.
    pub(crate) fn headers(&mut self, status: StatusCode, headers: &HeaderMap) {
        if !self.is_asked_for() {
            return;
        }
        let code = code_in(headers).or_else(|| (status != StatusCode::OK).then(|| code_of(status)));
        match (code, &self.judged) {
            (Some(code), _) => self.end_with(code),
            // Its stream may never end.
            (None, Some((_, Admission::Trial(_)))) => self.end(Some(Verdict::Success)),
            (None, _) => {}
        }
    }

    /// Takes in that the response is over, with these trailers if there were any.
    pub(crate) fn trailers(&mut self, trailers: Option<&HeaderMap>) {
        if self.is_asked_for() {
            self.end_with(trailers.and_then(code_in).unwrap_or(Code::Unknown));
        }
    }

    /// Takes in that the call failed on the way.
    pub(crate) fn failed(&mut self, error: &CallError) {
        self.counted.ended(error.code());
        let Some((witness, _)) = &self.judged else {
            return;
        };
        let verdict = match (error.kind(), error.code()) {
            // The caller's own body.
            _ if error.endpoint().is_none() => None,
            (CallErrorKind::Interrupted, Code::Unavailable) => Some(Verdict::Lost),
            (_, code) => Some(witness.verdict(code as i32)),
        };
        self.end(verdict);
    }

    /// Returns whether somebody wants to know the code.
    fn is_asked_for(&self) -> bool {
        CountedCall::IS_COUNTED || self.judged.is_some()
    }

    fn end_with(&mut self, code: Code) {
        self.counted.ended(code);
        if let Some((witness, _)) = &self.judged {
            self.end(Some(witness.verdict(code as i32)));
        }
    }

    /// `None` says nothing of the server.
    fn end(&mut self, verdict: Option<Verdict>) {
        match (self.judged.take(), verdict) {
            (Some((witness, admission)), Some(verdict)) => witness.ended(verdict, admission),
            (Some((witness, admission)), None) => witness.given_up(admission),
            (None, _) => {}
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.end(None);
    }
}

/// Returns the code that a response's trailers name, or its headers where they are all of it.
fn code_in(headers: &HeaderMap) -> Option<Code> {
    static STATUS: HeaderName = HeaderName::from_static("grpc-status");
    let status = headers.get(&STATUS);
    status.map(|it| Code::from_bytes(it.as_bytes()))
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
