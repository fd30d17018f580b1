//! What a publication asks for, and what it is told.

use std::time::Instant;

use switchboard_resolver::Cause;

use crate::{layout::Record, lease::LeaseId};

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Read these keys; answer with `found` or `failed`.
    Read { keys: Vec<String> },
    /// Do all this in one transaction if its guards hold, else read the keys of it; answer with
    /// `written`, `found`, `lease_gone`, `denied` or `failed`.
    Write(Write),
    /// Nothing until then, unless something happens.
    WaitUntil(Instant),
    /// Nothing until something happens.
    Wait,
    /// Nothing, ever.
    Done,
}

/// One guarded transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) put: Option<Put>,
    /// Keys to delete, each only while it is under `lease`.
    pub(crate) delete: Vec<String>,
    pub(crate) lease: LeaseId,
}

/// A put under the transaction's lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Put {
    pub(crate) record: Record,
    /// Only if the key was last changed at this revision; 0: only if it is not there.
    pub(crate) if_revision: i64,
}

/// Where a publication stands.
#[derive(Debug, Clone)]
pub(crate) enum Status {
    Registering,
    Published {
        lease: LeaseId,
    },
    Paused,
    Retrying {
        cause: Cause,
    },
    Superseded,
    /// The given id names another server, which is alive.
    IdTaken {
        key: String,
    },
    /// etcd does not let us.
    Denied {
        cause: Cause,
    },
    Stopped,
}

/// Whose turn it is to write a key, among the publications of one registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It will be ours: who has the key is about to pass it on.
    Next,
    Ours,
    /// Ours to end: a newer one waits for the key.
    Asked(Conflict),
    Theirs(Conflict),
}

/// Why a key that others have is left to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conflict {
    /// A newer publication of the same server has it.
    Superseded,
    /// Another server has it.
    IdTaken,
}

/// Where the id in the key comes from, which tells who may take the key over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdKind {
    /// From the identity: whoever comes with it is the same server.
    Derived,
    /// From the caller: another server may have it too.
    Given,
}

/// What was found at a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) value: Vec<u8>,
    /// 0 for a key without a lease.
    pub(crate) lease: LeaseId,
    /// The revision of its last change.
    pub(crate) revision: i64,
    /// Whether the value is a record of the server that is published here.
    pub(crate) same_server: bool,
}
