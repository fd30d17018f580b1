//! To wait until somebody lets all go.
//!
//! The layout is that of etcd's Go package `recipes` (`barrier.go`), so that its users wait at the same
//! barrier: one key without a lease. As long as it is there, who waits stays.
//!
//! Go's clients put nothing into the key, and read nothing. Here it holds a *mark*, so that who holds the
//! barrier and gets no answer knows its own key from somebody else's. Such an attempt may land later, after
//! the barrier was released, and then hold up everybody for good. So each is guarded by a *fence*, a key
//! that is not there; where there was a doubt it is put before anything else is tried, and keeps away what
//! has not landed by then.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use switchboard_registry::{
    NameError, Registry,
    keys::{
        Changes, Guard, KeyPath, KeyRange, KeyValue, Keys, KeysError, Operation, Outcome,
        Transaction,
    },
};
use switchboard_resolver::Cause;
use tokio::time::Instant;

use crate::{
    Failure,
    failure::{Crowded, PATIENCE, Pause},
};

/// How long a fence stays. What a member that is cut off has in its buffers for longer may land.
const FENCED: Duration = Duration::from_secs(24 * 60 * 60);

/// A barrier at which all wait, over all processes, until it is released. Cheap to clone.
///
/// - It belongs to nobody, and stays when the process that holds it ends: whoever releases it lets all go.
/// - Who comes when nobody holds it does not wait.
/// - Whoever waits goes on once it was released, even if it is held again by then.
///
/// ```
/// use switchboard_coordination::{Barrier, BarrierError};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let etcd = switchboard_embedded::EmbeddedEtcd::start();
/// # let registry = switchboard_registry::Registry::builder("etcd:2379")?.connector(etcd.connector()).connect().await?;
/// let barrier = Barrier::new(&registry, "/shop/opening")?;
/// barrier.hold().await?;
/// assert!(matches!(barrier.hold().await, Err(BarrierError::Held(_))));
///
/// let waiting = barrier.clone();
/// let (waited, released) = tokio::join!(waiting.wait(), barrier.release());
/// # waited?; released?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Barrier {
    keys: Keys,
    key: KeyPath,
    /// Since when its key is there, as far as is known; 0 where it is not.
    since: Arc<AtomicI64>,
}

/// Why a barrier was not held, released or waited for.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BarrierError {
    /// It is held already.
    #[error("the barrier {0} is held already")]
    Held(String),
    /// Nobody knows whether it is held now.
    #[error("nobody knows whether the barrier {barrier} is held")]
    Unknown {
        /// The barrier.
        barrier: String,
        /// Why it is not known.
        #[source]
        cause: Cause,
    },
    /// etcd did not do what it was asked for.
    #[error("barrier {barrier}")]
    Etcd {
        /// The barrier.
        barrier: String,
        /// What etcd says.
        #[source]
        cause: Failure,
    },
}

impl Barrier {
    /// Names a barrier. Nothing is sent to etcd yet.
    ///
    /// # Errors
    ///
    /// The name is no key, or lies in `/microservices`, which is kratos'.
    pub fn new<K>(registry: &Registry, name: K) -> Result<Self, NameError>
    where
        K: TryInto<KeyPath, Error: Into<NameError>>,
    {
        Ok(Self {
            keys: registry.keys(),
            key: name.try_into().map_err(Into::into)?.outside_kratos()?,
            since: Arc::default(),
        })
    }

    /// Holds the barrier: whoever waits from now on waits until it is released.
    ///
    /// # Errors
    ///
    /// It is held already, by whomever. etcd refuses, or cannot be reached for 10 s: it is not held. Or
    /// etcd's answer was lost, and it could not be found out within 10 s: [`BarrierError::Unknown`].
    ///
    /// # Cancel safety
    ///
    /// If it is cancelled, the barrier may or may not be held.
    pub async fn hold(&self) -> Result<(), BarrierError> {
        let deadline = Instant::now() + PATIENCE;
        let mut holding = Holding::new(&self.keys, self.key.as_str());
        let mut pause = Pause::default();
        loop {
            let error = match holding.attempt().await {
                Ok(Held::Since(revision)) => {
                    self.since.store(revision, Ordering::Relaxed);
                    return Ok(());
                }
                Ok(Held::BySomebody) => return Err(BarrierError::Held(self.key.to_string())),
                Ok(Held::Fenced) => continue,
                Err(error) => error,
            };
            let failure = match Instant::now() < deadline {
                true => pause.after(error).await.err(),
                false => Some(error.into()),
            };
            match (failure, holding.doubt.take()) {
                (None, doubt) => holding.doubt = doubt,
                (Some(_), Some(cause)) => {
                    let barrier = self.key.to_string();
                    return Err(BarrierError::Unknown { barrier, cause });
                }
                (Some(failure), None) => return Err(self.failed(failure)),
            }
        }
    }

