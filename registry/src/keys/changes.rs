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

/// From where a watch begins that is told of what comes from now on.
const NOW: i64 = 0;

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
    // etcd's next round for those who catch up, up to 100 ms later (`mvcc/watchable_store.go`). Where
    // others write all the time that is one that begins now, and a look at what was before it.
    let may_look = matches!((range, changes), (KeyRange::Key(_), Changes::Deletes));
    let from = if may_look { NOW } else { revision + 1 };
    let mut watching = etcd.watch_for(range, from, left_out).await?;
    loop {
        match watching.message().await {
            Ok(Message::Events(mut events)) => {
                // A member that was cut off tells what it hears late.
                events.retain(|event| event.revision() > revision);
                if !events.is_empty() {
                    return Ok(events);
                }
            }
            Ok(Message::Opened { revision: now }) if may_look && now > revision => {
                let held = etcd.read_at(range.start(), 0).await?.keys;
                if !held.iter().any(|kv| kv.created <= revision) {
                    return Ok(Vec::new());
                }
            }
            Ok(Message::Opened { .. } | Message::Progress) => {}
            Ok(Message::Cancelled(error)) if error.kind == Kind::Denied => return Err(error),
            Ok(Message::Cancelled(_)) | Err(_) => {
                sleep(BROKEN).await;
                return Ok(Vec::new());
            }
        }
    }
}
