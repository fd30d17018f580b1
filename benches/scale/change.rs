//! One change of many endpoints that are all READY.

use std::{sync::Arc, time::Duration};

use switchboard::{Channel, ChannelState, Condition, Endpoint, Update};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::{
    cpu::cpu,
    median::{median, sorted},
    report::Report,
};

/// How long after a change is seen its last consequences are waited for.
const AFTERMATH: Duration = Duration::from_millis(5);

/// Measures the time of this process that a change takes, in microseconds.
pub(crate) async fn run(addresses: &[String], rounds: usize, report: &mut Report) {
    let all: Vec<_> = addresses
        .iter()
        .map(|address| Endpoint::new(address.parse().unwrap()))
        .collect();
    let (source, updates) = mpsc::unbounded_channel();
    let channel = Channel::builder(UnboundedReceiverStream::new(updates));
    let channel = channel.connect_lazy().unwrap();
    let mut changed = Changed {
        source,
        states: channel.watch_state(),
    };
    changed.to(all.clone(), |_| true).await;

    let (mut removed, mut added, mut other_metadata) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let index = round * 7 % all.len();
        let mut others = all.clone();
        others.remove(index);
        removed.push(changed.to(others, |_| true).await);
        added.push(changed.to(all.clone(), |_| true).await);
        let mut new = all.clone();
        let zone = round.to_string();
        new[index] = new[index].clone().with_metadata("zone", &*zone);
        let shows = |state: &ChannelState| {
            let mut endpoints = state.endpoints.iter();
            endpoints.any(|it| it.metadata.get("zone") == Some(&zone))
        };
        other_metadata.push(changed.to(new, shows).await);
        changed.to(all.clone(), |state| !shows(state)).await;
    }
    channel.close().await;
    for (case, times) in [
        ("an endpoint goes", removed),
        ("an endpoint comes, and is READY", added),
        ("an endpoint has other metadata", other_metadata),
    ] {
        let case = format!("{case}, of {}", all.len());
        report.figure(
            &case,
            Some(median(&sorted(times))),
            "us of CPU",
            Some(1000.0),
        );
    }
}

/// A channel whose endpoints change.
struct Changed {
    source: mpsc::UnboundedSender<Update>,
    states: watch::Receiver<Arc<ChannelState>>,
}

impl Changed {
    /// Has these endpoints, and waits until all are READY and `shows` the rest. Returns how many
    /// microseconds of this process's time that took.
    async fn to(&mut self, endpoints: Vec<Endpoint>, shows: impl Fn(&ChannelState) -> bool) -> f64 {
        let count = endpoints.len();
        let before = cpu();
        self.source.send(Update::Snapshot(endpoints)).unwrap();
        let is_so = |state: &Arc<ChannelState>| {
            state.endpoints.len() == count
                && state
                    .endpoints
                    .iter()
                    .all(|it| it.condition == Condition::Ready)
                && shows(state)
        };
        self.states.wait_for(is_so).await.unwrap();
        sleep(AFTERMATH).await;
        (cpu() - before).as_secs_f64() * 1e6
    }
}
