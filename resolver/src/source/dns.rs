//! The addresses behind a DNS name.

mod answer;
mod schedule;
mod system;

use std::{
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};

pub use self::answer::DnsError;
use self::schedule::Schedule;
use super::{teller::Teller, within_reason};
use crate::{Address, AddressError, Cause, Endpoint, Source, Update};

/// The addresses behind a DNS name, as a [`Source`]: each is an endpoint of its own.
///
/// The name is looked up when the channel begins, then every 30 s, and sooner when an endpoint begins
/// to fail or loses its connection, though never within 5 s of the last time. (gRPC looks a name up
/// when connections fail and at no other time, so that servers which were added get no calls.) A
/// failed lookup is repeated in growing waits, from 5 s up to the interval.
///
/// What cannot be looked up leaves the last good addresses in use, as
/// [`Stale`](Update::Stale); and so does an answer without any address, with one that no server can
/// have (`0.0.0.0`, `::`), or with more than 1000. The status says which, with a [`DnsError`] as its
/// cause. A name is also gone from DNS while none of its servers is ready, as behind a headless service of
/// Kubernetes: then the old addresses stay too, and calls fail with what connecting to them comes
/// to.
///
/// - The order of the answers means nothing: a server that rotates them changes nothing.
/// - IPv4 and IPv6 addresses of one server cannot be told from those of two, and count as two. Calls go
///   to those that can be reached.
/// - Certificates are expected to be for the address that is dialed, not for the name, unless
///   `Tls::server_name` says so.
///
/// Lookups are the operating system's, with its hosts file and search domains, on threads of their
/// own; [`with_lookup`](Self::with_lookup) takes any other. Nothing begins before the channel does, so
/// that no runtime is needed here.
///
/// ```
/// use std::time::Duration;
/// use switchboard_resolver::{Channel, Dns};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let greeters = Dns::new("greeter.default.svc.cluster.local:50051")?
///     .interval(Duration::from_secs(10))
///     .max_endpoints(50);
/// let channel = Channel::builder(greeters).name("greeter").connect_lazy()?;
/// # channel.close().await;
/// # Ok(()) }
/// ```
#[must_use = "a source does nothing unless a channel polls it"]
pub struct Dns {
    name: Address,
    settings: Settings,
    lookup: Lookup,
    seed: Option<u64>,
    /// Where it is said that the last answer is in doubt.
    asked: Arc<Notify>,
    /// `None` before it is polled first.
    updates: Option<BoxStream<'static, Update>>,
}

type Lookup =
    Arc<dyn Fn(Address) -> BoxFuture<'static, Result<Vec<SocketAddr>, LookupError>> + Send + Sync>;

type LookupError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Clone, Copy)]
struct Settings {
    interval: Duration,
    min_interval: Duration,
    timeout: Duration,
    max_endpoints: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            min_interval: Duration::from_secs(5),
            timeout: Duration::from_secs(20),
            max_endpoints: 1000,
        }
    }
}

impl Dns {
    /// Follows a name and the port at which its servers listen, as `host:port`.
    ///
    /// # Errors
    ///
    /// It is not an address, one that nobody can dial (`0.0.0.0:80`), or a Unix socket.
    pub fn new<A>(name: A) -> Result<Self, AddressError>
    where
        A: TryInto<Address>,
        AddressError: From<A::Error>,
    {
        let name = name.try_into()?;
        if name.path().is_some() || name.is_unspecified() {
            return Err(AddressError::unfit(&name, "a DNS name and a port"));
        }
        Ok(Self {
            name,
            settings: Settings::default(),
            lookup: system::lookup(),
            seed: None,
            asked: Arc::default(),
            updates: None,
        })
    }

