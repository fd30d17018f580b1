//! Tells who leads, one after another.

use futures::{Stream, stream};
use switchboard_registry::keys::{Journal, KeyRange, Keys, KeysError};

use super::{
    Leader,
    leaders::{Leaders, Ruling},
};
use crate::Failure;

/// Who leads, one after another.
///
/// Every leader is told once, in order, also one that has come and gone between two looks; so is every
/// proclamation, and that nobody leads. Where some may be missing, that is told too.
///
/// It has no task: what is not asked for is not sent by etcd either, beyond what fits into a stream's
/// window. While etcd is away it waits, and then tells what has happened. It holds what all candidates
/// have proposed.
#[derive(Debug)]
pub struct Observer {
    journal: Journal,
    leaders: Leaders,
    /// Who leads since a gap that was told.
    owed: Option<Option<Leader>>,
}

/// What is told in place of a leader.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ObserveError {
    /// Leaders or proclamations may be missing: etcd has compacted their history, or was wiped or
    /// restored. The next call tells who leads now.
    #[error("leaders may have come and gone untold")]
    Gap,
    /// etcd refuses, which the next call asks it for again, after a while; or the registry was closed,
    /// and nothing more comes.
    #[error("cannot observe the election")]
    Etcd(#[source] Failure),
}

impl Observer {
    pub(super) fn new(keys: &Keys, prefix: String) -> Self {
        Self {
            journal: keys.journal(KeyRange::Under(prefix.clone())),
            leaders: Leaders::of(prefix),
            owed: None,
        }
    }

    /// Tells who leads: at once the first time, and then as soon as that is another one, or the same with
    /// another proclamation. `None` is nobody.
    ///
    /// # Errors
    ///
    /// Some may be missing, which are then passed over: the next call goes on. Or etcd refuses, or the
    /// registry was closed.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it loses nothing.
    pub async fn next(&mut self) -> Result<Option<Leader>, ObserveError> {
        if let Some(leader) = self.owed.take() {
            return Ok(leader);
        }
        loop {
            let noted = self.journal.next().await?;
            match self.leaders.note(noted) {
                Ruling::Nothing => {}
                Ruling::Tell(leader) => return Ok(leader),
                Ruling::Gap(leader) => {
                    self.owed = Some(leader);
                    return Err(ObserveError::Gap);
                }
            }
        }
    }

    /// Makes a stream of what is told, which ends with the registry.
    pub fn into_stream(self) -> impl Stream<Item = Result<Option<Leader>, ObserveError>> + Send {
        stream::unfold(self, |mut observer| async {
            match observer.next().await {
                Err(ObserveError::Etcd(Failure::Closed)) => None,
                told => Some((told, observer)),
            }
        })
    }
}

impl From<KeysError> for ObserveError {
    fn from(error: KeysError) -> Self {
        Self::Etcd(error.into())
    }
}
