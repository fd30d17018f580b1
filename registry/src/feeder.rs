//! A task that feeds somebody else's balancer with the instances of a service.

use std::{fmt, panic};

use futures::StreamExt;
use switchboard_resolver::{EndpointChange, EndpointChanges};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{Instances, Registry};

/// Feeds a balancer of another make; begun by [`Instances::feed`].
///
/// It ends when it is closed or dropped, and by itself when the receiver is gone or the registry
/// is closed.
#[must_use = "a feeder that is dropped feeds no more"]
pub struct Feeder {
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl Instances {
    /// Sends what can be dialed of this service, one change at a time, to a balancer of another
    /// make; `map` says what the balancer calls a change.
    ///
    /// First comes all that there is, then what changes, removals first. A receiver that is full is
    /// waited for; then it is sent how what it has differs from what is so by then.
    ///
    /// ```
    /// use switchboard_registry::{Feeder, Registry};
    /// use switchboard_resolver::{EndpointChange, EndpointKey, Security};
    /// use tonic::transport::{Channel, Endpoint, channel::Change};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let etcd = switchboard_embedded::EmbeddedEtcd::start();
    /// # let registry = Registry::builder("etcd:2379")?.connector(etcd.connector()).connect().await?;
    /// let (channel, sender) = Channel::balance_channel::<EndpointKey>(16);
    /// let greeters = registry.discover("greeter").await?;
    /// let feeder = greeters.feed(sender, |change| match change {
    ///     EndpointChange::Insert(key, endpoint) => {
    ///         // Those inside TLS want a `ClientTlsConfig` beside.
    ///         let scheme = match endpoint.security() {
    ///             Some(Security::Tls) => "https",
    ///             _ => "http",
    ///         };
    ///         let uri = format!("{scheme}://{}", endpoint.addresses()[0]);
    ///         Change::Insert(key, Endpoint::from_shared(uri).expect("an address is an authority"))
    ///     }
    ///     EndpointChange::Remove(key) => Change::Remove(key),
    /// });
    /// # drop(channel);
    /// # feeder.close().await;
    /// # Ok(()) }
    /// ```
    pub fn feed<T, M>(self, sender: mpsc::Sender<T>, map: M) -> Feeder
    where
        T: Send + 'static,
        M: FnMut(EndpointChange) -> T + Send + 'static,
    {
        let Registry { shared, .. } = self.registry().clone();
        let stop = shared.ending.asked.child_token();
        let feeding = feed(self.endpoint_changes(), sender, map, stop.clone());
        Feeder {
            stop: stop.drop_guard(),
            task: shared.tasks.spawn_on(feeding, &shared.runtime),
        }
    }
}

impl Feeder {
    /// Ends it, and waits until it has.
    ///
    /// # Panics
    ///
    /// If the closure that maps changes has panicked.
    ///
    /// # Cancel safety
    ///
    /// Once polled it ends all the same; only the waiting is given up.
    pub async fn close(self) {
        drop(self.stop);
        if let Err(ended) = self.task.await
            && let Ok(panicked) = ended.try_into_panic()
        {
            panic::resume_unwind(panicked);
        }
    }
}

impl fmt::Debug for Feeder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feeder")
            .field("has_ended", &self.task.is_finished())
            .finish_non_exhaustive()
    }
}

async fn feed<T>(
    mut changes: EndpointChanges,
    sender: mpsc::Sender<T>,
    mut map: impl FnMut(EndpointChange) -> T,
    stop: CancellationToken,
) {
    loop {
        let change = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            () = sender.closed() => None,
            change = changes.next() => change,
        };
        let Some(change) = change else { return };
        let is_sent = tokio::select! {
            biased;
            () = stop.cancelled() => false,
            sent = sender.send(map(change)) => sent.is_ok(),
        };
        if !is_sent {
            return;
        }
    }
}
