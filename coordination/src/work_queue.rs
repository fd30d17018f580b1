//! What many push and many work on, each item at least once.
//!
//! An item stays until somebody has done it. Who works on it has a key beside it, its *claim*, under the
//! lease of the registry: so it is another one's turn when the process ends.
//!
//! ```text
//! /switchboard/queues/<queue>/items/<priority, 5 digits>/<nanoseconds since 1970>    what was pushed
//! /switchboard/queues/<queue>/claims/<the same>                                      under the lease
//! ```

use std::collections::BTreeSet;

use futures::{StreamExt, stream::FuturesUnordered};
use switchboard_registry::{
    NameError, Registry,
    keys::{
        Changes, Guard, KeyEvent, KeyRange, KeyValue, Keys, KeysError, Operation, Segment,
        Selection, Transaction,
    },
};

use crate::{
    Failure, Lost, PushError, Pushed,
    entry::{self, Entry, Put},
    failure::{Pause, patiently},
    guard::held,
    moment::is_moment,
    queue::{is_priority, push},
};

/// How many items are looked at; more where all of them are claimed.
const LOOKED_AT: [Option<u16>; 3] = [Some(64), Some(4096), None];

/// A queue whose items stay until they are done. Cheap to clone.
///
/// - An item that was claimed is nobody else's until the claim is dropped or its lease is lost: the process
///   has ended, or is cut off. Then it is given to somebody else. So an item may be worked on twice, and
///   what that does has to be the same as if it were done once.
/// - [`ack`](Claim::ack) takes the item out of etcd. It fails if the claim was lost before.
/// - The smallest priority is claimed first; of those with the same, the oldest by the clocks of who pushed
///   them.
///
/// ```
/// use switchboard_coordination::WorkQueue;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let etcd = switchboard_embedded::EmbeddedEtcd::start();
/// # let registry = switchboard_registry::Registry::builder("etcd:2379")?.connector(etcd.connector()).connect().await?;
/// let orders = WorkQueue::new(&registry, "orders")?;
/// orders.push(10, "two apples").await?;
/// let order = orders.claim().await?;
/// assert_eq!(order.value(), b"two apples");
/// assert!(orders.try_claim().await?.is_none());
/// order.ack().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct WorkQueue {
    keys: Keys,
    name: Segment,
}

/// An item that is ours to do. Dropping it gives it back, in the background.
#[derive(Debug)]
#[must_use = "a claim that is dropped gives the item back"]
pub struct Claim {
    keys: Keys,
    item: KeyValue,
    key: String,
    entry: Entry,
}

/// Why nothing was claimed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// etcd did not do what it was asked for.
    #[error("nothing was claimed from the queue {queue}")]
    Etcd {
        /// The queue.
        queue: String,
        /// What etcd says.
        #[source]
        cause: Failure,
    },
}

/// Why an item that was done is not out of etcd.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AckError {
    /// The claim was lost, or may have been before etcd answered: another one may do the item, or have done
    /// it.
    #[error("the claim of {key} is lost")]
    Lost {
        /// The item's key.
        key: String,
        /// Why it is lost.
        #[source]
        cause: Lost,
    },
    /// etcd refuses. The item is another one's when the claim is gone.
    #[error("{key} is not taken out of etcd")]
    Etcd {
        /// The item's key.
        key: String,
        /// What etcd says.
        #[source]
        cause: Failure,
    },
}

/// What there is to do.
struct Seen {
    revision: i64,
    /// Those that nobody has claimed, in order.
    free: Vec<KeyValue>,
    /// Whether there are items that were not looked at.
    more: bool,
}

/// What a look at the items has come to.
enum Looked {
    Claimed(Box<Claim>),
    NoneFree {
        /// When that was so.
        revision: i64,
        /// The claims that are not in etcd, but that others of this registry are not done with. etcd does
        /// not tell when they are.
        ours: Vec<String>,
    },
}

impl WorkQueue {
    /// Names a queue. Nothing is sent to etcd yet.
    ///
    /// # Errors
    ///
    /// The name is empty, or has a `/` or a control character.
    pub fn new<N>(registry: &Registry, name: N) -> Result<Self, NameError>
    where
        N: TryInto<Segment, Error: Into<NameError>>,
    {
        Ok(Self {
            keys: registry.keys(),
            name: name.try_into().map_err(Into::into)?,
        })
    }

    /// Pushes a value; the smaller its priority, the earlier it is claimed.
    ///
    /// # Errors
    ///
    /// As [`Queue::push`](crate::Queue::push).
    ///
    /// # Cancel safety
    ///
    /// If it is cancelled, the value may or may not be pushed.
    pub async fn push(&self, priority: u16, value: impl AsRef<[u8]>) -> Result<Pushed, PushError> {
        let prefix = format!("{}{priority:05}/", self.below("items"));
        push(&self.keys, self.name.as_str(), &prefix, value.as_ref()).await
    }

