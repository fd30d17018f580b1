//! What can be made to go wrong.

use etcd_client::proto::PbCompactionRequest;
use tonic::Code;

use super::EmbeddedEtcd;
use crate::{
    Backup,
    store::{Space, Store},
};

/// Faults on demand.
impl EmbeddedEtcd {
    /// Stops it as a debugger would, or SIGSTOP: connections stand and new ones are taken, and
    /// nothing is answered, pings neither. The time of its leases goes on, and none ends before it is
    /// thawed.
    ///
    /// ```
    /// # use etcd_client::{Channel, Client};
    /// # use std::time::Duration;
    /// # use switchboard_embedded::EmbeddedEtcd;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let etcd = EmbeddedEtcd::start();
    /// let mut client = Client::from_channel(Channel::Tonic(etcd.channel()), None).await?;
    /// client.put("greeting", "hello", None).await?;
    ///
    /// etcd.freeze();
    /// let asked = tokio::time::timeout(Duration::from_secs(60), client.get("greeting", None)).await;
    /// assert!(asked.is_err(), "no answer");
    ///
    /// etcd.thaw();
    /// assert_eq!(client.get("greeting", None).await?.count(), 1);
    /// # Ok(()) }
    /// ```
    pub fn freeze(&self) {
        self.0.gate.freeze();
        self.0.running.send_replace(false);
    }

    /// Lets it go on. Leases whose time was over meanwhile end.
    pub fn thaw(&self) {
        // First of all, so that no renewal comes before the end.
        self.0.shared.with(|store, now| store.expire(now));
        self.0.gate.thaw();
        self.0.running.send_replace(true);
    }

    /// Breaks all connections that stand; new ones can be made. Nothing else changes.
    pub fn drop_connections(&self) {
        self.0.gate.drop_connections();
    }

    /// Starts it again with its data: connections break, and the time of all leases begins anew.
    /// A frozen one stays frozen.
    pub fn restart(&self) {
        self.0.shared.with(|store, now| store.renew_leases(now));
        self.drop_connections();
    }

    /// Starts it again without its data, at revision 1: nothing tells a client but the revision.
    /// A frozen one stays frozen; it is not read-only any more.
    ///
    /// ```
    /// # use etcd_client::{Channel, Client};
    /// # use switchboard_embedded::EmbeddedEtcd;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let etcd = EmbeddedEtcd::start();
    /// # let mut client = Client::from_channel(Channel::Tonic(etcd.channel()), None).await?;
    /// client.put("greeting", "hello", None).await?;
    /// assert_eq!(etcd.revision(), 2);
    /// etcd.wipe();
    /// assert_eq!((etcd.revision(), etcd.keys().len()), (1, 0));
    /// # Ok(()) }
    /// ```
    pub fn wipe(&self) {
        self.0.shared.with(|store, _| *store = Store::new());
        self.drop_connections();
    }

    /// Returns a copy of its data, for [`restore`](Self::restore).
    pub fn backup(&self) -> Backup {
        self.0.shared.with(|store, _| store.backup())
    }

    /// Starts it again with the data of a backup, as one does after a disaster: what was written since is
    /// gone, what was deleted since is there again, and the time of the leases in it begins anew. Nothing
    /// tells a client but the revision. A frozen one stays frozen; it is not read-only any more.
    ///
    /// ```
    /// # use etcd_client::{Channel, Client};
    /// # use switchboard_embedded::EmbeddedEtcd;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let etcd = EmbeddedEtcd::start();
    /// # let mut client = Client::from_channel(Channel::Tonic(etcd.channel()), None).await?;
    /// client.put("greeting", "hello", None).await?;
    /// let backup = etcd.backup();
    /// client.delete("greeting", None).await?;
    /// client.put("farewell", "goodbye", None).await?;
    ///
    /// etcd.restore(&backup);
    /// assert_eq!(etcd.revision(), 2);
    /// assert_eq!(etcd.keys().remove(0).key, b"greeting");
    /// # Ok(()) }
    /// ```
    pub fn restore(&self, backup: &Backup) {
        self.0.shared.with(|store, now| {
            *store = Store::restored(backup);
            store.renew_leases(now);
        });
        self.drop_connections();
    }

    /// Ends a lease as if its time were over. Returns whether there was one.
    ///
    /// ```
    /// # use etcd_client::{Channel, Client};
    /// # use switchboard_embedded::EmbeddedEtcd;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let etcd = EmbeddedEtcd::start();
    /// # let mut client = Client::from_channel(Channel::Tonic(etcd.channel()), None).await?;
    /// let lease = client.lease_grant(3600, None).await?.id();
    /// assert!(etcd.expire_lease(lease));
    /// assert_eq!(client.lease_time_to_live(lease, None).await?.ttl(), -1);
    /// # Ok(()) }
    /// ```
    pub fn expire_lease(&self, id: i64) -> bool {
        self.0.shared.with(|store, _| store.end_lease(id)).is_ok()
    }

    /// Forgets what was before `revision`. Returns whether it did: a revision that is not there yet,
    /// or is compacted already, is left alone.
    pub fn compact(&self, revision: i64) -> bool {
        let request = PbCompactionRequest {
            revision,
            physical: false,
        };
        self.0
            .shared
            .with(|store, _| store.compact(&request))
            .is_ok()
    }

    /// Has it refuse what needs space, as an etcd does whose quota is exceeded: puts, transactions
    /// with puts, and leases. Deletions, revocations and renewals go on.
    ///
    /// ```
    /// # use etcd_client::{Channel, Client};
    /// # use switchboard_embedded::EmbeddedEtcd;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let etcd = EmbeddedEtcd::start();
    /// # let mut client = Client::from_channel(Channel::Tonic(etcd.channel()), None).await?;
    /// etcd.read_only(true);
    /// let refused = client.put("greeting", "hello", None).await.unwrap_err();
    /// assert!(refused.to_string().contains("etcdserver: mvcc: database space exceeded"));
    /// # Ok(()) }
    /// ```
    pub fn read_only(&self, read_only: bool) {
        let space = match read_only {
            true => Space::Exceeded,
            false => Space::Left,
        };
        self.0.shared.with(|store, _| store.set_space(space));
    }

    /// Answers the next `calls` with `code` instead of doing what they ask. Streams count when they
    /// are opened. None are refused any more if there are no calls, or the code is [`Code::Ok`].
    ///
    /// ```
    /// # use etcd_client::{Channel, Client};
    /// # use switchboard_embedded::EmbeddedEtcd;
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let etcd = EmbeddedEtcd::start();
    /// # let mut client = Client::from_channel(Channel::Tonic(etcd.channel()), None).await?;
    /// etcd.refuse(1, tonic::Code::Unavailable);
    /// assert!(client.get("greeting", None).await.is_err());
    /// assert!(client.get("greeting", None).await.is_ok());
    /// # Ok(()) }
    /// ```
    pub fn refuse(&self, calls: usize, code: Code) {
        self.0.shared.refuse(calls, code);
    }
}
