//! A tonic server that is published while it serves, and stops without a failed call.

mod closable;
mod drain;
mod incoming;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    future::{Future, IntoFuture},
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use bytes::Bytes;
use futures::{
    TryStreamExt,
    future::{BoxFuture, join_all, try_join_all},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    body::Body,
    service::Routes,
    transport::server::{Connected, Router},
};
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tower::{Layer, Service};

use self::closable::Closable;
pub(crate) use self::drain::Phase;
pub use self::{drain::Drain, incoming::Incoming};
use crate::{
    Instance, PublicationStatus, PublishError, Publisher, Registry, ServiceName,
    metrics::ServerMetrics,
};

type Serving = BoxFuture<'static, Result<(), tonic::transport::Error>>;
/// Given the health service to add, begins to serve; tokens say goodbye, and end by force.
type Start = dyn FnOnce(Option<HealthServer<HealthService>>, CancellationToken, CancellationToken) -> Serving
    + Send;

type OnPublished = Box<dyn FnOnce() + Send>;

/// A server that is about to serve and to be published; made by [`Registry::serve`], begun by
/// awaiting it.
///
/// # Errors
///
/// Awaited, it fails if the instance cannot be published, or is not in the time that was required;
/// or if tonic stops serving. etcd being away is no error.
///
/// To spawn it: `tokio::spawn(async { serve.await })`, or its
/// [`into_future`](IntoFuture::into_future).
///
/// # Cancel safety
///
/// Dropped, it stops serving at once, and takes the instance out of etcd in the background.
#[must_use = "a server does nothing until it is awaited"]
pub struct Serve {
    registry: Registry,
    instance: Instance,
    /// Where else it is published, and as what.
    besides: Vec<(Registry, Instance)>,
    start: Box<Start>,
    reporter: Option<HealthReporter>,
    require_published: Option<Duration>,
    on_published: OnPublished,
    signal: BoxFuture<'static, ()>,
    drain: Drain,
}

/// Why a server did not serve, or not to the end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The instance cannot be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// It was required that the instance is published within this time, and it was not.
    #[error("not published after {0:?} (expected: in etcd by then)")]
    NotPublished(Duration),
    /// tonic stopped serving.
    #[error("cannot serve")]
    Serve(#[from] tonic::transport::Error),
}

impl Registry {
    /// Serves `router` on `listener`, and publishes `instance` while it does. The listener is a
    /// [`TcpListener`](tokio::net::TcpListener), or any other [`Incoming`].
    ///
    /// In this order: it listens, its health is SERVING, it is published. Without etcd it serves
    /// all the same, and is published when etcd is there. With
    /// [`with_graceful_shutdown`](Serve::with_graceful_shutdown) it stops in the reverse order; see
    /// [`Drain`].
    ///
    /// It takes the handle, and closes the registry when the server has stopped, unless other
    /// handles are left: clones, publishers, those who follow, channels that were dialed with it.
    ///
    /// ```
    /// use switchboard_registry::{Instance, Registry, terminate};
    /// use tokio::net::TcpListener;
    /// use tonic::transport::server::Router;
    ///
    /// async fn serve(registry: Registry, router: Router) -> Result<(), Box<dyn std::error::Error>> {
    ///     let listener = TcpListener::bind("10.0.0.7:50051").await?;
    ///     let instance = Instance::new("greeter", "10.0.0.7:50051")?;
    ///     let serve = registry.serve(instance, router, listener);
    ///     serve.with_graceful_shutdown(terminate()).await?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// When awaited, if `router` already has a health service: give its reporter with
    /// [`health_reporter`](Serve::health_reporter).
    pub fn serve<L, ResBody, Io>(
        self,
        instance: Instance,
        router: Router<L>,
        listener: impl Into<Incoming<Io>>,
    ) -> Serve
    where
        Io: AsyncRead + AsyncWrite + Connected + Send + Unpin + 'static,
        L: Layer<Routes> + Send + 'static,
        L::Service: Service<http::Request<Body>, Response = http::Response<ResBody>>
            + Clone
            + Send
            + 'static,
        <L::Service as Service<http::Request<Body>>>::Future: Send,
        <L::Service as Service<http::Request<Body>>>::Error: Into<tower::BoxError> + Send,
        ResBody: http_body::Body<Data = Bytes> + Send + 'static,
        ResBody::Error: Into<tower::BoxError>,
    {
        let incoming = listener.into();
        let start = |health, goaway: CancellationToken, force: CancellationToken| -> Serving {
            let router = with_health(router, health);
            let incoming = incoming.map_ok(move |io| Closable::new(io, force.clone()));
            Box::pin(router.serve_with_incoming_shutdown(incoming, goaway.cancelled_owned()))
        };
        Serve {
            registry: self,
            instance,
            besides: Vec::new(),
            start: Box::new(start),
            reporter: None,
            require_published: None,
            on_published: Box::new(|| {}),
            signal: Box::pin(std::future::pending()),
            drain: Drain::default(),
        }
    }
}

