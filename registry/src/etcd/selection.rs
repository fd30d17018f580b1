//! Some keys of a range, in an order.

use etcd_client::{GetOptions, SortOrder, SortTarget};

use super::KeyRange;

/// Some keys of a range, in an order: all of them, in the order of keys, unless more is said.
#[derive(Debug, Clone)]
#[must_use = "nothing is read until it is asked for"]
pub struct Selection {
    range: KeyRange,
    options: GetOptions,
}

/// In which order keys are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum By {
    /// The order of keys.
    Key,
    /// The order in which they were created.
    Creation,
    /// The order in which they were changed last.
    Change,
}

impl Selection {
    /// Selects the keys of a range.
    pub fn of(range: KeyRange) -> Self {
        let options = range.ask(GetOptions::new());
        Self { range, options }
    }

    /// Begins with the first.
    pub fn first(self, by: By) -> Self {
        self.sorted(by, SortOrder::Ascend)
    }

    /// Begins with the last.
    pub fn last(self, by: By) -> Self {
        self.sorted(by, SortOrder::Descend)
    }

    /// Takes so many at most.
    pub fn limit(mut self, keys: u16) -> Self {
        self.options = self.options.with_limit(keys.into());
        self
    }

    /// Leaves out those that were created after `revision`.
    pub fn created_by(mut self, revision: i64) -> Self {
        self.options = self.options.with_max_create_revision(revision);
        self
    }

    /// Reads no values.
    pub fn keys_only(mut self) -> Self {
        self.options = self.options.with_keys_only();
        self
    }

    /// Reads what was there at `revision`.
    pub fn at(mut self, revision: i64) -> Self {
        self.options = self.options.with_revision(revision);
        self
    }

    fn sorted(mut self, by: By, order: SortOrder) -> Self {
        let target = match by {
            By::Key => SortTarget::Key,
            By::Creation => SortTarget::Create,
            By::Change => SortTarget::Mod,
        };
        self.options = self.options.with_sort(target, order);
        self
    }

    pub(super) fn start(&self) -> &str {
        self.range.start()
    }

    pub(super) fn options(&self) -> GetOptions {
        self.options.clone()
    }
}
