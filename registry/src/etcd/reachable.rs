//! Tells when etcd can be reached again.

use std::sync::Arc;

use switchboard_resolver::{Channel, ChannelState, Condition};

/// Tells when etcd can be reached again.
#[derive(Debug)]
pub(crate) struct Reachable {
    states: tokio::sync::watch::Receiver<Arc<ChannelState>>,
    was: bool,
}

impl Reachable {
    pub(super) fn new(channel: &Channel) -> Self {
        let states = channel.watch_state();
        let was = is_ready(&states.borrow());
        Self { states, was }
    }

    /// Waits until etcd can be reached, after it could not.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it misses nothing: the next call returns at once.
    pub(crate) async fn again(&mut self) {
        loop {
            if self.states.changed().await.is_err() {
                // The channel is closed, and will not be reachable again.
                return std::future::pending().await;
            }
            let is = is_ready(&self.states.borrow_and_update());
            if is && !std::mem::replace(&mut self.was, is) {
                return;
            }
            self.was = is;
        }
    }
}

fn is_ready(state: &ChannelState) -> bool {
    state
        .endpoints
        .iter()
        .any(|endpoint| endpoint.condition == Condition::Ready)
}
