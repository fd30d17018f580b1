//! The connection to etcd: each request bounded in time, each error told by what can be done.
//!
//! Nothing here retries or keeps state; that is for the deciders and their performers.

mod error;
mod message;

use std::{future::Future, sync::Arc, time::Duration};

use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, Error, GetOptions, KvClient, LeaseClient,
    LeaseGrantOptions, LeaseKeepAliveStream, LeaseKeeper, PutOptions, Txn, TxnOp, TxnOpResponse,
    WatchClient, WatchOptions, WatchResponse, WatchStream,
};
use futures::FutureExt;
use switchboard_resolver::{Channel, ChannelState, Condition};
use tower::{Service, util::BoxCloneSyncService};

use self::message::revision;
pub(crate) use self::{
    error::{EtcdError, Kind},
    message::{KeyEvent, KeyValue, Message},
};
use crate::{lease::LeaseId, publication, watch::PAGE};

/// How long a request may take; etcd answers in milliseconds, or it is away.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a page of a list may take, which can be megabytes.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest answer that is read. etcd's own requests are at most 1.5 MiB, but a page of a list
/// or a batch of events holds many values.
const LARGEST_ANSWER: usize = 256 << 20;

/// A connection to etcd; clones share it.
#[derive(Clone)]
pub(crate) struct Etcd {
    kv: KvClient,
    lease: LeaseClient,
    watch: WatchClient,
    channel: Channel,
}

impl Etcd {
    /// Speaks etcd's protocol over `channel`. Sends nothing yet.
    pub(crate) fn new(channel: Channel) -> Self {
        let calls = channel.clone();
        let service = tower::service_fn(move |request: http::Request<tonic::body::Body>| {
            let response = calls.clone().call(request);
            async { Ok::<_, tower::BoxError>(response.await?.map(tonic::body::Body::new)) }
        });
        let service = BoxCloneSyncService::new(service);
        let options = ConnectOptions::new().with_require_leader(true);
        let client = Client::from_channel(etcd_client::Channel::Custom(service), Some(options));
        let client = client.now_or_never().and_then(Result::ok);
        let client = client.expect("a client without a user sends nothing when it is made");
        Self {
            kv: client.kv_client().max_decoding_message_size(LARGEST_ANSWER),
            lease: client.lease_client(),
            watch: client
                .watch_client()
                .max_decoding_message_size(LARGEST_ANSWER),
            channel,
        }
    }

    /// Returns what tells when etcd can be reached again.
    pub(crate) fn reachable(&self) -> Reachable {
        Reachable::new(&self.channel)
    }

    /// Grants a lease of that id; returns the TTL that etcd gave it.
    pub(crate) async fn grant(&self, id: LeaseId, ttl: Duration) -> Result<Duration, EtcdError> {
        let mut client = self.lease.clone();
        let options = LeaseGrantOptions::new().with_id(id);
        let granted = bounded(client.grant(ttl.as_secs() as i64, Some(options))).await?;
        Ok(seconds(granted.ttl()))
    }

    /// Revokes a lease, with the keys under it.
    pub(crate) async fn revoke(&self, id: LeaseId) -> Result<(), EtcdError> {
        let mut client = self.lease.clone();
        bounded(client.revoke(id)).await.map(drop)
    }

    /// Opens a stream that renews a lease, and renews it once.
    pub(crate) async fn keep_alive(&self, id: LeaseId) -> Result<KeepAlive, EtcdError> {
        let mut client = self.lease.clone();
        let (keeper, stream) = bounded(client.keep_alive(id)).await?;
        Ok(KeepAlive { keeper, stream })
    }

