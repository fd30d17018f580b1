//! A real etcd of several members, of one release or another.

use std::time::Duration;

use etcd_client::Client;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    Release, eventually,
    member::{EtcdCertificates, Failure, Member, Membership, Settings, options},
    relay::Relay,
    root::Root,
    version::Version,
};

/// What a cluster is started with.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClusterSettings {
    /// How many members it has.
    pub members: usize,
    /// Further flags, of each.
    pub flags: Vec<String>,
    /// The files of each, if clients come inside TLS.
    pub certificates: Option<EtcdCertificates>,
}

impl ClusterSettings {
    /// An etcd of so many members, with its default settings.
    pub fn new(members: usize) -> Self {
        Self {
            members,
            flags: Vec::new(),
            certificates: None,
        }
    }

    /// Adds a flag of each member.
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }
}

/// A real etcd of one or more members, on loopback, with a [`Relay`] before each of them, for clients,
/// and another one for the other members. All is gone when this is dropped.
///
/// Members are counted from 0.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Member>,
    version: Version,
    relays: Vec<Relay>,
    /// What lies between each member and the others, if there are any.
    peer_relays: Vec<Relay>,
}

impl Cluster {
    /// Starts one, and waits until it is healthy.
    ///
    /// # Errors
    ///
    /// There is no such release here, for the reason that is told.
    ///
    /// # Panics
    ///
    /// If a member does not become healthy, with the end of its log.
    pub async fn start(release: Release, settings: ClusterSettings) -> Result<Self, &'static str> {
        let binary = release.binary().await?;
        let of_members = Settings {
            binary,
            flags: settings.flags,
            certificates: settings.certificates,
        };
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut cluster = Self::make(&of_members, settings.members).await;
            for member in 0..cluster.members() {
                cluster.launch(member);
            }
            match cluster.health().await {
                Ok(()) => return Ok(cluster),
                Err((_, Failure::PortTaken)) if attempts < 5 => {}
                Err((member, failure)) => cluster.members[member].fail(failure),
            }
        }
    }

    async fn make(settings: &Settings, members: usize) -> Self {
        let make = |index| Member::new(format!("member-{index}"), settings.clone());
        let mut cluster = Self {
            members: (0..members).map(make).collect(),
            version: settings.binary.version(),
            relays: Vec::new(),
            peer_relays: Vec::new(),
        };
        for member in &mut cluster.members {
            cluster.relays.push(Relay::start(member.served()).await);
            if members > 1 {
                let relay = Relay::start(member.ports().peer).await;
                member.set_peer(relay.address().to_string());
                cluster.peer_relays.push(relay);
            }
        }
        cluster
    }

    /// Returns the version of its members.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns how many members it has.
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// Returns where clients connect, separated by commas: at the relay of each member.
    pub fn endpoints(&self) -> String {
        let addresses = self.relays.iter().map(|relay| relay.address().to_string());
        addresses.collect::<Vec<_>>().join(",")
    }

    /// Returns what lies between a member and its clients.
    pub fn relay(&self, member: usize) -> &Relay {
        &self.relays[member]
    }

    /// Returns a new client of one member, past its relay; see [`Etcd::client`](crate::Etcd::client).
    ///
    /// # Panics
    ///
    /// If etcd-client refuses the endpoint.
    pub async fn client(&self, member: usize) -> Client {
        self.members[member].client().await
    }

    /// Adds the user who may do everything, by way of the first member; see [`Root`].
    ///
    /// # Panics
    ///
    /// If there is one already, or etcd demands a user.
    pub async fn root(&self) -> Root {
        Root::add(self.client(0).await, &self.members[0].plain(), options()).await
    }

    /// Returns which member leads.
    ///
    /// # Panics
    ///
    /// If none does within 10 s.
    pub async fn leader(&self) -> usize {
        let limit = Duration::from_secs(10);
        eventually(limit, "a member leads", async || {
            for member in 0..self.members() {
                let Ok(status) = self.client(member).await.status().await else {
                    continue;
                };
                if status.leader() == status.header().map_or(0, |it| it.member_id()) {
                    return Ok(member);
                }
            }
            Err("none does")
        })
        .await
    }

    /// Has another member lead, and waits until it does.
    ///
    /// # Panics
    ///
    /// If etcd refuses.
    pub async fn move_leader(&self, to: usize) {
        let id = self.id(to).await;
        let mut leader = self.client(self.leader().await).await;
        let moved = leader.move_leader(id).await;
        moved.expect("another one leads");
    }

    /// Kills a member, as a crash would.
    pub fn kill(&mut self, member: usize) {
        self.members[member].kill();
    }

    /// Stops a member where it stands, until [`thaw`](Self::thaw).
    ///
    /// # Panics
    ///
    /// If it has been killed.
    pub fn freeze(&mut self, member: usize) {
        self.members[member].signal(Signal::STOP);
    }

    /// Lets a frozen member go on.
    ///
    /// # Panics
    ///
    /// If it has been killed.
    pub fn thaw(&mut self, member: usize) {
        self.members[member].signal(Signal::CONT);
    }

    /// Starts a member on the data that it has, and does not wait for it. One that runs is killed first.
    pub fn launch(&mut self, member: usize) {
        let membership = self.membership(false);
        self.members[member].launch(&membership);
    }

    /// Starts a member on the data that it has, and waits until it is healthy. One that runs is killed
    /// first.
    ///
    /// # Panics
    ///
    /// If it does not become healthy, with the end of its log.
    pub async fn restart(&mut self, member: usize) {
        let membership = self.membership(false);
        self.members[member].restart(&membership).await;
    }

    /// Kills all members, takes away what they hold, and starts them on the same ports, as members of
    /// the same cluster.
    ///
    /// # Panics
    ///
    /// As [`healthy`](Self::healthy).
    pub async fn wipe_and_restart(&mut self) {
        self.members.iter_mut().for_each(Member::wipe);
        for member in 0..self.members() {
            self.launch(member);
        }
        self.healthy().await;
    }

    /// Stops the only member for as long as it takes to copy its data, and returns the copy.
    ///
    /// # Panics
    ///
    /// If there are others, or it does not become healthy again, with the end of its log.
    pub async fn back_up(&mut self) -> TempDir {
        assert_eq!(self.members(), 1, "others would hold other data");
        let backup = self.members[0].back_up();
        self.restart(0).await;
        backup
    }

    /// Kills the only member, and starts it with the data of a backup: an earlier revision of the same
    /// cluster, which nothing else tells apart from a later one.
    ///
    /// # Panics
    ///
    /// As [`back_up`](Self::back_up).
    pub async fn restore(&mut self, backup: &TempDir) {
        assert_eq!(self.members(), 1, "others hold other data");
        self.members[0].restore(backup.path());
        self.restart(0).await;
    }

    /// Kills a member, takes away what it holds, and has another one take its place, at the same ports:
    /// it is removed and added, as an operator does whose disk is lost.
    ///
    /// # Panics
    ///
    /// If the others refuse, or the new one does not become healthy.
    pub async fn replace(&mut self, member: usize) {
        let id = self.id(member).await;
        self.members[member].wipe();
        let mut other = self.client((member + 1) % self.members()).await;
        let limit = Duration::from_secs(30);
        // Refused while the others elect a leader, or find each other.
        eventually(limit, "it is removed", async || {
            let removed = other.member_remove(id).await;
            removed.map(drop).or_else(|error| match error.to_string() {
                it if it.contains("member not found") => Ok(()),
                it => Err(it),
            })
        })
        .await;
        let peer = [self.members[member].peer()];
        eventually(limit, "another one is added", async || {
            let added = other.member_add(peer.clone(), None).await;
            added.map(drop).or_else(|error| match error.to_string() {
                it if it.contains("Peer URLs already exists") => Ok(()),
                it => Err(it),
            })
        })
        .await;
        let membership = self.membership(true);
        self.members[member].restart(&membership).await;
    }

    /// Cuts a member off from the others, in both directions; clients go on reaching it.
    ///
    /// One thing passes a little longer: renewals of leases that a follower hands to its leader,
    /// which do not say whose they are. They end when it has lost its leader, after 1 to 2 s.
    ///
    /// # Panics
    ///
    /// If it is the only one, or does not answer.
    pub async fn isolate(&self, member: usize) {
        let id = format!("{:x}", self.id(member).await);
        for (index, relay) in self.peer_relays.iter().enumerate() {
            match index == member {
                true => relay.cut(),
                false => relay.cut_for(&id),
            }
        }
    }

    /// Ends what [`isolate`](Self::isolate) began.
    pub fn rejoin(&self) {
        self.peer_relays.iter().for_each(Relay::heal);
    }

    /// Waits until every member says that it is healthy.
    ///
    /// # Panics
    ///
    /// If one ends, or is not healthy within a minute, with the end of its log.
    pub async fn healthy(&mut self) {
        if let Err((member, failure)) = self.health().await {
            self.members[member].fail(failure);
        }
    }

    async fn health(&mut self) -> Result<(), (usize, Failure)> {
        for (index, member) in self.members.iter_mut().enumerate() {
            member.health().await.map_err(|failure| (index, failure))?;
        }
        Ok(())
    }

    fn membership(&self, is_joined: bool) -> Membership {
        let members: Vec<String> = self.members.iter().map(Member::named).collect();
        Membership {
            members: members.join(","),
            is_joined,
        }
    }

    /// Returns the id of a member, which must answer.
    async fn id(&self, member: usize) -> u64 {
        let status = self.client(member).await.status().await;
        let status = status.expect("it answers");
        status.header().expect("it has a header").member_id()
    }
}

