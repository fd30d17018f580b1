//! The connection to etcd: each request bounded in time, each error told by what can be done.
//!
//! A request that etcd refuses for its token logs in and is sent once more. Nothing else here
//! retries or keeps state; that is for the deciders and their performers.

mod auth;
mod error;
mod key_stream;
mod message;
mod page_size;

use std::{future::Future, sync::Arc, time::Duration};

use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, GetOptions, KvClient, LeaseClient,
    LeaseGrantOptions, LeaseKeepAliveStream, LeaseKeeper, PutOptions, Txn, TxnOp, TxnOpResponse,
    TxnResponse, WatchClient, WatchOptions, WatchResponse, WatchStream,
};
use futures::FutureExt;
use switchboard_resolver::{Channel, ChannelState, Condition};
use tower::{Service, util::BoxCloneSyncService};

use self::{auth::Auth, message::revision};
pub(crate) use self::{
    error::{EtcdError, Kind},
    key_stream::KeyStream,
    message::{KeyEvent, KeyValue, Message},
    page_size::PageSize,
};
use crate::{Credentials, lease::LeaseId, publication};

/// How long a request may take; etcd answers in milliseconds, or it is away.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a page of a list may take, which can be megabytes.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest answer that is read. etcd's own requests are at most 1.5 MiB, but a page of a list
/// or a batch of events holds many values. Below 1.5 MiB, a key that no answer has room for would
/// keep a list from ever being read.
const LARGEST_ANSWER: usize = 256 << 20;

/// How many keys one transaction reads or writes at most: etcd refuses more than 128 operations
/// (`--max-txn-ops`).
pub(crate) const MOST_KEYS: usize = 100;

/// A connection to etcd; clones share it.
#[derive(Clone)]
pub(crate) struct Etcd {
    kv: KvClient,
    lease: LeaseClient,
    watch: WatchClient,
    auth: Arc<Auth>,
    channel: Channel,
}

impl Etcd {
    /// Speaks etcd's protocol over `channel`, as the user of `credentials`. Sends nothing yet. There
    /// is a runtime.
    pub(crate) fn new(channel: Channel, credentials: Option<Credentials>) -> Self {
        let anonymous = client(&channel, |_request| {});
        let auth = Arc::new(Auth::new(credentials, anonymous.auth_client()));
        let token = auth.current();
        let client = client(&channel, move |request| token.sign(request));
        Self {
            kv: client.kv_client().max_decoding_message_size(LARGEST_ANSWER),
            lease: client.lease_client(),
            watch: client
                .watch_client()
                .max_decoding_message_size(LARGEST_ANSWER),
            auth,
            channel,
        }
    }

    /// Gets a new token, in place of one that etcd refused on an open stream.
    pub(crate) async fn log_in(&self) -> Result<(), EtcdError> {
        self.auth.log_in(&self.auth.token()).await
    }

    /// Ends a login that is under way: the channel would wait for it when it is closed.
    pub(crate) async fn close(&self) {
        self.auth.close().await;
    }

    /// Returns what tells when etcd can be reached again.
    pub(crate) fn reachable(&self) -> Reachable {
        Reachable::new(&self.channel)
    }

    /// Grants a lease of that id; returns the TTL that etcd gave it.
    pub(crate) async fn grant(&self, id: LeaseId, ttl: Duration) -> Result<Duration, EtcdError> {
        let granted = self.request(&self.lease, REQUEST_TIMEOUT, |mut client| async move {
            let options = LeaseGrantOptions::new().with_id(id);
            client.grant(ttl.as_secs() as i64, Some(options)).await
        });
        Ok(seconds(granted.await?.ttl()))
    }

    /// Revokes a lease, with the keys under it.
    pub(crate) async fn revoke(&self, id: LeaseId) -> Result<(), EtcdError> {
        let revoked = self.request(&self.lease, REQUEST_TIMEOUT, |mut client| async move {
            client.revoke(id).await
        });
        revoked.await.map(drop)
    }

    /// Opens a stream that renews a lease, and renews it once.
    pub(crate) async fn keep_alive(&self, id: LeaseId) -> Result<KeepAlive, EtcdError> {
        let opened = self.request(&self.lease, REQUEST_TIMEOUT, |mut client| async move {
            client.keep_alive(id).await
        });
        let (keeper, stream) = opened.await?;
        Ok(KeepAlive { keeper, stream })
    }

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

