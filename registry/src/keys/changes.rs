//! To wait for the next change of a range.

use std::time::Duration;

use etcd_client::WatchFilterType;
use tokio::time::{sleep, timeout};

use super::{KeyEvent, KeyRange, KeysError};
use crate::{
    Registry,
    etcd::{Etcd, EtcdError, Kind, Message},
};

/// How long a watch may be silent. Nobody knows whether nothing has happened, or a member that was
/// cut off has yet to hear of it.
const SILENCE: Duration = Duration::from_secs(10);

/// After a watch that broke. Without it, who looks again would do so as fast as watches break.
const BROKEN: Duration = Duration::from_millis(20);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Changes {
    /// Whatever happens.
    All,
    /// That something is put.
    Puts,
    /// That something is deleted.
    Deletes,
}

pub(super) async fn wait(
    registry: &Registry,
    range: &KeyRange,
    revision: i64,
    changes: Changes,
) -> Result<Vec<KeyEvent>, KeysError> {
    let closing = registry.shared.ending.asked.clone();
    let next = next(&registry.shared.etcd, range, revision, changes);
    tokio::select! {
        biased;
        () = closing.cancelled() => Err(KeysError::Closed),
        events = timeout(SILENCE, next) => Ok(events.unwrap_or_else(|_| Ok(Vec::new()))?),
    }
}

async fn next(
    etcd: &Etcd,
    range: &KeyRange,
    revision: i64,
    changes: Changes,
) -> Result<Vec<KeyEvent>, EtcdError> {
    let left_out = match changes {
        Changes::All => None,
        Changes::Puts => Some(WatchFilterType::NoDelete),
        Changes::Deletes => Some(WatchFilterType::NoPut),
    };
    // One that begins behind all that etcd has done is told of what comes at once, and not in
    // etcd's next round for those who catch up (`mvcc/watchable_store.go`).
    let mut watching = etcd.watch_for(range, revision + 1, left_out).await?;
    loop {
        match watching.message().await {
            Ok(Message::Events(events)) => return Ok(events),
            Ok(Message::Opened { .. } | Message::Progress) => {}
            Ok(Message::Cancelled(error)) if error.kind == Kind::Denied => return Err(error),
            Ok(Message::Cancelled(_)) | Err(_) => {
                sleep(BROKEN).await;
                return Ok(Vec::new());
            }
        }
    }
}
