//! What feeds a channel.

use std::time::Instant;

use futures::Stream;

use crate::{Cause, Endpoint};

/// What a [`Source`] says of the endpoints behind a name.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Update {
    /// All endpoints there are now; what an earlier snapshot named and this one does not has
    /// vanished.
    Snapshot(Vec<Endpoint>),
    /// The endpoints cannot be found out. An earlier snapshot stays in use.
    Failed {
        /// What stands in the way.
        cause: Cause,
    },
    /// The last snapshot may be out of date.
    Stale {
        /// When the source was last known to be right.
        since: Instant,
        /// What stands in the way.
        cause: Cause,
    },
    /// The last snapshot is right again.
    Fresh,
}

/// What feeds a channel: a stream of [`Update`]s, such as those of a registry, of DNS, or of a
/// fixed list.
///
/// The channel polls it for as long as it lives. A source that ends leaves the last snapshot in
/// use, which is shown as [`SourceState::Ended`](crate::SourceState::Ended): nobody says any more
/// whether it is right.
pub trait Source: Stream<Item = Update> + Send + 'static {}

impl<S: Stream<Item = Update> + Send + 'static> Source for S {}
