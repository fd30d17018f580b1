//! How many calls a connection takes at once.
//!
//! A server says how many streams it allows, and h2 queues what is more where nobody sees it. So
//! they are counted here: a call that finds no slot goes to another connection, or waits.
//!
//! - Never more slots are taken than the limit was when the last one was.
//! - A slot is given back exactly once: when its owner is dropped.
//! - Each slot that is given back wakes one of the calls that wait, if there are any.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use tokio::sync::{Notify, futures::Notified};

/// The slots of one connection.
#[derive(Debug)]
pub(super) struct Slots {
    limit: AtomicUsize,
    taken: AtomicUsize,
    is_closed: AtomicBool,
    vacancy: Arc<Vacancy>,
}

impl Slots {
    pub(super) fn new(limit: usize, vacancy: Arc<Vacancy>) -> Self {
        Self {
            limit: AtomicUsize::new(limit),
            taken: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
            vacancy,
        }
    }

    /// Takes a slot, to be given back, if there is one.
    pub(super) fn take(&self) -> bool {
        if self.is_closed.load(SeqCst) {
            return false;
        }
        let limit = self.limit.load(SeqCst);
        let take = |taken| (taken < limit).then_some(taken + 1);
        self.taken.fetch_update(SeqCst, SeqCst, take).is_ok()
    }

    pub(super) fn give_back(&self) {
        self.taken.fetch_sub(1, SeqCst);
        self.vacancy.announce();
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(SeqCst)
    }

    /// Takes in the server's limit.
    pub(super) fn set_limit(&self, limit: usize) {
        if self.limit.load(SeqCst) == limit {
            return;
        }
        let before = self.limit.swap(limit, SeqCst);
        // No more than wait: some servers allow billions.
        let more = limit.saturating_sub(before).min(self.vacancy.waiting());
        for _ in 0..more {
            self.vacancy.announce();
        }
    }

    /// Gives no slots any more.
    pub(super) fn close(&self) {
        self.is_closed.store(true, SeqCst);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(SeqCst)
    }
}

/// Where the calls of a channel wait for a slot, of whichever connection.
#[derive(Debug, Default)]
pub(crate) struct Vacancy {
    waiting: AtomicUsize,
    given_back: Notify,
}

impl Vacancy {
    /// Begins to wait: slots that are given back from now on are announced.
    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, SeqCst);
        Waiting(self)
    }

    /// Returns whether anybody waits.
    pub(crate) fn is_awaited(&self) -> bool {
        self.waiting() > 0
    }

    fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Wakes one of those who wait, if there are any.
    pub(crate) fn announce(&self) {
        if self.is_awaited() {
            self.given_back.notify_one();
        }
    }
}

/// One who waits for a slot.
#[derive(Debug)]
pub(crate) struct Waiting<'a>(&'a Vacancy);

impl<'a> Waiting<'a> {
    /// Resolves when a slot was given back. To be enabled before slots are looked at, so that one
    /// that is given back meanwhile is not missed; if it is dropped, another one is woken instead.
    pub(crate) fn given_back(&self) -> Notified<'a> {
        self.0.given_back.notified()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}
