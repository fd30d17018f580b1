//! A transaction: what is done if some things hold, and what if they do not.

use etcd_client::{
    Compare, CompareOp, DeleteOptions, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse,
};

use super::{KeyValue, message::revision};
use crate::lease::LeaseId;

/// What etcd is to do in one step, at one revision.
///
/// At most 128 operations, and none that writes a key twice, or etcd refuses it.
#[derive(Debug, Clone, Default)]
#[must_use = "a transaction does nothing until it is committed"]
pub struct Transaction {
    guards: Vec<Compare>,
    then: Vec<TxnOp>,
    otherwise: Vec<TxnOp>,
}

/// What must hold.
#[derive(Debug, Clone)]
pub struct Guard(Compare);

/// One thing to do.
#[derive(Debug, Clone)]
pub struct Operation(TxnOp);

/// What came of a transaction.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// Whether all guards held.
    pub succeeded: bool,
    /// The revision that etcd is at since.
    pub revision: i64,
    /// What was read, for each of the operations that were done: nothing for those that write.
    pub found: Vec<Option<KeyValue>>,
}

impl Transaction {
    /// Makes one that does nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds something that must hold.
    pub fn when(mut self, guard: Guard) -> Self {
        self.guards.push(guard.0);
        self
    }

    /// Adds what is done if all guards hold.
    pub fn then(mut self, operation: Operation) -> Self {
        self.then.push(operation.0);
        self
    }

    /// Adds what is done if one of them does not.
    pub fn otherwise(mut self, operation: Operation) -> Self {
        self.otherwise.push(operation.0);
        self
    }
}

impl Guard {
    /// The key was last changed at `revision`; at 0, there is none.
    pub fn changed_at(key: &str, revision: i64) -> Self {
        Self(Compare::mod_revision(key, CompareOp::Equal, revision))
    }

    /// The key holds this value.
    pub fn holds(key: &str, value: &[u8]) -> Self {
        Self(Compare::value(key, CompareOp::Equal, value))
    }
}

impl Operation {
    /// Writes a key, under a lease if one is given.
    pub fn put(key: &str, value: impl Into<Vec<u8>>, lease: Option<LeaseId>) -> Self {
        let options = lease.map(|lease| PutOptions::new().with_lease(lease));
        Self(TxnOp::put(key, value, options))
    }

    /// Deletes a key.
    pub fn delete(key: &str) -> Self {
        Self(TxnOp::delete(key, None))
    }

    /// Deletes the keys from `first` on, up to `end` and without it.
    pub fn delete_between(first: &str, end: &str) -> Self {
        let options = DeleteOptions::new().with_range(end);
        Self(TxnOp::delete(first, Some(options)))
    }

    /// Reads a key.
    pub fn get(key: &str) -> Self {
        Self(TxnOp::get(key, None))
    }
}

impl From<Transaction> for Txn {
    fn from(transaction: Transaction) -> Self {
        Self::new()
            .when(transaction.guards)
            .and_then(transaction.then)
            .or_else(transaction.otherwise)
    }
}

impl From<TxnResponse> for Outcome {
    fn from(response: TxnResponse) -> Self {
        let found = response.op_responses().into_iter().map(|it| match it {
            TxnOpResponse::Get(get) => get.kvs().first().map(KeyValue::from),
            _ => None,
        });
        Self {
            succeeded: response.succeeded(),
            revision: revision(response.header()),
            found: found.collect(),
        }
    }
}
