//! Why a transaction was not committed, or may not have been.

use switchboard_registry::NameError;
use switchboard_resolver::Cause;

use super::attempt::{LARGEST, MOST_KEYS};
use crate::Failure;

/// Why a transaction was not committed, or may not have been.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StmError {
    /// What is given is not a key, or may not be written. Nothing was written.
    #[error(transparent)]
    Key(#[from] NameError),
    /// It reads and writes more keys than etcd takes at once. Nothing was written.
    #[error("keys of a transaction: more than {MOST_KEYS} (expected: at most {MOST_KEYS})")]
    TooManyKeys,
    /// What is to be committed, in bytes, is more than etcd takes at once. Nothing was written.
    #[error("transaction: {0} bytes (expected: at most {LARGEST})")]
    TooLarge(usize),
    /// What was read is not in etcd's history any more. [`run`](crate::Stm::run) does not fail with
    /// it: once the closure has returned, it is run again.
    #[error("what was read is out of date, and the transaction will be run again")]
    Outdated,
    /// The closure has returned, and what it was handed is still held. Nothing was written.
    #[error("the transaction is still held (expected: the closure to drop it)")]
    Kept,
    /// Nobody knows whether it was committed.
    #[error("a transaction may or may not have been committed")]
    Unknown(#[source] Cause),
    /// etcd did not do what it was asked for. Nothing was written.
    #[error("a transaction was not committed")]
    Etcd(#[source] Failure),
}
