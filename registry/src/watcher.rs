//! A range of etcd's keys, followed by a task and shown to all who want to see it.

use std::sync::Arc;

use switchboard_resolver::Cause;
use tokio::sync::watch as channel;
use tokio_util::sync::CancellationToken;

use crate::{
    etcd::{Etcd, KeyRange},
    follower::{Follower, Reader},
    watch::{Freshness, Watch},
};

/// What is known of the range: the last whole list, if there was one, and whether it is up to
/// date.
#[derive(Debug, Clone)]
pub(crate) struct View<T> {
    pub(crate) listing: Option<Arc<Listing<T>>>,
    pub(crate) freshness: Freshness,
}

impl<T> View<T> {
    /// Returns the list if it is another one than `shown`.
    pub(crate) fn news(&self, shown: &Option<Arc<Listing<T>>>) -> Option<Arc<Listing<T>>> {
        let shown = shown.as_ref().map(Arc::as_ptr);
        self.listing
            .clone()
            .filter(|listing| Some(Arc::as_ptr(listing)) != shown)
    }

    /// Returns why there is no list, nor will be one until somebody changes that.
    pub(crate) fn refusal(&self) -> Option<Cause> {
        match &self.freshness {
            Freshness::Denied { cause } => Some(cause.clone()),
            Freshness::Unread { .. } | Freshness::Fresh | Freshness::Stale { .. } => None,
        }
    }
}

/// All values in the range at one revision, and those that are carried over from another
/// history, ordered by key.
#[derive(Debug)]
pub(crate) struct Listing<T> {
    pub(crate) revision: i64,
    pub(crate) values: Vec<T>,
    /// How many values could not be decoded.
    pub(crate) rejected: usize,
}

/// What follows the range, and shows it.
pub(crate) struct Watcher<R: Reader> {
    follower: Follower<R>,
    view: channel::Sender<View<R::Value>>,
}

impl<R: Reader> Watcher<R> {
    pub(crate) fn new(
        etcd: Etcd,
        range: KeyRange,
        reader: R,
    ) -> (Self, channel::Receiver<View<R::Value>>) {
        let watch = Watch::new();
        let (view, receiver) = channel::channel(View {
            listing: None,
            freshness: watch.freshness().clone(),
        });
        let follower = Follower::new(etcd, range, reader, watch);
        (Self { follower, view }, receiver)
    }

    /// Follows the range until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let step = self.follower.next();
            self.report();
            self.follower.measure();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.follower.perform(step) => {}
            }
        }
    }

    /// Shows what is known to those who follow.
    fn report(&mut self) {
        let rejected = self.follower.rejected();
        let is_off = self.is_off(rejected);
        let (range, watch) = self.follower.known();
        let has_changed = watch.take_changed() || is_off;
        let freshness = watch.freshness();
        let was = self.view.borrow().freshness.clone();
        if !has_changed && freshness.is_like(&was) {
            return;
        }
        match (&was, freshness) {
            (Freshness::Fresh, Freshness::Stale { cause, .. }) => {
                tracing::warn!(name: "watch_stale", %range, %cause, "the list may be out of date");
            }
            (
                Freshness::Unread { cause: None },
                Freshness::Unread { cause: Some(cause) } | Freshness::Denied { cause },
            ) => {
                tracing::warn!(name: "watch_stale", %range, %cause, "the list cannot be read");
            }
            (
                Freshness::Stale { .. }
                | Freshness::Unread { cause: Some(_) }
                | Freshness::Denied { .. },
                Freshness::Fresh,
            ) => {
                tracing::info!(name: "watch_fresh", %range, "the list is up to date");
            }
            _ => {}
        }
        let freshness = freshness.clone();
        self.view.send_modify(|view| {
            if has_changed {
                let values = watch
                    .entries()
                    .into_iter()
                    .filter_map(|(_, entry)| entry.value.clone())
                    .collect();
                view.listing = Some(Arc::new(Listing {
                    revision: watch.revision(),
                    values,
                    rejected,
                }));
            }
            view.freshness = freshness;
        });
    }

    /// Returns whether the list that is shown was made when another number of records was left out.
    fn is_off(&self, rejected: usize) -> bool {
        let view = self.view.borrow();
        view.listing
            .as_ref()
            .is_some_and(|listing| listing.rejected != rejected)
    }
}
