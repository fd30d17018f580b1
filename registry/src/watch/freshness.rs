//! Whether what is shown of a range is up to date.

use std::time::Instant;

use switchboard_resolver::Cause;

/// Whether what is known of a range of keys is what etcd holds.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Freshness {
    /// It was not read yet.
    Unread {
        /// Why, if anything stands in the way.
        cause: Option<Cause>,
    },
    /// It was not read yet, and etcd refuses until somebody changes that.
    Denied {
        /// What etcd says.
        cause: Cause,
    },
    /// It is, or a watch is about to say how it is not.
    Fresh,
    /// It was, and may not be any more.
    Stale {
        /// When it was last known to be.
        since: Instant,
        /// What stands in the way.
        cause: Cause,
    },
}

impl Freshness {
    /// The entries may have changed since `heard`, when they were last known to be right.
    pub(super) fn doubt(&mut self, cause: Cause, heard: Instant) {
        *self = match self {
            Self::Unread { .. } | Self::Denied { .. } => Self::Unread { cause: Some(cause) },
            Self::Fresh => Self::Stale {
                since: heard,
                cause,
            },
            Self::Stale { since, .. } => Self::Stale {
                since: *since,
                cause,
            },
        };
    }

    /// Returns whether nothing has changed that is worth telling.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Fresh, Self::Fresh) => true,
            (Self::Unread { cause }, Self::Unread { cause: other }) => {
                cause.as_ref().map(ToString::to_string) == other.as_ref().map(ToString::to_string)
            }
            (Self::Denied { cause }, Self::Denied { cause: other }) => {
                cause.to_string() == other.to_string()
            }
            (
                Self::Stale { since, cause },
                Self::Stale {
                    since: other,
                    cause: other_cause,
                },
            ) => since == other && cause.to_string() == other_cause.to_string(),
            _ => false,
        }
    }
}
