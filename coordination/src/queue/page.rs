//! Decides what is tried next by who pops.
//!
//! ```text
//! nothing known   -> list             -> some found: take the first | none: wait
//! take            refused             -> take the next that is there still, or list again
//! wait            something was put   -> take that, without a list
//! wait            nobody knows        -> list again
//! ```
//!
//! - No item is tried before one that is to be popped before it, as far as was known when the list or
//!   the news came.
//! - Of a queue whose oldest is first the page is kept from one pop to the next: what is put later is
//!   behind it. In any other order what is put later may be first, so that each pop reads anew.
//! - Keys that are no items are passed over. Where they fill a list, the next one is longer.
//!
//! It never says that a queue is empty unless a list has said so.

use std::{collections::VecDeque, sync::Arc};

use switchboard_registry::keys::{KeyEvent, KeyValue};

use super::place::{Order, Place};

/// How many keys are listed at once. To find the oldest, etcd looks at all there are; were this smaller,
/// it would do so more often. Were it larger than 127, a transaction could not ask for the rest of them.
const LISTED: u16 = 64;

/// The same where the list serves one pop: it is for the case that others are faster.
const LISTED_ANEW: u16 = 16;

/// The same where the last list had nothing but keys of others.
const LISTED_AMONG_STRANGERS: u16 = 4096;

/// An item that was there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) key: String,
    /// The revision that put it.
    pub(super) revision: i64,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Take this one. The others are those to look for if it is gone.
    Take { item: Found, behind: Vec<Found> },
    /// List so many of the first keys, or all.
    List { limit: Option<u16> },
    /// Wait for what is put after this revision: there is nothing.
    Wait { after: i64 },
}

/// What is known of a queue's first items.
#[derive(Debug)]
pub(super) struct Page {
    place: Arc<Place>,
    items: VecDeque<Found>,
    beyond: Beyond,
}

/// What is known of what is not in the page.
#[derive(Debug, Clone, Copy)]
enum Beyond {
    /// Nothing. So many lists in a row had keys of others alone.
    Unknown { strangers: u8 },
    /// Of what was put up to this revision there is nothing more.
    Nothing { until: i64 },
}

impl Page {
    pub(super) fn new(place: Arc<Place>) -> Self {
        Self {
            place,
            items: VecDeque::new(),
            beyond: Beyond::Unknown { strangers: 0 },
        }
    }

    /// A pop begins. Nobody has looked at what was put since the last one.
    pub(super) fn begin(&mut self) {
        self.beyond = Beyond::Unknown { strangers: 0 };
        if self.place.order() != Order::Oldest {
            self.items.clear();
        }
    }

    pub(super) fn next(&mut self) -> Next {
        if let Some(item) = self.items.pop_front() {
            let behind = self.items.iter().cloned().collect();
            return Next::Take { item, behind };
        }
        match self.beyond {
            Beyond::Unknown { strangers } => Next::List {
                limit: match (strangers, self.place.order()) {
                    (0, Order::Oldest) => Some(LISTED),
                    (0, _) => Some(LISTED_ANEW),
                    (1, _) => Some(LISTED_AMONG_STRANGERS),
                    _ => None,
                },
            },
            Beyond::Nothing { until } => Next::Wait { after: until },
        }
    }

    /// The first keys were these at `revision`; `more` tells whether there are others behind.
    pub(super) fn listed(&mut self, revision: i64, keys: Vec<KeyValue>, more: bool) {
        self.items = self.found(keys).into();
        self.items.truncate(LISTED.into());
        self.beyond = match (self.items.is_empty(), more, self.beyond) {
            (false, ..) => Beyond::Unknown { strangers: 0 },
            (true, true, Beyond::Unknown { strangers }) => Beyond::Unknown {
                strangers: strangers.saturating_add(1),
            },
            (true, ..) => Beyond::Nothing { until: revision },
        };
    }

    /// Who waited is told this; nothing, where nobody knows what has happened.
    pub(super) fn heard(&mut self, events: Vec<KeyEvent>) {
        let put = events.into_iter().filter_map(|event| match event {
            KeyEvent::Put(kv) => Some(kv),
            _ => None,
        });
        let put: Vec<_> = put.collect();
        let last = put.iter().map(|kv| kv.revision).max();
        self.beyond = match last {
            Some(until) => Beyond::Nothing { until },
            None => Beyond::Unknown { strangers: 0 },
        };
        let mut items = self.found(put);
        // What came in a burst and is longer than a page is listed.
        if items.len() > LISTED.into() {
            items.truncate(LISTED.into());
            self.beyond = Beyond::Unknown { strangers: 0 };
        }
        self.items = items.into();
    }

    /// The item that was tried is gone. Of the others of the page there are these.
    pub(super) fn left(&mut self, there: &[Found]) {
        self.items.retain(|item| there.contains(item));
    }

    /// Nothing is known any more.
    pub(super) fn forget(&mut self) {
        self.items.clear();
        self.beyond = Beyond::Unknown { strangers: 0 };
    }

