//! A key of ours under the registry's lease: there at most once, and gone for good when it goes.
//!
//! ```text
//! Absent   put, and its guards held                      -> There
//! Absent   found: a put whose answer was lost            -> There
//! There    removed, or this is dropped                   -> gone, in the background
//! any      the tenure ends                               -> lost, and removed all the same
//! ```
//!
//! - Who has it knows since when it is there. It is removed by that revision, so that a removal which
//!   lands late takes nothing that came after.
//! - A put whose outcome nobody knows may land whenever it likes: it may lie in the buffers of a
//!   member that is cut off. Each put is guarded by the [fence](fence), and where there was a doubt
//!   the fence is raised before the key is taken for gone: what has not landed by then never does.
//! - All recipes of a registry share its lease. Where the key's name is made of that alone, those of
//!   one process take [turns](turns); who has the turn keeps it until the key is gone.

mod fence;
mod named;
mod partings;
mod removal;
mod turns;

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use switchboard_registry::keys::{
    Changes, Guard, KeyRange, KeyValue, Keys, KeysError, Operation, Tenure, Transaction,
};

use self::{
    fence::{Fence, Fences},
    named::Named,
    removal::Removal,
    turns::Turns,
};
pub(crate) use self::{partings::Partings, turns::Turn};
use tokio::sync::watch;

use crate::{Failure, failure::Pause};

/// What the recipes of one registry share.
#[derive(Default)]
struct Shared {
    turns: Turns,
    partings: Named<watch::Sender<usize>>,
    fences: Fences,
}

/// A key of ours, which is removed in the background when this is dropped.
pub(crate) struct Entry {
    keys: Keys,
    key: String,
    tenure: Tenure,
    fence: Arc<Fence>,
    state: State,
    /// Whether a put was sent of which nobody knows what became.
    is_in_doubt: bool,
    /// Whether it was seen that the key is gone.
    is_gone: AtomicBool,
    turn: Option<Turn>,
    partings: Option<Partings>,
}

/// Whether the key is there, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Absent,
    There { created: i64 },
}

/// What came of an attempt to put the key.
pub(crate) enum Put {
    /// It is there, and this is what the operations have read that came with it.
    Done(Vec<Vec<KeyValue>>),
    /// It is there already, by an earlier attempt whose answer was lost.
    Found,
    /// What was to hold does not; nothing was written.
    Refused,
    /// The key is there, under a lease that is not ours.
    Foreign,
    /// The tenure has ended.
    Lost,
}

/// Why something that was held is not held any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Lost {
    /// The lease was not renewed in time, so that others may have it by now; or the registry was
    /// closed.
    #[error("its lease may have run out")]
    Lease,
    /// The key is gone: somebody has deleted it, or revoked its lease.
    #[error("its key is gone: deleted, or its lease was revoked")]
    Key,
}

/// Waits for the turn at a key that all of this registry would put under one name.
pub(crate) async fn turn(keys: &Keys, key: &str) -> Turn {
    keys.shared::<Shared>().turns.take(key).await
}

/// Takes the turn at a key, if nobody has it.
pub(crate) fn try_turn(keys: &Keys, key: &str) -> Option<Turn> {
    keys.shared::<Shared>().turns.try_take(key)
}

/// Returns which keys that are counted under a name are on their way out.
pub(crate) fn partings(keys: &Keys, name: &str) -> Partings {
    Partings(keys.shared::<Shared>().partings.get(name))
}

impl Entry {
    /// Makes one that is not there yet, under the lease of `tenure`.
    pub(crate) fn new(keys: &Keys, key: String, tenure: Tenure, turn: Option<Turn>) -> Self {
        let fence = keys.shared::<Shared>().fences.of(tenure.lease());
        Self {
            keys: keys.clone(),
            key,
            tenure,
            fence,
            state: State::Absent,
            is_in_doubt: false,
            is_gone: AtomicBool::new(false),
            turn,
            partings: None,
        }
    }

    /// Tells others when this is on its way out.
    pub(crate) fn with_partings(mut self, partings: &Partings) -> Self {
        self.partings = Some(partings.clone());
        self
    }

