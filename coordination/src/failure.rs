//! Why etcd did not do what a recipe asked for, told by what a caller can do.

use std::{sync::Arc, time::Duration};

use switchboard_registry::keys::{FIRST_READING, Followed, Freshness, KeySnapshot, KeysError};
use switchboard_resolver::{Backoff, Cause};

/// Why etcd did not do what it was asked for.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// etcd does not let us, until somebody changes that. Nothing was read or written.
    #[error("etcd refuses")]
    Denied(#[source] Cause),
    /// etcd cannot be reached, or cannot answer.
    #[error("etcd does not answer")]
    Unavailable(#[source] Cause),
    /// The registry was closed.
    #[error("the registry is closed")]
    Closed,
}

impl From<KeysError> for Failure {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::Denied(cause) => Self::Denied(cause),
            KeysError::Closed => Self::Closed,
            KeysError::Unreachable(cause)
            | KeysError::Unavailable(cause)
            | KeysError::LeaseNotFound(cause)
            | KeysError::Compacted(cause) => Self::Unavailable(cause),
            other => Self::Unavailable(Arc::new(other)),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no answer in {} s", _0.as_secs())]
struct NoAnswer(Duration);

/// Why something was tried in vain though etcd answers.
#[derive(Debug, thiserror::Error)]
#[error("others were faster, each time")]
pub(crate) struct Crowded;

/// How long what is asked of etcd is tried before the caller is told that it cannot be done now.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Between attempts.
pub(crate) const RETRY: Backoff = Backoff {
    base: Duration::from_millis(20),
    factor: 1.6,
    cap: Duration::from_secs(1),
    jitter: 0.2,
};

/// Does what etcd is to do at once, and gives it up after [`PATIENCE`].
pub(crate) async fn patiently<T, E: From<Failure>>(
    done: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let done = tokio::time::timeout(PATIENCE, done).await;
    done.unwrap_or_else(|_| Err(Failure::Unavailable(Arc::new(NoAnswer(PATIENCE))).into()))
}

/// The pauses between attempts, the next one longer than the last.
#[derive(Debug, Default)]
pub(crate) struct Pause(u32);

impl Pause {
    /// Pauses after an error that passes.
    ///
    /// # Errors
    ///
    /// It is one that does not.
    pub(crate) async fn after(&mut self, error: KeysError) -> Result<(), Failure> {
        match error {
            KeysError::Denied(_) | KeysError::Closed => Err(error.into()),
            _ => {
                self.now().await;
                Ok(())
            }
        }
    }

    pub(crate) async fn now(&mut self) {
        self.0 += 1;
        tokio::time::sleep(RETRY.delay(self.0, fastrand::f64())).await;
    }
}

/// Waits until a range has been read.
pub(crate) async fn first(followed: &mut Followed) -> Result<KeySnapshot, Failure> {
    let read = async {
        loop {
            if let Some(snapshot) = followed.snapshot() {
                return Ok(snapshot);
            }
            if let Freshness::Denied { cause } = followed.freshness() {
                return Err(Failure::Denied(cause));
            }
            followed.changed().await?;
        }
    };
    match tokio::time::timeout(FIRST_READING, read).await {
        Ok(read) => read,
        Err(_) => Err(Failure::Unavailable(match followed.freshness() {
            Freshness::Unread { cause: Some(cause) } => cause,
            _ => Arc::new(NoAnswer(FIRST_READING)),
        })),
    }
}
