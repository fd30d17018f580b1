//! Requests, written short, and what is expected of answers.

use std::fmt::Debug;

use etcd_client::proto::{
    PbCompactionRequest, PbCompare, PbDeleteRequest, PbEvent, PbKeyValue, PbLeaseGrantRequest,
    PbLeaseTimeToLiveRequest, PbPutRequest, PbRangeRequest, PbResponseHeader, PbTargetUnion,
    PbTxnOpRequest, PbTxnRequest, PbTxnRequestOp,
};
use switchboard_test_support::WatchOf;
use tonic::{Code, Status};

pub(crate) fn get(key: &str) -> PbRangeRequest {
    get_range(key, "")
}

pub(crate) fn get_range(key: &str, end: &str) -> PbRangeRequest {
    PbRangeRequest {
        key: key.into(),
        range_end: end.into(),
        ..Default::default()
    }
}

/// Asks for every key.
pub(crate) fn get_all() -> PbRangeRequest {
    get_range("\0", "\0")
}

pub(crate) fn put(key: &str, value: &str) -> PbPutRequest {
    PbPutRequest {
        key: key.into(),
        value: value.into(),
        ..Default::default()
    }
}

pub(crate) fn put_under(key: &str, value: &str, lease: i64) -> PbPutRequest {
    PbPutRequest {
        lease,
        ..put(key, value)
    }
}

pub(crate) fn delete(key: &str) -> PbDeleteRequest {
    delete_range(key, "")
}

pub(crate) fn delete_range(key: &str, end: &str) -> PbDeleteRequest {
    PbDeleteRequest {
        key: key.into(),
        range_end: end.into(),
        ..Default::default()
    }
}

pub(crate) fn compact(revision: i64) -> PbCompactionRequest {
    PbCompactionRequest {
        revision,
        physical: false,
    }
}

pub(crate) fn lease(id: i64, ttl: i64) -> PbLeaseGrantRequest {
    PbLeaseGrantRequest { id, ttl }
}

pub(crate) fn left_of(id: i64) -> PbLeaseTimeToLiveRequest {
    PbLeaseTimeToLiveRequest { id, keys: true }
}

/// An operation of a transaction.
pub(crate) trait Operation {
    fn op(self) -> PbTxnRequestOp;
}

macro_rules! operations {
    ($($request:ty => $variant:ident,)*) => {
        $(impl Operation for $request {
            fn op(self) -> PbTxnRequestOp {
                PbTxnRequestOp { request: Some(PbTxnOpRequest::$variant(self)) }
            }
        })*
    };
}

operations! {
    PbRangeRequest => RequestRange,
    PbPutRequest => RequestPut,
    PbDeleteRequest => RequestDeleteRange,
    PbTxnRequest => RequestTxn,
}

pub(crate) fn txn(
    compare: impl IntoIterator<Item = PbCompare>,
    success: impl IntoIterator<Item = PbTxnRequestOp>,
    failure: impl IntoIterator<Item = PbTxnRequestOp>,
) -> PbTxnRequest {
    PbTxnRequest {
        compare: compare.into_iter().collect(),
        success: success.into_iter().collect(),
        failure: failure.into_iter().collect(),
    }
}

/// A transaction that compares nothing.
pub(crate) fn all_of(operations: impl IntoIterator<Item = PbTxnRequestOp>) -> PbTxnRequest {
    txn([], operations, [])
}

/// How a compared key is to stand to what it is compared with, as etcd numbers it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Is {
    Equal = 0,
    Greater = 1,
    Less = 2,
    NotEqual = 3,
}

pub(crate) fn compare(key: &str, is: Is, with: PbTargetUnion) -> PbCompare {
    compare_range(key, "", is, with)
}

pub(crate) fn compare_range(key: &str, end: &str, is: Is, with: PbTargetUnion) -> PbCompare {
    let target = match &with {
        PbTargetUnion::Version(_) => 0,
        PbTargetUnion::CreateRevision(_) => 1,
        PbTargetUnion::ModRevision(_) => 2,
        PbTargetUnion::Value(_) => 3,
        PbTargetUnion::Lease(_) => 4,
    };
    PbCompare {
        result: is as i32,
        target,
        key: key.into(),
        range_end: end.into(),
        target_union: Some(with),
    }
}

pub(crate) fn watch(key: &str) -> WatchOf {
    watch_range(key, "")
}

pub(crate) fn watch_range(key: &str, end: &str) -> WatchOf {
    WatchOf {
        key: key.into(),
        range_end: end.into(),
        ..Default::default()
    }
}

/// Returns the revision that an answer's header tells.
pub(crate) fn revision(header: &Option<PbResponseHeader>) -> i64 {
    header.as_ref().unwrap().revision
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

pub(crate) fn keys(kvs: &[PbKeyValue]) -> Vec<&str> {
    kvs.iter().map(|kv| text(&kv.key)).collect()
}

/// Writes events as `+key=value@revision` and `-key@revision`, revisions counted from `base`.
pub(crate) fn written(events: &[PbEvent], base: i64) -> Vec<String> {
    let write = |event: &PbEvent| {
        let kv = event.kv.as_ref().unwrap();
        let (key, at) = (text(&kv.key), kv.mod_revision - base);
        if event.r#type == 1 {
            let bare = PbKeyValue {
                key: kv.key.clone(),
                mod_revision: kv.mod_revision,
                ..Default::default()
            };
            assert_eq!(kv, &bare, "a deletion tells its key and revision only");
            format!("-{key}@{at}")
        } else {
            format!("+{key}={}@{at}", text(&kv.value))
        }
    };
    events.iter().map(write).collect()
}

/// Asserts that etcd refused a request in these words.
#[track_caller]
pub(crate) fn refused<T: Debug>(answer: Result<T, Status>, code: Code, message: &str) {
    let status = answer.unwrap_err();
    assert_eq!((status.code(), status.message()), (code, message));
}