    /// Returns the items among these, in the order in which they are popped.
    fn found(&self, keys: Vec<KeyValue>) -> Vec<Found> {
        let items = keys.into_iter().filter(|kv| self.place.is_item(&kv.key));
        let items = items.filter_map(|kv| {
            Some(Found {
                key: String::from_utf8(kv.key).ok()?,
                revision: kv.revision,
            })
        });
        let mut items: Vec<_> = items.collect();
        self.place.sort(&mut items);
        items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(order: Order) -> Page {
        let place = Place::new("jobs".parse().unwrap(), order).unwrap();
        Page::new(Arc::new(place))
    }

    /// An item that is there since a revision.
    fn kv(key: &str, revision: i64) -> KeyValue {
        let mut kv = KeyValue::new(key, "");
        kv.revision = revision;
        kv
    }

    fn time(revision: i64) -> KeyValue {
        kv(&format!("jobs/{}", 2_000_000 - revision), revision)
    }

    fn put(kvs: impl IntoIterator<Item = KeyValue>) -> Vec<KeyEvent> {
        kvs.into_iter().map(KeyEvent::Put).collect()
    }

    /// The revision of what is tried next.
    fn taken(page: &mut Page) -> i64 {
        match page.next() {
            Next::Take { item, .. } => item.revision,
            other => panic!("{other:?}"),
        }
    }

    fn limit(page: &mut Page) -> Option<u16> {
        match page.next() {
            Next::List { limit } => limit,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_page_of_the_oldest_serves_one_pop_after_another() {
        let mut page = page(Order::Oldest);
        page.begin();
        assert_eq!(limit(&mut page), Some(LISTED));
        page.listed(9, vec![time(5), time(3), time(4)], true);
        for revision in 3..=5 {
            page.begin();
            assert_eq!(taken(&mut page), revision);
        }
        page.begin();
        assert_eq!(limit(&mut page), Some(LISTED));
    }

    #[test]
    fn each_pop_of_the_newest_reads_anew() {
        let mut page = page(Order::Newest);
        page.begin();
        assert_eq!(limit(&mut page), Some(LISTED_ANEW));
        page.listed(9, vec![time(3), time(5), time(4)], false);
        assert_eq!(taken(&mut page), 5);
        assert_eq!(taken(&mut page), 4, "where another one was faster");
        page.begin();
        assert_eq!(limit(&mut page), Some(LISTED_ANEW));
    }

    #[test]
    fn each_pop_of_the_smallest_reads_anew() {
        let mut page = page(Order::Smallest);
        page.begin();
        let items = [
            kv("jobs/00002/0000000000000000", 2),
            kv("jobs/00001/0000000000000001", 3),
            kv("jobs/00001/0000000000000000", 4),
        ];
        page.listed(9, items.into(), false);
        assert_eq!([4, 3, 2], [(); 3].map(|()| taken(&mut page)));
        page.begin();
        assert_eq!(limit(&mut page), Some(LISTED_ANEW));
    }

    #[test]
    fn what_others_have_taken_meanwhile_is_not_tried() {
        let mut page = page(Order::Oldest);
        page.begin();
        page.listed(9, (1..=5).map(time).collect(), false);
        let Next::Take { item, behind } = page.next() else {
            panic!("there are five");
        };
        assert_eq!((item.revision, behind.len()), (1, 4));
        // One of them was put anew.
        let mut there = behind[2..].to_vec();
        there[0].revision = 7;
        page.left(&there);
        assert_eq!(taken(&mut page), 5);
        assert_eq!(limit(&mut page), Some(LISTED));
    }

    #[test]
    fn an_empty_queue_is_waited_for_from_the_lists_revision_on() {
        for order in [Order::Oldest, Order::Newest, Order::Smallest] {
            let mut page = page(order);
            page.begin();
            page.listed(9, vec![], false);
            assert_eq!(page.next(), Next::Wait { after: 9 });
        }
    }

    #[test]
    fn a_list_whose_items_are_all_gone_says_nothing_about_those_pushed_since() {
        let mut page = page(Order::Oldest);
        page.begin();
        page.listed(9, vec![time(3)], false);
        taken(&mut page);
        page.left(&[]);
        assert_eq!(limit(&mut page), Some(LISTED));
    }

    #[test]
    fn what_was_put_is_tried_at_once_and_then_waited_for_what_comes_after() {
        let mut page = page(Order::Newest);
        page.begin();
        page.listed(9, vec![], false);
        page.heard(put([time(10), time(12)]));
        assert_eq!(taken(&mut page), 12);
        assert_eq!(taken(&mut page), 10);
        assert_eq!(page.next(), Next::Wait { after: 12 });
        page.heard(put([kv("jobs/config", 13)]));
        assert_eq!(page.next(), Next::Wait { after: 13 }, "no item");
        page.heard(vec![]);
        assert_eq!(limit(&mut page), Some(LISTED_ANEW), "nobody knows");
    }

    #[test]
    fn of_a_burst_the_oldest_are_kept_and_the_rest_is_listed() {
        let mut page = page(Order::Oldest);
        page.begin();
        page.listed(9, vec![], false);
        page.heard(put((10..1000).map(time)));
        for revision in 10..10 + i64::from(LISTED) {
            assert_eq!(taken(&mut page), revision);
        }
        assert_eq!(limit(&mut page), Some(LISTED));
    }

    #[test]
    fn lists_grow_where_keys_of_others_fill_them() {
        let mut page = page(Order::Oldest);
        page.begin();
        let strangers = || vec![kv("jobs/a", 1), kv("jobs/b/1764339190000000000", 2)];
        page.listed(9, strangers(), true);
        assert_eq!(limit(&mut page), Some(LISTED_AMONG_STRANGERS));
        page.listed(9, strangers(), true);
        assert_eq!(limit(&mut page), None);
        page.listed(9, [strangers(), vec![time(3)]].concat(), false);
        assert_eq!(taken(&mut page), 3);
        page.forget();
        page.listed(10, strangers(), false);
        assert_eq!(page.next(), Next::Wait { after: 10 }, "only strangers");
    }
}
