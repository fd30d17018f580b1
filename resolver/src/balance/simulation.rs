//! Servers that take their time, and calls that arrive in time, for tests of policies: without a clock.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use http::Request;

use super::{CallInfo, Candidate, Picker, Policy};
use crate::{Endpoint, load::Burden};

/// How a server answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Server {
    pub(super) latency: Duration,
    /// How many of a hundred calls fail; those at once.
    pub(super) fails: u32,
}

/// Calls on their way to servers.
pub(super) struct Simulation {
    pub(super) candidates: Vec<Candidate>,
    picker: Box<dyn Picker>,
    pub(super) servers: Vec<Server>,
    pub(super) now: Instant,
    /// By when they end, and in which order they began.
    pending: BTreeMap<(Instant, u32), (Burden, bool)>,
    calls: u32,
}

/// Any: it is the same each time.
const SEED: u64 = 17;

pub(super) fn candidates(count: usize) -> Vec<Candidate> {
    let candidate = |index| {
        let address = format!("10.0.0.{index}:1").parse();
        Candidate::new(Endpoint::new(address.expect("an address")))
    };
    (1..=count).map(candidate).collect()
}

/// One that answers after so many milliseconds.
pub(super) fn good(millis: u64) -> Server {
    Server {
        latency: Duration::from_millis(millis),
        fails: 0,
    }
}

/// One that fails so many of a hundred calls, at once, and answers all others nearly as fast.
pub(super) fn bad(fails: u32) -> Server {
    Server {
        latency: Duration::from_micros(10),
        fails,
    }
}

impl Simulation {
    pub(super) fn new(policy: &dyn Policy, servers: &[Server]) -> Self {
        Self::of(policy, servers, candidates(servers.len()))
    }

    pub(super) fn of(policy: &dyn Policy, servers: &[Server], candidates: Vec<Candidate>) -> Self {
        Self {
            picker: policy.picker(&candidates, SEED),
            candidates,
            servers: servers.to_vec(),
            now: tokio::time::Instant::now().into_std(),
            pending: BTreeMap::new(),
            calls: 0,
        }
    }

    /// Makes so many calls, one after each such time, and counts where they go.
    pub(super) fn run(&mut self, calls: usize, interval: Duration) -> Vec<usize> {
        let request = Request::new(());
        let mut counts = vec![0; self.servers.len()];
        for _ in 0..calls {
            self.now += interval;
            self.end_calls();
            let call = CallInfo::of(&request).with_start(self.now);
            let mut picked = None;
            let take = &mut |index| {
                picked = Some(index);
                true
            };
            self.picker.pick(&call, take).expect("nothing is missing");
            let index: usize = picked.expect("one is preferred");
            counts[index] += 1;
            self.begin_call(index);
        }
        counts
    }

    fn begin_call(&mut self, index: usize) {
        self.calls += 1;
        let Server { latency, fails } = self.servers[index];
        let burden = Burden::new(Arc::clone(self.candidates[index].load()), self.now);
        let is_success = self.calls % 100 >= fails;
        let latency = if is_success { latency } else { Duration::ZERO };
        let at = (self.now + latency, self.calls);
        self.pending.insert(at, (burden, is_success));
    }

    fn end_calls(&mut self) {
        while let Some(first) = self.pending.first_entry()
            && first.key().0 <= self.now
        {
            let ((at, _), (burden, is_success)) = first.remove_entry();
            burden.ended(is_success, at);
        }
    }
}
