//! Those who push into queues.

use std::time::Duration;

use switchboard::coordination::{Failure, PriorityQueue, PushError, Queue};
use tokio::time::timeout;

use super::{
    items::{QUEUES, Told},
    process::Hands,
};
use crate::trace::chain;

pub(super) async fn behave(mut hands: Hands) {
    let (world, name) = (hands.world.clone(), hands.name.clone());
    let queue = Queue::fifo(&hands.registry, QUEUES[0]).expect("a name");
    let jobs = PriorityQueue::new(&hands.registry, QUEUES[1]).expect("a name");
    // Items are waited for until nobody pushes any.
    world.state().waits(&name, Some("to push no more"));
    while !world.is_over() {
        let wait = Duration::from_millis(hands.rng.u64(0..400));
        let _ = timeout(wait, world.over().cancelled()).await;
        let value = format!("{name} {}", world.number());
        let priority = hands.rng.u16(..3);
        let is_job = hands.rng.u32(..3) == 0;
        let pushing = async {
            match is_job {
                true => jobs.push(priority, &value).await,
                false => queue.push(&value).await,
            }
        };
        world.state().items.told(&value, Told::Unknown);
        // Some are given up half way.
        let patience = match hands.rng.u32(..8) {
            0 => Duration::from_millis(hands.rng.u64(0..40)),
            _ => Duration::from_secs(60),
        };
        let told = match timeout(patience, pushing).await {
            Err(_) => Told::Unknown,
            Ok(Ok(_)) => Told::Pushed,
            Ok(Err(error)) => {
                let is_closed = is_closed(&error);
                // Its key is not the same when this is run again: it tells the time.
                let (told, error) = match &error {
                    PushError::Unknown { cause, .. } => (Told::Unknown, chain(cause)),
                    _ => (Told::Failed, chain(&error)),
                };
                if !is_closed {
                    world.excused(format!("{value}: {told:?}: {error}"));
                }
                if is_closed {
                    let mut state = world.state();
                    state.items.told(&value, told);
                    return state.waits(&name, None);
                }
                told
            }
        };
        world.trace().write(format_args!("{value} {told:?}"));
        world.state().items.told(&value, told);
    }
    world.state().waits(&name, None);
}

fn is_closed(error: &PushError) -> bool {
    matches!(
        error,
        PushError::Etcd {
            cause: Failure::Closed,
            ..
        }
    )
}
