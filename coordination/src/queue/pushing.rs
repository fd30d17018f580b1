//! Pushes into a queue whose items are named after the time (Go's `newUniqueKV`).

use switchboard_registry::keys::{Guard, Keys, KeysError, Operation, Transaction};
use switchboard_resolver::Cause;
use tokio::time::Instant;

use super::{LARGEST, PushError, Pushed};
use crate::{
    Failure,
    failure::{PATIENCE, Pause},
    moment,
};

/// Pushes a value, under a key that is named after the [moment], behind `prefix`.
pub(crate) async fn push(
    keys: &Keys,
    queue: &str,
    prefix: &str,
    value: &[u8],
) -> Result<Pushed, PushError> {
    sized(queue, value)?;
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Pause::default();
    loop {
        let key = moment::key(prefix);
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
            true => pause.after(error).await.err(),
            false => Some(error.into()),
        };
        if let Some(cause) = failure {
            return Err(failed(queue, cause));
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
        if is_over || pause.after(error).await.is_err() {
            return Err(PushError::Unknown { key, cause });
        }
    }
}

pub(super) fn sized(queue: &str, value: &[u8]) -> Result<(), PushError> {
    match value.len() {
        ..=LARGEST => Ok(()),
        bytes => Err(PushError::TooLarge {
            queue: queue.to_owned(),
            bytes,
        }),
    }
}

pub(super) fn failed(queue: &str, cause: Failure) -> PushError {
    PushError::Etcd {
        queue: queue.to_owned(),
        cause,
    }
}
