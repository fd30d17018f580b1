//! The leases that a session has had.

use std::collections::VecDeque;

use super::LeaseId;

/// How many are remembered: a session whose etcd forgets leases all day is not to grow. A key under one that was had
/// before those passes for another process's, until that lease ends.
const MOST: usize = 16;

/// The leases that a session has had, and has no more. etcd may hold one of them all the same, with the keys that were
/// under it: where a member that led before said that it is gone, or where a backup was restored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Former(VecDeque<LeaseId>);

impl Former {
    /// A lease is had no more.
    pub(crate) fn add(&mut self, lease: LeaseId) {
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(lease);
    }

    /// Returns whether this is one of them.
    pub(crate) fn contains(&self, lease: LeaseId) -> bool {
        self.0.contains(&lease)
    }
}
