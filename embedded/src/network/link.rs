//! What lies between a party and an address, and what can be done to it.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use super::{Io, Network, io::Connection};

/// With more, the clock would have no name for when a byte arrives.
const LONGEST_DELAY: Duration = Duration::from_secs(365 * 24 * 3600);

/// The way from a party to an address: what is set here holds for its connections, in both
/// directions.
///
/// A link begins whole, cut or refusing as the last call said, and has a delay besides, which stays
/// until another is set.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use switchboard_embedded::Network;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> std::io::Result<()> {
/// let network = Network::new();
/// let _listener = network.listen("etcd:2379")?;
/// let link = network.link("registry", "etcd:2379");
/// let dial = network.connector("registry");
/// let address = http::Uri::from_static("http://etcd:2379");
///
/// link.cut();
/// let connecting = tokio::time::timeout(Duration::from_secs(60), dial(address.clone()));
/// assert!(connecting.await.is_err(), "a cut link never answers");
///
/// link.refuse();
/// assert!(dial(address.clone()).await.is_err(), "a link that refuses does at once");
///
/// link.heal();
/// assert!(dial(address).await.is_ok());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Link {
    network: Network,
    from: String,
    to: String,
}

impl Link {
    pub(super) fn new(network: Network, from: String, to: String) -> Self {
        Self { network, from, to }
    }

    /// Holds back every byte that was not read yet, and lets connecting hang.
    ///
    /// Nothing is lost and no connection ends, as with a cable that is pulled: ends that are closed
    /// meanwhile are heard of once the link is healed.
    pub fn cut(&self) {
        self.change(|state| state.condition = Condition::Cut);
    }

    /// Lets bytes through again, and connections be made, whether the link was cut or refused.
    pub fn heal(&self) {
        self.change(|state| state.condition = Condition::Whole);
    }

    /// Lets new connections be refused, those that hang too. Bytes of standing ones come through.
    pub fn refuse(&self) {
        self.change(|state| state.condition = Condition::Refusing);
    }

    /// Lets each byte that is written from now on arrive that much later, and after the ones
    /// before it. A year is the most there is.
    ///
    /// A direction holds 64 KiB at most, those under way included, so that no more than these come
    /// through in the time of one delay.
    pub fn delay(&self, delay: Duration) {
        self.change(|state| state.delay = delay.min(LONGEST_DELAY));
    }

    /// Breaks the connections that stand, on both ends and at once, even where the link is cut.
    /// What was under way is lost; new connections can be made.
    pub fn reset(&self) {
        for connection in self.locked(|state| state.standing()) {
            connection.reset();
        }
    }

    fn change(&self, change: impl FnOnce(&mut LinkState)) {
        // Woken apart from the change itself, so that no waker runs while the network is locked.
        let connections = self.locked(|state| {
            change(state);
            let standing = state.standing();
            standing.iter().for_each(|it| state.apply_to(it));
            standing
        });
        for connection in connections {
            connection.wake_all();
        }
        self.network.0.changed.notify_waiters();
    }

    /// Acts on the link's state while the network is locked.
    fn locked<T>(&self, act: impl FnOnce(&mut LinkState) -> T) -> T {
        let link = (self.from.clone(), self.to.clone());
        act(self.network.state().links.entry(link).or_default())
    }
}

/// What was set on a link, and its connections.
#[derive(Debug, Default)]
pub(super) struct LinkState {
    condition: Condition,
    delay: Duration,
    /// Those that stand, and some that have ended.
    connections: Vec<Weak<Connection>>,
}

/// What a link lets through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Condition {
    /// Everything.
    #[default]
    Whole,
    /// No byte. Connecting hangs.
    Cut,
    /// No new connection: it is refused.
    Refusing,
}

impl LinkState {
    pub(super) fn condition(&self) -> Condition {
        self.condition
    }

    /// Makes a connection: the end that dialed, and the other.
    pub(super) fn connect(&mut self) -> (Io, Io) {
        let (ours, theirs) = Io::pair();
        let connection = ours.connection();
        self.apply_to(connection);
        self.connections.retain(|it| it.strong_count() > 0);
        self.connections.push(Arc::downgrade(connection));
        (ours, theirs)
    }

    fn standing(&self) -> Vec<Arc<Connection>> {
        self.connections.iter().filter_map(Weak::upgrade).collect()
    }

    /// Sets on a connection what is set on the link. Whoever waits there has to be woken afterwards.
    fn apply_to(&self, connection: &Connection) {
        connection.set_link(self.condition == Condition::Cut, self.delay);
    }
}
