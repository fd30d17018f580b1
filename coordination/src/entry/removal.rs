//! Removes a key, however long that takes.

use std::sync::Arc;

use switchboard_registry::keys::{
    Guard, Keys, KeysError, Operation, Tenure, Transaction, WeakKeys,
};
use tokio::sync::oneshot;

use super::{Fence, State, Turn, partings::Parting};
use crate::failure::Pause;

/// A key that is to go. What is known of it changes with each answer.
pub(super) struct Removal {
    pub(super) keys: WeakKeys,
    pub(super) key: String,
    pub(super) tenure: Tenure,
    pub(super) fence: Arc<Fence>,
    pub(super) state: State,
    pub(super) is_in_doubt: bool,
    /// Nobody else's until the key is gone.
    pub(super) _turn: Option<Turn>,
    pub(super) _parting: Option<Parting>,
}

impl Removal {
    /// Removes the key in a task, which ends when that is done, or when its lease is gone and the key
    /// with it. If the registry ends before that, its lease is revoked. The channel tells whether it was there until then.
    pub(super) fn begin(self, keys: &Keys) -> oneshot::Receiver<bool> {
        let (tell, told) = oneshot::channel();
        let task = keys.spawn(async move |stop| {
            tokio::select! {
                biased;
                // The lease is revoked then.
                () = stop.cancelled() => {}
                // Nobody may be waiting.
                removed = self.run() => { let _ = tell.send(removed); }
            }
        });
        // It goes on whatever becomes of the handle.
        task.disarm();
        told
    }

    async fn run(mut self) -> bool {
        let tenure = self.tenure.clone();
        tokio::select! {
            biased;
            was_there = self.remove() => was_there,
            () = tenure.gone() => false,
        }
    }

    async fn remove(&mut self) -> bool {
        let mut pause = Pause::default();
        let mut is_told = false;
        // Whether what is gone may be gone by an attempt whose answer was lost.
        let mut may_be_done = false;
        loop {
            match self.attempt().await {
                Ok(was_there) => return was_there || may_be_done,
                Err(KeysError::Unavailable(_)) => may_be_done = true,
                Err(KeysError::LeaseNotFound(_)) => self.tenure.doubt(),
                Err(KeysError::Denied(cause)) if !is_told => {
                    is_told = true;
                    let key = &*self.key;
                    tracing::warn!(name: "key_not_removed", key, %cause, "etcd does not let us remove a key; its lease does the rest");
                }
                Err(_) => {}
            }
            pause.now().await;
        }
    }

    async fn attempt(&mut self) -> Result<bool, KeysError> {
        // Its end stops this.
        let keys = self.keys.upgrade().ok_or(KeysError::Closed)?;
        if self.is_in_doubt {
            let raise = Operation::put(self.fence.key(), "", Some(self.tenure.lease()));
            let look = Transaction::new()
                .then(raise)
                .then(Operation::get(&self.key));
            let outcome = keys.commit(look).await?;
            self.fence.raised(outcome.revision);
            let found = outcome.found.into_iter().flatten().next();
            self.state = match found.filter(|kv| kv.lease == self.tenure.lease()) {
                Some(kv) => State::There {
                    created: kv.created,
                },
                None => State::Absent,
            };
            self.is_in_doubt = false;
        }
        let State::There { created } = self.state else {
            return Ok(false);
        };
        let unchanged = Guard::created_at(&self.key, created);
        let delete = Transaction::new()
            .when(unchanged)
            .then(Operation::delete(&self.key));
        Ok(keys.commit(delete).await?.succeeded)
    }
}
