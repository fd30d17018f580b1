//! What stands for `metrics` where that feature is off: nothing is counted, and nothing is held.

use tonic::Code;

use crate::state::ChannelState;

#[derive(Debug, Clone)]
pub(crate) struct CallMetrics;

#[derive(Debug, Default)]
pub(crate) struct CountedCall;

impl CountedCall {
    pub(crate) const IS_COUNTED: bool = false;

    pub(crate) fn ended(&mut self, _: Code) {}
}

pub(crate) struct Waiting;

impl CallMetrics {
    pub(crate) fn new(_: Option<&str>) -> Self {
        Self
    }

    pub(crate) fn begin(&self) -> CountedCall {
        CountedCall
    }

    pub(crate) fn waiting(&self) -> Waiting {
        Waiting
    }

    pub(crate) fn unsent(&self) {}

    pub(crate) fn refused(&self) {}

    pub(crate) fn configured(&self) {}
}

pub(crate) struct EndpointMetrics;

impl EndpointMetrics {
    pub(crate) fn new(_: Option<&str>) -> Self {
        Self
    }

    pub(crate) fn show(&self, _: &ChannelState) {}
}
