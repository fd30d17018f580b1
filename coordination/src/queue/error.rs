//! Why something was not pushed or popped.

use switchboard_resolver::Cause;

use super::LARGEST;
use crate::Failure;

/// Why a value was not pushed, or may not have been.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// It is too large. Nothing was written.
    #[error("value for the queue {queue}: {bytes} bytes (expected: at most {LARGEST})")]
    TooLarge {
        /// The queue.
        queue: String,
        /// How large it is.
        bytes: usize,
    },
    /// Somebody has used up the numbers of this priority. Nothing was written.
    #[error("queue {queue}: no number is left for the priority {priority}")]
    Full {
        /// The queue.
        queue: String,
        /// The priority.
        priority: u16,
    },
    /// Nobody knows whether it was pushed. It may be in the queue, have been popped, or come yet: who
    /// pushes it again may have it popped twice.
    #[error("nobody knows whether {key} was pushed")]
    Unknown {
        /// The key that the item has, if it was pushed.
        key: String,
        /// Why it is not known.
        #[source]
        cause: Cause,
    },
    /// etcd did not take it. It was not pushed.
    #[error("nothing was pushed into the queue {queue}")]
    Etcd {
        /// The queue.
        queue: String,
        /// What etcd says.
        #[source]
        cause: Failure,
    },
}

/// Why nothing was popped, or something may have been.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PopError {
    /// The item is gone, and nobody knows who has it: this pop, whose answer was lost, or another one. If
    /// nobody has it, it is lost. As long as etcd has not compacted `revision`, what it held can be
    /// [read](switchboard_registry::keys::Keys::read) there.
    #[error("nobody knows who has popped {key}")]
    Unknown {
        /// The item's key.
        key: String,
        /// The revision that put it.
        revision: i64,
        /// Why it is not known.
        #[source]
        cause: Cause,
    },
    /// etcd did not do what it was asked for. Nothing was popped.
    #[error("nothing was popped from the queue {queue}")]
    Etcd {
        /// The queue.
        queue: String,
        /// What etcd says.
        #[source]
        cause: Failure,
    },
}
