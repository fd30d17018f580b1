//! Decides when a call may fail, and when a record may vanish: what was wrong, and since when it is
//! right again.
//!
//! A call that was sent may fail if, since it began, its server crashed or the link to it was not
//! fair. A server that stops gracefully is no excuse, but for one instant: a request that its GOAWAY
//! meets on the way is lost, since a channel sends nothing twice, not even what it is told was not
//! processed.
//!
//! A call that was not sent may fail if there was no server that its client had to know. A server
//! that can be reached must be known once it was in the store, and etcd at hand, for [`LEARNED`] on
//! end; from then on it stays known until it goes, whatever becomes of etcd.
//!
//! Whatever was under way when its process stood still may fail when that goes on: its time may be over.
//!
//! A record may vanish against its publisher's will, or stand against it, while etcd is not at its
//! publisher's hand, and for [`MENDED`] after that.

use std::{collections::BTreeMap, time::Duration};

use crate::script::{CLIENTS, Party, Place, SERVERS};

/// How long a client that can reach etcd and a server may take to be connected to it: a request that
/// got lost is given up after 2 s, and a redial comes within one.
pub(crate) const LEARNED: Duration = Duration::from_secs(3);

/// How long after a fault a lease may still run out, and a late put be found: 8 s after it was due.
pub(crate) const MENDED: Duration = Duration::from_secs(9);

/// How long after a fault a denial may still be told: what was denied is asked for again every 10 s.
pub(crate) const DENIED: Duration = Duration::from_secs(11);

/// How everything is. Times count from long before the run: what was right when it began has always
/// been.
#[derive(Debug)]
pub(crate) struct Health {
    /// How many lasting faults etcd has.
    etcd_faults: usize,
    etcd_right_since: Duration,
    links: BTreeMap<(Party, Place), Link>,
    /// When those who stood still last went on.
    went_on: BTreeMap<Party, Duration>,
    servers: [Server; SERVERS],
    /// By client and server: whether the one must know the other, as far as is settled.
    known: [[bool; SERVERS]; CLIENTS],
}

#[derive(Debug)]
enum Link {
    Fair { since: Duration },
    Foul,
}

#[derive(Debug, Clone, Copy)]
struct Server {
    /// Since when it serves and has not been told to stop.
    serves_since: Option<Duration>,
    /// Since when its record has been in the store without a break.
    listed_since: Option<Duration>,
    crashed_at: Option<Duration>,
    goaway_at: Option<Duration>,
}

impl Health {
    pub(crate) fn new() -> Self {
        let server = Server {
            serves_since: None,
            listed_since: None,
            crashed_at: None,
            goaway_at: None,
        };
        Self {
            etcd_faults: 0,
            etcd_right_since: Duration::ZERO,
            links: BTreeMap::new(),
            went_on: BTreeMap::new(),
            servers: [server; SERVERS],
            known: [[false; SERVERS]; CLIENTS],
        }
    }

    /// A fault of etcd's begins, that [`etcd_mended`](Self::etcd_mended) ends.
    pub(crate) fn etcd_broken(&mut self, now: Duration) {
        (0..CLIENTS).for_each(|client| self.settle(client, now));
        self.etcd_faults += 1;
    }

    pub(crate) fn etcd_mended(&mut self, now: Duration) {
        self.etcd_faults -= 1;
        self.etcd_right_since = now;
    }

    pub(crate) fn foul(&mut self, party: Party, place: Place, now: Duration) {
        match (party, place) {
            (Party::Client(client), Place::Etcd) => self.settle(client, now),
            (Party::Client(client), Place::Server(server)) => self.known[client][server] = false,
            (Party::Publisher(_) | Party::Server(_), _) => {}
        }
        self.links.insert((party, place), Link::Foul);
    }

    pub(crate) fn fair(&mut self, party: Party, place: Place, now: Duration) {
        self.links.insert((party, place), Link::Fair { since: now });
    }

    pub(crate) fn is_fair(&self, party: Party, place: Place) -> bool {
        self.fair_since(party, place).is_some()
    }

