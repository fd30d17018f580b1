//! Keys of this process that are on their way out of etcd.
//!
//! Where keys are counted, one that is about to go would be counted beside the one that comes in its
//! place. So who comes waits until the others are gone.

use std::sync::Arc;

use tokio::sync::watch;

/// How many keys are on their way out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Partings(pub(super) Arc<watch::Sender<usize>>);

/// A key that is on its way out, until this is dropped.
#[derive(Debug)]
pub(super) struct Parting(Partings);

impl Partings {
    /// Waits until none is.
    pub(crate) async fn over(&self) {
        // The sender lives here.
        let _ = self.0.subscribe().wait_for(|going| *going == 0).await;
    }

    pub(super) fn begin(self) -> Parting {
        self.0.send_modify(|going| *going += 1);
        Parting(self)
    }
}

impl Drop for Parting {
    fn drop(&mut self) {
        self.0.0.send_modify(|going| *going -= 1);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn they_are_over_when_the_last_one_is() {
        let partings = Partings::default();
        assert!(partings.over().now_or_never().is_some());
        let (one, other) = (partings.clone().begin(), partings.clone().begin());
        drop(one);
        assert!(partings.over().now_or_never().is_none());
        drop(other);
        assert!(partings.over().now_or_never().is_some());
    }
}