impl Serve {
    /// Stops, gracefully, once `signal` is ready; [`terminate`](crate::terminate) is such a signal. Its
    /// output is `()`: wrap others in `async { ... }`.
    pub fn with_graceful_shutdown(
        mut self,
        signal: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        self.signal = Box::pin(signal);
        self
    }

    /// Sets how long the parts of a graceful stop may take.
    pub fn drain(mut self, drain: Drain) -> Self {
        self.drain = drain;
        self
    }

    /// Publishes the server in one more place: in another layout, under another name, in another etcd. There it
    /// comes and goes together with its first record.
    ///
    /// ```
    /// use switchboard_registry::{Instance, Layout, Registry, terminate};
    /// use tokio::net::TcpListener;
    /// use tonic::transport::server::Router;
    ///
    /// async fn serve(registry: Registry, router: Router) -> Result<(), Box<dyn std::error::Error>> {
    ///     let listener = TcpListener::bind("10.0.0.7:50051").await?;
    ///     let instance = Instance::new("greeter", "10.0.0.7:50051")?;
    ///     // Where clients of go-zero look: `greeter.rpc/<id>`. Both records are under one lease.
    ///     let go_zero = registry.with_layout(Layout::go_zero());
    ///     let of_go_zero = Instance::new("greeter.rpc", "10.0.0.7:50051")?;
    ///     registry
    ///         .serve(instance, router, listener)
    ///         .also_published(go_zero, of_go_zero)
    ///         .with_graceful_shutdown(terminate())
    ///         .await?;
    ///     Ok(())
    /// }
    /// ```
    pub fn also_published(mut self, registry: Registry, instance: Instance) -> Self {
        self.besides.push((registry, instance));
        self
    }

    /// Fails if the instance is not published everywhere within that time. Otherwise etcd being away never
    /// keeps a server from serving.
    pub fn require_published(mut self, limit: Duration) -> Self {
        self.require_published = Some(limit);
        self
    }

    /// Calls `told` when the instance has been in etcd everywhere.
    pub fn on_published(mut self, told: impl FnOnce() + Send + 'static) -> Self {
        self.on_published = Box::new(told);
        self
    }

    /// Reports health to the caller's own health service, which is in the router already, instead of
    /// adding one. Two on one router panic.
    ///
    /// Only the health of the whole server, the service `""`, is set; what the caller says of
    /// single services stays.
    pub fn health_reporter(mut self, reporter: HealthReporter) -> Self {
        self.reporter = Some(reporter);
        self
    }

    async fn run(self) -> Result<(), ServeError> {
        let (reporter, health) = match self.reporter {
            Some(reporter) => (reporter, None),
            None => {
                let reporter = HealthReporter::new();
                let service = HealthService::from_health_reporter(reporter.clone());
                (reporter, Some(HealthServer::new(service)))
            }
        };
        let (goaway, force) = (CancellationToken::new(), CancellationToken::new());
        // Dropping what serves leaves its connections to themselves, with all the time in the
        // world.
        let _force = force.clone().drop_guard();
        let mut serving = (self.start)(health, goaway.clone(), force.clone());

        let service = self.instance.service().clone();
        let metrics = ServerMetrics::new(&service);
        metrics.show(Phase::Serving);
        let registries: Vec<Registry> = std::iter::once(&self.registry)
            .chain(self.besides.iter().map(|(registry, _)| registry))
            .cloned()
            .collect();
        let mut places = vec![(self.registry, self.instance)];
        places.extend(self.besides);
        let lifetime = Lifetime {
            service: service.clone(),
            places,
            health: reporter,
            require_published: self.require_published,
            drain: self.drain,
            goaway,
            force,
            metrics: &metrics,
        };
        let served = tokio::select! {
            served = &mut serving => served.map_err(ServeError::from),
            ended = lifetime.run(self.signal, self.on_published) => match ended {
                // Its connections have ended, or are ending by force.
                Ok(()) => serving.await.map_err(ServeError::from),
                Err(error) => Err(error),
            },
        };
        // Of several handles on one registry the last one closes it.
        let closing = registries.into_iter().filter(Registry::is_last);
        join_all(closing.map(|registry| close(registry, self.drain.revoke))).await;
        if served.is_ok() {
            tracing::info!(name: "drain", %service, phase = "end", "stopped serving");
        }
        served
    }
}