#[cfg(test)]
mod tests {

    use etcd_client::GetOptions;

    use super::*;
    use crate::{etcd::sum, eventually};

    const SOON: Duration = Duration::from_secs(20);

    async fn three() -> Cluster {
        let cluster = Cluster::start(Release::Found, ClusterSettings::new(3)).await;
        cluster.expect("it is what all tests have")
    }

    /// Reads the key as this member has it, whatever the others say.
    async fn held(member: &mut Client) -> Vec<u8> {
        let local = Some(GetOptions::new().with_serializable());
        let found = member.get("key", local).await.unwrap();
        found.kvs()[0].value().to_vec()
    }

    async fn catches_up(member: &mut Client) {
        eventually(SOON, "it knows what the others agreed on", async || {
            let found = member.get("key", None).await.map_err(|it| it.to_string())?;
            match found.kvs()[0].value() {
                b"other" => Ok(()),
                value => Err(format!("{value:?}")),
            }
        })
        .await;
    }

    /// Returns how many bytes each of two members has received from the other one.
    async fn heard_of_each_other(cluster: &Cluster, [one, two]: [usize; 2]) -> [f64; 2] {
        let heard = async |by: usize, of: usize| {
            let metrics = cluster.members[by].ask("/metrics").await.unwrap();
            let from = format!("From=\"{:x}\"", cluster.id(of).await);
            sum(&metrics, "etcd_network_peer_received_bytes_total", &[&from])
        };
        [heard(one, two).await, heard(two, one).await]
    }

