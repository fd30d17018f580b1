//! One leader at a time, over all processes, and who that is.
//!
//! The layout is that of etcd's Go package `concurrency` (`election.go`), so that its users and those of
//! `etcdctl elect` take part in the same election: a key `<name>/<lease, in hex>` for each candidate,
//! under the lease, which holds the proposal. The one that was created first leads.

mod leaders;
mod leadership;
mod observer;

use std::{sync::Arc, time::Duration};

use switchboard_registry::{
    NameError, Registry,
    keys::{By, KeyPath, KeyRange, Keys, Selection},
};
use tokio::time::timeout;

use self::leaders::first;
pub use self::{
    leaders::Leader,
    leadership::{Leadership, ProclaimError},
    observer::{ObserveError, Observer},
};
use crate::{
    Failure,
    failure::{Pause, patiently},
    line::{Line, LineError, is_segment},
};

/// How large a proposal may be. etcd takes requests of 1.5 MiB unless it is told otherwise.
const LARGEST: usize = 1 << 20;

/// An election: of those who campaign one leads at a time, over all processes. Cheap to clone.
///
/// - Candidates lead in the order in which etcd heard of them. One that ends or is cut off is followed by
///   the next after one TTL of its registry, and the second that etcd may take to notice.
/// - Those of one registry wait for each other in their process, and campaign one after another.
/// - A leader may be deposed: when the lease was not renewed in time, or somebody has deleted the key.
///   It knows *before* another can lead, as far as this machine's clock runs evenly.
///   A process that stands still knows nothing: whatever only the leader may do has to refuse a
///   [token](Leadership::token) that is smaller than one it has seen.
/// - Who [observes](Self::observe) is told every leader and every proclamation, in order, or that some
///   may be missing.
///
/// ```
/// use switchboard_coordination::Election;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let etcd = switchboard_embedded::EmbeddedEtcd::start();
/// # let registry = switchboard_registry::Registry::builder("etcd:2379")?.connector(etcd.connector()).connect().await?;
/// let election = Election::new(&registry, "/shop/cashier")?;
/// let mut observer = election.observe();
/// assert!(observer.next().await?.is_none());
///
/// let leadership = election.campaign("ada").await?;
/// leadership.proclaim("ada, at till 2").await?;
/// // Ends when the leadership is lost, wherever it is.
/// let sold = leadership.hold(async { 42 }).await?;
/// leadership.resign().await?;
///
/// assert_eq!(observer.next().await?.unwrap().value, b"ada");
/// assert_eq!(observer.next().await?.unwrap().value, b"ada, at till 2");
/// assert!(observer.next().await?.is_none());
/// # assert_eq!(sold, 42);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Election(Arc<Ballot>);

/// Where it takes place.
#[derive(Debug)]
struct Ballot {
    line: Line,
    keys: Keys,
    /// Ends in `/`.
    prefix: String,
}

/// Why nobody was elected, or it is not known who leads.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ElectionError {
    /// The proposal is too large. Nothing was written.
    #[error("proposal: {0} bytes (expected: at most {LARGEST})")]
    TooLarge(usize),
    /// Others led all the time.
    #[error("not elected within {0:?}")]
    TimedOut(Duration),
    /// The key of our own is there, under a lease that is not ours: somebody else has put it.
    #[error("{0} is under a lease that is not ours")]
    Foreign(String),
    /// etcd did not do what it was asked for.
    #[error("cannot take part in the election")]
    Etcd(#[source] Failure),
}

impl Election {
    /// Names an election. Nothing is sent to etcd yet.
    ///
    /// # Errors
    ///
    /// The name is no key, or lies in `/microservices`, which is kratos'.
    pub fn new<K>(registry: &Registry, name: K) -> Result<Self, NameError>
    where
        K: TryInto<KeyPath, Error: Into<NameError>>,
    {
        let name = name.try_into().map_err(Into::into)?.outside_kratos()?;
        let (keys, prefix) = (registry.keys(), format!("{name}/"));
        Ok(Self(Arc::new(Ballot {
            line: Line::new(keys.clone(), prefix.clone(), is_segment),
            keys,
            prefix,
        })))
    }

    /// Stands for election with a proposal, of 1 MiB at most, and waits until that leads, while etcd is
    /// away too. Who loses the lease while waiting stands again, behind all others.
    ///
    /// # Errors
    ///
    /// The proposal is too large; or etcd refuses, or the registry was closed.
    ///
    /// # Cancel safety
    ///
    /// Who gives up stands no longer: the key is removed in the background.
    pub async fn campaign(&self, proposal: impl AsRef<[u8]>) -> Result<Leadership, ElectionError> {
        let proposal = proposal.as_ref();
        if proposal.len() > LARGEST {
            return Err(ElectionError::TooLarge(proposal.len()));
        }
        let entry = self.0.line.acquire(proposal).await?;
        Ok(Leadership::new(self.0.keys.clone(), entry))
    }

    /// Stands for election, for as long as `limit`.
    ///
    /// # Errors
    ///
    /// As [`campaign`](Self::campaign); or the time is over.
    ///
    /// # Cancel safety
    ///
    /// Who gives up stands no longer: the key is removed in the background.
    pub async fn campaign_within(
        &self,
        proposal: impl AsRef<[u8]>,
        limit: Duration,
    ) -> Result<Leadership, ElectionError> {
        let elected = timeout(limit, self.campaign(proposal)).await;
        elected.unwrap_or(Err(ElectionError::TimedOut(limit)))
    }

    /// Reads who leads; `None` where nobody does. That was so when etcd answered, and may not be so any
    /// more.
    ///
    /// # Errors
    ///
    /// etcd refuses, or did not answer for 10 s.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it changes nothing.
    pub async fn leader(&self) -> Result<Option<Leader>, ElectionError> {
        patiently(self.0.leader()).await
    }

    /// Observes who leads from now on. What etcd did before the first [`next`](Observer::next) is not
    /// told.
    pub fn observe(&self) -> Observer {
        Observer::new(&self.0.keys, self.0.prefix.clone())
    }
}

impl Ballot {
    async fn leader(&self) -> Result<Option<Leader>, ElectionError> {
        let range = KeyRange::Under(self.prefix.clone());
        let all = Selection::of(range).first(By::Creation);
        let mut selection = all.clone().limit(1);
        let mut pause = Pause::default();
        loop {
            match self.keys.select(&selection).await {
                Ok(selected) => match first(&self.prefix, &selected.keys) {
                    // What was created first is of something below.
                    None if selected.more => selection = all.clone(),
                    leader => return Ok(leader.map(Leader::from)),
                },
                Err(error) => pause.after(error).await?,
            }
        }
    }
}

impl From<LineError> for ElectionError {
    fn from(error: LineError) -> Self {
        match error {
            LineError::Foreign(key) => Self::Foreign(key),
            LineError::Failed(failure) => Self::Etcd(failure),
        }
    }
}

impl From<Failure> for ElectionError {
    fn from(failure: Failure) -> Self {
        Self::Etcd(failure)
    }
}
