//! The office of a leader.

use switchboard_registry::keys::{Guard, Keys, KeysError, Operation, Transaction};
use tokio::sync::Mutex;

use super::LARGEST;
use crate::{
    Failure, Lost,
    entry::Entry,
    failure::{Pause, patiently},
    guard::held,
};

/// To lead, until this is dropped.
#[must_use = "who drops it resigns"]
pub struct Leadership {
    keys: Keys,
    entry: Entry,
    /// The revision of the last proclamation that is known. Those who proclaim wait for each other.
    proclaimed: Mutex<i64>,
}

/// Why something was not proclaimed, or may not have been.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ProclaimError {
    /// It is too large. Nothing was written.
    #[error("proclamation: {0} bytes (expected: at most {LARGEST})")]
    TooLarge(usize),
    /// The leadership is lost. It was not proclaimed, or if it was, then before that.
    #[error("the leadership is lost")]
    Lost(#[source] Lost),
    /// etcd does not let us, or did not answer: then it may have been proclaimed.
    #[error("cannot proclaim")]
    Etcd(#[source] Failure),
}

held!(Leadership, entry, "the leadership");

impl Leadership {
    pub(super) fn new(keys: Keys, entry: Entry) -> Self {
        let proclaimed = Mutex::new(entry.created());
        Self {
            keys,
            entry,
            proclaimed,
        }
    }

    /// Puts another value in the place of what was proposed or proclaimed last, of 1 MiB at most; returns
    /// the revision of etcd that brought it.
    ///
    /// # Errors
    ///
    /// It is too large, or the leadership is lost, or etcd refuses; or it did not answer for 10 s, and
    /// nobody knows whether it was proclaimed.
    ///
    /// # Cancel safety
    ///
    /// If it is cancelled, or fails because etcd does not answer, it may or may not be proclaimed, but not
    /// after a later one.
    pub async fn proclaim(&self, value: impl AsRef<[u8]>) -> Result<i64, ProclaimError> {
        let value = value.as_ref();
        if value.len() > LARGEST {
            return Err(ProclaimError::TooLarge(value.len()));
        }
        let mut proclaimed = self.proclaimed.lock().await;
        let proclaiming = patiently(self.put(value, &mut proclaimed));
        tokio::select! {
            biased;
            () = self.entry.tenure().ended() => Err(ProclaimError::Lost(Lost::Lease)),
            revision = proclaiming => revision,
        }
    }

    /// Puts a value over the last one that is known. One of an earlier attempt may be there instead, or
    /// be under way: of all puts over one proclamation at most one goes through.
    async fn put(&self, value: &[u8], last: &mut i64) -> Result<i64, ProclaimError> {
        let key = self.entry.key();
        let mut pause = Pause::default();
        // Whether this one may be there although its answer is not.
        let mut is_in_doubt = false;
        loop {
            if let Some(lost) = self.entry.loss() {
                return Err(ProclaimError::Lost(lost));
            }
            let lease = self.entry.tenure().lease();
            let transaction = Transaction::new()
                .when(self.entry.guard())
                .when(Guard::changed_at(key, *last))
                .then(Operation::put(key, value, Some(lease)))
                .otherwise(Operation::get(key));
            match self.keys.commit(transaction).await {
                Ok(outcome) if outcome.succeeded => {
                    *last = outcome.revision;
                    return Ok(outcome.revision);
                }
                Ok(outcome) => {
                    let found = outcome.found.into_iter().flatten().next();
                    let Some(kv) = found.filter(|kv| kv.created == self.entry.created()) else {
                        self.entry.gone();
                        continue;
                    };
                    *last = kv.revision;
                    if is_in_doubt && kv.value == value {
                        return Ok(kv.revision);
                    }
                }
                Err(KeysError::LeaseNotFound(_)) => {
                    self.entry.tenure().doubt();
                    pause.now().await;
                }
                Err(error) => {
                    is_in_doubt |= matches!(error, KeysError::Unavailable(_));
                    pause.after(error).await?;
                }
            }
        }
    }

    /// Returns the fencing token: larger than those of all who led before, as long as etcd keeps its
    /// data. A resource that refuses a token smaller than the largest it has seen cannot be harmed by one
    /// who does not know yet that it leads no longer.
    pub fn token(&self) -> i64 {
        self.entry.created()
    }

    /// Resigns. Another one can lead when this returns.
    ///
    /// # Errors
    ///
    /// The leadership was lost before that. The key is removed all the same, in the background.
    ///
    /// # Cancel safety
    ///
    /// Once polled it resigns all the same; only the waiting is given up.
    pub async fn resign(self) -> Result<(), Lost> {
        self.entry.remove().await
    }
}

impl From<Failure> for ProclaimError {
    fn from(failure: Failure) -> Self {
        Self::Etcd(failure)
    }
}

impl std::fmt::Debug for Leadership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leadership")
            .field("entry", &self.entry)
            .finish_non_exhaustive()
    }
}
