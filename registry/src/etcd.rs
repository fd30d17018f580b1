//! The connection to etcd: each request bounded in time, each error told by what can be done.
//!
//! A request that etcd refuses for its token logs in and is sent once more. Nothing else here
//! retries or keeps state; that is for the deciders and their performers.

mod auth;
mod error;
mod key_stream;
mod kv;
mod message;
mod page_size;
mod range;
mod reachable;
mod selection;
mod told;
mod transaction;
mod watching;

use std::{future::Future, sync::Arc, time::Duration};

use etcd_client::{
    Client, ConnectOptions, KvClient, LeaseClient, LeaseGrantOptions, LeaseKeepAliveStream,
    LeaseKeeper, WatchClient,
};
use futures::FutureExt;
use switchboard_resolver::Channel;
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;
use tower::{Service, util::BoxCloneSyncService};

use self::{auth::Auth, told::Told};
pub(crate) use self::{
    error::{EtcdError, Kind},
    key_stream::KeyStream,
    kv::{KeyPage, Part, Reading, Written},
    message::Message,
    page_size::PageSize,
    reachable::Reachable,
    watching::Watching,
};
pub use self::{
    message::{KeyEvent, KeyValue},
    range::KeyRange,
    selection::{By, Selection},
    transaction::{Guard, Operation, Outcome, Transaction},
};
use crate::{
    Credentials,
    lease::{LeaseId, Position},
    metrics,
};

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
    told: Told,
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
            told: Told::default(),
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

    /// Does something where this was made, on whichever runtime it is waited for, until what this returns
    /// is dropped.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> AbortOnDropHandle<T> {
        AbortOnDropHandle::new(self.auth.runtime().spawn(work))
    }

    /// Returns what tells when etcd can be reached again.
    pub(crate) fn reachable(&self) -> Reachable {
        Reachable::new(&self.channel)
    }

    /// Returns the furthest in its history that etcd has told of.
    pub(crate) fn furthest(&self) -> Option<Position> {
        self.told.furthest()
    }

    /// Returns whether a majority has told of less than etcd had told of before.
    pub(crate) fn has_gone_back(&self) -> bool {
        self.told.has_gone_back()
    }

    /// Forgets how far etcd was: its history is the one that it tells of from now on.
    pub(crate) fn forget_history(&self) {
        self.told.forget();
    }

    /// Grants a lease of that id; returns the TTL that etcd gave it, and where a majority was that
    /// agreed to it, if it was told.
    pub(crate) async fn grant(
        &self,
        id: LeaseId,
        ttl: Duration,
    ) -> Result<(Duration, Option<Position>), EtcdError> {
        let granted = self.request(&self.lease, REQUEST_TIMEOUT, |mut client| async move {
            let options = LeaseGrantOptions::new().with_id(id);
            client.grant(ttl.as_secs() as i64, Some(options)).await
        });
        let granted = granted.await?;
        let ttl = seconds(granted.ttl());
        if ttl.is_zero() {
            return Err(EtcdError::new(Kind::Other, "a lease with a TTL of 0 s"));
        }
        Ok((ttl, self.told.note(granted.header())))
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
        Ok(KeepAlive {
            keeper,
            stream,
            told: self.told.clone(),
        })
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
    told: Told,
}

impl KeepAlive {
    /// Renews the lease; returns the TTL that etcd gave it and where the member was that answered, if it
    /// was told, or `None` where there is no such lease.
    pub(crate) async fn renew(
        &mut self,
    ) -> Result<Option<(Duration, Option<Position>)>, EtcdError> {
        let answer = bounded(async {
            self.keeper.keep_alive().await?;
            let answer = self.stream.message().await?;
            answer.ok_or_else(EtcdError::ended)
        });
        let answer = answer.await?;
        let ttl = Some(answer.ttl()).filter(|ttl| *ttl > 0).map(seconds);
        Ok(ttl.map(|ttl| (ttl, self.told.note(answer.header()))))
    }
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
    let counted = async {
        let answer = request.await.map_err(EtcdError::from);
        metrics::etcd_answered(answer.as_ref().map_or_else(EtcdError::code, |_| Code::Ok));
        answer
    };
    within(limit, counted).await
}

/// Bounds requests, each of which is counted, together.
pub(crate) async fn within<T>(
    limit: Duration,
    requests: impl Future<Output = Result<T, EtcdError>>,
) -> Result<T, EtcdError> {
    let answer = tokio::time::timeout(limit, requests).await;
    answer.unwrap_or_else(|_| {
        let unanswered = EtcdError::unanswered(limit);
        metrics::etcd_answered(unanswered.code());
        Err(unanswered)
    })
}

/// A TTL as etcd gives it, which is at most 9,000,000,000 s.
fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(ttl.clamp(0, 9_000_000_000).unsigned_abs())
}
