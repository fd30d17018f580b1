//! Transactions: what is refused before anything is read, which branches are taken, and whether
//! these can be applied. Nothing fails once the first operation is applied.

use std::{cmp::Ordering, collections::BTreeSet};

use bytes::Bytes;
use etcd_client::proto::{
    PbCompare, PbDeleteRequest, PbPutRequest, PbTargetUnion, PbTxnOpRequest, PbTxnRequest,
    PbTxnRequestOp,
};

use super::{
    StoreError,
    history::{History, Live},
    leases::Leases,
    range,
    span::{Ranges, Span},
};

/// How many operations one list of a transaction may have, those above it counted
/// (`--max-txn-ops`).
const MOST_OPERATIONS: usize = 128;

/// Which branch a transaction takes, and those inside that branch. All are chosen before anything
/// is applied.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) succeeded: bool,
    /// One for each transaction among the branch's operations, in order.
    pub(crate) inner: Vec<Path>,
}

/// What can be said of a transaction without looking at the store.
pub(crate) fn check(request: &PbTxnRequest) -> Result<(), StoreError> {
    check_operations(request, MOST_OPERATIONS)?;
    writes(&request.success)?;
    writes(&request.failure)?;
    Ok(())
}

fn check_operations(request: &PbTxnRequest, most: usize) -> Result<(), StoreError> {
    let lists = [
        request.compare.len(),
        request.success.len(),
        request.failure.len(),
    ];
    let longest = lists.into_iter().max().unwrap_or(0);
    let left = most.checked_sub(longest).ok_or(StoreError::TooManyOps)?;
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(StoreError::EmptyKey);
    }
    for operation in request.success.iter().chain(&request.failure) {
        match &operation.request {
            Some(PbTxnOpRequest::RequestRange(request)) => range::check(request)?,
            Some(PbTxnOpRequest::RequestPut(request)) => check_put(request)?,
            Some(PbTxnOpRequest::RequestDeleteRange(request)) => check_delete(request)?,
            Some(PbTxnOpRequest::RequestTxn(request)) => check_operations(request, left)?,
            None => return Err(StoreError::KeyNotFound),
        }
    }
    Ok(())
}

pub(crate) fn check_put(request: &PbPutRequest) -> Result<(), StoreError> {
    if request.key.is_empty() {
        return Err(StoreError::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(StoreError::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(StoreError::LeaseProvided);
    }
    Ok(())
}

pub(crate) fn check_delete(request: &PbDeleteRequest) -> Result<(), StoreError> {
    match request.key.is_empty() {
        true => Err(StoreError::EmptyKey),
        false => Ok(()),
    }
}

/// What a list of operations may write.
#[derive(Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Ranges,
}

impl<'a> Writes<'a> {
    fn put(&mut self, key: &'a [u8]) -> Result<(), StoreError> {
        if self.deletes.contains(key) || !self.puts.insert(key) {
            return Err(StoreError::DuplicateKey);
        }
        Ok(())
    }
}

/// Refuses a list that writes a key twice. Of an inner transaction either branch counts, and one key
/// may stand in both.
///
/// What is let pass is what etcd lets pass (`v3rpc/key.go`): an earlier put inside, deleted inside by a
/// later one; and any put beside a deletion that ends with the last key, which etcd takes for a range
/// that ends before it begins.
fn writes(operations: &[PbTxnRequestOp]) -> Result<Writes<'_>, StoreError> {
    let mut all = Writes::default();
    for operation in operations {
        if let Some(PbTxnOpRequest::RequestDeleteRange(request)) = &operation.request {
            let span = Span::new(&request.key, &request.range_end);
            if let Some((start, end)) = span.range() {
                all.deletes.insert(start, end);
            }
        }
    }
    for operation in operations {
        let Some(PbTxnOpRequest::RequestTxn(request)) = &operation.request else {
            continue;
        };
        let (success, failure) = (writes(&request.success)?, writes(&request.failure)?);
        for key in success.puts.union(&failure.puts) {
            all.put(key)?;
        }
        all.deletes.extend(success.deletes);
        all.deletes.extend(failure.deletes);
    }
    for operation in operations {
        if let Some(PbTxnOpRequest::RequestPut(request)) = &operation.request {
            all.put(&request.key)?;
        }
    }
    Ok(all)
}

/// Whether neither branch writes, however deep.
pub(crate) fn is_read_only(request: &PbTxnRequest) -> bool {
    !any(request, |operation| {
        matches!(
            operation,
            PbTxnOpRequest::RequestPut(_) | PbTxnOpRequest::RequestDeleteRange(_)
        )
    })
}

/// Whether some branch puts, however deep.
pub(crate) fn has_puts(request: &PbTxnRequest) -> bool {
    any(request, |operation| {
        matches!(operation, PbTxnOpRequest::RequestPut(_))
    })
}

