//! A stream that is kept for what is no call: the watch on a server's health.
//!
//! - It counts against the server's limit, so that h2 is never handed more. Where the limit is one, it
//!   is the calls'.
//! - It is not in flight for anybody: not for those who are shown the calls, nor for a connection that
//!   finishes, nor for a channel that rests. It may wait for ever, and so it owes no answer either.

use std::sync::Arc;

use super::{Shared, Slot, Transport};

/// The right to one stream at a time, for what is no call; given back when it is dropped and its last
/// stream is over.
pub(crate) struct Reservation {
    shared: Arc<Shared>,
}

impl Transport {
    /// Reserves a stream, if the connection has one to give and could give calls another.
    pub(crate) fn reserve(&self) -> Option<Arc<Reservation>> {
        let shared = self.shared.clone();
        let is_reserved = shared.slots.reserve();
        is_reserved.then(|| Arc::new(Reservation { shared }))
    }
}

impl Reservation {
    /// Returns whether the stream is within the server's limit, which may have fallen.
    pub(crate) fn is_allowed(&self) -> bool {
        self.shared.slots.is_within_limit()
    }

    /// Returns the right to the stream, to be used while it is allowed. To be asked for once the one
    /// before is dropped.
    pub(crate) fn slot(self: &Arc<Self>) -> Slot {
        Slot {
            shared: self.shared.clone(),
            reservation: Some(self.clone()),
        }
    }

    /// Waits until the server's limit leaves calls none beside it. To be dropped then.
    pub(crate) async fn is_in_the_way(&self) {
        self.shared.slots.crowded().await;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shared.slots.give_back_reserved();
    }
}
