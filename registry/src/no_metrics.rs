//! What stands for `metrics` where that feature is off: nothing is counted, and nothing is held.

use tonic::Code;

use crate::{PublicationStatus, ServiceName, lease::Standing, serve::Phase, watch::Freshness};

pub(crate) struct PublicationMetrics;

impl PublicationMetrics {
    pub(crate) fn new(_: &ServiceName) -> Self {
        Self
    }

    pub(crate) fn show(&self, _: &PublicationStatus) {}

    pub(crate) fn retried(&self) {}
}

pub(crate) struct LeaseMetrics;

impl LeaseMetrics {
    pub(crate) fn new() -> Self {
        Self
    }

    pub(crate) fn show(&mut self, _: Standing) {}

    pub(crate) fn retried(&self) {}
}

pub(crate) struct WatchMetrics;

impl WatchMetrics {
    pub(crate) fn new(_: Option<&ServiceName>) -> Self {
        Self
    }

    pub(crate) fn listed(&mut self) {}

    pub(crate) fn show(&mut self, _: &Freshness, _: usize) {}
}

pub(crate) struct ServerMetrics;

impl ServerMetrics {
    pub(crate) fn new(_: &ServiceName) -> Self {
        Self
    }

    pub(crate) fn show(&self, _: Phase) {}
}

pub(crate) fn etcd_answered(_: Code) {}
