//! What is counted of a channel's calls and endpoints, by way of the `metrics` facade.
//!
//! A channel makes its handles when it is made: a call costs an addition, and no look-up. So a
//! recorder that is installed later hears nothing of the channel. How many endpoints there are is
//! added and taken away again, so that channels to one service add up, and nothing is left of one
//! that is closed.
//!
//! The labels are the service, which whoever makes the channel names, and what this crate has a
//! fixed number of. `docs/observability.md` says what each metric is for; a test holds it to the names
//! here.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use metrics::{Counter, Gauge, Histogram, SharedString, Unit};
use tokio::time::Instant;
use tonic::Code;

use crate::{
    codes,
    state::{ChannelState, Condition, EndpointState},
};

const ENDPOINTS: &str = "switchboard_endpoints";
const CALLS: &str = "switchboard_calls_total";
const PICK_WAIT: &str = "switchboard_pick_wait_seconds";
const CALL_RETRIES: &str = "switchboard_call_retries_total";

fn describe_calls() {
    metrics::describe_counter!(CALLS, Unit::Count, "Calls that have ended, by gRPC code.");
    metrics::describe_histogram!(
        PICK_WAIT,
        Unit::Seconds,
        "How long calls waited for an endpoint; only those that had to."
    );
    metrics::describe_counter!(
        CALL_RETRIES,
        Unit::Count,
        "Calls that the channel sent again, by why it could."
    );
}

/// What is counted of a channel's calls; clones share it.
#[derive(Clone)]
pub(crate) struct CallMetrics(Arc<Handles>);

struct Handles {
    /// By the number of the code.
    ended: [Counter; codes::NAMES.len()],
    pick_wait: Histogram,
    unsent: Counter,
    refused: Counter,
    configured: Counter,
}

/// A call that is counted once, when it ends; it was given up where this is dropped before.
#[derive(Debug, Default)]
pub(crate) struct CountedCall(Option<CallMetrics>);

/// A call that waits for an endpoint; how long is noted when this is dropped, as also by a caller who
/// gives up.
pub(crate) struct Waiting<'a> {
    metrics: &'a CallMetrics,
    since: Instant,
}

impl CallMetrics {
    pub(crate) fn new(service: Option<&str>) -> Self {
        describe_calls();
        let service = label(service);
        let again = |kind: &'static str| metrics::counter!(CALL_RETRIES, "service" => service.clone(), "kind" => kind);
        Self(Arc::new(Handles {
            ended: codes::NAMES
                .map(|code| metrics::counter!(CALLS, "service" => service.clone(), "code" => code)),
            pick_wait: metrics::histogram!(PICK_WAIT, "service" => service.clone()),
            unsent: again("unsent"),
            refused: again("refused"),
            configured: again("configured"),
        }))
    }

    /// A call begins.
    pub(crate) fn begin(&self) -> CountedCall {
        CountedCall(Some(self.clone()))
    }

    /// A call begins to wait for an endpoint.
    pub(crate) fn waiting(&self) -> Waiting<'_> {
        Waiting {
            metrics: self,
            since: Instant::now(),
        }
    }

    /// A call is sent again, since it did not leave.
    pub(crate) fn unsent(&self) {
        self.0.unsent.increment(1);
    }

    /// A call is sent again, since the server said that it did not process it.
    pub(crate) fn refused(&self) {
        self.0.refused.increment(1);
    }

    /// A call is made again, since its method's retry policy has it so.
    pub(crate) fn configured(&self) {
        self.0.configured.increment(1);
    }
}

impl CountedCall {
    /// Whether there is anybody who counts, and wants to know codes.
    pub(crate) const IS_COUNTED: bool = true;

    /// The call has ended, however often it was sent.
    pub(crate) fn ended(&mut self, code: Code) {
        if let Some(CallMetrics(handles)) = self.0.take()
            && let Some(ended) = handles.ended.get(code as usize)
        {
            ended.increment(1);
        }
    }
}

impl Drop for CountedCall {
    fn drop(&mut self) {
        self.ended(Code::Cancelled);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.metrics.0.pick_wait.record(self.since.elapsed());
    }
}

impl fmt::Debug for CallMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallMetrics")
    }
}

/// The states by their names: those of [`Condition`], as it is serialized, and one for endpoints in
/// reserve, whatever their condition, so that `ready` is what is listed and can be called.
const STATES: [&str; 9] = [
    "connecting",
    "failing",
    "ready",
    "suspect",
    "unhealthy",
    "ejected",
    "idle",
    "draining",
    "reserved",
];

/// Where an endpoint's state stands in [`STATES`].
fn index(endpoint: &EndpointState) -> usize {
    match endpoint.condition {
        _ if endpoint.is_reserved => 8,
        Condition::Connecting => 0,
        Condition::Failing => 1,
        Condition::Ready => 2,
        Condition::Suspect => 3,
        Condition::Unhealthy => 4,
        Condition::Ejected => 5,
        Condition::Idle => 6,
        Condition::Draining => 7,
    }
}

/// How many endpoints of a channel are in each state.
pub(crate) struct EndpointMetrics {
    gauges: [Gauge; STATES.len()],
    /// What this channel has added to them.
    counts: [AtomicUsize; STATES.len()],
}

impl EndpointMetrics {
    pub(crate) fn new(service: Option<&str>) -> Self {
        let described = "Endpoints of channels, by state.";
        metrics::describe_gauge!(ENDPOINTS, Unit::Count, described);
        let service = label(service);
        Self {
            gauges: STATES.map(
                |state| metrics::gauge!(ENDPOINTS, "service" => service.clone(), "state" => state),
            ),
            counts: Default::default(),
        }
    }

    /// Shows how the endpoints are.
    pub(crate) fn show(&self, state: &ChannelState) {
        let mut counts = [0; STATES.len()];
        for endpoint in &state.endpoints {
            counts[index(endpoint)] += 1;
        }
        self.set(counts);
    }

    fn set(&self, counts: [usize; STATES.len()]) {
        for ((gauge, known), count) in self.gauges.iter().zip(&self.counts).zip(counts) {
            // There is one writer, the balancer.
            let known = known.swap(count, Ordering::Relaxed);
            gauge.increment(count as f64 - known as f64);
        }
    }
}

impl Drop for EndpointMetrics {
    fn drop(&mut self) {
        self.set([0; STATES.len()]);
    }
}

/// Shared by all the handles of a channel.
fn label(service: Option<&str>) -> SharedString {
    Arc::<str>::from(service.unwrap_or_default()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Endpoint, transport::InFlight};

    #[test]
    fn states_have_their_names() {
        for condition in [
            Condition::Connecting,
            Condition::Failing,
            Condition::Ready,
            Condition::Suspect,
            Condition::Ejected,
            Condition::Idle,
            Condition::Draining,
        ] {
            let endpoint = Endpoint::new("a:1".parse().unwrap());
            let state = |is_reserved| {
                EndpointState::new(&endpoint, condition, is_reserved, None, InFlight::default())
            };
            let name = format!("{condition:?}").to_lowercase();
            assert_eq!(STATES[index(&state(false))], name);
            assert_eq!(STATES[index(&state(true))], "reserved");
        }
    }
}