    /// Puts the key, if it is not there and `when` holds, and does `then` with it.
    ///
    /// # Errors
    ///
    /// etcd refuses, or the registry was closed.
    ///
    /// # Cancel safety
    ///
    /// If it is cancelled, the key may be there. It is removed when this is dropped.
    pub(crate) async fn put(
        &mut self,
        value: &[u8],
        when: &[Guard],
        then: &[Operation],
    ) -> Result<Put, Failure> {
        let mut pause = Pause::default();
        loop {
            if self.tenure.has_ended() {
                return Ok(Put::Lost);
            }
            let fence = self.fence.revision();
            let was_in_doubt = mem::replace(&mut self.is_in_doubt, true);
            let answer = tokio::select! {
                biased;
                answer = self.keys.commit(self.transaction(value, fence, when, then)) => answer,
                () = self.tenure.ended() => return Ok(Put::Lost),
            };
            if !matches!(answer, Err(KeysError::Unavailable(_))) {
                self.is_in_doubt = was_in_doubt;
            }
            match answer {
                Ok(mut outcome) if outcome.succeeded => {
                    let created = outcome.revision;
                    self.state = State::There { created };
                    return Ok(Put::Done(outcome.found.split_off(1)));
                }
                Ok(outcome) => {
                    let mut found = outcome.found.into_iter();
                    let there = found.next().and_then(|kvs| kvs.into_iter().next());
                    let raised = found.next().and_then(|kvs| kvs.into_iter().next());
                    match there {
                        Some(kv) if kv.lease == self.tenure.lease() => {
                            let created = kv.created;
                            self.state = State::There { created };
                            return Ok(Put::Found);
                        }
                        Some(_) => return Ok(Put::Foreign),
                        None => {}
                    }
                    let raised = raised.map_or(0, |kv| kv.revision);
                    self.fence.raised(raised);
                    if raised == fence {
                        return Ok(Put::Refused);
                    }
                }
                Err(KeysError::LeaseNotFound(_)) => {
                    self.tenure.doubt();
                    pause.now().await;
                }
                Err(KeysError::Unreachable(_) | KeysError::Unavailable(_)) => pause.now().await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn transaction(
        &self,
        value: &[u8],
        fence: i64,
        when: &[Guard],
        then: &[Operation],
    ) -> Transaction {
        let absent = Guard::created_at(&self.key, 0);
        let unfenced = Guard::changed_at(self.fence.key(), fence);
        let put = Operation::put(&self.key, value, Some(self.tenure.lease()));
        let transaction = Transaction::new()
            .when(absent)
            .when(unfenced)
            .then(put)
            .otherwise(Operation::get(&self.key))
            .otherwise(Operation::get(self.fence.key()));
        let transaction = when.iter().cloned().fold(transaction, Transaction::when);
        then.iter().cloned().fold(transaction, Transaction::then)
    }

    /// Returns the key.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Returns the tenure it is under.
    pub(crate) fn tenure(&self) -> &Tenure {
        &self.tenure
    }

    /// Returns the revision since which it is there; 0 if it is not.
    pub(crate) fn created(&self) -> i64 {
        match self.state {
            State::Absent => 0,
            State::There { created } => created,
        }
    }

    /// Returns what holds in etcd as long as it is there.
    pub(crate) fn guard(&self) -> Guard {
        Guard::created_at(&self.key, self.created())
    }

    /// Returns why it is lost, if that is known.
    pub(crate) fn loss(&self) -> Option<Lost> {
        if self.is_gone.load(Ordering::Relaxed) {
            Some(Lost::Key)
        } else if self.tenure.has_ended() {
            Some(Lost::Lease)
        } else {
            None
        }
    }

    /// Notes that somebody has deleted the key.
    pub(crate) fn gone(&self) {
        self.is_gone.store(true, Ordering::Relaxed);
    }

    /// Waits until it is lost.
    pub(crate) async fn lost(&self) -> Lost {
        if let Some(lost) = self.loss() {
            return lost;
        }
        tokio::select! {
            biased;
            () = self.tenure.ended() => {}
            () = self.deleted() => self.gone(),
        }
        self.loss().unwrap_or(Lost::Lease)
    }

    /// Does `work`, unless this is lost before that is done.
    pub(crate) async fn hold<T>(&self, work: impl Future<Output = T>) -> Result<T, Lost> {
        tokio::select! {
            biased;
            lost = self.lost() => Err(lost),
            done = work => Ok(done),
        }
    }

    /// Waits until the key is deleted. What etcd does not tell the lease will.
    async fn deleted(&self) {
        let mut pause = Pause::default();
        let range = KeyRange::Key(self.key.clone());
        let mut seen = self.created();
        loop {
            let changed = self.keys.changed(&range, seen, Changes::Deletes).await;
            match changed {
                Ok(events) if !events.is_empty() => return,
                Ok(_) => match self.keys.read(&self.key, 0).await {
                    Ok(reading) => {
                        let created = reading.held.map(|kv| kv.created);
                        if created != Some(self.created()) {
                            return;
                        }
                        seen = reading.revision;
                        pause = Pause::default();
                    }
                    Err(_) => pause.now().await,
                },
                Err(_) => pause.now().await,
            }
        }
    }

    /// Removes it, and waits for that as long as the tenure lasts.
    ///
    /// # Errors
    ///
    /// It was lost: before, or before etcd has confirmed that it is removed. It goes all the same.
    ///
    /// # Cancel safety
    ///
    /// Once polled it is removed all the same; only the waiting is given up.
    pub(crate) async fn remove(mut self) -> Result<(), Lost> {
        if let Some(lost) = self.loss() {
            return Err(lost);
        }
        let tenure = self.tenure.clone();
        let Some(removed) = self.begin_removal() else {
            return Ok(());
        };
        tokio::select! {
            biased;
            removed = removed => match removed {
                Ok(true) => Ok(()),
                Ok(false) => Err(Lost::Key),
                Err(_) => Err(Lost::Lease),
            },
            () = tenure.ended() => Err(Lost::Lease),
        }
    }

    /// Takes note that we have removed it.
    pub(crate) fn removed(mut self) {
        self.state = State::Absent;
        self.is_in_doubt = false;
    }

    /// Removes it in the background; the channel tells whether it was there until then.
    fn begin_removal(&mut self) -> Option<tokio::sync::oneshot::Receiver<bool>> {
        let state = mem::replace(&mut self.state, State::Absent);
        let is_in_doubt = mem::take(&mut self.is_in_doubt);
        let (turn, partings) = (self.turn.take(), self.partings.take());
        if state == State::Absent && !is_in_doubt {
            return None;
        }
        let removal = Removal {
            keys: self.keys.downgrade(),
            key: self.key.clone(),
            tenure: self.tenure.clone(),
            fence: self.fence.clone(),
            state,
            is_in_doubt,
            _turn: turn,
            _parting: partings.map(Partings::begin),
        };
        Some(removal.begin(&self.keys))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.begin_removal();
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key)
            .field("state", &self.state)
            .field("loss", &self.loss())
            .finish_non_exhaustive()
    }
}