fn any(request: &PbTxnRequest, is: fn(&PbTxnOpRequest) -> bool) -> bool {
    let mut operations = request.success.iter().chain(&request.failure);
    operations.any(|operation| match &operation.request {
        Some(PbTxnOpRequest::RequestTxn(inner)) => any(inner, is),
        Some(operation) => is(operation),
        None => false,
    })
}

/// Chooses the branches.
pub(crate) fn path(history: &History, request: &PbTxnRequest) -> Path {
    let succeeded = request
        .compare
        .iter()
        .all(|compare| holds(history, compare));
    let inner =
        branch(request, succeeded)
            .iter()
            .filter_map(|operation| match &operation.request {
                Some(PbTxnOpRequest::RequestTxn(inner)) => Some(path(history, inner)),
                _ => None,
            });
    Path {
        succeeded,
        inner: inner.collect(),
    }
}

pub(crate) fn branch(request: &PbTxnRequest, succeeded: bool) -> &[PbTxnRequestOp] {
    match succeeded {
        true => &request.success,
        false => &request.failure,
    }
}

/// Whether everything on the path can be applied: all keys of which a part is to stay are there, and
/// all leases, and all revisions readable. The first operation that cannot says why not.
pub(crate) fn check_path(
    history: &History,
    leases: &Leases,
    request: &PbTxnRequest,
    path: &Path,
) -> Result<(), StoreError> {
    let mut inner = path.inner.iter();
    for operation in branch(request, path.succeeded) {
        match &operation.request {
            Some(PbTxnOpRequest::RequestTxn(request)) => {
                let path = inner
                    .next()
                    .expect("a path has a step for each transaction");
                check_path(history, leases, request, path)?;
            }
            Some(PbTxnOpRequest::RequestPut(request)) => {
                check_kept(history, request)?;
                check_lease(leases, request)?;
            }
            Some(PbTxnOpRequest::RequestRange(request)) => {
                range::check_revision(history, request)?;
            }
            Some(PbTxnOpRequest::RequestDeleteRange(_)) | None => {}
        }
    }
    Ok(())
}

/// Whether the key is there of which a part is to stay.
pub(crate) fn check_kept(history: &History, request: &PbPutRequest) -> Result<(), StoreError> {
    let keeps_a_part = request.ignore_value || request.ignore_lease;
    if keeps_a_part && history.current(&request.key).is_none() {
        return Err(StoreError::KeyNotFound);
    }
    Ok(())
}

/// Whether the lease is there that the key is to go with.
pub(crate) fn check_lease(leases: &Leases, request: &PbPutRequest) -> Result<(), StoreError> {
    if request.lease != 0 {
        leases.find(request.lease)?;
    }
    Ok(())
}

/// Whether a comparison holds for every key of its span.
fn holds(history: &History, compare: &PbCompare) -> bool {
    let span = Span::new(&compare.key, &compare.range_end);
    let mut found = history.read(&span, i64::MAX).peekable();
    if found.peek().is_none() {
        // A key that is not there has zeros for all numbers, and no value to compare.
        let absent = Live {
            value: Bytes::new(),
            create_revision: 0,
            mod_revision: 0,
            version: 0,
            lease: 0,
        };
        return compare.target != VALUE && holds_for(compare, &absent);
    }
    found.all(|(_, live)| holds_for(compare, live))
}

/// `Compare.CompareTarget.VALUE`.
const VALUE: i32 = 3;

fn holds_for(compare: &PbCompare, live: &Live) -> bool {
    let given = |number: fn(&PbTargetUnion) -> Option<i64>| {
        compare.target_union.as_ref().and_then(number).unwrap_or(0)
    };
    let ordering = match compare.target {
        0 => live.version.cmp(&given(|union| match union {
            PbTargetUnion::Version(it) => Some(*it),
            _ => None,
        })),
        1 => live.create_revision.cmp(&given(|union| match union {
            PbTargetUnion::CreateRevision(it) => Some(*it),
            _ => None,
        })),
        2 => live.mod_revision.cmp(&given(|union| match union {
            PbTargetUnion::ModRevision(it) => Some(*it),
            _ => None,
        })),
        VALUE => match &compare.target_union {
            Some(PbTargetUnion::Value(value)) => live.value[..].cmp(value),
            _ => live.value[..].cmp(&[]),
        },
        4 => live.lease.cmp(&given(|union| match union {
            PbTargetUnion::Lease(it) => Some(*it),
            _ => None,
        })),
        _ => Ordering::Equal,
    };
    // The numbers are those of `Compare.CompareResult`.
    match compare.result {
        0 => ordering.is_eq(),
        1 => ordering.is_gt(),
        2 => ordering.is_lt(),
        3 => ordering.is_ne(),
        _ => true,
    }
}