    /// A party that stood still goes on.
    pub(crate) fn goes_on(&mut self, party: Party, now: Duration) {
        self.went_on.insert(party, now);
    }

    /// Returns whether a party has stood still since then: what it waited for may have come and gone.
    pub(crate) fn has_stood_still(&self, party: Party, since: Duration) -> bool {
        self.went_on.get(&party).is_some_and(|at| *at >= since)
    }

    pub(crate) fn serves(&mut self, server: usize, now: Duration) {
        self.servers[server].serves_since = Some(now);
    }

    /// It was told to stop, and will end its connections then.
    pub(crate) fn stops(&mut self, server: usize, goaway_at: Duration) {
        self.servers[server].goaway_at = Some(goaway_at);
        self.gone(server);
    }

    pub(crate) fn crashed(&mut self, server: usize, now: Duration) {
        self.servers[server].crashed_at = Some(now);
        self.gone(server);
    }

    fn gone(&mut self, server: usize) {
        self.servers[server].serves_since = None;
        self.forget(server);
    }

    pub(crate) fn listed(&mut self, server: usize, now: Duration) {
        self.servers[server].listed_since.get_or_insert(now);
    }

    pub(crate) fn unlisted(&mut self, server: usize) {
        self.servers[server].listed_since = None;
        self.forget(server);
    }

    /// Returns whether a call that began then, and was sent, may have failed by now.
    pub(crate) fn excuses_sent(
        &self,
        client: usize,
        server: usize,
        began: Duration,
        now: Duration,
    ) -> bool {
        let link = self.fair_since(Party::Client(client), Place::Server(server));
        let is_meanwhile = |at: Option<Duration>| at.is_some_and(|at| (began..=now).contains(&at));
        let server = &self.servers[server];
        link.is_none_or(|since| since >= began)
            || is_meanwhile(server.crashed_at)
            || is_meanwhile(server.goaway_at)
    }

    /// Returns the server that a call could have been sent to and was not, if there is one.
    pub(crate) fn should_be_known(&self, client: usize, now: Duration) -> Option<usize> {
        (0..SERVERS)
            .find(|server| self.known[client][*server] || self.is_learned(client, *server, now))
    }

    /// Returns whether what this party has in the store may not be what it wants.
    pub(crate) fn is_hampered(&self, party: Party, now: Duration) -> bool {
        self.was_hampered(party, now, MENDED)
    }

    /// Returns whether etcd was not at a party's hand within that time.
    pub(crate) fn was_hampered(&self, party: Party, now: Duration, within: Duration) -> bool {
        self.at_hand_since(party)
            .is_none_or(|since| now - since < within)
    }

    /// Notes whom a client knows, before etcd leaves it.
    fn settle(&mut self, client: usize, now: Duration) {
        for server in 0..SERVERS {
            if self.is_learned(client, server, now) {
                self.known[client][server] = true;
            }
        }
    }

    fn forget(&mut self, server: usize) {
        for known in &mut self.known {
            known[server] = false;
        }
    }

    fn is_learned(&self, client: usize, server: usize, now: Duration) -> bool {
        let (party, place) = (Party::Client(client), Place::Server(server));
        let Server {
            serves_since,
            listed_since,
            ..
        } = self.servers[server];
        let since = [
            serves_since,
            listed_since,
            self.fair_since(party, place),
            self.at_hand_since(party),
        ];
        since
            .iter()
            .all(|since| since.is_some_and(|it| now - it >= LEARNED))
    }

    /// Since when etcd has been at a party's hand.
    fn at_hand_since(&self, party: Party) -> Option<Duration> {
        let link = self.fair_since(party, Place::Etcd)?;
        (self.etcd_faults == 0).then_some(link.max(self.etcd_right_since))
    }

    fn fair_since(&self, party: Party, place: Place) -> Option<Duration> {
        match self.links.get(&(party, place)) {
            None => Some(Duration::ZERO),
            Some(Link::Fair { since }) => Some(*since),
            Some(Link::Foul) => None,
        }
    }
}
