//! What an etcd is, without a clock, a network or a task: requests in, answers out, `now` given.
//!
//! Every write is one revision. What goes with it, the watchers and the leases' keys, changes in the
//! same step, so that whoever holds the store sees all of it or nothing.

mod error;
mod history;
mod leases;
mod range;
mod span;
mod txn;
mod watchers;

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, time::Instant};

use bytes::Bytes;
use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse,
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse,
    PbLeaseLeasesResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse, PbLeaseStatus,
    PbLeaseTimeToLiveRequest, PbLeaseTimeToLiveResponse, PbPutRequest, PbPutResponse,
    PbRangeRequest, PbRangeResponse, PbResponseHeader, PbResponseOp, PbTxnOpRequest,
    PbTxnOpResponse, PbTxnRequest, PbTxnResponse, PbWatchResponse,
};
use prost::Message;

pub(crate) use self::{
    error::StoreError,
    span::Span,
    watchers::{Kinds, StreamId, WatchId, WatchRequest},
};
use self::{history::History, leases::Leases, txn::Path, watchers::Watchers};
use crate::KeyValue;

/// The names of the cluster and its only member. They are not those of an etcd that was set up with
/// its defaults, so that nobody takes this for one.
pub(crate) const CLUSTER: u64 = 0x5357_4254_4344_0001;
pub(crate) const MEMBER: u64 = 0x5357_4254_4344_0002;

/// The only term there is: nobody else can be elected.
pub(crate) const TERM: u64 = 2;

/// The largest request that writes (`--max-request-bytes`).
const LARGEST_REQUEST: usize = 3 << 19;

/// The largest message: that, and what etcd allows for around it.
pub(crate) const LARGEST_MESSAGE: usize = LARGEST_REQUEST + (1 << 19);

/// What an answer says of the store.
pub(crate) fn header(revision: i64) -> Option<PbResponseHeader> {
    Some(PbResponseHeader {
        cluster_id: CLUSTER,
        member_id: MEMBER,
        revision,
        raft_term: TERM,
    })
}

#[derive(Debug)]
pub(crate) struct Store {
    history: History,
    leases: Leases,
    watchers: Watchers,
    space: Space,
}

/// What an etcd held, and could be started again with.
#[derive(Debug, Clone)]
pub struct Backup {
    history: History,
    leases: Leases,
}