    async fn without_a_leader(member: &mut Client) {
        eventually(SOON, "it knows no leader", async || {
            match member.status().await.map_err(|it| it.to_string())?.leader() {
                0 => Ok(()),
                leader => Err(format!("{leader:x} leads")),
            }
        })
        .await;
    }

    #[tokio::test]
    async fn two_of_three_go_on_and_one_alone_does_not() {
        let mut cluster = three().await;
        cluster.kill(0);
        let mut client = cluster.client(1).await;
        eventually(SOON, "two agree", async || {
            client.put("key", "value", None).await
        })
        .await;
        cluster.kill(2);
        // Of another key: what was not acknowledged may yet be done, if it is in a leader's log.
        client.put("other", "value", None).await.unwrap_err();
        cluster.launch(0);
        cluster.launch(2);
        cluster.healthy().await;
        let found = client.get("key", None).await.unwrap();
        assert_eq!(found.kvs()[0].value(), b"value");
    }

    #[tokio::test]
    async fn who_is_cut_off_from_the_others_knows_nothing_new_and_leads_nobody() {
        let mut cluster = three().await;
        let leader = cluster.leader().await;
        let (mut alone, mut other) = (
            cluster.client(leader).await,
            cluster.client((leader + 1) % 3).await,
        );
        alone.put("key", "value", None).await.unwrap();
        cluster.isolate(leader).await;
        eventually(SOON, "others agree", async || {
            other.put("key", "other", None).await
        })
        .await;
        without_a_leader(&mut alone).await;
        assert_ne!(cluster.leader().await, leader);
        alone.get("key", None).await.unwrap_err();
        assert_eq!(held(&mut alone).await, b"value");
        cluster.rejoin();
        catches_up(&mut alone).await;
        cluster.healthy().await;
    }

    #[tokio::test]
    async fn a_follower_that_is_cut_off_has_what_it_had_and_renews_no_lease() {
        let mut cluster = three().await;
        let leader = cluster.leader().await;
        let follower = (leader + 1) % 3;
        let (mut alone, mut other) = (cluster.client(follower).await, cluster.client(leader).await);
        let lease = other.lease_grant(60, None).await.unwrap().id();
        alone.put("key", "value", None).await.unwrap();
        alone.lease_keep_alive(lease).await.unwrap();
        cluster.isolate(follower).await;
        alone.get("key", None).await.unwrap_err();
        eventually(SOON, "others agree", async || {
            other.put("key", "other", None).await
        })
        .await;
        assert_eq!(held(&mut alone).await, b"value");
        without_a_leader(&mut alone).await;
        let both = [leader, follower];
        let heard = heard_of_each_other(&cluster, both).await;
        assert!(heard.iter().all(|bytes| *bytes > 0.0), "{heard:?}");
        // Of no answer for 2 s, in which it asks the others to elect it.
        alone.lease_keep_alive(lease).await.unwrap_err();
        assert_eq!(heard_of_each_other(&cluster, both).await, heard);
        cluster.rejoin();
        catches_up(&mut alone).await;
        cluster.healthy().await;
    }

    #[tokio::test]
    async fn another_one_leads_or_takes_a_place_where_that_is_asked_for() {
        let mut cluster = three().await;
        let to = (cluster.leader().await + 1) % 3;
        cluster.move_leader(to).await;
        assert_eq!(cluster.leader().await, to);
        cluster
            .client(0)
            .await
            .put("key", "value", None)
            .await
            .unwrap();
        cluster.replace(to).await;
        let found = cluster.client(to).await.get("key", None).await.unwrap();
        assert_eq!(found.kvs()[0].value(), b"value");
    }
}
