//! How many calls a connection takes at once.
//!
//! A server says how many streams it allows, and h2 queues what is more where nobody sees it. So
//! they are counted here: a call that finds no slot goes to another connection, or waits.
//!
//! - Never more slots are taken than the limit was when the last one was.
//! - Nor more than an endpoint may have on all its connections, if that is limited: one that takes no more
//!   calls still has those it has.
//! - A slot is given back exactly once: when its owner is dropped.
//! - One may be reserved for what is no call. It counts against the limit, and leaves at least one.
//! - Each slot that is given back wakes one of the calls that wait, if there are any: one of those that may
//!   go anywhere, and one of each kind of those that may not, such as of each filter. Were it one of all, it
//!   might be one that may not go there, and nobody would. It wakes all where nobody knows who may go where:
//!   where a policy of the user's own decides that.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use tokio::sync::{Notify, futures::Notified};

/// The slots of one connection.
#[derive(Debug)]
pub(super) struct Slots {
    limit: AtomicUsize,
    /// By calls, and those that are reserved.
    taken: AtomicUsize,
    reserved: AtomicUsize,
    /// Told when the limit leaves calls none beside one that is reserved.
    crowded: Notify,
    is_closed: AtomicBool,
    capacity: Capacity,
}

impl Slots {
    pub(super) fn new(limit: usize, capacity: Capacity) -> Self {
        Self {
            limit: AtomicUsize::new(limit),
            taken: AtomicUsize::new(0),
            reserved: AtomicUsize::new(0),
            crowded: Notify::new(),
            is_closed: AtomicBool::new(false),
            capacity,
        }
    }

    /// Takes a slot, to be given back, if there is one.
    pub(super) fn take(&self) -> bool {
        let quota = self.capacity.quota.as_deref();
        if self.is_closed.load(SeqCst) || quota.is_some_and(Quota::is_used_up) {
            return false;
        }
        let limit = self.limit.load(SeqCst);
        if !take_below(limit, &self.taken) {
            return false;
        }
        let is_within = quota.is_none_or(Quota::take);
        if !is_within {
            // Another call was first, on another connection. Who found no slot here meanwhile has to look
            // again. It ends: there is one of these for a call that got through at most.
            self.taken.fetch_sub(1, SeqCst);
            self.capacity.vacancy.announce();
        }
        is_within
    }

    /// Returns whether there is a slot to take.
    pub(super) fn have_room(&self) -> bool {
        let quota = self.capacity.quota.as_deref();
        let is_full = self.taken.load(SeqCst) >= self.limit.load(SeqCst);
        !self.is_closed() && !is_full && !quota.is_some_and(Quota::is_used_up)
    }

    pub(super) fn give_back(&self) {
        self.taken.fetch_sub(1, SeqCst);
        if let Some(quota) = &self.capacity.quota {
            quota.taken.fetch_sub(1, SeqCst);
        }
        self.capacity.vacancy.announce();
    }

    /// Takes a slot for what is no call, to be given back, if there is one and calls could have
    /// another.
    pub(super) fn reserve(&self) -> bool {
        let limit = self.limit.load(SeqCst);
        // It is no call, so it is none of those that the endpoint may have.
        if self.is_closed() || !take_below(limit, &self.taken) {
            return false;
        }
        self.reserved.fetch_add(1, SeqCst);
        // Looked at last: one that falls from now on tells so.
        let has_room = self.limit.load(SeqCst) > 1;
        if !has_room {
            self.give_back_reserved();
        }
        has_room
    }

    pub(super) fn give_back_reserved(&self) {
        // In this order a reserved one may pass for a call for a moment, and never the other way
        // round: a connection with a call must not seem to have none.
        self.reserved.fetch_sub(1, SeqCst);
        self.taken.fetch_sub(1, SeqCst);
        self.capacity.vacancy.announce();
    }

