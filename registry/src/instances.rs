//! The instances of a service, as they come and go.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt, stream};
use switchboard_resolver::{Cause, Update};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    Instance, NameError, Registry, ServiceName,
    watch::Freshness,
    watcher::{Listing, View, Watcher},
};

/// How long the first list may take: longer than etcd needs to elect a leader.
const FIRST_SNAPSHOT: Duration = Duration::from_secs(10);

/// The instances of one service: the last snapshot, and what changes.
///
/// It follows etcd for as long as it lives. While etcd is away the last snapshot stays, and
/// [`staleness`](Self::staleness) says so. As a [`Stream`] it yields the snapshot there is, and then
/// each new one; a slow reader sees the newest only.
pub struct Instances {
    service: ServiceName,
    view: watch::Receiver<View<Arc<Instance>>>,
    stream: Pin<Box<dyn Stream<Item = Snapshot> + Send + Sync>>,
    _stop: DropGuard,
    /// Following goes on while this lives, whatever becomes of the other handles.
    _registry: Registry,
}

/// All instances of a service at one revision of etcd. Cheap to clone.
#[derive(Clone)]
pub struct Snapshot(Arc<Listing<Arc<Instance>>>);

impl Snapshot {
    /// Returns the revision of etcd at which this was so.
    pub fn revision(&self) -> i64 {
        self.0.revision
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
    /// The service's name is none.
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
    /// The registry was closed.
    #[error("the registry is closed")]
    Closed,
}

impl Instances {
    /// Begins to follow.
    fn start(registry: &Registry, service: ServiceName) -> Self {
        let shared = &registry.shared;
        let (layout, name) = (shared.layout, service.clone());
        let prefix = layout.prefix(&shared.namespace, &service);
        let decode = move |_key: &[u8], value: &[u8]| Ok(Arc::new(layout.decode(&name, value)?));
        let (watcher, view) = Watcher::new(shared.etcd.clone(), prefix, Box::new(decode));
        let stop = CancellationToken::new();
        shared.tasks.spawn_on(
            watcher.run([stop.clone(), shared.ending.asked.clone()]),
            &shared.runtime,
        );
        let stream = Box::pin(snapshots(view.clone()));
        Self {
            service,
            view,
            stream,
            _stop: stop.drop_guard(),
            _registry: registry.clone(),
        }
    }

    /// Begins to follow, and waits for the first snapshot.
    pub(crate) async fn first(
        registry: &Registry,
        service: ServiceName,
    ) -> Result<Self, DiscoverError> {
        let mut instances = Self::start(registry, service.clone());
        let mut view = instances.view.clone();
        let first =
            tokio::time::timeout(FIRST_SNAPSHOT, view.wait_for(|view| view.listing.is_some()))
                .await;
        match first.map(|first| first.is_ok()) {
            Ok(true) => {
                instances.view.mark_unchanged();
                Ok(instances)
            }
            Ok(false) => Err(DiscoverError::Closed),
            Err(elapsed) => {
                let cause = match &instances.view.borrow().freshness {
                    Freshness::Stale {
                        cause: Some(cause), ..
                    } => cause.clone(),
                    _ => Arc::new(elapsed),
                };
                Err(DiscoverError::Unavailable { service, cause })
            }
        }
    }

    /// Returns what feeds a channel with the endpoints of a service.
    pub(crate) fn updates(
        registry: &Registry,
        service: Result<ServiceName, NameError>,
    ) -> impl Stream<Item = Update> + Send + use<> {
        let following = service.map(|service| Self::start(registry, service));
        match following {
            Ok(instances) => {
                let views = WatchStream::new(instances.view.clone());
                let mut shown = None;
                // The handle lives in the closure, and with it what it follows.
                let updates = views.flat_map(move |view| {
                    let _following = &instances;
                    let snapshot = view.news(&shown).map(|listing| {
                        let endpoints = listing
                            .values
                            .iter()
                            .filter_map(|instance| instance.endpoint());
                        Update::Snapshot(endpoints.collect())
                    });
                    let freshness = freshness(&view);
                    shown = view.listing;
                    stream::iter(snapshot.into_iter().chain(freshness))
                });
                updates.left_stream()
            }
            Err(error) => stream::iter([Update::Failed {
                cause: Arc::new(error),
            }])
            .right_stream(),
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
            Freshness::Stale {
                since: Some(since),
                cause: Some(cause),
            } => Some(Staleness {
                since: *since,
                cause: cause.clone(),
            }),
            _ => None,
        }
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

fn freshness(view: &View<Arc<Instance>>) -> Option<Update> {
    match (&view.freshness, &view.listing) {
        (Freshness::Fresh, _) => Some(Update::Fresh),
        (
            Freshness::Stale {
                since: Some(since),
                cause: Some(cause),
            },
            Some(_),
        ) => Some(Update::Stale {
            since: *since,
            cause: cause.clone(),
        }),
        (
            Freshness::Stale {
                cause: Some(cause), ..
            },
            _,
        ) => Some(Update::Failed {
            cause: cause.clone(),
        }),
        (Freshness::Stale { cause: None, .. }, _) => None,
    }
}
