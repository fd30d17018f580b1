//! What stands for `metrics` where that feature is off: nothing is counted, and nothing is held.

use crate::{ending::End, state::ChannelState};

#[derive(Debug, Clone)]
pub(crate) struct CallMetrics;

pub(crate) struct Waiting;

impl CallMetrics {
    pub(crate) fn new(_: Option<&str>) -> Self {
        Self
    }

    pub(crate) fn ended(&self, _: End) {}

    pub(crate) fn waiting(&self) -> Waiting {
        Waiting
    }

    pub(crate) fn unsent(&self) {}

    pub(crate) fn refused(&self) {}
}

pub(crate) struct EndpointMetrics;

impl EndpointMetrics {
    pub(crate) fn new(_: Option<&str>) -> Self {
        Self
    }

    pub(crate) fn show(&self, _: &ChannelState) {}
}
