//! What feeds a channel.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use futures::Stream;

use crate::{Cause, Endpoint, OrElse};

/// What a [`Source`] says of the endpoints behind a name.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Update {
    /// All endpoints there are now; what an earlier snapshot named and this one does not has
    /// vanished.
    Snapshot(Vec<Endpoint>),
    /// The endpoints cannot be found out. An earlier snapshot stays in use.
    Failed {
        /// What stands in the way.
        cause: Cause,
    },
    /// The last snapshot may be out of date.
    Stale {
        /// When the source was last known to be right.
        since: Instant,
        /// What stands in the way.
        cause: Cause,
    },
    /// The last snapshot is right again.
    Fresh,
}

/// What feeds a channel: something that tells [`Update`]s, such as a registry, DNS, or a fixed list.
///
/// Every `Stream` of updates is one. A source that can look sooner than it would by itself, such as
/// [`Dns`](crate::Dns), implements the trait instead, for [`resolve_now`](Self::resolve_now).
///
/// The channel polls it for as long as it lives. A source that ends leaves the last snapshot in
/// use, which is shown as [`SourceState::Ended`](crate::SourceState::Ended): nobody says any more
/// whether it is right.
///
/// ```
/// use switchboard_resolver::{Dns, Fixed, Source, WatchedFile};
///
/// // Whoever runs the program may name servers in a file; otherwise DNS does, or else there are two
/// // that are known to exist.
/// let source = WatchedFile::new("/etc/greeter/servers.json")
///     .or_else(Dns::new("greeter.example:50051")?)
///     .or_else(Fixed::new(["10.0.0.1:50051", "10.0.0.2:50051"])?);
/// # drop(source);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Source: Send + 'static {
    /// Returns the next update, if there is one; `None` once there will be none any more, and then
    /// it is polled no more. The contract is that of a stream's `poll_next`.
    fn poll_update(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Update>>;

    /// Hints that what the source said may be out of date: an endpoint began to fail, or a
    /// connection was lost. gRPC calls it `ResolveNow`.
    ///
    /// It is called between two polls, as often as such things happen, and the source is polled again
    /// soon. How often it looks is for the source to limit: when all servers are down, it is asked all
    /// the time. One that is told of changes anyway has nothing to do, as here.
    fn resolve_now(self: Pin<&mut Self>) {}

    /// Uses `second` for as long as this one has no endpoints; see [`OrElse`].
    fn or_else(self, second: impl Source) -> OrElse
    where
        Self: Sized,
    {
        OrElse::new(self, second)
    }
}

impl<S: Stream<Item = Update> + Send + 'static> Source for S {
    fn poll_update(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        self.poll_next(cx)
    }
}

/// For those who choose their source when they run.
///
/// ```
/// use std::pin::Pin;
/// use switchboard_resolver::{Channel, Dns, Fixed, Source};
///
/// # fn source(is_local: bool) -> Result<(), Box<dyn std::error::Error>> {
/// let source: Pin<Box<dyn Source>> = match is_local {
///     true => Box::pin(Fixed::new(["127.0.0.1:50051"])?),
///     false => Box::pin(Dns::new("greeter.example:50051")?),
/// };
/// let builder = Channel::builder(source);
/// # drop(builder);
/// # Ok(()) }
/// ```
impl Source for Pin<Box<dyn Source>> {
    fn poll_update(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        (*self).as_mut().poll_update(cx)
    }

    fn resolve_now(mut self: Pin<&mut Self>) {
        (*self).as_mut().resolve_now();
    }
}
