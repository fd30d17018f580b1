//! Which side a publication takes in a conflict over its key.

use super::{Conflict, Found, IdKind};
use crate::lease::{Former, LeaseId};

/// What a publication has to say for itself where its key is under the lease of another session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// It comes: an older one of the same server gives way.
    Newcomer,
    /// It has stood: it gives way to a newer one.
    Holder,
}

impl Claim {
    /// Returns why the wanted key must be left to whoever has it, if it must: one whose session has
    /// `lease`, and has had `former` ones.
    pub(super) fn conflict_over(
        self,
        id: IdKind,
        found: &Found,
        lease: Option<LeaseId>,
        former: &Former,
    ) -> Option<Conflict> {
        match (self, id) {
            _ if found.lease == 0 || Some(found.lease) == lease => None,
            (_, IdKind::Given) if !found.same_server => Some(Conflict::IdTaken),
            // Of this very session: what it put before its lease was lost.
            _ if found.same_server && former.contains(found.lease) => None,
            (Self::Newcomer, _) => None,
            (Self::Holder, _) => Some(Conflict::Superseded),
        }
    }
}
