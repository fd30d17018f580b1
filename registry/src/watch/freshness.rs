//! Whether what is shown of a range is up to date.

use std::time::Instant;

use switchboard_resolver::Cause;

/// Whether the entries are known to be what etcd holds.
#[derive(Debug, Clone)]
pub(crate) enum Freshness {
    /// There was no list yet, and this is why.
    Unread { cause: Option<Cause> },
    /// There was no list yet, and etcd refuses one until somebody changes that.
    Denied { cause: Cause },
    /// They are, or a watch is about to say how they are not.
    Fresh,
    /// They were, at that time.
    Stale { since: Instant, cause: Cause },
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