    /// Waits for an item that nobody works on, and claims it; while etcd is away, too.
    ///
    /// # Errors
    ///
    /// etcd refuses, or the registry was closed.
    ///
    /// # Cancel safety
    ///
    /// What it has claimed when it is cancelled is given back, in the background.
    pub async fn claim(&self) -> Result<Claim, ClaimError> {
        let claimed = async {
            loop {
                match self.look_and_claim().await? {
                    Looked::Claimed(claim) => return Ok(*claim),
                    Looked::NoneFree { revision, ours } => self.wait(revision, &ours).await?,
                }
            }
        };
        claimed.await.map_err(|failure| self.failed(failure))
    }

    /// Claims an item, or returns `None` where there is none that nobody works on.
    ///
    /// # Errors
    ///
    /// As [`claim`](Self::claim); or etcd did not answer for 10 s.
    ///
    /// # Cancel safety
    ///
    /// As [`claim`](Self::claim).
    pub async fn try_claim(&self) -> Result<Option<Claim>, ClaimError> {
        match patiently(self.look_and_claim()).await {
            Ok(Looked::Claimed(claim)) => Ok(Some(*claim)),
            Ok(Looked::NoneFree { .. }) => Ok(None),
            Err(failure) => Err(self.failed(failure)),
        }
    }

    /// Claims the first item that is free.
    async fn look_and_claim(&self) -> Result<Looked, Failure> {
        let mut limits = LOOKED_AT.into_iter();
        let mut limit = limits.next().flatten();
        let mut pause = Pause::default();
        loop {
            let tenure = self.keys.tenure().await?;
            let seen = self.look(limit).await?;
            let mut ours = Vec::new();
            let mut was_late = false;
            for item in seen.free {
                let key = self.claim_key(&item);
                let Some(turn) = entry::try_turn(&self.keys, &key) else {
                    ours.push(key);
                    continue;
                };
                let entry = Entry::new(&self.keys, key, tenure.clone(), Some(turn));
                if let Some(claim) = self.take(entry, item).await? {
                    return Ok(Looked::Claimed(Box::new(claim)));
                }
                was_late = true;
                if tenure.has_ended() {
                    break;
                }
            }
            let revision = seen.revision;
            match (was_late, seen.more) {
                // Others were faster, each time.
                (true, _) => pause.now().await,
                (false, true) => limit = limits.next().flatten(),
                (false, false) => return Ok(Looked::NoneFree { revision, ours }),
            }
        }
    }

    /// Claims an item, unless another one has.
    async fn take(&self, mut entry: Entry, item: KeyValue) -> Result<Option<Claim>, Failure> {
        let Ok(key) = String::from_utf8(item.key) else {
            return Ok(None);
        };
        let unchanged = [Guard::changed_at(&key, item.revision)];
        let held = match entry.put(b"", &unchanged, &[Operation::get(&key)]).await? {
            Put::Done(found) => found.into_iter().flatten().next(),
            Put::Found => self.read(&key).await?,
            Put::Refused | Put::Foreign | Put::Lost => None,
        };
        Ok(held.map(|item| Claim {
            keys: self.keys.clone(),
            item,
            key,
            entry,
        }))
    }

    async fn read(&self, key: &str) -> Result<Option<KeyValue>, Failure> {
        let mut pause = Pause::default();
        loop {
            match self.keys.read(key, 0).await {
                Ok(reading) => return Ok(reading.held),
                Err(error) => pause.after(error).await?,
            }
        }
    }

    async fn look(&self, limit: Option<u16>) -> Result<Seen, Failure> {
        let items = Selection::of(KeyRange::Under(self.below("items"))).keys_only();
        let items = match limit {
            Some(limit) => items.limit(limit),
            None => items,
        };
        let claims = Selection::of(KeyRange::Under(self.below("claims"))).keys_only();
        let look = Transaction::new()
            .then(Operation::select(&items))
            .then(Operation::select(&claims));
        let mut pause = Pause::default();
        let outcome = loop {
            match self.keys.commit(look.clone()).await {
                Ok(outcome) => break outcome,
                Err(error) => pause.after(error).await?,
            }
        };
        let mut found = outcome.found.into_iter();
        let mut free = found.next().unwrap_or_default();
        let claims = found.next().unwrap_or_default();
        let claims: BTreeSet<_> = claims.into_iter().map(|kv| kv.key).collect();
        let more = limit.is_some_and(|limit| free.len() >= limit.into());
        let items = self.below("items");
        let is_item = |key: &[u8]| key.strip_prefix(items.as_bytes()).is_some_and(is_item);
        free.retain(|item| is_item(&item.key) && !claims.contains(self.claim_key(item).as_bytes()));
        Ok(Seen {
            revision: outcome.revision,
            free,
            more,
        })
    }

