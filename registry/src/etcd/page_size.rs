//! How many keys of a list are asked for at once.

/// The keys of one request of a list.
///
/// It begins where lists of small values, which is what records are, take few requests. Whoever
/// lists keeps it, so that what did not fit into an answer is not asked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageSize(i64);

/// Smaller, and a list of ten thousand instances takes many requests; larger, and one of ordinary
/// values no longer fits into an answer.
const LARGEST: i64 = 10_000;

/// So much less is asked for where an answer was too large. A hundred keys fit whatever they hold,
/// since etcd takes 1.5 MiB at most unless it is told otherwise; were this smaller, etcd would put
/// together more answers that nobody reads.
const SHRINK: i64 = 100;

impl PageSize {
    pub(super) fn keys(self) -> i64 {
        self.0
    }

    /// Returns the size to ask for once an answer of this one was too large; `None` if there is
    /// none, since one key fits into every answer.
    pub(crate) fn smaller(self) -> Option<Self> {
        (self.0 > 1).then(|| Self((self.0 / SHRINK).max(1)))
    }
}

impl Default for PageSize {
    fn default() -> Self {
        Self(LARGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_shrink_down_to_one_key() {
        let sizes = std::iter::successors(Some(PageSize::default()), |size| size.smaller());
        let sizes: Vec<_> = sizes.map(PageSize::keys).collect();
        assert_eq!(sizes, [10_000, 100, 1]);
    }
}
