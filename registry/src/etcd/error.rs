//! What goes wrong with a request to etcd, told by what can be done about it.

use std::{error::Error as _, sync::Arc, time::Duration};

use etcd_client::Error;
use switchboard_resolver::{CallError, CallErrorKind, Cause};
use tonic::Code;

use crate::{credentials::PasswordError, trouble::Trouble};

/// A request to etcd that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("etcd: {message}")]
pub(crate) struct EtcdError {
    pub(crate) kind: Kind,
    code: Code,
    message: String,
}

/// What can be done about a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// There is no such lease: get another one.
    LeaseNotFound,
    /// There is such a lease already.
    LeaseExists,
    /// The revision is no longer known, or not yet, where etcd was wiped: start from the current
    /// one.
    Compacted,
    /// There is no token, or it is not valid any more: log in. Nothing was read or written.
    Token,
    /// There is nobody to log in as, nor a need to.
    NoUsers,
    /// The answer is larger than is read: ask for less of it.
    TooLarge,
    /// It will not pass by itself: tell the operator. Nothing was read or written.
    Denied,
    /// Away: nothing was sent.
    Unsent,
    /// Away, overloaded, or nobody knows: try again later. A write may have gone through.
    Other,
}

impl EtcdError {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            code: Code::Unknown,
            message: message.into(),
        }
    }

    fn with_code(self, code: Code) -> Self {
        Self { code, ..self }
    }

    /// Returns gRPC's code for it; UNKNOWN where it is none of gRPC's errors.
    pub(super) fn code(&self) -> Code {
        self.code
    }

    pub(super) fn unanswered(limit: Duration) -> Self {
        let message = format!("no answer in {} s", limit.as_millis() as f64 / 1e3);
        Self::new(Kind::Other, message).with_code(Code::DeadlineExceeded)
    }

    pub(crate) fn ended() -> Self {
        Self::new(Kind::Other, "the server ended the stream").with_code(Code::Unavailable)
    }

    /// A watch was to start from a revision that is no longer known.
    pub(crate) fn compacted(revision: i64) -> Self {
        Self::new(
            Kind::Compacted,
            format!("watch cancelled: compacted up to revision {revision}"),
        )
    }

    /// A watch was to start from a revision that etcd, which is at `revision`, has yet to come to.
    pub(crate) fn gone_back(revision: i64) -> Self {
        let message = format!("etcd has gone back to revision {revision}");
        Self::new(Kind::Compacted, message)
    }

    /// Tells a watch's reason for being cancelled.
    pub(crate) fn cancelled(reason: &str) -> Self {
        Self::new(kind_of(reason), format!("watch cancelled: {reason}"))
    }

    /// etcd wants a user, and we have none.
    pub(super) fn no_credentials() -> Self {
        let message = "user: none (expected: credentials, since this etcd has users)";
        Self::new(Kind::Denied, message)
    }

    /// The login failed.
    pub(super) fn in_login(self, user: &str) -> Self {
        let kind = match self.kind {
            Kind::Token | Kind::Denied => Kind::Denied,
            Kind::NoUsers => Kind::NoUsers,
            _ => Kind::Other,
        };
        Self::new(kind, format!("login as {user}: {}", self.message))
    }

    pub(crate) fn into_cause(self) -> Cause {
        Arc::new(self)
    }

    pub(crate) fn into_trouble(self) -> Trouble {
        match self.kind {
            Kind::Denied => Trouble::Denied(self.into_cause()),
            _ => Trouble::Passing(self.into_cause()),
        }
    }
}