/// Closes a registry that nobody else has.
async fn close(registry: Registry, limit: Duration) {
    let has_lease = registry.shared.has_lease();
    let closed = tokio::time::timeout(limit, registry.close()).await;
    if closed.is_err() && has_lease {
        tracing::warn!(name: "lease_not_revoked", "etcd did not answer; the TTL does the rest");
    }
}

/// Adds the health service, unless the caller has one. A router cannot be asked what it holds, and what
/// it panics with where it holds one already names neither the reason nor the way out.
fn with_health<L>(router: Router<L>, health: Option<HealthServer<HealthService>>) -> Router<L> {
    let add = AssertUnwindSafe(|| router.add_optional_service(health));
    catch_unwind(add).unwrap_or_else(|_| {
        panic!(
            "invalid router: with a health service (expected: without, or its reporter given with \
             `Serve::health_reporter`)"
        )
    })
}

/// What happens beside the serving.
struct Lifetime<'a> {
    service: ServiceName,
    places: Vec<(Registry, Instance)>,
    health: HealthReporter,
    require_published: Option<Duration>,
    drain: Drain,
    goaway: CancellationToken,
    force: CancellationToken,
    metrics: &'a ServerMetrics,
}

impl Lifetime<'_> {
    /// Publishes until `signal`, then drains. Returns when the last connection has been told to
    /// end.
    async fn run(
        self,
        signal: BoxFuture<'static, ()>,
        on_published: OnPublished,
    ) -> Result<(), ServeError> {
        // In gRPC's health protocol, "" is the server as a whole.
        self.health
            .set_service_status("", ServingStatus::Serving)
            .await;
        let publish =
            |(registry, instance): &(Registry, Instance)| registry.publish(instance.clone());
        let publishers: Vec<Publisher> =
            self.places.iter().map(publish).collect::<Result<_, _>>()?;
        let publishing = async {
            if let Some(limit) = self.require_published {
                let published = try_join_all(publishers.iter().map(Publisher::published));
                match tokio::time::timeout(limit, published).await {
                    Ok(published) => published.map(drop)?,
                    Err(_) => return Err(ServeError::NotPublished(limit)),
                }
            }
            // What is refused is in the log, and may still be granted.
            let published = join_all(publishers.iter().map(has_been_published)).await;
            if !published.contains(&false) {
                on_published();
            }
            std::future::pending().await
        };
        tokio::select! {
            () = signal => {}
            failed = publishing => return failed,
        }
        self.stop(publishers, Instant::now()).await;
        Ok(())
    }

    /// The way out.
    async fn stop(self, publishers: Vec<Publisher>, signalled: Instant) {
        let (service, drain) = (&self.service, self.drain);
        self.metrics.show(Phase::Deregister);
        tracing::info!(name: "drain", %service, phase = "deregister", "stopping");
        let limit = drain.deregistered_by();
        let take_out = |publisher| take_out(publisher, service, limit);
        join_all(publishers.into_iter().map(take_out)).await;
        self.health
            .set_service_status("", ServingStatus::NotServing)
            .await;

        self.metrics.show(Phase::Linger);
        tracing::info!(name: "drain", %service, phase = "linger", "serving those who have not heard");
        sleep_until(signalled, drain.goaway_at()).await;

        self.metrics.show(Phase::Finish);
        tracing::info!(name: "drain", %service, phase = "finish", "finishing calls");
        self.goaway.cancel();
        sleep_until(signalled, drain.forced_at()).await;

        self.metrics.show(Phase::Force);
        tracing::warn!(name: "drain", %service, phase = "force", "calls were still in flight");
        self.force.cancel();
    }
}

/// Waits until an instance is in etcd; returns whether it ever was.
async fn has_been_published(publisher: &Publisher) -> bool {
    let mut status = publisher.status();
    let is_published = |status: &_| matches!(status, PublicationStatus::Published { .. });
    status.wait_for(is_published).await.is_ok()
}

/// Takes an instance out of etcd, as long as that may take.
async fn take_out(publisher: Publisher, service: &ServiceName, limit: Duration) {
    match tokio::time::timeout(limit, publisher.stop()).await {
        Ok(Ok(())) => {}
        Ok(Err(cause)) => {
            tracing::warn!(name: "not_deregistered", %service, %cause, "still in etcd; the lease does the rest")
        }
        Err(_) => {
            tracing::warn!(name: "not_deregistered", %service, "etcd did not answer; the lease does the rest")
        }
    }
}

/// Waits until `after` has passed since `start`, however long that is.
async fn sleep_until(start: Instant, after: Duration) {
    tokio::time::sleep(after.saturating_sub(start.elapsed())).await;
}

impl IntoFuture for Serve {
    type Output = Result<(), ServeError>;
    type IntoFuture = BoxFuture<'static, Result<(), ServeError>>;

    /// Serves until the signal has come and the last call has ended.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Serve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}