    /// Sets how long an answer is used until the name is looked up again, give or take a tenth; 30 s
    /// unless set, 100 ms at least.
    ///
    /// As long as it takes until servers that were added get calls. Shorter than the answer's own
    /// time to live it finds nothing new where a cache is in between; and each client asks as often.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.settings.interval = within_reason(interval);
        self
    }

    /// Sets how long after a lookup the next one may be, whoever asks for it; 5 s unless set, 100 ms
    /// at least.
    ///
    /// Without it, a thousand clients that lose a server ask a thousand times at once, and again
    /// whenever they fail to connect.
    pub fn min_interval(mut self, interval: Duration) -> Self {
        self.settings.min_interval = within_reason(interval);
        self
    }

    /// Sets how long an answer is waited for; 20 s unless set, 100 ms at least.
    ///
    /// Systems wait 5 s for each of their name servers before they ask the next; shorter than that,
    /// one that is down makes every lookup fail.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = within_reason(timeout);
        self
    }

    /// Sets how many addresses an answer may have; 1000 unless set, as many as Kubernetes lists.
    ///
    /// Each is a connection and a task. An answer with more is refused rather than cut off, since
    /// each lookup would cut it off elsewhere.
    pub fn max_endpoints(mut self, max: usize) -> Self {
        self.settings.max_endpoints = max;
        self
    }

    /// Looks names up in another way than the operating system, such as with hickory, or in a test.
    ///
    /// The future is dropped when it takes too long, and there is one at a time.
    ///
    /// ```
    /// use std::{convert::Infallible, net::SocketAddr};
    /// use switchboard_resolver::{Address, Dns};
    ///
    /// let source = Dns::new("greeter:50051")?.with_lookup(|name: Address| async move {
    ///     let port = name.port().unwrap_or_default();
    ///     Ok::<_, Infallible>(vec![SocketAddr::from(([10, 0, 0, 1], port))])
    /// });
    /// # drop(source);
    /// # Ok::<(), switchboard_resolver::AddressError>(())
    /// ```
    pub fn with_lookup<F, Looking, E>(mut self, lookup: F) -> Self
    where
        F: Fn(Address) -> Looking + Send + Sync + 'static,
        Looking: Future<Output = Result<Vec<SocketAddr>, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.lookup = Arc::new(move |name| {
            let looking = lookup(name);
            Box::pin(async move { looking.await.map_err(Into::into) })
        });
        self
    }

    /// Makes the random part of its waits follow from `seed`.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    fn begin(&self) -> BoxStream<'static, Update> {
        let Settings {
            interval,
            min_interval,
            ..
        } = self.settings;
        let lookups = Lookups {
            name: self.name.clone(),
            settings: self.settings,
            lookup: self.lookup.clone(),
            asked: self.asked.clone(),
            schedule: Schedule::new(interval, min_interval, Instant::now().into_std()),
            teller: Teller::new(format!("dns:///{}", self.name)),
            rng: self
                .seed
                .map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
        };
        stream::unfold(lookups, Lookups::next).boxed()
    }
}

impl Source for Dns {
    fn poll_update(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        if self.updates.is_none() {
            self.updates = Some(self.begin());
        }
        match &mut self.updates {
            Some(updates) => updates.poll_next_unpin(cx),
            None => Poll::Pending,
        }
    }

    fn resolve_now(self: Pin<&mut Self>) {
        // Kept until the next wait, if there is a lookup under way: its answer may be of before.
        self.asked.notify_one();
    }
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns")
            .field("name", &self.name)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// One lookup after the other.
struct Lookups {
    name: Address,
    settings: Settings,
    lookup: Lookup,
    asked: Arc<Notify>,
    schedule: Schedule,
    teller: Teller,
    rng: fastrand::Rng,
}

impl Lookups {
    /// Looks up until there is something to tell.
    async fn next(mut self) -> Option<(Update, Self)> {
        loop {
            self.wait().await;
            let reading = self.look_up().await;
            let now = Instant::now().into_std();
            self.schedule.ended(reading.is_ok(), now, self.rng.f64());
            let reading = reading.map_err(|error| -> Cause { Arc::new(error) });
            if let Some(update) = self.teller.tell(reading) {
                return Some((update, self));
            }
        }
    }

    async fn wait(&mut self) {
        loop {
            tokio::select! {
                // Of both at once, the lookup that is due is the one that is asked for.
                biased;
                () = self.asked.notified() => {}
                () = sleep_until(Instant::from_std(self.schedule.next())) => return,
            }
            self.schedule.asked();
        }
    }

    async fn look_up(&self) -> Result<Vec<Endpoint>, DnsError> {
        let name = || self.name.clone();
        let after = self.settings.timeout;
        let answer = timeout(after, (self.lookup)(name())).await;
        let answer = answer.map_err(|_| DnsError::TimedOut {
            name: name(),
            after,
        })?;
        let answer = answer.map_err(|source| DnsError::Lookup {
            name: name(),
            source,
        })?;
        answer::endpoints(&self.name, answer, self.settings.max_endpoints)
    }
}
