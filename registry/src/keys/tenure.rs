//! The registry's lease, as far as those may rely on it who write under it.

use std::{fmt, time::Instant};

use tokio::sync::watch;

use super::KeysError;
use crate::{
    Registry, clock,
    lease::{LeaseId, Standing},
    session::{Session, SessionState},
    trouble::Trouble,
};

/// A time in which the registry's lease is certain to live in etcd.
///
/// It ends *before* etcd can let the lease go: one TTL after the last renewal that was answered was
/// sent, by this machine's monotonic clock. A lease that is renewed after that begins another tenure,
/// though its keys are still there.
#[derive(Clone)]
pub struct Tenure {
    lease: LeaseId,
    term: u64,
    session: Session,
    state: watch::Receiver<SessionState>,
}

impl Tenure {
    /// Waits for the lease.
    pub(super) async fn begin(registry: &Registry) -> Result<Self, KeysError> {
        let session = registry.shared.session().clone();
        let mut state = session.state();
        loop {
            {
                let now = state.borrow_and_update();
                match (now.standing, &now.trouble) {
                    (Standing::Held { id, until }, _) if clock::now() < until => {
                        let (lease, term) = (id, now.term);
                        drop(now);
                        return Ok(Self {
                            lease,
                            term,
                            session,
                            state,
                        });
                    }
                    (Standing::Released, _) => return Err(KeysError::Closed),
                    (_, Some(Trouble::Denied(cause))) => {
                        return Err(KeysError::Denied(cause.clone()));
                    }
                    _ => {}
                }
            }
            state.changed().await.map_err(|_| KeysError::Closed)?;
        }
    }

    /// Returns the id of the lease.
    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// Returns whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.until().is_none_or(|until| until <= clock::now())
    }

    /// Waits until it has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it changes nothing.
    pub async fn ended(&self) {
        let mut state = self.state.clone();
        loop {
            state.mark_unchanged();
            let Some(until) = self.until().filter(|until| *until > clock::now()) else {
                return;
            };
            tokio::select! {
                changed = state.changed() => if changed.is_err() { return },
                () = clock::until(Some(until)) => {}
            }
        }
    }

    /// Waits until etcd is certain to hold nothing more under the lease, or nobody can know: the
    /// registry has another one, or none, or was closed.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it changes nothing.
    pub async fn gone(&self) {
        let mut state = self.state.clone();
        let is_gone = |state: &SessionState| match state.standing {
            Standing::Held { id, .. } | Standing::Expired { id } => id != self.lease,
            Standing::Absent | Standing::Released => true,
        };
        // An error is the end of the session.
        let _ = state.wait_for(is_gone).await;
    }

    /// Tells that etcd did not know the lease.
    pub fn doubt(&self) {
        self.session.doubt(self.lease);
    }

    /// Until when the lease is certain to live, if it is still this tenure.
    fn until(&self) -> Option<Instant> {
        let state = self.state.borrow();
        match state.standing {
            Standing::Held { id, until } if (id, state.term) == (self.lease, self.term) => {
                Some(until)
            }
            _ => None,
        }
    }
}

impl fmt::Debug for Tenure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenure")
            .field("lease", &self.lease)
            .field("has_ended", &self.has_ended())
            .finish_non_exhaustive()
    }
}
