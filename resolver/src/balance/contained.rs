//! Contains the panic of a policy: it is made by users, and asked on the task that keeps all of a channel's
//! connections.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use super::{Candidate, Picker, Policy, RoundRobin};
use crate::ServiceConfigError;

/// A policy that is round robin as soon as it has panicked. Those that are cloned of it are one.
#[derive(Debug, Clone)]
pub(crate) struct Contained {
    policy: Arc<dyn Policy>,
    service: Option<Arc<str>>,
    /// Set once it has panicked.
    instead: Arc<OnceLock<RoundRobin>>,
    panic: Arc<Mutex<Option<Panic>>>,
}

type Panic = Box<dyn Any + Send>;

impl Contained {
    pub(crate) fn new(policy: Arc<dyn Policy>, service: Option<Arc<str>>) -> Self {
        Self {
            policy,
            service,
            instead: Arc::default(),
            panic: Arc::default(),
        }
    }

    /// Returns what it has panicked with, if it has; once.
    pub(crate) fn take_panic(&self) -> Option<Panic> {
        let mut panic = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
        panic.take()
    }

    /// Returns the policy that is in force.
    fn policy(&self) -> &dyn Policy {
        match self.instead.get() {
            Some(instead) => instead,
            None => &*self.policy,
        }
    }

    fn panicked(&self, panic: Panic) {
        let service = self.service.as_deref().unwrap_or_default();
        let policy = self.policy.name();
        tracing::error!(name: "policy_panicked", service, policy, "policy has panicked: calls go round robin");
        *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        self.instead.get_or_init(|| RoundRobin);
    }
}

impl Policy for Contained {
    fn name(&self) -> &str {
        self.policy().name()
    }

    fn check(&self) -> Result<(), ServiceConfigError> {
        self.policy().check()
    }

    fn picker(&self, candidates: &[Candidate], seed: u64) -> Box<dyn Picker> {
        let policy = self.policy();
        match catch_unwind(AssertUnwindSafe(|| policy.picker(candidates, seed))) {
            Ok(picker) => picker,
            Err(panic) => {
                self.panicked(panic);
                RoundRobin.picker(candidates, seed)
            }
        }
    }

    fn reads_load(&self) -> bool {
        self.policy().reads_load()
    }

    fn offers_all(&self) -> bool {
        self.policy().offers_all()
    }
}
