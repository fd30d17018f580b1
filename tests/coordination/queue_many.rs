//! Many who push and many who pop: nothing is popped twice, and what is lost is among what is told of.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::future::join_all;
use switchboard::{
    Registry,
    coordination::{Failure, Item, PopError, PriorityQueue, PushError, Pushed, Queue},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    on_both,
    server::{Server, TTL, items_or},
};

on_both! {
    eight_pop_all_that_eight_push,
    eight_pop_all_that_eight_push_whatever_becomes_of_etcd_and_of_them,
    eight_pop_the_newest_whatever_becomes_of_etcd_and_of_them,
    eight_pop_by_priority_whatever_becomes_of_etcd_and_of_them,
}

const EACH: usize = 8;

/// How many items are pushed under faults.
fn items() -> usize {
    items_or(800)
}

async fn eight_pop_all_that_eight_push(etcd: &mut Server) {
    let told = many(etcd, Kind::Oldest, 3000, false).await;
    assert_eq!(told, 0, "nothing has happened that could lose one");
}

async fn eight_pop_all_that_eight_push_whatever_becomes_of_etcd_and_of_them(etcd: &mut Server) {
    many(etcd, Kind::Oldest, items(), true).await;
}

async fn eight_pop_the_newest_whatever_becomes_of_etcd_and_of_them(etcd: &mut Server) {
    many(etcd, Kind::Newest, items(), true).await;
}

async fn eight_pop_by_priority_whatever_becomes_of_etcd_and_of_them(etcd: &mut Server) {
    many(etcd, Kind::Smallest, items(), true).await;
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Oldest,
    Newest,
    Smallest,
}

enum Handle {
    Queue(Queue),
    Priority(PriorityQueue),
}

impl Handle {
    fn new(registry: &Registry, kind: Kind) -> Self {
        const NAME: &str = "/shop/jobs";

        match kind {
            Kind::Oldest => Self::Queue(Queue::fifo(registry, NAME).unwrap()),
            Kind::Newest => Self::Queue(Queue::lifo(registry, NAME).unwrap()),
            Kind::Smallest => Self::Priority(PriorityQueue::new(registry, NAME).unwrap()),
        }
    }

    async fn push(&self, value: &str) -> Result<Pushed, PushError> {
        match self {
            Self::Queue(queue) => queue.push(value).await,
            Self::Priority(queue) => queue.push(fastrand::u16(0..3), value).await,
        }
    }

    async fn pop(&mut self) -> Result<Item, PopError> {
        match self {
            Self::Queue(queue) => queue.pop().await,
            Self::Priority(queue) => queue.pop().await,
        }
    }

    async fn try_pop(&mut self) -> Result<Option<Item>, PopError> {
        match self {
            Self::Queue(queue) => queue.try_pop().await,
            Self::Priority(queue) => queue.try_pop().await,
        }
    }
}

/// What has come of it all.
#[derive(Debug, Default)]
struct Told {
    /// The key of each value that was pushed for certain.
    pushed: BTreeMap<String, String>,
    /// Those that may have been pushed.
    perhaps: BTreeSet<String>,
    popped: BTreeSet<String>,
    /// The keys that nobody may have.
    unknown: BTreeSet<String>,
    /// How many push yet.
    pushing: usize,
}

/// Pushes and pops so many items; returns how many were told to be lost, perhaps.
async fn many(etcd: &mut Server, kind: Kind, items: usize, has_faults: bool) -> usize {
    let told = RefCell::new(Told {
        pushing: EACH,
        ..Told::default()
    });
    let endpoint = etcd.endpoint().to_owned();
    let pushing = (0..EACH).map(|pusher| {
        let values = (pusher..items).step_by(EACH).map(|it| it.to_string());
        push(&endpoint, kind, values, &told)
    });
    let popping = (0..EACH).map(|_| pop(&endpoint, kind, has_faults, &told));
    let faults = async {
        if has_faults {
            break_things(etcd, &told).await;
        }
    };
    let all = async { tokio::join!(join_all(pushing), join_all(popping), faults) };
    let limit = Duration::from_secs(120 + items as u64 / 20);
    timeout(limit, all).await.expect("in time");

    let told = told.into_inner();
    let certain = told.pushed.iter();
    let lost = certain.filter(|(value, _)| !told.popped.contains(*value));
    let untold: Vec<_> = lost
        .clone()
        .filter(|(_, key)| !told.unknown.contains(*key))
        .collect();
    assert!(untold.is_empty(), "lost in silence: {untold:?}");
    let were_pushed =
        |value: &&String| told.pushed.contains_key(*value) || told.perhaps.contains(*value);
    assert!(told.popped.iter().all(|value| were_pushed(&value)));
    println!(
        "{kind:?}: {} pushed, {} perhaps, {} popped, {} lost, {} told of",
        told.pushed.len(),
        told.perhaps.len(),
        told.popped.len(),
        lost.count(),
        told.unknown.len()
    );
    told.unknown.len()
}