impl From<Error> for EtcdError {
    fn from(error: Error) -> Self {
        match error {
            Error::GRpcStatus(status) => {
                let told = format!("{} ({:?})", status.message(), status.code());
                let error = match status.code() {
                    Code::PermissionDenied => Self::new(Kind::Denied, told),
                    Code::Unauthenticated => Self::new(Kind::Token, told),
                    Code::Unimplemented => {
                        let told = format!("no etcd: {told} (expected: a server of etcd's API v3)");
                        Self::new(Kind::Denied, told)
                    }
                    Code::Unavailable if is_unsent(&status) => Self::new(Kind::Unsent, told),
                    _ => Self::new(kind_of(status.message()), told),
                };
                error.with_code(status.code())
            }
            // What etcd-client makes of an answer that says TTL 0.
            Error::LeaseKeepAliveError(message) if message == "lease not found" => {
                Self::new(Kind::LeaseNotFound, message).with_code(Code::NotFound)
            }
            error => Self::new(Kind::Other, error.to_string()),
        }
    }
}

impl From<PasswordError> for EtcdError {
    fn from(error: PasswordError) -> Self {
        Self::new(Kind::Denied, error.to_string())
    }
}

/// Returns whether the channel knows that no server has processed the request.
fn is_unsent(status: &tonic::Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if let Some(failed) = error.downcast_ref::<CallError>() {
            return failed.kind() == CallErrorKind::Unsent;
        }
        cause = error.source();
    }
    false
}

/// Tells errors by etcd's messages (`api/v3rpc/rpctypes/error.go`), since some arrive without their
/// code: as the reason of a cancelled watch, or as UNKNOWN.
fn kind_of(message: &str) -> Kind {
    const KINDS: [(&str, Kind); 13] = [
        ("requested lease not found", Kind::LeaseNotFound),
        ("lease already exists", Kind::LeaseExists),
        ("required revision has been compacted", Kind::Compacted),
        ("required revision is a future revision", Kind::Compacted),
        ("invalid auth token", Kind::Token),
        ("revision of auth store is old", Kind::Token),
        ("user name is empty", Kind::Token),
        (
            "authentication failed, invalid user ID or password",
            Kind::Denied,
        ),
        ("permission denied", Kind::Denied),
        // Of what is larger than `--max-request-bytes`, and of what is so much larger that gRPC does
        // not read it (grpc-go, `rpc_util.go`).
        ("request is too large", Kind::Denied),
        ("received message larger than max", Kind::Denied),
        ("authentication is not enabled", Kind::NoUsers),
        // tonic's own (`codec/decode.rs`).
        ("decoded message length too large", Kind::TooLarge),
    ];
    KINDS
        .iter()
        .find(|(text, _)| message.contains(text))
        .map_or(Kind::Other, |(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_by_what_can_be_done() {
        use tonic::Status;
        for (status, kind) in [
            (
                Status::not_found("etcdserver: requested lease not found"),
                Kind::LeaseNotFound,
            ),
            (
                Status::unauthenticated("etcdserver: invalid auth token"),
                Kind::Token,
            ),
            (
                Status::permission_denied("etcdserver: permission denied"),
                Kind::Denied,
            ),
            (
                Status::unknown("etcdserver: too many requests"),
                Kind::Other,
            ),
            (
                Status::invalid_argument("etcdserver: request is too large"),
                Kind::Denied,
            ),
            (
                Status::resource_exhausted(
                    "grpc: received message larger than max (4194411 vs. 2097152)",
                ),
                Kind::Denied,
            ),
            (
                Status::out_of_range("etcdserver: mvcc: required revision is a future revision"),
                Kind::Compacted,
            ),
            (
                Status::out_of_range("Error, decoded message length too large: found 9 bytes"),
                Kind::TooLarge,
            ),
            (Status::unavailable("etcdserver: no leader"), Kind::Other),
            (
                Status::invalid_argument("etcdserver: user name is empty"),
                Kind::Token,
            ),
            (Status::unimplemented("unknown service"), Kind::Denied),
        ] {
            let error = EtcdError::from(Error::GRpcStatus(status));
            assert_eq!(error.kind, kind, "{error}");
        }
        for reason in [
            "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
            "rpc error: code = InvalidArgument desc = etcdserver: revision of auth store is old",
        ] {
            assert_eq!(EtcdError::cancelled(reason).kind, Kind::Token);
        }
        let reason = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
        assert_eq!(EtcdError::cancelled(reason).kind, Kind::Denied);
    }
}
