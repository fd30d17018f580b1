//! A network in memory: listeners by address, parties that dial them, and links that can be cut.
//!
//! A connection belongs to the [`Link`] between the party that dialed and the address it dialed.
//! What is set on a link holds for its connections, in both directions, and for new ones.
//!
//! Nothing here is random, and nothing has a task. The clock is tokio's, and only delayed bytes
//! wait for it: where it is paused, a program that waits for this network is idle.

mod io;
mod link;
mod listener;
#[cfg(test)]
mod tests;
mod wire;

pub use io::Io;
pub use link::Link;
pub use listener::Listener;

use std::{
    collections::BTreeMap,
    io::{Error, ErrorKind, Result},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::future::BoxFuture;
use http::Uri;
use link::{Condition, LinkState};
use tokio::sync::{Notify, mpsc};

/// A network in memory. Clones are handles of the same one.
///
/// # Examples
///
/// Two parties dial a greeter. The link of one is cut, and healed:
///
/// ```
/// use std::time::Duration;
///
/// use futures::StreamExt;
/// use switchboard_embedded::Network;
/// use tokio::{io::{AsyncReadExt, AsyncWriteExt}, time::timeout};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> std::io::Result<()> {
/// let network = Network::new();
/// let mut greeter = network.listen("greeter-1:50051")?;
/// let address = http::Uri::from_static("http://greeter-1:50051");
///
/// let mut ada = network.connector("ada")(address.clone()).await?;
/// let mut adas = greeter.next().await.expect("a connection")?;
/// let mut bob = network.connector("bob")(address).await?;
/// let mut bobs = greeter.next().await.expect("a connection")?;
///
/// network.link("ada", "greeter-1:50051").cut();
/// adas.write_all(b"hello, Ada").await?;
/// bobs.write_all(b"hello, Bob").await?;
///
/// let mut read = [0; 10];
/// bob.read_exact(&mut read).await?;
/// assert_eq!(&read, b"hello, Bob");
/// let waited = timeout(Duration::from_secs(3600), ada.read_exact(&mut read)).await;
/// assert!(waited.is_err(), "nothing comes through");
///
/// network.link("ada", "greeter-1:50051").heal();
/// ada.read_exact(&mut read).await?;
/// assert_eq!(&read, b"hello, Ada", "and nothing is lost");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Network(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// A link has changed: whoever waits to connect looks again.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// By address. Its [`Listener`] takes an entry out when it is dropped.
    listeners: BTreeMap<String, mpsc::UnboundedSender<Io>>,
    /// By the party that dials and the address.
    links: BTreeMap<(String, String), LinkState>,
}

impl Network {
    /// Makes a network on which nobody listens yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens at an address, such as `greeter-1:50051`, until the [`Listener`] is dropped.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AddrInUse`] while another listener has the address.
    pub fn listen(&self, address: impl Into<String>) -> Result<Listener> {
        let address = address.into();
        let mut state = self.state();
        if state.listeners.contains_key(&address) {
            let text = format!("address in use: {address} (expected: one without a listener)");
            return Err(Error::new(ErrorKind::AddrInUse, text));
        }
        let (accept, incoming) = mpsc::unbounded_channel();
        state.listeners.insert(address.clone(), accept);
        Ok(Listener::new(self.clone(), address, incoming))
    }

    /// Returns what the party `from` dials with: the URI's host and port are the address.
    ///
    /// Connecting takes no time, unless the link is cut: then it takes until the link is healed.
    /// The connection fails with [`ErrorKind::ConnectionRefused`] if nobody listens there or the
    /// link refuses, and with [`ErrorKind::InvalidInput`] if the URI has no host.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it is ready leaves nothing behind.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let dial = switchboard_embedded::Network::new().connector("client");
    /// let refused = dial(http::Uri::from_static("http://nobody:1")).await.unwrap_err();
    /// assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    /// # }
    /// ```
    pub fn connector(
        &self,
        from: impl Into<String>,
    ) -> impl Fn(Uri) -> BoxFuture<'static, Result<Io>> + Clone + Send + Sync + 'static {
        let network = self.clone();
        let from: Arc<str> = from.into().into();
        move |uri| {
            let (network, from) = (network.clone(), from.clone());
            Box::pin(async move { network.connect(&from, &uri).await })
        }
    }

    /// Returns the link from a party to an address, whether or not it was ever used.
    pub fn link(&self, from: impl Into<String>, to: impl Into<String>) -> Link {
        Link::new(self.clone(), from.into(), to.into())
    }

    async fn connect(&self, from: &str, uri: &Uri) -> Result<Io> {
        let Some(authority) = uri.authority() else {
            let text = format!("not an address: {uri} (expected: a URI with host and port)");
            return Err(Error::new(ErrorKind::InvalidInput, text));
        };
        loop {
            // Made first, it misses no change after the attempt.
            let changed = self.0.changed.notified();
            match self.try_connect(from, authority.as_str()) {
                Some(connected) => return connected,
                None => changed.await,
            }
        }
    }

    /// Connects, unless the link is cut: then there is no answer yet.
    fn try_connect(&self, from: &str, to: &str) -> Option<Result<Io>> {
        let mut state = self.state();
        let State { listeners, links } = &mut *state;
        let link = links.entry((from.into(), to.into())).or_default();
        match link.condition() {
            Condition::Cut => return None,
            Condition::Refusing => return Some(Err(refused())),
            Condition::Whole => {}
        }
        let Some(listener) = listeners.get(to) else {
            return Some(Err(refused()));
        };
        let listener = listener.clone();
        let (ours, theirs) = link.connect();
        // It wakes who accepts, and a waker may run anything.
        drop(state);
        Some(listener.send(theirs).map(|()| ours).map_err(|_| refused()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.0.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }
}

/// It says as little as a socket's: who dials knows where to.
fn refused() -> Error {
    ErrorKind::ConnectionRefused.into()
}
