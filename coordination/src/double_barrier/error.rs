//! Why a double barrier is not entered, or left.

use switchboard_registry::NameError;

use crate::{Failure, Lost};

/// Why there is no such double barrier.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidDoubleBarrier {
    /// The name is no key.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It is for nobody.
    #[error("invalid count: 0 (expected: at least 1)")]
    Count,
}

/// Why a double barrier was not entered.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EnterError {
    /// As many have entered as it is for, or some of those who had have yet to leave. The key of one that
    /// has died counts until its lease has run out.
    #[error("the barrier is for {0}, who have entered or have yet to leave")]
    Full(usize),
    /// The key was lost while it waited, and the others have begun: they may have counted it.
    #[error("the others have begun")]
    Lost(#[source] Lost),
    /// etcd did not do what it was asked for.
    #[error("cannot enter")]
    Etcd(#[from] Failure),
}

/// Why it is not known that all have left a double barrier.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LeaveError {
    /// The place inside was lost before this one has left: the others may have gone on.
    #[error("the others may have left")]
    Lost(#[source] Lost),
    /// etcd did not do what it was asked for. This one has left, or does in the background.
    #[error("cannot wait until all have left")]
    Etcd(#[from] Failure),
}
