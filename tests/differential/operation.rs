//! What is asked of both servers: etcd's own messages, but for their revisions.
//!
//! The servers stand at different revisions, so a message names one by what it means. See
//! [`Clock::real`].

use etcd_client::proto::{
    PbCompactionRequest, PbCompare, PbDeleteRequest, PbLeaseGrantRequest, PbLeaseTimeToLiveRequest,
    PbPutRequest, PbRangeRequest, PbTargetUnion, PbTxnOpRequest, PbTxnRequest,
};
use switchboard_test_support::WatchOf;

/// One operation. Streams are numbered; one that is not open is opened by the first watch on it.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Range(PbRangeRequest),
    Put(PbPutRequest),
    Delete(PbDeleteRequest),
    Txn(PbTxnRequest),
    Compact(PbCompactionRequest),
    Grant(PbLeaseGrantRequest),
    Revoke(i64),
    KeepAlive(Vec<i64>),
    TimeToLive(PbLeaseTimeToLiveRequest),
    Leases,
    Watch(usize, WatchOf),
    Cancel(usize, i64),
    Progress(usize),
}

/// Where a server stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// Its revision when the sequence began, before which all is compacted.
    pub(crate) base: i64,
    /// Its revision now.
    pub(crate) now: i64,
}

/// Written for two revisions after now. Smaller numbers count from the beginning of the sequence,
/// greater ones back into the past. Zero and less stand for themselves.
pub(crate) const AHEAD: i64 = 1000;

impl Clock {
    /// Returns the revision that is meant.
    pub(crate) fn real(self, written: i64) -> i64 {
        match written {
            ..=0 => written,
            1..AHEAD => self.base + written,
            _ => (self.now + 2 - (written - AHEAD)).max(self.base),
        }
    }

    pub(crate) fn range(self, request: &mut PbRangeRequest) {
        for revision in [
            &mut request.revision,
            &mut request.min_mod_revision,
            &mut request.max_mod_revision,
            &mut request.min_create_revision,
            &mut request.max_create_revision,
        ] {
            *revision = self.real(*revision);
        }
    }

    pub(crate) fn txn(self, request: &mut PbTxnRequest) {
        request.compare.iter_mut().for_each(|it| self.compare(it));
        for operation in request.success.iter_mut().chain(&mut request.failure) {
            match &mut operation.request {
                Some(PbTxnOpRequest::RequestRange(request)) => self.range(request),
                Some(PbTxnOpRequest::RequestTxn(request)) => self.txn(request),
                _ => {}
            }
        }
    }

    fn compare(self, compare: &mut PbCompare) {
        if let Some(
            PbTargetUnion::CreateRevision(revision) | PbTargetUnion::ModRevision(revision),
        ) = &mut compare.target_union
        {
            *revision = self.real(*revision);
        }
    }
}
