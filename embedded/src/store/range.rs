//! Reading: filter, sort, limit, in that order; where no order is asked for, the limit comes before
//! the sort.

use std::cmp::Ordering;

use bytes::Bytes;
use etcd_client::proto::{PbRangeRequest, PbRangeResponse};

use super::{
    StoreError, header,
    history::{History, Live},
    span::Span,
};

/// What can be said of a request before anything is read.
pub(crate) fn check(request: &PbRangeRequest) -> Result<(), StoreError> {
    if request.key.is_empty() {
        return Err(StoreError::EmptyKey);
    }
    Order::of(request)?;
    Ok(())
}

/// Whether the revision that a transaction asks for can be read. Unlike elsewhere, one below zero is
/// not the newest.
pub(crate) fn check_revision(
    history: &History,
    request: &PbRangeRequest,
) -> Result<(), StoreError> {
    if request.revision < 0 && request.revision < history.compacted() {
        return Err(StoreError::Compacted);
    }
    history.readable(request.revision).map(drop)
}

/// Reads what is asked for. The request has been checked.
pub(crate) fn range(
    history: &History,
    request: &PbRangeRequest,
) -> Result<PbRangeResponse, StoreError> {
    let revision = history.readable(request.revision)?;
    let order = Order::of(request)?;
    let span = Span::new(&request.key, &request.range_end);
    let mut found = history.read(&span, revision);
    let mut response = PbRangeResponse {
        header: header(history.visible()),
        ..PbRangeResponse::default()
    };
    // The count is of all keys of the span, whatever is filtered or cut off.
    if request.count_only {
        response.count = found.count() as i64;
        return Ok(response);
    }
    let limit = usize::try_from(request.limit).unwrap_or(0);
    let mut kept: Vec<(&Bytes, &Live)> = Vec::new();
    // As etcd: where no order is given, the limit comes first, whatever is sorted by afterwards.
    let needs_all = request.sort_order != 0 || has_filters(request);
    let enough = if needs_all || limit == 0 {
        usize::MAX
    } else {
        limit + 1
    };
    while let Some(entry) = found.next() {
        response.count += 1;
        if passes(request, entry.1) {
            kept.push(entry);
        }
        if kept.len() == enough {
            response.count += found.count() as i64;
            break;
        }
    }
    order.sort(&mut kept);
    if limit > 0 && kept.len() > limit {
        kept.truncate(limit);
        response.more = true;
    }
    let messages = kept.into_iter().map(|(key, live)| {
        let mut message = live.key_value(key);
        if request.keys_only {
            message.value.clear();
        }
        message
    });
    response.kvs = messages.collect();
    Ok(response)
}

fn has_filters(request: &PbRangeRequest) -> bool {
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    bounds.iter().any(|bound| *bound != 0)
}

fn passes(request: &PbRangeRequest, live: &Live) -> bool {
    let within =
        |revision, min, max| (min == 0 || revision >= min) && (max == 0 || revision <= max);
    within(
        live.mod_revision,
        request.min_mod_revision,
        request.max_mod_revision,
    ) && within(
        live.create_revision,
        request.min_create_revision,
        request.max_create_revision,
    )
}

/// What to sort by, and which way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Order {
    target: Target,
    descending: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Key,
    Version,
    Create,
    Mod,
    Value,
}

impl Order {
    /// As the store has them anyway.
    const KEY_ASCENDING: Self = Self {
        target: Target::Key,
        descending: false,
    };

    fn of(request: &PbRangeRequest) -> Result<Self, StoreError> {
        // The numbers are those of `RangeRequest.SortTarget` and `SortOrder`.
        let target = match request.sort_target {
            0 => Target::Key,
            1 => Target::Version,
            2 => Target::Create,
            3 => Target::Mod,
            4 => Target::Value,
            _ => return Err(StoreError::InvalidSort),
        };
        let descending = match request.sort_order {
            0 | 1 => false,
            2 => true,
            _ => return Err(StoreError::InvalidSort),
        };
        Ok(Self { target, descending })
    }

    fn sort(self, entries: &mut [(&Bytes, &Live)]) {
        if self == Self::KEY_ASCENDING {
            return;
        }
        match self.descending {
            false => entries.sort_by(|a, b| self.target.compare(a, b)),
            true => entries.sort_by(|a, b| self.target.compare(b, a)),
        }
    }
}

impl Target {
    fn compare(self, (a_key, a): &(&Bytes, &Live), (b_key, b): &(&Bytes, &Live)) -> Ordering {
        match self {
            Self::Key => a_key.cmp(b_key),
            Self::Version => a.version.cmp(&b.version),
            Self::Create => a.create_revision.cmp(&b.create_revision),
            Self::Mod => a.mod_revision.cmp(&b.mod_revision),
            Self::Value => a.value.cmp(&b.value),
        }
    }
}
