//! What stands in the way, told by what mends it.

use switchboard_resolver::Cause;

/// What keeps something in etcd from being as wanted.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// It may pass by itself.
    Passing(Cause),
    /// etcd refuses, until somebody changes that.
    Denied(Cause),
}

impl Trouble {
    pub(crate) fn cause(&self) -> &Cause {
        match self {
            Self::Passing(cause) | Self::Denied(cause) => cause,
        }
    }

    /// Returns whether the two would be told alike.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
            && self.cause().to_string() == other.cause().to_string()
    }
}
