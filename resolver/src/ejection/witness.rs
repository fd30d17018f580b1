//! How calls tell the balancer what they met at an endpoint.

use std::sync::Arc;

use tokio::sync::Notify;

use super::{Admission, FailureCodes, Look, Tally, Verdict};
use crate::transport::Vacancy;

/// What a call needs to tell how it ended. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Witness(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tally: Arc<Tally>,
    codes: FailureCodes,
    /// Wakes the balancer.
    look: Arc<Notify>,
    /// Where calls wait that found no turn.
    vacancy: Arc<Vacancy>,
}

impl Witness {
    pub(crate) fn new(
        tally: Arc<Tally>,
        codes: FailureCodes,
        look: Arc<Notify>,
        vacancy: Arc<Vacancy>,
    ) -> Self {
        Self(Arc::new(Inner {
            tally,
            codes,
            look,
            vacancy,
        }))
    }

    /// Lets a call through, or does not.
    pub(crate) fn admit(&self) -> Option<Admission> {
        self.0.tally.admit()
    }

    /// Returns the codes that tell of a bad server.
    pub(crate) fn codes(&self) -> FailureCodes {
        self.0.codes
    }

    /// Takes in how a call ended that was let through.
    pub(crate) fn ended(&self, verdict: Verdict, admission: Admission) {
        if self.0.tally.ended(verdict, admission) == Look::Now {
            self.0.look.notify_one();
        }
    }

    /// Takes in that a call ended without a word on the server.
    pub(crate) fn given_up(&self, admission: Admission) {
        if admission.give_back() {
            self.0.vacancy.announce();
        }
    }
}
