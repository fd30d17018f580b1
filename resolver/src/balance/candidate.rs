//! An endpoint that may be called, as policies see it.

use std::sync::Arc;

use crate::{Endpoint, Load};

/// An endpoint that may be called, as a [`Policy`](crate::Policy) sees it.
#[derive(Debug, Clone)]
pub struct Candidate {
    endpoint: Endpoint,
    share: f64,
    load: Arc<Load>,
}

impl Candidate {
    /// Makes a candidate that nobody has called yet, for tests of a policy.
    pub fn new(endpoint: Endpoint) -> Self {
        Self::with(endpoint, 1.0, Arc::default())
    }

    pub(crate) fn with(endpoint: Endpoint, share: f64, load: Arc<Load>) -> Self {
        Self {
            endpoint,
            share,
            load,
        }
    }

    /// Returns the endpoint, as the source describes it.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Returns how much of what it would get otherwise it is to get, from 0 to 1: less than all while it
    /// starts slowly ([`SlowStart`](crate::SlowStart)).
    pub fn share(&self) -> f64 {
        self.share
    }

    /// Returns what its calls put on it, as it is at any moment. It is the same one for as long as the
    /// channel knows the endpoint, whatever becomes of connections and pickers.
    pub fn load(&self) -> &Arc<Load> {
        &self.load
    }
}
