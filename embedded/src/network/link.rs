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
        self.change(|line| line.passage = Passage::Cut);
    }

    /// Lets bytes through again, and connections be made, whether the link was cut or refused.
    pub fn heal(&self) {
        self.change(|line| line.passage = Passage::Whole);
    }

    /// Lets new connections be refused, those that hang too. Bytes of standing ones come through.
    pub fn refuse(&self) {
        self.change(|line| line.passage = Passage::Refusing);
    }

    /// Lets each byte that is written from now on arrive that much later, and after the ones
    /// before it. A year is the most there is.
    ///
    /// A direction holds 64 KiB at most, those under way included, so that no more than these come
    /// through in the time of one delay.
    pub fn delay(&self, delay: Duration) {
        self.change(|line| line.delay = delay.min(LONGEST_DELAY));
    }

    /// Breaks the connections that stand, on both ends and at once, even where the link is cut.
    /// What was under way is lost; new connections can be made.
    pub fn reset(&self) {
        for connection in self.line(|line| line.standing()) {
            connection.reset();
        }
    }

    fn change(&self, change: impl FnOnce(&mut Line)) {
        // Told apart from the change itself, so that no waker runs while the network is locked.
        let connections = self.line(|line| {
            change(line);
            let standing = line.standing();
            standing.iter().for_each(|it| line.condition(it));
            standing
        });
        for connection in connections {
            connection.wake_all();
        }
        self.network.0.changed.notify_waiters();
    }

    fn line<T>(&self, act: impl FnOnce(&mut Line) -> T) -> T {
        let link = (self.from.clone(), self.to.clone());
        act(self.network.state().lines.entry(link).or_default())
    }
}

/// A link's state.
#[derive(Debug, Default)]
pub(super) struct Line {
    passage: Passage,
    delay: Duration,
    /// Those that stand, and some that have ended.
    connections: Vec<Weak<Connection>>,
}

/// What a link lets pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Passage {
    /// Everything.
    #[default]
    Whole,
    /// No byte. Connecting hangs.
    Cut,
    /// No new connection: it is refused.
    Refusing,
}

impl Line {
    pub(super) fn passage(&self) -> Passage {
        self.passage
    }

    /// Makes a connection: the end that dialed, and the other.
    pub(super) fn connect(&mut self) -> (Io, Io) {
        let (ours, theirs) = Io::pair();
        let connection = ours.connection();
        self.condition(connection);
        self.connections.retain(|it| it.strong_count() > 0);
        self.connections.push(Arc::downgrade(connection));
        (ours, theirs)
    }

    fn standing(&self) -> Vec<Arc<Connection>> {
        self.connections.iter().filter_map(Weak::upgrade).collect()
    }

    /// Passes the link's state on to a connection.
    fn condition(&self, connection: &Connection) {
        connection.condition(self.passage == Passage::Cut, self.delay);
    }
}