    /// Reads a page of the keys that start with `prefix`: `size` of those after `after`, at
    /// `revision`.
    pub(crate) async fn list(
        &self,
        prefix: &str,
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
            Some(after) => ([after, &[0]].concat(), options.with_range(end_of(prefix))),
            None => (prefix.into(), options.with_prefix()),
        };
        let (from, options) = (&from, &options);
        let page = self.request(&self.kv, LIST_TIMEOUT, |mut client| async move {
            client.get(from.as_slice(), Some(options.clone())).await
        });
        let mut page = page.await?;
        Ok(KeyPage {
            revision: self::revision(page.header()),
            keys: page.take_kvs().into_iter().map(KeyValue::from).collect(),
            more: page.more(),
        })
    }

    /// Reads the current revision from a majority. It is asked by way of a key that the user may
    /// read.
    pub(crate) async fn revision(&self, key: &str) -> Result<i64, EtcdError> {
        let read = self.request(&self.kv, REQUEST_TIMEOUT, |mut client| async move {
            // A linearizable read of whatever the key holds: only its header matters.
            let options = GetOptions::new().with_count_only();
            client.get(key, Some(options)).await
        });
        Ok(revision(read.await?.header()))
    }

    /// Watches the keys that start with `prefix`, from a revision on. etcd's first message has come.
    pub(crate) async fn watch(&self, prefix: &str, from: i64) -> Result<Watching, EtcdError> {
        let options = WatchOptions::new().with_start_revision(from).with_prefix();
        let (stream, first) = self.open(prefix, &options).await?;
        let first = Some(first.into());
        Ok(Watching { stream, first })
    }

    /// Opens a stream with its first watch, and waits for what etcd says to that.
    async fn open(
        &self,
        key: &str,
        options: &WatchOptions,
    ) -> Result<(WatchStream, WatchResponse), EtcdError> {
        let opened = self.request(&self.watch, REQUEST_TIMEOUT, |mut client| async move {
            let mut stream = client.watch(key, Some(options.clone())).await?;
            let first = stream.message().await?.ok_or_else(EtcdError::ended)?;
            if first.canceled() {
                // Only here does etcd look at the token of a watch, and it says so in a message.
                let error = EtcdError::cancelled(first.cancel_reason());
                if error.kind == Kind::Token {
                    return Err(error);
                }
            }
            Ok((stream, first))
        });
        opened.await
    }

    async fn transact(&self, txn: Txn) -> Result<TxnResponse, EtcdError> {
        let txn = &txn;
        let done = self.request(&self.kv, REQUEST_TIMEOUT, |mut client| async move {
            client.txn(txn.clone()).await
        });
        done.await
    }

    /// Sends a request; if etcd refuses it for its token, logs in and sends it again, once.
    ///
    /// That is as safe for a write as for a read: etcd looks at the token before it proposes a
    /// request to its members (`etcdserver/v3_server.go`), and at the revision of users and roles
    /// that the token was checked against before it applies one (`auth/store.go`). What it refuses
    /// for either has changed nothing.
    async fn request<C, T, E, F>(
        &self,
        client: &C,
        limit: Duration,
        send: impl Fn(C) -> F,
    ) -> Result<T, EtcdError>
    where
        C: Clone,
        F: Future<Output = Result<T, E>>,
        EtcdError: From<E>,
    {
        let token = self.auth.token();
        match bounded_by(limit, send(client.clone())).await {
            Err(error) if error.kind == Kind::Token => {}
            // Where etcd demands certificates (`--client-cert-auth`), a request without a token is
            // one of the user that ours is named after.
            Err(error) if error.kind == Kind::Denied && self.auth.has_yet_to(&token) => {}
            answer => return answer,
        }
        self.auth.log_in(&token).await?;
        bounded_by(limit, send(client.clone())).await
    }
}

/// A client of etcd's over `channel`, whose requests go through `sign`.
fn client(
    channel: &Channel,
    sign: impl Fn(&mut http::Request<tonic::body::Body>) + Clone + Send + Sync + 'static,
) -> Client {
    let channel = channel.clone();
    let service = tower::service_fn(move |mut request| {
        sign(&mut request);
        let response = channel.clone().call(request);
        async { Ok::<_, tower::BoxError>(response.await?.map(tonic::body::Body::new)) }
    });
    let service = BoxCloneSyncService::new(service);
    let options = ConnectOptions::new().with_require_leader(true);
    let client = Client::from_channel(etcd_client::Channel::Custom(service), Some(options));
    let client = client.now_or_never().and_then(Result::ok);
    client.expect("a client without a user sends nothing when it is made")
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

/// An open watch.
pub(crate) struct Watching {
    stream: WatchStream,
    first: Option<Message>,
}

impl Watching {
    /// Waits for what the watch says next.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it loses no message.
    pub(crate) async fn message(&mut self) -> Result<Message, EtcdError> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        let response = self.stream.message().await?;
        Ok(response.ok_or_else(EtcdError::ended)?.into())
    }

    /// Asks for a progress notice.
    pub(crate) async fn ask_progress(&mut self) -> Result<(), EtcdError> {
        bounded(self.stream.request_progress()).await
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

async fn bounded<T, E>(request: impl Future<Output = Result<T, E>>) -> Result<T, EtcdError>
where
    EtcdError: From<E>,
{
    bounded_by(REQUEST_TIMEOUT, request).await
}

async fn bounded_by<T, E>(
    limit: Duration,
    request: impl Future<Output = Result<T, E>>,
) -> Result<T, EtcdError>
where
    EtcdError: From<E>,
{
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