/// Whether there is room to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    Left,
    /// What adds is refused; what takes away is not.
    Exceeded,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self {
            history: History::new(),
            leases: Leases::default(),
            watchers: Watchers::default(),
            space: Space::Left,
        }
    }

    pub(crate) fn backup(&self) -> Backup {
        Backup {
            history: self.history.clone(),
            leases: self.leases.clone(),
        }
    }

    pub(crate) fn restored(backup: &Backup) -> Self {
        let Backup { history, leases } = backup.clone();
        Self {
            history,
            leases,
            ..Self::new()
        }
    }

    pub(crate) fn revision(&self) -> i64 {
        self.history.revision()
    }

    pub(crate) fn size(&self) -> usize {
        self.history.size()
    }

    pub(crate) fn space(&self) -> Space {
        self.space
    }

    pub(crate) fn set_space(&mut self, space: Space) {
        self.space = space;
    }

    /// All that was there at a revision, in order; 0 is the newest.
    pub(crate) fn keys(&self, revision: i64) -> Result<Vec<KeyValue>, StoreError> {
        let revision = self.history.readable(revision)?;
        let all = Span::From(Bytes::new());
        let keys = self
            .history
            .read(&all, revision)
            .map(|(key, live)| KeyValue {
                key: key.to_vec(),
                value: live.value.to_vec(),
                lease: (live.lease != 0).then_some(live.lease),
                create_revision: live.create_revision,
                mod_revision: live.mod_revision,
                version: live.version,
            });
        Ok(keys.collect())
    }

    pub(crate) fn range(&self, request: &PbRangeRequest) -> Result<PbRangeResponse, StoreError> {
        range::check(request)?;
        range::range(&self.history, request)
    }

    pub(crate) fn put(&mut self, request: &PbPutRequest) -> Result<PbPutResponse, StoreError> {
        txn::check_put(request)?;
        check_size(request)?;
        self.check_space()?;
        // In this order; in a transaction it is the other one.
        txn::check_lease(&self.leases, request)?;
        txn::check_kept(&self.history, request)?;
        let response = self.apply_put(request);
        self.commit();
        Ok(response)
    }

    pub(crate) fn delete(
        &mut self,
        request: &PbDeleteRequest,
    ) -> Result<PbDeleteResponse, StoreError> {
        txn::check_delete(request)?;
        check_size(request)?;
        let response = self.apply_delete(request);
        self.commit();
        Ok(response)
    }

    pub(crate) fn txn(&mut self, request: &PbTxnRequest) -> Result<PbTxnResponse, StoreError> {
        txn::check(request)?;
        if !txn::is_read_only(request) {
            check_size(request)?;
        }
        if txn::has_puts(request) {
            self.check_space()?;
        }
        let path = txn::path(&self.history, request);
        txn::check_path(&self.history, &self.leases, request, &path)?;
        let mut response = self.apply_txn(request, &path);
        self.commit();
        response.header = header(self.revision());
        Ok(response)
    }

    pub(crate) fn compact(
        &mut self,
        request: &PbCompactionRequest,
    ) -> Result<PbCompactionResponse, StoreError> {
        self.history.compact(request.revision)?;
        Ok(PbCompactionResponse {
            header: header(self.revision()),
        })
    }

    /// `random` is the lease's name if the request gives none.
    pub(crate) fn grant(
        &mut self,
        request: &PbLeaseGrantRequest,
        random: i64,
        now: Instant,
    ) -> Result<PbLeaseGrantResponse, StoreError> {
        let id = match request.id {
            0 => random,
            id => id,
        };
        self.check_space()?;
        let ttl = self.leases.grant(id, request.ttl, now)?;
        Ok(PbLeaseGrantResponse {
            header: header(self.revision()),
            id,
            ttl,
            error: String::new(),
        })
    }

    pub(crate) fn revoke(
        &mut self,
        request: &PbLeaseRevokeRequest,
    ) -> Result<PbLeaseRevokeResponse, StoreError> {
        self.end_lease(request.id)?;
        Ok(PbLeaseRevokeResponse {
            header: header(self.revision()),
        })
    }

    /// A lease that is not there has no time left, which is no error.
    pub(crate) fn keep_alive(
        &mut self,
        request: &PbLeaseKeepAliveRequest,
        now: Instant,
    ) -> PbLeaseKeepAliveResponse {
        let ttl = self.leases.renew(request.id, now);
        PbLeaseKeepAliveResponse {
            header: header(self.revision()),
            id: request.id,
            ttl: ttl.unwrap_or(0),
        }
    }

    /// A lease that is not there has -1 s left, which is no error.
    pub(crate) fn time_to_live(
        &self,
        request: &PbLeaseTimeToLiveRequest,
        now: Instant,
    ) -> PbLeaseTimeToLiveResponse {
        let mut response = PbLeaseTimeToLiveResponse {
            header: header(self.revision()),
            id: request.id,
            ttl: -1,
            ..PbLeaseTimeToLiveResponse::default()
        };
        if let Ok(lease) = self.leases.find(request.id) {
            response.ttl = lease.remaining(now);
            response.granted_ttl = lease.ttl;
            if request.keys {
                response.keys = lease.keys.iter().map(|key| key.to_vec()).collect();
            }
        }
        response
    }

    pub(crate) fn leases(&self) -> PbLeaseLeasesResponse {
        PbLeaseLeasesResponse {
            header: header(self.revision()),
            leases: self.leases.ids().map(|id| PbLeaseStatus { id }).collect(),
        }
    }

    /// Begins the time of all leases anew.
    pub(crate) fn renew_leases(&mut self, now: Instant) {
        self.leases.renew_all(now);
    }

    /// When [`expire`](Self::expire) has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.leases.next_deadline()
    }

    /// Ends the leases whose time is over, each in a revision of its own.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(id) = self.leases.expired(now) {
            let ended = self.end_lease(id);
            debug_assert_eq!(ended, Ok(()), "an expired lease is there");
        }
    }

    /// Ends a lease; its keys go in one revision, in order.
    pub(crate) fn end_lease(&mut self, id: i64) -> Result<(), StoreError> {
        for key in self.leases.remove(id)?.keys {
            self.history.delete(&Span::Key(key));
        }
        self.commit();
        Ok(())
    }

    pub(crate) fn open_stream(&mut self, stream: StreamId) {
        self.watchers.open(stream);
    }

    pub(crate) fn close_stream(&mut self, stream: StreamId) {
        self.watchers.close(stream);
    }

    pub(crate) fn watch(&mut self, stream: StreamId, request: WatchRequest) {
        self.watchers.create(stream, request, &self.history);
    }

    pub(crate) fn cancel_watch(&mut self, stream: StreamId, id: WatchId) {
        self.watchers.cancel(stream, id, &self.history);
    }

    pub(crate) fn request_progress(&mut self, stream: StreamId) {
        self.watchers.request_progress(stream, &self.history);
    }

    pub(crate) fn report_progress(&mut self, stream: StreamId) {
        self.watchers.report_progress(stream, &self.history);
    }

    /// The next thing to tell the reader of a stream, who has taken all before.
    pub(crate) fn poll_stream(&mut self, stream: StreamId) -> Option<PbWatchResponse> {
        self.watchers.poll(stream, &self.history)
    }

    /// The streams that may have something to say since this was last asked.
    pub(crate) fn take_woken(&mut self) -> BTreeSet<StreamId> {
        self.watchers.take_woken()
    }

    /// Ends a transaction: what it wrote is a revision, if it wrote.
    fn commit(&mut self) {
        if self.history.commit().is_some() {
            self.watchers.announce(&self.history);
        }
    }

    fn apply_put(&mut self, request: &PbPutRequest) -> PbPutResponse {
        let current = self.history.current(&request.key);
        let value = match current {
            Some(current) if request.ignore_value => current.value.clone(),
            _ => Bytes::copy_from_slice(&request.value),
        };
        let before = current.map_or(0, |current| current.lease);
        let lease = match request.ignore_lease {
            true => before,
            false => request.lease,
        };
        let key = Bytes::copy_from_slice(&request.key);
        self.leases.attach(&key, before, lease);
        let previous = self.history.put(&key, value, lease);
        let previous = previous.filter(|_| request.prev_kv);
        PbPutResponse {
            header: header(self.history.visible()),
            prev_kv: previous.map(|live| live.key_value(&key)),
        }
    }

    fn apply_delete(&mut self, request: &PbDeleteRequest) -> PbDeleteResponse {
        let span = Span::new(&request.key, &request.range_end);
        let gone = self.history.delete(&span);
        for (key, live) in &gone {
            self.leases.attach(key, live.lease, 0);
        }
        let mut response = PbDeleteResponse {
            header: header(self.history.visible()),
            deleted: gone.len() as i64,
            prev_kvs: Vec::new(),
        };
        if request.prev_kv {
            let gone = gone.iter().map(|(key, live)| live.key_value(key));
            response.prev_kvs = gone.collect();
        }
        response
    }

    /// Applies the operations of a path that has been checked.
    fn apply_txn(&mut self, request: &PbTxnRequest, path: &Path) -> PbTxnResponse {
        let mut inner = path.inner.iter();
        let mut responses = Vec::new();
        for operation in txn::branch(request, path.succeeded) {
            let response = match &operation.request {
                Some(PbTxnOpRequest::RequestRange(request)) => {
                    let response = range::range(&self.history, request);
                    let response = response.expect("the path has been checked");
                    Some(PbTxnOpResponse::ResponseRange(response))
                }
                Some(PbTxnOpRequest::RequestPut(request)) => {
                    Some(PbTxnOpResponse::ResponsePut(self.apply_put(request)))
                }
                Some(PbTxnOpRequest::RequestDeleteRange(request)) => {
                    let response = self.apply_delete(request);
                    Some(PbTxnOpResponse::ResponseDeleteRange(response))
                }
                Some(PbTxnOpRequest::RequestTxn(request)) => {
                    let path = inner
                        .next()
                        .expect("a path has a step for each transaction");
                    let response = self.apply_txn(request, path);
                    Some(PbTxnOpResponse::ResponseTxn(response))
                }
                None => None,
            };
            responses.push(PbResponseOp { response });
        }
        PbTxnResponse {
            header: Some(PbResponseHeader::default()),
            succeeded: path.succeeded,
            responses,
        }
    }

    fn check_space(&self) -> Result<(), StoreError> {
        match self.space {
            Space::Left => Ok(()),
            Space::Exceeded => Err(StoreError::NoSpace),
        }
    }
}

fn check_size(request: &impl Message) -> Result<(), StoreError> {
    match request.encoded_len() > LARGEST_REQUEST {
        true => Err(StoreError::TooLarge),
        false => Ok(()),
    }
}
