//! Tells those who count calls how each of them ended.
//!
//! A call ends once: with a code, whether its server said it or the channel did, or by being given up
//! by its caller. Nobody looks for the code of a call that nobody counts. Each attempt of one that is made
//! again ends by itself for its server, and for the channel's tokens.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, StatusCode};
use tokio::time::Instant;
use tonic::Code;

use crate::{
    CallError, CallErrorKind,
    ejection::{Admission, FailureCodes, Verdict, Witness},
    load::Burden,
    metrics::CountedCall,
    service_config::Method,
    view::Target,
};

/// Tells how one call ended, once, at the latest when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    /// What its server is judged by, if it is.
    judged: Option<(Witness, Admission)>,
    /// What it puts on its endpoint, if that is asked for.
    burden: Option<Burden>,
    /// What holds for the call, while nobody has told it how the attempt ended.
    method: Option<Arc<Method>>,
    counted: CountedCall,
}

impl Ending {
    /// Makes one for a call that begins, of a method for which this holds.
    pub(crate) fn begin(counted: CountedCall, method: Option<Arc<Method>>) -> Self {
        Self {
            judged: None,
            burden: None,
            method,
            counted,
        }
    }

    /// Takes in that the call is made again, once it was told how the attempt before ended.
    pub(crate) fn begin_again(&mut self, method: Option<Arc<Method>>) {
        self.method = method;
    }

    /// Takes in that the call was sent to an endpoint, with the leave to be.
    pub(crate) fn sent(
        &mut self,
        target: &Target,
        admission: Option<Admission>,
        burden: Option<Burden>,
    ) {
        self.burden = burden;
        if let (Some(witness), Some(admission)) = (&target.witness, admission) {
            self.judged = Some((witness.clone(), admission));
        }
    }

    /// Takes in that the call goes elsewhere: what it has met says nothing of a server.
    pub(crate) fn sent_back(&mut self) {
        self.end(None);
    }

    /// Takes in that the response has begun; with its headers it is over if they name its status. One on
    /// trial has succeeded with them, and goes on to burden its endpoint.
    pub(crate) fn headers(&mut self, status: StatusCode, headers: &HeaderMap) {
        if !self.is_asked_for() {
            return;
        }
        let Some(code) = code_of(status, headers) else {
            if let Some(burden) = &mut self.burden {
                burden.answered(Instant::now().into_std());
            }
            // Its stream may never end.
            if let Some((_, Admission::Trial(_))) = self.judged {
                self.judge(Some(Verdict::Success));
            }
            return;
        };
        self.end_with(code, Some(headers));
    }

    /// Takes in that the response is over, with these trailers if there were any.
    pub(crate) fn trailers(&mut self, trailers: Option<&HeaderMap>) {
        if self.is_asked_for() {
            let code = trailers.and_then(code_in).unwrap_or(Code::Unknown);
            self.end_with(code, trailers);
        }
    }

    /// Takes in that the call failed on the way.
    pub(crate) fn failed(&mut self, error: &CallError) {
        self.counted.ended(error.code());
        self.attempt_failed(error);
    }

    /// Takes in that an attempt failed on the way, which need not be the last.
    pub(crate) fn attempt_failed(&mut self, error: &CallError) {
        if let Some(method) = self.method.take() {
            method.ended(error.code(), None);
        }
        let of_code = |codes: FailureCodes| match (error.kind(), error.code()) {
            // The caller's own body.
            _ if error.endpoint().is_none() => None,
            (CallErrorKind::Interrupted, Code::Unavailable) => Some(Verdict::Lost),
            (_, code) => Some(codes.verdict(code as i32)),
        };
        self.unburden(of_code(FailureCodes::default()));
        if let Some((witness, _)) = &self.judged {
            self.judge(of_code(witness.codes()));
        }
    }

    /// Returns whether somebody wants to know the code.
    fn is_asked_for(&self) -> bool {
        CountedCall::IS_COUNTED
            || self.judged.is_some()
            || self.burden.is_some()
            || self.method.is_some()
    }

    fn end_with(&mut self, code: Code, trailers: Option<&HeaderMap>) {
        self.counted.ended(code);
        self.attempt_answered(code, trailers);
    }

    /// Takes in what an attempt was answered, which need not be the last.
    pub(crate) fn attempt_answered(&mut self, code: Code, trailers: Option<&HeaderMap>) {
        if let Some(method) = self.method.take() {
            method.ended(code, trailers);
        }
        self.unburden(Some(FailureCodes::default().verdict(code as i32)));
        if let Some((witness, _)) = &self.judged {
            self.judge(Some(witness.codes().verdict(code as i32)));
        }
    }

    /// `None` says nothing of the server.
    fn end(&mut self, verdict: Option<Verdict>) {
        self.unburden(verdict);
        self.judge(verdict);
    }

    fn judge(&mut self, verdict: Option<Verdict>) {
        match (self.judged.take(), verdict) {
            (Some((witness, admission)), Some(verdict)) => witness.ended(verdict, admission),
            (Some((witness, admission)), None) => witness.given_up(admission),
            (None, _) => {}
        }
    }

    fn unburden(&mut self, verdict: Option<Verdict>) {
        if let (Some(burden), Some(verdict)) = (self.burden.take(), verdict) {
            burden.ended(verdict == Verdict::Success, Instant::now().into_std());
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

/// Returns the code that a response's headers name, if they do.
pub(crate) fn code_of(status: StatusCode, headers: &HeaderMap) -> Option<Code> {
    code_in(headers).or_else(|| (status != StatusCode::OK).then(|| code_of_http(status)))
}

/// The code of a response that is none of gRPC's, such as a proxy's: the table of gRPC's
/// `http-grpc-status-mapping.md`.
fn code_of_http(status: StatusCode) -> Code {
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