    /// Releases the barrier, whoever holds it: all who wait go on. Where nobody holds it, nothing happens.
    ///
    /// # Errors
    ///
    /// etcd refuses, or did not answer for 10 s: it may or may not be released.
    ///
    /// # Cancel safety
    ///
    /// If it is cancelled, the barrier may or may not be released. What lands later releases nothing that is
    /// held only then.
    pub async fn release(&self) -> Result<(), BarrierError> {
        let deadline = Instant::now() + PATIENCE;
        let key = self.key.as_str();
        let mut since = self.since.swap(0, Ordering::Relaxed);
        let mut pause = Pause::default();
        let mut refusals = 0;
        // Whether the hold that was found may have ended by an attempt whose answer was lost.
        let mut may_be_done = false;
        loop {
            let delete = Transaction::new()
                .when(Guard::created_at(key, since))
                .then(Operation::delete(key))
                .otherwise(Operation::get(key));
            let error = match self.keys.commit(delete).await {
                Ok(outcome) if outcome.succeeded => return Ok(()),
                // Whoever holds it now began later.
                Ok(_) if may_be_done => return Ok(()),
                Ok(outcome) => {
                    since = found(outcome).map_or(0, |kv| kv.created);
                    refusals += 1;
                    // The first time, the answer has said all there is to know.
                    if refusals == 1 {
                        continue;
                    }
                    KeysError::Unreachable(Arc::new(Crowded))
                }
                Err(error) => error,
            };
            may_be_done |= refusals > 0 && matches!(error, KeysError::Unavailable(_));
            let failure = match Instant::now() < deadline {
                true => pause.after(error).await.err(),
                false => Some(error.into()),
            };
            if let Some(failure) = failure {
                return Err(self.failed(failure));
            }
        }
    }

    /// Waits until the barrier is released, while etcd is away too. Returns at once where nobody holds it. An
    /// etcd that was wiped holds no barrier.
    ///
    /// # Errors
    ///
    /// etcd refuses, or the registry was closed.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it changes nothing.
    pub async fn wait(&self) -> Result<(), BarrierError> {
        let range = KeyRange::Key(self.key.to_string());
        let mut pause = Pause::default();
        loop {
            let changed = match self.keys.read(self.key.as_str(), 0).await {
                Ok(reading) if reading.held.is_none() => return Ok(()),
                Ok(reading) => {
                    let seen = reading.revision;
                    self.keys.changed(&range, seen, Changes::Deletes).await
                }
                Err(error) => Err(error),
            };
            match changed {
                // It was released, even if it is held again.
                Ok(events) if !events.is_empty() => return Ok(()),
                // Nobody knows what has happened.
                Ok(_) => {}
                Err(error) => {
                    let paused = pause.after(error).await;
                    paused.map_err(|failure| self.failed(failure))?;
                }
            }
        }
    }

    fn failed(&self, cause: Failure) -> BarrierError {
        BarrierError::Etcd {
            barrier: self.key.to_string(),
            cause,
        }
    }
}

/// A barrier that is to be held.
struct Holding<'a> {
    keys: &'a Keys,
    key: &'a str,
    mark: String,
    /// Why it is not known what came of an attempt with this mark.
    doubt: Option<Cause>,
}

/// What came of an attempt.
enum Held {
    Since(i64),
    BySomebody,
    /// What was in doubt has not landed, and never will.
    Fenced,
}

impl<'a> Holding<'a> {
    fn new(keys: &'a Keys, key: &'a str) -> Self {
        Self {
            keys,
            key,
            mark: format!("{:032x}", fastrand::u128(..)),
            doubt: None,
        }
    }

    async fn attempt(&mut self) -> Result<Held, KeysError> {
        match self.doubt {
            None => self.put().await,
            Some(_) => self.fence().await,
        }
    }

    async fn put(&mut self) -> Result<Held, KeysError> {
        let put = Transaction::new()
            .when(Guard::created_at(self.key, 0))
            .when(Guard::created_at(&self.fence_key(), 0))
            .then(Operation::put(self.key, self.mark.as_str(), None));
        match self.keys.commit(put).await {
            Ok(outcome) if outcome.succeeded => Ok(Held::Since(outcome.revision)),
            Ok(_) => Ok(Held::BySomebody),
            Err(error) => {
                if let KeysError::Unavailable(cause) = &error {
                    self.doubt = Some(cause.clone());
                }
                Err(error)
            }
        }
    }

    /// Puts the fence, and looks for what an earlier attempt has put.
    async fn fence(&mut self) -> Result<Held, KeysError> {
        let lease = self.keys.grant(FENCED).await?;
        let look = Transaction::new()
            .then(Operation::put(&self.fence_key(), "", Some(lease)))
            .then(Operation::get(self.key));
        let there = found(self.keys.commit(look).await?);
        match there.filter(|kv| kv.value == self.mark.as_bytes()) {
            Some(kv) => Ok(Held::Since(kv.created)),
            None => {
                *self = Self::new(self.keys, self.key);
                Ok(Held::Fenced)
            }
        }
    }

    fn fence_key(&self) -> String {
        format!("/switchboard/fences/{}", self.mark)
    }
}

fn found(outcome: Outcome) -> Option<KeyValue> {
    outcome.found.into_iter().flatten().next()
}