    /// Waits until there may be something.
    async fn wait(&self, revision: i64, ours: &[String]) -> Result<(), Failure> {
        let turns = ours.iter().map(|key| entry::turn(&self.keys, key));
        let mut turns: FuturesUnordered<_> = turns.collect();
        tokio::select! {
            biased;
            news = self.news(revision) => news,
            Some(_) = turns.next() => Ok(()),
        }
    }

    /// Waits until something was pushed or given back after a revision, or nobody knows.
    async fn news(&self, after: i64) -> Result<(), Failure> {
        let range = KeyRange::Under(self.below(""));
        let (items, claims) = (self.below("items"), self.below("claims"));
        let mut after = after;
        let mut pause = Pause::default();
        loop {
            let events = match self.keys.changed(&range, after, Changes::All).await {
                Ok(events) => events,
                Err(error) => {
                    pause.after(error).await?;
                    continue;
                }
            };
            if events.is_empty() {
                return Ok(());
            }
            for event in events {
                let is_news = match &event {
                    KeyEvent::Put(kv) => {
                        after = after.max(kv.revision);
                        kv.key.starts_with(items.as_bytes())
                    }
                    KeyEvent::Delete { key, revision } => {
                        after = after.max(*revision);
                        key.starts_with(claims.as_bytes())
                    }
                    _ => true,
                };
                if is_news {
                    return Ok(());
                }
            }
        }
    }

    fn below(&self, kind: &str) -> String {
        match kind {
            "" => format!("/switchboard/queues/{}/", self.name),
            kind => format!("/switchboard/queues/{}/{kind}/", self.name),
        }
    }

    /// Returns the key of an item's claim.
    fn claim_key(&self, item: &KeyValue) -> String {
        let key = String::from_utf8_lossy(&item.key);
        let items = self.below("items");
        let rest = key.strip_prefix(&items).unwrap_or(&key);
        format!("{}{rest}", self.below("claims"))
    }

    fn failed(&self, cause: Failure) -> ClaimError {
        ClaimError::Etcd {
            queue: self.name.to_string(),
            cause,
        }
    }
}

/// Tells that what is left of a key without its prefix is an item, and nothing that others keep there.
fn is_item(rest: &[u8]) -> bool {
    let mut parts = rest.splitn(2, |byte| *byte == b'/');
    let (priority, moment) = (parts.next(), parts.next());
    priority.is_some_and(is_priority) && moment.is_some_and(is_moment)
}

held!(Claim, entry, "the claim");

impl Claim {
    /// Returns what was pushed.
    pub fn value(&self) -> &[u8] {
        &self.item.value
    }

    /// Returns the item's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Takes the item, which is done, out of etcd; waits for that as long as the claim lasts.
    ///
    /// # Errors
    ///
    /// The claim was lost, so that another one may do the item; or etcd refuses.
    ///
    /// # Cancel safety
    ///
    /// If it is cancelled, the item may be out of etcd; if it is not, it is given back.
    pub async fn ack(self) -> Result<(), AckError> {
        let done = Transaction::new()
            .when(self.entry.guard())
            .then(Operation::delete(&self.key))
            .then(Operation::delete(self.entry.key()))
            .otherwise(Operation::get(&self.key));
        let mut is_in_doubt = false;
        let mut pause = Pause::default();
        loop {
            let error = match self.keys.commit(done.clone()).await {
                Ok(outcome) if outcome.succeeded => break,
                Ok(outcome) => {
                    let is_there = outcome.found.into_iter().flatten().next().is_some();
                    // If it is gone, that was an earlier attempt, or who had it after us has done it.
                    match is_in_doubt && !is_there {
                        true => break,
                        false => return Err(self.is_lost(Lost::Key)),
                    }
                }
                Err(error) => error,
            };
            is_in_doubt |= matches!(error, KeysError::Unavailable(_));
            if self.entry.tenure().has_ended() {
                return Err(self.is_lost(Lost::Lease));
            }
            if let Err(cause) = pause.after(error).await {
                let key = self.key.clone();
                return Err(AckError::Etcd { key, cause });
            }
        }
        self.entry.removed();
        Ok(())
    }

    /// Gives the item back: it is another one's to claim when this returns.
    ///
    /// # Errors
    ///
    /// The claim was lost before.
    ///
    /// # Cancel safety
    ///
    /// Once polled it is given back all the same; only the waiting is given up.
    pub async fn release(self) -> Result<(), Lost> {
        self.entry.remove().await
    }

    fn is_lost(&self, otherwise: Lost) -> AckError {
        AckError::Lost {
            key: self.key.clone(),
            cause: self.entry.loss().unwrap_or(otherwise),
        }
    }
}
