//! What a watch that has broken goes on with.

use super::Anchor;

/// What a watch that has broken goes on with.
#[derive(Debug)]
pub(super) enum Resumption {
    /// With what is there: where that is nothing, it is listed, and what has happened meanwhile is
    /// passed over.
    WithWhatIsThere,
    /// With all that has happened meanwhile, as long as etcd knows that.
    Unbroken {
        /// The last put that is known, also where its key is gone since.
        last_put: Option<Anchor>,
    },
}

impl Resumption {
    /// Returns the revision at which the range is to be listed once it is known as it was at
    /// `known`; 0 stands for the current one.
    pub(super) fn begin(&self, known: i64) -> i64 {
        match self {
            Self::WithWhatIsThere => 0,
            Self::Unbroken { .. } => known,
        }
    }

    /// A put has come, if there is one; it is only asked for where it matters.
    pub(super) fn seen(&mut self, put: impl FnOnce() -> Option<Anchor>) {
        if let Self::Unbroken { last_put } = self
            && let Some(put) = put()
            && last_put
                .as_ref()
                .is_none_or(|it| it.revision < put.revision)
        {
            *last_put = Some(put);
        }
    }

    /// What comes is of another history.
    pub(super) fn forget(&mut self) {
        if let Self::Unbroken { last_put } = self {
            *last_put = None;
        }
    }
}
