//! Pushes into a queue whose items are named after the time (Go's `newUniqueKV`).

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use switchboard_registry::keys::{Guard, Keys, KeysError, Operation, Transaction};
use switchboard_resolver::Cause;
use tokio::time::Instant;

use super::{PushError, Pushed, place::Place};
use crate::{
    Failure,
    failure::{PATIENCE, Pause},
};

pub(super) async fn push(keys: &Keys, place: &Place, value: &[u8]) -> Result<Pushed, PushError> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Pause::default();
    loop {
        let key = place.item(unique());
        let transaction = Transaction::new()
            .when(Guard::created_at(&key, 0))
            .then(Operation::put(&key, value, None));
        let error = match keys.commit(transaction).await {
            Ok(outcome) if outcome.succeeded => {
                let revision = outcome.revision;
                return Ok(Pushed { key, revision });
            }
            // Somebody else has pushed in the same nanosecond.
            Ok(_) => continue,
            Err(KeysError::Unavailable(cause)) => {
                return look_for(keys, key, value, cause, deadline).await;
            }
            Err(error) => error,
        };
        let failure = match Instant::now() < deadline {
            true => pause.unless_closed(keys, error).await.err(),
            false => Some(error.into()),
        };
        if let Some(cause) = failure {
            return Err(failed(place, cause));
        }
    }
}

/// Looks for an item whose answer was lost. It is not put again: the first one may land later, and both
/// would be popped.
async fn look_for(
    keys: &Keys,
    key: String,
    value: &[u8],
    cause: Cause,
    deadline: Instant,
) -> Result<Pushed, PushError> {
    let mut pause = Pause::default();
    loop {
        let error = match keys.read(&key, 0).await {
            Ok(reading) => {
                return match reading.held.filter(|kv| kv.value == value) {
                    Some(kv) => Ok(Pushed {
                        key,
                        revision: kv.revision,
                    }),
                    None => Err(PushError::Unknown { key, cause }),
                };
            }
            Err(error) => error,
        };
        let is_over = Instant::now() >= deadline;
        if is_over || pause.unless_closed(keys, error).await.is_err() {
            return Err(PushError::Unknown { key, cause });
        }
    }
}

pub(super) fn failed(place: &Place, cause: Failure) -> PushError {
    PushError::Etcd {
        queue: place.name().to_owned(),
        cause,
    }
}

/// Returns how many nanoseconds after 1970 it is; each time more than the last time, in this process.
fn unique() -> i64 {
    static LAST: AtomicI64 = AtomicI64::new(0);

    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = since.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(0));
    // Shorter ones are no items.
    later(&LAST, now.max(1_000_000_000))
}

fn later(last: &AtomicI64, now: i64) -> i64 {
    let next = |last: i64| Some(now.max(last + 1));
    let (Ok(last) | Err(last)) = last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    now.max(last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_items_of_a_process_have_one_time() {
        let last = AtomicI64::new(0);
        assert_eq!(later(&last, 100), 100);
        assert_eq!(later(&last, 100), 101);
        assert_eq!(later(&last, 50), 102, "the clock was set back");
        assert_eq!(later(&last, 200), 200);
        let mut times: Vec<_> = (0..1000).map(|_| unique()).collect();
        times.dedup();
        assert!(times.is_sorted() && times.len() == 1000);
    }
}