    /// Returns whether no more are taken than the limit is now.
    pub(super) fn is_within_limit(&self) -> bool {
        self.taken.load(SeqCst) <= self.limit.load(SeqCst)
    }

    /// Waits until the limit leaves calls none beside one that is reserved. Once told, it is not
    /// told again.
    pub(super) async fn crowded(&self) {
        self.crowded.notified().await;
    }

    /// Returns how many calls have one.
    pub(super) fn taken(&self) -> usize {
        let reserved = self.reserved.load(SeqCst);
        self.taken.load(SeqCst).saturating_sub(reserved)
    }

    /// Takes in the server's limit.
    pub(super) fn set_limit(&self, limit: usize) {
        if self.limit.load(SeqCst) == limit {
            return;
        }
        let before = self.limit.swap(limit, SeqCst);
        if limit == 1 && self.reserved.load(SeqCst) > 0 {
            self.crowded.notify_one();
        }
        // No more than wait: some servers allow billions.
        let vacancy = &self.capacity.vacancy;
        let more = limit.saturating_sub(before).min(vacancy.waiting());
        for _ in 0..more {
            vacancy.announce();
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

/// Adds one to what is taken, if that is below the limit.
fn take_below(limit: usize, taken: &AtomicUsize) -> bool {
    let take = |taken| (taken < limit).then_some(taken + 1);
    taken.fetch_update(SeqCst, SeqCst, take).is_ok()
}

/// What all connections of one endpoint have in common.
#[derive(Debug, Clone)]
pub(crate) struct Capacity {
    vacancy: Arc<Vacancy>,
    /// `None` if each connection takes as many calls as its server allows.
    quota: Option<Arc<Quota>>,
}

impl Capacity {
    /// Makes that of an endpoint that may have `limit` calls in flight, if there is a limit.
    pub(crate) fn new(limit: Option<usize>, vacancy: Arc<Vacancy>) -> Self {
        let quota = limit.map(|limit| {
            Arc::new(Quota {
                limit,
                taken: AtomicUsize::new(0),
            })
        });
        Self { vacancy, quota }
    }
}

/// How many calls one endpoint may have, and how many it has.
#[derive(Debug)]
struct Quota {
    limit: usize,
    taken: AtomicUsize,
}

impl Quota {
    fn is_used_up(&self) -> bool {
        self.taken.load(SeqCst) >= self.limit
    }

    fn take(&self) -> bool {
        take_below(self.limit, &self.taken)
    }
}

/// Where the calls of a channel wait for a slot, of whichever connection.
#[derive(Debug, Default)]
pub(crate) struct Vacancy {
    waiting: AtomicUsize,
    given_back: Arc<Notify>,
    /// Those who wait may not all go to the same endpoints, whatever their kind.
    wakes_all: AtomicBool,
    /// How many of those who wait are of a kind.
    choosy: AtomicUsize,
    /// Locked by those who are, and by who gives a slot back while there are some.
    kinds: Mutex<Vec<Kind>>,
}

/// Those who wait and may go to the same endpoints, which are not all.
#[derive(Debug)]
struct Kind {
    number: u64,
    waiting: usize,
    given_back: Arc<Notify>,
}

impl Vacancy {
    /// Begins to wait: slots that are given back from now on are announced. A call that may not go
    /// everywhere is of a kind, by number.
    pub(crate) fn wait(&self, kind: Option<u64>) -> Waiting<'_> {
        let given_back = match kind {
            None => self.given_back.clone(),
            Some(number) => {
                self.choosy.fetch_add(1, SeqCst);
                self.with_kinds(
                    |kinds| match kinds.iter_mut().find(|it| it.number == number) {
                        Some(kind) => {
                            kind.waiting += 1;
                            kind.given_back.clone()
                        }
                        None => {
                            let given_back = Arc::new(Notify::new());
                            kinds.push(Kind {
                                number,
                                waiting: 1,
                                given_back: given_back.clone(),
                            });
                            given_back
                        }
                    },
                )
            }
        };
        // Last: who finds that somebody waits finds where, too.
        self.waiting.fetch_add(1, SeqCst);
        Waiting {
            vacancy: self,
            kind,
            given_back,
        }
    }

    /// Returns whether anybody waits.
    pub(crate) fn is_awaited(&self) -> bool {
        self.waiting() > 0
    }

    fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Sets whether all are woken instead of one of each kind.
    pub(crate) fn wake_all(&self, wakes_all: bool) {
        self.wakes_all.store(wakes_all, SeqCst);
    }

    /// Wakes one of those who wait, if there are any, and one of each kind; or all.
    pub(crate) fn announce(&self) {
        if !self.is_awaited() {
            return;
        }
        let wake = match self.wakes_all.load(SeqCst) {
            true => Notify::notify_waiters,
            false => Notify::notify_one,
        };
        wake(&self.given_back);
        if self.choosy.load(SeqCst) > 0 {
            self.with_kinds(|kinds| kinds.iter().for_each(|it| wake(&it.given_back)));
        }
    }

    fn left(&self, number: u64) {
        self.choosy.fetch_sub(1, SeqCst);
        self.with_kinds(|kinds| {
            let Some(index) = kinds.iter().position(|it| it.number == number) else {
                return;
            };
            kinds[index].waiting -= 1;
            if kinds[index].waiting == 0 {
                kinds.swap_remove(index);
            }
        });
    }

    fn with_kinds<R>(&self, act: impl FnOnce(&mut Vec<Kind>) -> R) -> R {
        // Nothing in between panics.
        act(&mut self.kinds.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One who waits for a slot.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    vacancy: &'a Vacancy,
    kind: Option<u64>,
    given_back: Arc<Notify>,
}

impl Waiting<'_> {
    /// Resolves when a slot was given back. To be enabled before slots are looked at, so that one
    /// that is given back meanwhile is not missed; if it is dropped, another one is woken instead.
    pub(crate) fn given_back(&self) -> Notified<'_> {
        self.given_back.notified()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.vacancy.waiting.fetch_sub(1, SeqCst);
        if let Some(number) = self.kind {
            self.vacancy.left(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn calls_over_two_connections_are_never_more_than_the_quota_and_leave_nothing_taken() {
        let capacity = Capacity::new(Some(3), Arc::default());
        let connections = [2, 5].map(|limit| Slots::new(limit, capacity.clone()));
        let in_flight = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (slots, in_flight) = (&connections[thread % 2], &in_flight);
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        if slots.take() {
                            assert!(in_flight.fetch_add(1, SeqCst) < 3);
                            std::thread::yield_now();
                            in_flight.fetch_sub(1, SeqCst);
                            slots.give_back();
                        }
                    }
                });
            }
        });
        assert_eq!(connections.each_ref().map(Slots::taken), [0, 0]);
        let [one, other] = &connections;
        let takes = [one, one, one, other, other].map(Slots::take);
        assert_eq!(takes, [true, true, false, true, false]);
        one.give_back();
        one.close();
        assert_eq!([one, other, other].map(Slots::take), [false, true, false]);
    }

    #[test]
    fn a_slot_wakes_one_who_may_go_anywhere_and_one_of_each_kind() {
        let vacancy = Vacancy::default();
        let kinds = [None, None, Some(1), Some(1), Some(2)];
        let waiting = kinds.map(|kind| vacancy.wait(kind));
        let mut told = waiting.each_ref().map(|it| Box::pin(it.given_back()));
        for told in &mut told {
            told.as_mut().enable();
        }
        vacancy.announce();
        let woken = told.each_mut().map(|it| it.now_or_never().is_some());
        assert_eq!(woken, [true, false, true, false, true]);
        drop(told);
        drop(waiting);
        assert!(!vacancy.is_awaited());
        assert!(vacancy.kinds.lock().unwrap().is_empty());
    }
}
