//! What every call looks at: the balancer's last word, replaced as a whole.
//!
//! One writer, any number of readers. Reading takes no lock; who has to wait creates
//! [`Views::changed`] *before* it reads, so that a change in between is not missed.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, futures::Notified};

use crate::{
    Endpoint, Load, ejection::Witness, outlook::Obstacle, selection::Selection,
    transport::Transport,
};

/// What a call that starts now may do.
#[derive(Debug)]
pub(crate) enum View {
    /// Call one of these.
    Ready(Selection),
    /// Wait for the next view.
    Waiting(Obstacle),
    /// Fail, or wait if the caller asked for it.
    Failing(Obstacle),
    /// Wake the channel, and wait for the next view.
    Idle,
    /// Fail: the channel is closed.
    Closed,
}

/// A READY endpoint and the way to it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) endpoint: Endpoint,
    pub(crate) transport: Transport,
    /// Where calls tell how they ended, if endpoints are judged by that.
    pub(crate) witness: Option<Witness>,
    /// What its calls put on it, where that is asked for.
    pub(crate) load: Arc<Load>,
}

/// Where the view is published.
#[derive(Debug)]
pub(crate) struct Views {
    current: ArcSwap<View>,
    changed: Notify,
}

impl Views {
    pub(crate) fn new() -> Self {
        Self {
            current: ArcSwap::from_pointee(View::Waiting(Obstacle::Unanswered)),
            changed: Notify::new(),
        }
    }

    /// Returns the current view; not to be held across an await.
    pub(crate) fn load(&self) -> arc_swap::Guard<Arc<View>> {
        self.current.load()
    }

    /// Returns a future that resolves when a view is published after this call, polled or not.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    pub(crate) fn publish(&self, view: View) {
        self.current.store(Arc::new(view));
        self.changed.notify_waiters();
    }
}
