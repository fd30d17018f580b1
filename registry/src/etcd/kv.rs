//! Requests that read and write keys.

use std::future::Future;

use etcd_client::{
    Compare, CompareOp, GetOptions, GetResponse, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse,
};

use super::{
    Etcd, EtcdError, KeyRange, KeyValue, LIST_TIMEOUT, PageSize, REQUEST_TIMEOUT, Selection,
    message::revision,
    transaction::{Outcome, Transaction},
};
use crate::publication;

impl Etcd {
    /// Reads keys, all at one revision.
    pub(crate) async fn read(&self, keys: &[String]) -> Result<Reading, EtcdError> {
        let gets: Vec<_> = keys
            .iter()
            .map(|key| TxnOp::get(key.as_str(), None))
            .collect();
        let response = self.transact(Txn::new().and_then(gets)).await?;
        let revision = revision(response.header());
        Ok(Reading {
            revision,
            keys: found(keys, response.op_responses()),
        })
    }

    /// Does a write if its guards hold, else reads its keys.
    pub(crate) async fn write(&self, write: &publication::Write) -> Result<Written, EtcdError> {
        let (mut guards, mut writes, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(put) = &write.put {
            let record = &put.record;
            guards.push(Compare::mod_revision(
                record.key.as_str(),
                CompareOp::Equal,
                put.if_revision,
            ));
            let options = PutOptions::new().with_lease(write.lease);
            writes.push(TxnOp::put(
                record.key.as_str(),
                record.value.as_slice(),
                Some(options),
            ));
            keys.push(record.key.clone());
        }
        for key in &write.delete {
            guards.push(Compare::lease(key.as_str(), CompareOp::Equal, write.lease));
            writes.push(TxnOp::delete(key.as_str(), None));
            keys.push(key.clone());
        }
        let reads: Vec<_> = keys
            .iter()
            .map(|key| TxnOp::get(key.as_str(), None))
            .collect();
        let txn = Txn::new().when(guards).and_then(writes).or_else(reads);
        let response = self.transact(txn).await?;
        let revision = revision(response.header());
        Ok(if response.succeeded() {
            Written::Done { revision }
        } else {
            Written::Refused(Reading {
                revision,
                keys: found(&keys, response.op_responses()),
            })
        })
    }

    /// Deletes a key if it was last changed at `revision`; returns whether it was.
    pub(crate) async fn delete_at(&self, key: &str, revision: i64) -> Result<bool, EtcdError> {
        let unchanged = Compare::mod_revision(key, CompareOp::Equal, revision);
        let txn = Txn::new()
            .when([unchanged])
            .and_then([TxnOp::delete(key, None)]);
        Ok(self.transact(txn).await?.succeeded())
    }

    /// Reads a page of a range's keys: `size` of those after `after`, at `revision`.
    pub(crate) async fn list(
        &self,
        range: &KeyRange,
        after: Option<&[u8]>,
        revision: i64,
        size: PageSize,
        part: Part,
    ) -> Result<KeyPage, EtcdError> {
        let options = GetOptions::new()
            .with_limit(size.keys())
            .with_revision(revision);
        let options = match part {
            Part::Whole => options,
            Part::KeysOnly => options.with_keys_only(),
        };
        let (from, options) = match after {
            Some(after) => ([after, &[0]].concat(), options.with_range(range.end())),
            None => (range.start().into(), range.ask(options)),
        };
        let (from, options) = (&from, &options);
        let page = self.request(&self.kv, LIST_TIMEOUT, |mut client| async move {
            client.get(from.as_slice(), Some(options.clone())).await
        });
        self.noted(page).await
    }

    /// Reads the current revision from a majority. It is asked by way of a key that the user may
    /// read.
    pub(crate) async fn revision(&self, key: &str) -> Result<i64, EtcdError> {
        let read = self.request(&self.kv, REQUEST_TIMEOUT, |mut client| async move {
            // A linearizable read of whatever the key holds: only its header matters.
            let options = GetOptions::new().with_count_only();
            client.get(key, Some(options)).await
        });
        Ok(self.noted(read).await?.revision)
    }

    /// Reads what a key held at `revision`; 0 stands for the current one.
    pub(crate) async fn read_at(&self, key: &str, revision: i64) -> Result<KeyPage, EtcdError> {
        let key = KeyRange::Key(key.to_owned());
        self.list(&key, None, revision, PageSize::default(), Part::Whole)
            .await
    }

    /// Reads some keys of a range, linearizably.
    pub(crate) async fn select(&self, selection: &Selection) -> Result<KeyPage, EtcdError> {
        let read = self.request(&self.kv, LIST_TIMEOUT, |mut client| async move {
            client
                .get(selection.start(), Some(selection.options()))
                .await
        });
        self.noted(read).await
    }

    /// Does what a transaction asks for.
    pub(crate) async fn commit(&self, transaction: Transaction) -> Result<Outcome, EtcdError> {
        Ok(self.transact(transaction.into()).await?.into())
    }

    async fn transact(&self, txn: Txn) -> Result<TxnResponse, EtcdError> {
        let txn = &txn;
        let done = self.request(&self.kv, REQUEST_TIMEOUT, |mut client| async move {
            client.txn(txn.clone()).await
        });
        let seen = self.told.furthest();
        let done = done.await?;
        self.told.note_agreed(seen, done.header());
        Ok(done)
    }

    /// Sends a read that a majority agrees on, and notes where in its history etcd was then.
    async fn noted(
        &self,
        read: impl Future<Output = Result<GetResponse, EtcdError>>,
    ) -> Result<KeyPage, EtcdError> {
        let seen = self.told.furthest();
        let response = read.await?;
        self.told.note_agreed(seen, response.header());
        Ok(response.into())
    }
}

/// What of each key is read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    Whole,
    /// All but the values.
    KeysOnly,
}

/// A part of a list.
#[derive(Debug)]
pub(crate) struct KeyPage {
    pub(crate) revision: i64,
    pub(crate) keys: Vec<KeyValue>,
    pub(crate) more: bool,
}

impl From<GetResponse> for KeyPage {
    fn from(mut response: GetResponse) -> Self {
        Self {
            revision: revision(response.header()),
            keys: response
                .take_kvs()
                .into_iter()
                .map(KeyValue::from)
                .collect(),
            more: response.more(),
        }
    }
}

/// What keys hold, at a revision.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) revision: i64,
    pub(crate) keys: Vec<(String, Option<KeyValue>)>,
}

/// What came of a guarded write.
#[derive(Debug)]
pub(crate) enum Written {
    Done { revision: i64 },
    Refused(Reading),
}

fn found(keys: &[String], responses: Vec<TxnOpResponse>) -> Vec<(String, Option<KeyValue>)> {
    let values = responses.into_iter().map(|response| match response {
        TxnOpResponse::Get(get) => get.kvs().first().map(KeyValue::from),
        _ => None,
    });
    keys.iter().cloned().zip(values).collect()
}
