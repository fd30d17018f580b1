//! Calls without end, and what came of them.

use std::{collections::BTreeMap, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::Client;
use crate::go::LIMIT;

/// The time from one call to the next, in which a server that is restarted gets on.
const PACE: Duration = Duration::from_millis(5);

/// A client that calls without end, which stops when this is dropped.
pub(crate) struct Caller {
    calls: watch::Receiver<Calls>,
    _calling: JoinSet<()>,
}

/// What came of the calls so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calls {
    /// When the last call was made that this server answered.
    last: BTreeMap<String, Instant>,
    pub(crate) failures: Vec<String>,
}

impl Caller {
    pub(crate) fn start(mut client: Client) -> Self {
        let (sender, calls) = watch::channel(Calls::default());
        let mut calling = JoinSet::new();
        calling.spawn(async move {
            while !sender.is_closed() {
                let made = Instant::now();
                let outcome = client.greet("you").await;
                sender.send_modify(|calls| match outcome {
                    Ok(reply) => {
                        calls.last.insert(reply.served_by, made);
                    }
                    Err(failure) => calls.failures.push(failure),
                });
                sleep(PACE).await;
            }
        });
        Self {
            calls,
            _calling: calling,
        }
    }

    /// Waits until each of these servers has answered a call that is made from now on.
    pub(crate) async fn reach_all(&mut self, addresses: &[&str]) {
        let now = Instant::now();
        let are_reached = |calls: &Calls| {
            let mut last = addresses.iter().map(|it| calls.last.get(*it));
            last.all(|made| made.is_some_and(|made| *made >= now))
        };
        let reached = timeout(LIMIT, self.calls.wait_for(are_reached)).await;
        let is_reached = matches!(reached, Ok(Ok(_)));
        drop(reached);
        assert!(is_reached, "not all of {addresses:?}: {:#?}", self.so_far());
    }

    /// Returns when the last call was made that this server answered.
    pub(crate) fn last(&self, address: &str) -> Instant {
        let calls = self.calls.borrow();
        *calls.last.get(address).expect("it was called once")
    }

    /// Returns what came of the calls so far.
    pub(crate) fn so_far(&self) -> Calls {
        self.calls.borrow().clone()
    }
}