    /// Reads keys, all at one revision.
    pub(crate) async fn read(&self, keys: &[String]) -> Result<Reading, EtcdError> {
        let gets: Vec<_> = keys
            .iter()
            .map(|key| TxnOp::get(key.as_str(), None))
            .collect();
        let mut client = self.kv.clone();
        let response = bounded(client.txn(Txn::new().and_then(gets))).await?;
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
        let mut client = self.kv.clone();
        let response = bounded(client.txn(txn)).await?;
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

    /// Reads a page of the keys that start with `prefix`: those after `after`, at `revision`.
    pub(crate) async fn list(
        &self,
        prefix: &str,
        after: Option<&[u8]>,
        revision: i64,
    ) -> Result<KeyPage, EtcdError> {
        let mut client = self.kv.clone();
        let options = GetOptions::new()
            .with_limit(PAGE as i64)
            .with_revision(revision);
        let (from, options) = match after {
            Some(after) => ([after, &[0]].concat(), options.with_range(end_of(prefix))),
            None => (prefix.into(), options.with_prefix()),
        };
        let page = bounded_by(LIST_TIMEOUT, client.get(from, Some(options))).await?;
        Ok(KeyPage {
            revision: self::revision(page.header()),
            keys: page.kvs().iter().map(KeyValue::from).collect(),
            more: page.more(),
        })
    }

    /// Reads the current revision from a majority.
    pub(crate) async fn revision(&self) -> Result<i64, EtcdError> {
        let mut client = self.kv.clone();
        // A linearizable read of no key at all: only its header matters.
        let options = GetOptions::new().with_count_only();
        let response = bounded(client.get("\0", Some(options))).await?;
        Ok(revision(response.header()))
    }

    /// Watches keys, from a revision on. etcd's first message has come.
    pub(crate) async fn watch(&self, keys: Keys<'_>, from: i64) -> Result<Watching, EtcdError> {
        let mut client = self.watch.clone();
        let options = WatchOptions::new().with_start_revision(from);
        let (key, options) = match keys {
            Keys::One(key) => (key, options),
            Keys::Under(prefix) => (prefix, options.with_prefix()),
        };
        let mut stream = bounded(client.watch(key, Some(options))).await?;
        let first = bounded(stream.message())
            .await?
            .ok_or_else(EtcdError::ended)?;
        Ok(Watching {
            stream,
            first: Some(first),
        })
    }
}

/// A stream that renews one lease.
pub(crate) struct KeepAlive {
    keeper: LeaseKeeper,
    stream: LeaseKeepAliveStream,
}

impl KeepAlive {
    /// Renews the lease; returns the TTL that etcd gave it, or `None` where there is no such lease.
    pub(crate) async fn renew(&mut self) -> Result<Option<Duration>, EtcdError> {
        bounded(self.keeper.keep_alive()).await?;
        let answer = bounded(self.stream.message())
            .await?
            .ok_or_else(EtcdError::ended)?;
        Ok(Some(answer.ttl()).filter(|ttl| *ttl > 0).map(seconds))
    }
}

/// Which keys to watch.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Keys<'a> {
    One(&'a str),
    Under(&'a str),
}

/// An open watch.
pub(crate) struct Watching {
    stream: WatchStream,
    first: Option<WatchResponse>,
}

impl Watching {
    /// Waits for what the watch says next.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it loses no message.
    pub(crate) async fn message(&mut self) -> Result<Message, EtcdError> {
        let response = match self.first.take() {
            Some(first) => first,
            None => self
                .stream
                .message()
                .await
                .map_err(EtcdError::from)?
                .ok_or_else(EtcdError::ended)?,
        };
        Ok(response.into())
    }

    /// Asks for a progress notice.
    pub(crate) async fn ask_progress(&mut self) -> Result<(), EtcdError> {
        bounded(self.stream.request_progress()).await
    }
}

/// Waits for what a watch says; one that is not open has ended.
///
/// # Cancel safety
///
/// Cancelling it loses no message.
pub(crate) async fn next_message(stream: Option<&mut Watching>) -> Result<Message, EtcdError> {
    match stream {
        Some(stream) => stream.message().await,
        None => Err(EtcdError::ended()),
    }
}

/// A part of a list.
#[derive(Debug)]
pub(crate) struct KeyPage {
    pub(crate) revision: i64,
    pub(crate) keys: Vec<KeyValue>,
    pub(crate) more: bool,
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

/// Tells when etcd can be reached again.
#[derive(Debug)]
pub(crate) struct Reachable {
    states: tokio::sync::watch::Receiver<Arc<ChannelState>>,
    was: bool,
}

impl Reachable {
    fn new(channel: &Channel) -> Self {
        let states = channel.watch_state();
        let was = is_ready(&states.borrow());
        Self { states, was }
    }

    /// Waits until etcd can be reached, after it could not.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it misses nothing: the next call returns at once.
    pub(crate) async fn again(&mut self) {
        loop {
            if self.states.changed().await.is_err() {
                // The channel is closed, and will not be reachable again.
                return std::future::pending().await;
            }
            let is = is_ready(&self.states.borrow_and_update());
            if is && !std::mem::replace(&mut self.was, is) {
                return;
            }
            self.was = is;
        }
    }
}

fn is_ready(state: &ChannelState) -> bool {
    state
        .endpoints
        .iter()
        .any(|endpoint| endpoint.condition == Condition::Ready)
}

async fn bounded<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, EtcdError> {
    bounded_by(REQUEST_TIMEOUT, request).await
}

async fn bounded_by<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, Error>>,
) -> Result<T, EtcdError> {
    match tokio::time::timeout(limit, request).await {
        Ok(answer) => answer.map_err(EtcdError::from),
        Err(_) => Err(EtcdError::new(
            Kind::Other,
            format!("no answer in {} s", limit.as_secs()),
        )),
    }
}

fn found(keys: &[String], responses: Vec<TxnOpResponse>) -> Vec<(String, Option<KeyValue>)> {
    let values = responses.into_iter().map(|response| match response {
        TxnOpResponse::Get(get) => get.kvs().first().map(KeyValue::from),
        _ => None,
    });
    keys.iter().cloned().zip(values).collect()
}

/// A TTL as etcd gives it, which is at most 9,000,000,000 s.
fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(ttl.clamp(0, 9_000_000_000).unsigned_abs())
}

/// The first key after all those that start with `prefix`, which ends in `/`.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        assert_eq!(end_of("/microservices/user/"), b"/microservices/user0");
    }
}
