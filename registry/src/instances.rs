//! The instances of a service, as they come and go.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt, stream};
use switchboard_resolver::{Cause, EndpointChanges, Update};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;

use crate::{
    Instance, NameError, Registry, ServiceName,
    following::Following,
    watch::Freshness,
    watcher::{Listing, View},
};

/// How long the first list may take: longer than etcd needs to elect a leader.
const FIRST_SNAPSHOT: Duration = Duration::from_secs(10);

/// The instances of one service: the last snapshot, and what changes.
///
/// It follows etcd for as long as it lives. While etcd is away the last snapshot stays, and
/// [`staleness`](Self::staleness) says so. As a [`Stream`] it yields the snapshot there is, and
/// then each new one; a slow reader sees the newest only. The stream and [`changed`](Self::changed)
/// do not know of each other: each tells of every change.
///
/// ```
/// use switchboard_registry::{Instance, Registry};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let etcd = switchboard_embedded::EmbeddedEtcd::start();
/// # let registry = Registry::builder("etcd:2379")?.connector(etcd.connector()).connect().await?;
/// let mut greeters = registry.discover("greeter").await?;
/// assert_eq!(greeters.snapshot().instances().len(), 0);
///
/// let publisher = registry.publish(Instance::new("greeter", "10.0.0.7:50051")?)?;
/// greeters.changed().await?;
/// for instance in greeters.snapshot().instances() {
///     assert_eq!(instance.origins()[0].to_string(), "grpc://10.0.0.7:50051");
/// }
/// # assert_eq!(greeters.snapshot().instances().len(), 1);
/// # Ok(()) }
/// ```
#[must_use = "whoever drops it no longer follows"]
pub struct Instances {
    service: ServiceName,
    following: Arc<Following>,
    view: watch::Receiver<View<Arc<Instance>>>,
    stream: Pin<Box<dyn Stream<Item = Snapshot> + Send + Sync>>,
}

/// All instances of a service at one revision of etcd. Cheap to clone.
///
/// While an etcd that came back without its data fills again, those that it held before are in it
/// too, and it is [stale](Instances::staleness). They go when 10 s have passed.
#[derive(Clone)]
pub struct Snapshot(Arc<Listing<Arc<Instance>>>);

impl Snapshot {
    /// Returns the revision of etcd at which this was so.
    pub fn revision(&self) -> i64 {
        self.0.revision
    }

    /// Returns how many records of the service were left out since they could not be read. Each is
    /// in the log once, with the reason.
    pub fn rejected(&self) -> usize {
        self.0.rejected
    }

    /// Returns the instances, in the order of their keys.
    pub fn instances(&self) -> impl ExactSizeIterator<Item = &Instance> {
        self.0.values.iter().map(Arc::as_ref)
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("revision", &self.0.revision)
            .field("instances", &self.0.values)
            .field("rejected", &self.0.rejected)
            .finish()
    }
}

/// Since when, and why, a snapshot may be out of date.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Staleness {
    /// When the snapshot was last known to be right.
    pub since: Instant,
    /// What stands in the way.
    pub cause: Cause,
}

/// Why the instances of a service cannot be followed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoverError {
    /// The service's name is invalid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The first snapshot could not be read within 10 s.
    #[error("cannot list the instances of {service}")]
    Unavailable {
        /// The service.
        service: ServiceName,
        /// What stands in the way.
        #[source]
        cause: Cause,
    },
    /// etcd does not let us, until somebody changes that: it wants another user or password, the
    /// user lacks a permission, or it is no etcd.
    #[error("etcd refuses to list the instances of {service}")]
    Denied {
        /// The service.
        service: ServiceName,
        /// What etcd says.
        #[source]
        cause: Cause,
    },
    /// The registry was closed.
    #[error("the registry is closed")]
    Closed,
}

/// Returns what feeds a channel with the endpoints of a service.
pub(crate) fn updates(
    registry: &Registry,
    service: Result<ServiceName, NameError>,
) -> impl Stream<Item = Update> + Send + use<> {
    match service {
        Ok(service) => updates_of(Following::of(registry, &service)).right_stream(),
        Err(error) => {
            let cause = Arc::new(error);
            stream::iter([Update::Failed { cause }]).left_stream()
        }
    }
}

