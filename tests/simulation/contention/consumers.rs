//! Those who pop from queues.

use std::time::Duration;

use switchboard::coordination::{Failure, Item, PopError, PriorityQueue, Queue};
use tokio::time::{sleep, timeout};

use super::{
    items::{self, QUEUES},
    process::Hands,
};
use crate::trace::chain;

/// How often there is nothing before it is said that there is nothing more.
const TRIES: u32 = 3;

/// One of the queues.
enum Handle {
    Queue(Queue),
    Jobs(PriorityQueue),
}

impl Handle {
    fn any(hands: &mut Hands) -> Self {
        let registry = &hands.registry;
        let queue = match hands.rng.u32(..5) {
            0 | 1 => Queue::fifo(registry, QUEUES[0]),
            2 => Queue::lifo(registry, QUEUES[0]),
            _ => return Self::jobs(hands),
        };
        Self::Queue(queue.expect("a name"))
    }

    fn jobs(hands: &Hands) -> Self {
        Self::Jobs(PriorityQueue::new(&hands.registry, QUEUES[1]).expect("a name"))
    }

    async fn pop(&mut self) -> Result<Option<Item>, PopError> {
        match self {
            Self::Queue(queue) => queue.pop().await.map(Some),
            Self::Jobs(jobs) => jobs.pop().await.map(Some),
        }
    }

    async fn try_pop(&mut self) -> Result<Option<Item>, PopError> {
        match self {
            Self::Queue(queue) => queue.try_pop().await,
            Self::Jobs(jobs) => jobs.try_pop().await,
        }
    }
}

pub(super) async fn behave(mut hands: Hands) {
    let world = hands.world.clone();
    while !world.is_over() {
        let mut handle = Handle::any(&mut hands);
        for _ in 0..hands.rng.u32(1..40) {
            if world.is_over() {
                break;
            }
            let patience = match hands.rng.u32(..3) {
                0 => Duration::from_millis(hands.rng.u64(0..30)),
                _ => Duration::from_millis(hands.rng.u64(0..2_000)),
            };
            let is_waited_for = hands.rng.u32(..6) > 0;
            if !pop(&hands, &mut handle, is_waited_for, patience).await {
                return;
            }
            if hands.rng.bool() {
                sleep(Duration::from_millis(hands.rng.u64(0..100))).await;
            }
        }
        // What a pop that was given up has taken is asked for, or not.
        if hands.rng.bool() {
            let _ = pop(&hands, &mut handle, false, Duration::from_secs(60)).await;
        }
        world.state().items.gives_up(&hands.name);
    }
    drain(hands).await;
}

/// Pops an item. Returns whether the registry is open.
async fn pop(hands: &Hands, handle: &mut Handle, is_waited_for: bool, patience: Duration) -> bool {
    let (world, name) = (&hands.world, &hands.name);
    world.state().items.begins(name);
    let popping = async {
        match is_waited_for {
            true => handle.pop().await,
            false => handle.try_pop().await,
        }
    };
    let Ok(popped) = timeout(patience, popping).await else {
        return true;
    };
    let wrong = {
        let mut state = world.state();
        match &popped {
            Ok(Some(item)) => {
                state.items.ends(name);
                state.items.pops(&String::from_utf8_lossy(&item.value))
            }
            Ok(None) => {
                state.items.ends(name);
                None
            }
            Err(PopError::Unknown { key, .. }) => {
                state.items.ends(name);
                state.items.is_unknown(key.clone());
                None
            }
            // It has given up, as whoever waits no longer.
            Err(_) => None,
        }
    };
    if let Some(wrong) = wrong {
        world.violation(format!("{name}: {wrong}"));
    }
    match popped {
        Ok(Some(item)) => {
            let value = String::from_utf8_lossy(&item.value).into_owned();
            world.trace().write(format_args!("{name} pops {value}"));
        }
        Ok(None) => {}
        Err(error) => {
            let cause = match &error {
                PopError::Etcd { cause, .. } => Some(cause),
                _ => None,
            };
            if matches!(cause, Some(Failure::Closed)) {
                return false;
            }
            // A key is not the same when this is run again: it tells the time.
            let error = match &error {
                PopError::Unknown { cause, .. } => format!("nobody knows: {}", chain(cause)),
                _ => chain(&error),
            };
            world.excused(format!("{name}: {error}"));
            sleep(Duration::from_millis(50)).await;
        }
    }
    true
}

/// Pops all there is, until nobody pushes any more.
async fn drain(hands: Hands) {
    let (world, name) = (&hands.world, &hands.name);
    world.state().waits(name, Some("to have popped all"));
    let queue = Queue::fifo(&hands.registry, QUEUES[0]).expect("a name");
    let mut handles = [Handle::Queue(queue), Handle::jobs(&hands)];
    let mut empty = 0;
    while empty < TRIES {
        for handle in &mut handles {
            if !pop(&hands, handle, true, Duration::from_millis(500)).await {
                return world.state().waits(name, None);
            }
        }
        let pushes = |what: &String| what == "to push no more";
        let are_pushed = world.state().waiting.values().any(pushes);
        match !are_pushed && items::there(world.etcd()) == 0 {
            true => empty += 1,
            false => empty = 0,
        }
    }
    let mut state = world.state();
    state.items.ends(name);
    state.waits(name, None);
}
