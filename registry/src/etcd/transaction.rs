//! A transaction: what is done if some things hold, and what if they do not.

use etcd_client::{
    Compare, CompareOp, DeleteOptions, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse,
};

use super::{KeyRange, KeyValue, Selection, message::revision};
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
    /// What was read or taken, for each of the operations that were done: nothing for those that
    /// only write.
    pub found: Vec<Vec<KeyValue>>,
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

    /// The key was last changed before `revision`, or there is none.
    pub fn changed_before(key: &str, revision: i64) -> Self {
        Self(Compare::mod_revision(key, CompareOp::Less, revision))
    }

    /// The key is there since `revision`, whatever it held meanwhile; at 0, there is none.
    pub fn created_at(key: &str, revision: i64) -> Self {
        Self(Compare::create_revision(key, CompareOp::Equal, revision))
    }

    /// There is no key in the range.
    pub fn none_in(range: &KeyRange) -> Self {
        let absent = Compare::create_revision(range.start(), CompareOp::Equal, 0);
        Self(absent.with_range(range.end()))
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

    /// Deletes a key, and returns what it held.
    pub fn take(key: &str) -> Self {
        let options = DeleteOptions::new().with_prev_key();
        Self(TxnOp::delete(key, Some(options)))
    }

    /// Reads a key.
    pub fn get(key: &str) -> Self {
        Self(TxnOp::get(key, None))
    }

    /// Reads some keys of a range.
    pub fn select(selection: &Selection) -> Self {
        Self(TxnOp::get(selection.start(), Some(selection.options())))
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
            TxnOpResponse::Get(mut get) => get.take_kvs(),
            TxnOpResponse::Delete(mut delete) => delete.take_prev_kvs(),
            _ => Vec::new(),
        });
        let found = found.map(|kvs| kvs.into_iter().map(KeyValue::from).collect());
        Self {
            succeeded: response.succeeded(),
            revision: revision(response.header()),
            found: found.collect(),
        }
    }
}