fn connect(endpoint: &str) -> Registry {
    let registry = Registry::builder(endpoint).unwrap().ttl(TTL);
    registry.connect_lazy().unwrap()
}

async fn push(
    endpoint: &str,
    kind: Kind,
    values: impl Iterator<Item = String>,
    told: &RefCell<Told>,
) {
    let registry = connect(endpoint);
    let queue = Handle::new(&registry, kind);
    for value in values {
        loop {
            match queue.push(&value).await {
                Ok(pushed) => {
                    told.borrow_mut().pushed.insert(value, pushed.key);
                }
                Err(PushError::Unknown { .. }) => {
                    told.borrow_mut().perhaps.insert(value);
                }
                // It says that nothing was pushed.
                Err(PushError::Etcd {
                    cause: Failure::Unavailable(_),
                    ..
                }) => continue,
                Err(error) => panic!("{error:?}"),
            }
            break;
        }
    }
    told.borrow_mut().pushing -= 1;
    registry.close().await;
}

async fn pop(endpoint: &str, kind: Kind, is_killed: bool, told: &RefCell<Told>) {
    let mut registry = connect(endpoint);
    let mut queue = Handle::new(&registry, kind);
    loop {
        let is_last = told.borrow().pushing == 0;
        let popped = match (is_killed && fastrand::u8(..) == 0, is_last) {
            // Its registry is closed while it pops; it is asked once more what came of that.
            (true, _) => {
                let closing = registry.clone();
                let closing = async {
                    sleep(Duration::from_micros(fastrand::u64(0..2000))).await;
                    closing.close().await;
                };
                let popping = async {
                    loop {
                        match queue.pop().await {
                            Ok(item) => is_new(told, item),
                            Err(error) => return Err(error),
                        }
                    }
                };
                tokio::join!(popping, closing).0
            }
            (false, true) => match queue.try_pop().await {
                Ok(None) => break,
                Ok(Some(item)) => Ok(Some(item)),
                Err(error) => Err(error),
            },
            // It is dropped in the middle.
            (false, false) => {
                let limit = match is_killed {
                    true => Duration::from_micros(fastrand::u64(0..10_000)),
                    false => Duration::from_millis(200),
                };
                match timeout(limit, queue.pop()).await {
                    Ok(popped) => popped.map(Some),
                    Err(_) => Ok(None),
                }
            }
        };
        match popped {
            Ok(item) => item.into_iter().for_each(|item| is_new(told, item)),
            Err(PopError::Unknown { key, .. }) => {
                told.borrow_mut().unknown.insert(key);
            }
            Err(PopError::Etcd {
                cause: Failure::Closed,
                ..
            }) => {
                registry = connect(endpoint);
                queue = Handle::new(&registry, kind);
            }
            Err(PopError::Etcd {
                cause: Failure::Unavailable(_),
                ..
            }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    registry.close().await;
}

fn is_new(told: &RefCell<Told>, item: Item) {
    let value = String::from_utf8(item.value).unwrap();
    let was_new = told.borrow_mut().popped.insert(value.clone());
    assert!(was_new, "{value} is popped twice");
}

/// Restarts and freezes etcd as long as anybody pushes.
async fn break_things(etcd: &mut Server, told: &RefCell<Told>) {
    let mut last = Instant::now();
    while told.borrow().pushing > 0 {
        sleep(Duration::from_millis(50)).await;
        if last.elapsed() < Duration::from_millis(fastrand::u64(200..1000)) {
            continue;
        }
        match fastrand::u8(0..3) {
            0 => etcd.restart().await,
            pause => {
                etcd.freeze();
                sleep(Duration::from_millis(if pause == 1 { 100 } else { 2500 })).await;
                etcd.thaw();
            }
        }
        last = Instant::now();
    }
}