/// Returns what is followed, from the view that there is now on.
fn updates_of(following: Arc<Following>) -> impl Stream<Item = Update> + Send {
    let mut shown = None;
    WatchStream::new(following.view()).flat_map(move |view| {
        // It lives in the closure, as long as the stream.
        let _following = &following;
        let snapshot = view.news(&shown).map(|listing| {
            let endpoints = listing.values.iter();
            Update::Snapshot(endpoints.flat_map(|it| it.to_endpoints()).collect())
        });
        let freshness = match &view.freshness {
            Freshness::Unread { cause } => cause.clone().map(|cause| Update::Failed { cause }),
            Freshness::Denied { cause } => Some(Update::Failed {
                cause: cause.clone(),
            }),
            Freshness::Fresh => Some(Update::Fresh),
            Freshness::Stale { since, cause } => Some(Update::Stale {
                since: *since,
                cause: cause.clone(),
            }),
        };
        shown = view.listing;
        stream::iter(snapshot.into_iter().chain(freshness))
    })
}

impl Instances {
    /// Begins to follow, and waits for the first snapshot.
    pub(crate) async fn first(
        registry: &Registry,
        service: ServiceName,
    ) -> Result<Self, DiscoverError> {
        let following = Following::of(registry, &service);
        let mut view = following.view();
        let is_settled = |view: &View<_>| view.listing.is_some() || view.refusal().is_some();
        let first = tokio::time::timeout(FIRST_SNAPSHOT, view.wait_for(is_settled)).await;
        match first.map(|first| first.map(|view| view.refusal())) {
            Ok(Ok(None)) => Ok(Self {
                service,
                stream: Box::pin(snapshots(following.view())),
                view,
                following,
            }),
            Ok(Ok(Some(cause))) => Err(DiscoverError::Denied { service, cause }),
            Ok(Err(_)) => Err(DiscoverError::Closed),
            Err(elapsed) => {
                let cause = match &view.borrow().freshness {
                    Freshness::Unread { cause: Some(cause) } => cause.clone(),
                    _ => Arc::new(elapsed),
                };
                Err(DiscoverError::Unavailable { service, cause })
            }
        }
    }

    /// Returns the service that is followed.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Returns the last snapshot.
    pub fn snapshot(&self) -> Snapshot {
        let listing = self.view.borrow().listing.clone();
        Snapshot(listing.expect("a handle is given out when the first snapshot has been read"))
    }

    /// Returns since when the snapshot may be out of date; `None` while it is known to be right.
    pub fn staleness(&self) -> Option<Staleness> {
        match &self.view.borrow().freshness {
            Freshness::Stale { since, cause } => Some(Staleness {
                since: *since,
                cause: cause.clone(),
            }),
            Freshness::Fresh | Freshness::Unread { .. } | Freshness::Denied { .. } => None,
        }
    }

    /// Makes single changes of the snapshots, from the one that there is now on: all that can be
    /// dialed of this service, for balancers other than [`dial`](Registry::dial)'s.
    ///
    /// See [`EndpointChanges`] for how it becomes tower's `Discover`, and [`feed`](Self::feed) for a
    /// task that sends the changes.
    pub fn endpoint_changes(self) -> EndpointChanges {
        EndpointChanges::new(updates_of(self.following))
    }

    pub(crate) fn registry(&self) -> &Registry {
        self.following.registry()
    }

    /// Waits until the snapshot or its staleness has changed since this last returned, and returns
    /// the snapshot.
    ///
    /// # Errors
    ///
    /// The registry was closed.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it misses nothing: the next call returns at once.
    pub async fn changed(&mut self) -> Result<Snapshot, DiscoverError> {
        self.view
            .changed()
            .await
            .map_err(|_| DiscoverError::Closed)?;
        Ok(self.snapshot())
    }
}

impl Stream for Instances {
    type Item = Snapshot;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Snapshot>> {
        self.stream.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for Instances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instances")
            .field("service", &self.service)
            .field("view", &*self.view.borrow())
            .finish()
    }
}

/// The snapshots there are, each once.
fn snapshots(
    view: watch::Receiver<View<Arc<Instance>>>,
) -> impl Stream<Item = Snapshot> + Send + Sync {
    let mut shown = None;
    WatchStream::new(view).filter_map(move |view| {
        let news = view.news(&shown);
        shown = view.listing;
        std::future::ready(news.map(Snapshot))
    })
}
