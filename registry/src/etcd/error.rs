//! What goes wrong with a request to etcd, told by what can be done about it.

use std::sync::Arc;

use etcd_client::Error;
use switchboard_resolver::Cause;

/// A request to etcd that failed.
#[derive(Debug, thiserror::Error)]
#[error("etcd: {message}")]
pub(crate) struct EtcdError {
    pub(crate) kind: Kind,
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
    /// The token is not valid (any more): log in again.
    Token,
    /// Not allowed: tell the operator.
    Denied,
    /// Away, overloaded, or nobody knows: try again later. A write may have gone through.
    Other,
}

impl EtcdError {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    pub(super) fn ended() -> Self {
        Self::new(Kind::Other, "the server ended the stream")
    }

    /// Tells a watch's reason for being cancelled.
    pub(crate) fn cancelled(reason: &str) -> Self {
        Self::new(kind_of(reason), format!("watch cancelled: {reason}"))
    }

    /// There is nobody to log in as.
    pub(crate) fn no_user() -> Self {
        Self::new(Kind::Denied, "a user is required, and none is set")
    }

    pub(crate) fn into_cause(self) -> Cause {
        Arc::new(self)
    }
}

impl From<Error> for EtcdError {
    fn from(error: Error) -> Self {
        match error {
            Error::GRpcStatus(status) => {
                let kind = match status.code() {
                    tonic::Code::PermissionDenied => Kind::Denied,
                    tonic::Code::Unauthenticated => Kind::Token,
                    _ => kind_of(status.message()),
                };
                Self::new(kind, format!("{} ({:?})", status.message(), status.code()))
            }
            // What etcd-client makes of an answer that says TTL 0.
            Error::LeaseKeepAliveError(message) if message == "lease not found" => {
                Self::new(Kind::LeaseNotFound, message)
            }
            error => Self::new(Kind::Other, error.to_string()),
        }
    }
}

/// Tells errors by etcd's messages (`api/v3rpc/rpctypes/error.go`), since some arrive without their
/// code: as the reason of a cancelled watch, or as UNKNOWN.
fn kind_of(message: &str) -> Kind {
    const KINDS: [(&str, Kind); 10] = [
        ("requested lease not found", Kind::LeaseNotFound),
        ("lease already exists", Kind::LeaseExists),
        ("required revision has been compacted", Kind::Compacted),
        ("required revision is a future revision", Kind::Compacted),
        ("invalid auth token", Kind::Token),
        ("revision of auth store is old", Kind::Token),
        ("user name is empty", Kind::Denied),
        (
            "authentication failed, invalid user ID or password",
            Kind::Denied,
        ),
        ("permission denied", Kind::Denied),
        ("authentication is not enabled", Kind::Denied),
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
        let status = |status: tonic::Status| EtcdError::from(Error::GRpcStatus(status)).kind;
        assert_eq!(
            status(tonic::Status::not_found(
                "etcdserver: requested lease not found"
            )),
            Kind::LeaseNotFound
        );
        assert_eq!(
            status(tonic::Status::unauthenticated(
                "etcdserver: invalid auth token"
            )),
            Kind::Token
        );
        assert_eq!(
            status(tonic::Status::permission_denied(
                "etcdserver: permission denied"
            )),
            Kind::Denied
        );
        assert_eq!(
            status(tonic::Status::unknown("etcdserver: too many requests")),
            Kind::Other
        );
        assert_eq!(
            status(tonic::Status::out_of_range(
                "etcdserver: mvcc: required revision is a future revision"
            )),
            Kind::Compacted
        );
        assert_eq!(
            status(tonic::Status::unavailable("etcdserver: no leader")),
            Kind::Other
        );
        let reason = "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token";
        assert_eq!(EtcdError::cancelled(reason).kind, Kind::Token);
    }
}
