//! What a server answered, without what differs between two servers.

use etcd_client::proto::{
    PbCompactionResponse, PbDeleteResponse, PbEvent, PbKeyValue, PbLeaseGrantResponse,
    PbLeaseKeepAliveResponse, PbLeaseLeasesResponse, PbLeaseRevokeResponse,
    PbLeaseTimeToLiveResponse, PbPutResponse, PbRangeResponse, PbResponseHeader, PbTxnOpResponse,
    PbTxnResponse, PbWatchResponse,
};
use tonic::{Code, Status};

/// An answer, with revisions counted from the beginning of the sequence.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "they are few")]
pub(crate) enum Answer {
    Range(PbRangeResponse),
    Put(PbPutResponse),
    Delete(PbDeleteResponse),
    Txn(PbTxnResponse),
    Compact(PbCompactionResponse),
    Grant(PbLeaseGrantResponse),
    Revoke(PbLeaseRevokeResponse),
    KeepAlive(Vec<PbLeaseKeepAliveResponse>),
    TimeToLive(PbLeaseTimeToLiveResponse),
    Leases(PbLeaseLeasesResponse),
    Refused(Code, String),
    /// What the operation leads to is told by its stream.
    OnStream,
}

impl Answer {
    /// Makes an answer of what came, on a server whose sequence began at `base`. Returns the revision
    /// of its header too, if it has one.
    pub(crate) fn new<T>(
        came: Result<T, Status>,
        base: i64,
        wrap: impl FnOnce(T) -> Self,
    ) -> (Self, Option<i64>) {
        match came {
            Ok(answer) => {
                let mut answer = wrap(answer);
                let revision = answer.level(base);
                (answer, revision)
            }
            Err(status) => (Self::refused(&status), None),
        }
    }

    pub(crate) fn refused(status: &Status) -> Self {
        Self::Refused(status.code(), status.message().to_owned())
    }

    /// Returns whether a transaction was refused for a put, and the other server refused it for a
    /// read: what differs is what they looked at first.
    pub(crate) fn is_of_a_put_and_not_of_a_read(&self, other: &Self) -> bool {
        let reason = |answer: &Self| match answer {
            Self::Refused(_, reason) => reason.strip_prefix("etcdserver: ").map(str::to_owned),
            _ => None,
        };
        let is_of_a_put = |reason: String| {
            ["requested lease not found", "key not found"].contains(&reason.as_str())
        };
        let is_of_a_read = |reason: String| reason.starts_with("mvcc: required revision ");
        reason(self).is_some_and(is_of_a_put) && reason(other).is_some_and(is_of_a_read)
    }

    fn level(&mut self, base: i64) -> Option<i64> {
        match self {
            Self::Range(answer) => range(answer, base),
            Self::Put(answer) => put(answer, base),
            Self::Delete(answer) => delete(answer, base),
            Self::Txn(answer) => txn(answer, base),
            Self::Compact(answer) => header(&mut answer.header, base),
            Self::Grant(answer) => header(&mut answer.header, base),
            Self::Revoke(answer) => header(&mut answer.header, base),
            Self::KeepAlive(answers) => {
                let revisions = answers.iter_mut();
                revisions
                    .filter_map(|it| header(&mut it.header, base))
                    .last()
            }
            Self::TimeToLive(answer) => {
                // No order is promised, and some of its time has passed.
                answer.keys.sort();
                if (answer.granted_ttl - 60..=answer.granted_ttl).contains(&answer.ttl) {
                    answer.ttl = answer.granted_ttl;
                }
                header(&mut answer.header, base)
            }
            Self::Leases(answer) => {
                answer.leases.sort_by_key(|lease| lease.id);
                header(&mut answer.header, base)
            }
            Self::Refused(..) | Self::OnStream => None,
        }
    }
}

/// Counts a revision from the beginning; what is no revision stays.
fn relative(revision: &mut i64, base: i64) {
    if *revision > 0 {
        *revision -= base;
    }
}

fn header(header: &mut Option<PbResponseHeader>, base: i64) -> Option<i64> {
    let header = header.as_mut()?;
    let revision = header.revision;
    relative(&mut header.revision, base);
    // Whose answer it is.
    (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
    Some(revision)
}

fn kv(kv: &mut PbKeyValue, base: i64) {
    relative(&mut kv.create_revision, base);
    relative(&mut kv.mod_revision, base);
}

fn range(answer: &mut PbRangeResponse, base: i64) -> Option<i64> {
    answer.kvs.iter_mut().for_each(|it| kv(it, base));
    header(&mut answer.header, base)
}

fn put(answer: &mut PbPutResponse, base: i64) -> Option<i64> {
    answer.prev_kv.iter_mut().for_each(|it| kv(it, base));
    header(&mut answer.header, base)
}

fn delete(answer: &mut PbDeleteResponse, base: i64) -> Option<i64> {
    answer.prev_kvs.iter_mut().for_each(|it| kv(it, base));
    header(&mut answer.header, base)
}

fn txn(answer: &mut PbTxnResponse, base: i64) -> Option<i64> {
    for answer in &mut answer.responses {
        match &mut answer.response {
            Some(PbTxnOpResponse::ResponseRange(answer)) => range(answer, base),
            Some(PbTxnOpResponse::ResponsePut(answer)) => put(answer, base),
            Some(PbTxnOpResponse::ResponseDeleteRange(answer)) => delete(answer, base),
            Some(PbTxnOpResponse::ResponseTxn(answer)) => txn(answer, base),
            None => None,
        };
    }
    header(&mut answer.header, base)
}

/// What a watch was told, without how it was divided into messages: that is the server's choice, but
/// for a revision's events, which belong together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Told {
    Created {
        revision: i64,
    },
    Refused {
        revision: i64,
        reason: String,
    },
    Event(PbEvent),
    Cancelled {
        revision: i64,
        compacted: i64,
        reason: String,
    },
    Progress {
        revision: i64,
    },
}

impl Told {
    pub(crate) fn is_deletion_at(&self, revision: i64) -> bool {
        match self {
            Self::Event(event) => {
                let kv = event.kv.as_ref();
                event.r#type == 1 && kv.is_some_and(|kv| kv.mod_revision == revision)
            }
            _ => false,
        }
    }
}

/// Takes a message of a watch stream apart.
pub(crate) fn told(mut answer: PbWatchResponse, base: i64) -> Vec<Told> {
    header(&mut answer.header, base);
    relative(&mut answer.compact_revision, base);
    let revision = answer.header.map_or(0, |header| header.revision);
    let reason = answer.cancel_reason;
    let mut told = Vec::new();
    match (answer.created, answer.canceled) {
        (true, true) => told.push(Told::Refused { revision, reason }),
        (true, false) => told.push(Told::Created { revision }),
        (false, true) => told.push(Told::Cancelled {
            revision,
            compacted: answer.compact_revision,
            reason,
        }),
        (false, false) if answer.events.is_empty() => told.push(Told::Progress { revision }),
        (false, false) => {}
    }
    told.extend(answer.events.into_iter().map(|mut event| {
        let kvs = event.kv.iter_mut().chain(&mut event.prev_kv);
        kvs.for_each(|it| kv(it, base));
        Told::Event(event)
    }));
    told
}
