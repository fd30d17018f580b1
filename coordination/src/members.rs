//! Who is alive, who joins and who leaves.
//!
//! A member is published as a server is, in `/switchboard/members/<group>/<id>`, under the registry's
//! lease and without anything to dial: so it is put back whatever becomes of etcd, and goes when its
//! process ends.

use std::{collections::BTreeMap, fmt};

use switchboard_registry::{
    DiscoverError, Instance, InstanceId, Instances, Layout, NameError, Namespace,
    PublicationStatus, PublishError, Publisher, Registry, ServiceName, Snapshot, Staleness,
};
use tokio::sync::watch;

/// One who belongs to a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    id: InstanceId,
    metadata: BTreeMap<String, String>,
}

impl Member {
    /// Makes a member of that id. A process that ends and begins again under the same id takes its old
    /// place; of two at a time the later one has it, and the other one is told that it was superseded.
    ///
    /// # Errors
    ///
    /// The id is empty, or has a `/` or a control character.
    pub fn new<I>(id: I) -> Result<Self, MembersError>
    where
        I: TryInto<InstanceId, Error: Into<NameError>>,
    {
        Ok(Self {
            id: id.try_into().map_err(Into::into)?,
            metadata: BTreeMap::new(),
        })
    }

    /// Makes a member of an id that nobody else has.
    pub fn anonymous() -> Self {
        let id = format!("{:032x}", fastrand::u128(..));
        Self::new(id).expect("hexadecimal digits are an id")
    }

    /// Sets one entry of metadata.
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Returns the id, unique in the group.
    pub fn id(&self) -> &InstanceId {
        &self.id
    }

    /// Returns the metadata.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn to_instance(&self, group: &ServiceName) -> Instance {
        let instance = Instance::member(group.clone(), self.id.clone());
        let metadata = self.metadata.iter();
        metadata.fold(instance, |instance, (key, value)| {
            instance.with_metadata(key, value)
        })
    }
}

impl From<&Instance> for Member {
    fn from(instance: &Instance) -> Self {
        Self {
            id: instance.id().clone(),
            metadata: instance.metadata().clone(),
        }
    }
}

/// Why a group cannot be joined or followed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum MembersError {
    /// The name of the group or of the member is invalid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The member is not in the group.
    #[error("membership")]
    Join(#[from] PublishError),
    /// The group cannot be followed.
    #[error("members")]
    Follow(#[from] DiscoverError),
}

/// A member that is kept in its group, for as long as this lives. Dropping it leaves, in the background.
#[must_use = "a membership that is dropped leaves the group"]
pub struct Membership {
    group: ServiceName,
    publisher: Publisher,
}

/// The members of a group, as they come and go.
///
/// ```
/// use switchboard_coordination::{Member, MemberChange, Members};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let etcd = switchboard_embedded::EmbeddedEtcd::start();
/// # let registry = switchboard_registry::Registry::builder("etcd:2379")?.connector(etcd.connector()).connect().await?;
/// let mut workers = Members::follow(&registry, "workers").await?;
/// let membership = Members::join(&registry, "workers", Member::new("worker-1")?)?;
/// membership.joined().await?;
/// assert_eq!(workers.changed().await?, [MemberChange::Joined(Member::new("worker-1")?)]);
/// membership.leave().await?;
/// assert!(matches!(&workers.changed().await?[..], [MemberChange::Left(_)]));
/// # Ok(()) }
/// ```
pub struct Members {
    instances: Instances,
    known: BTreeMap<InstanceId, Member>,
}

/// One who has come, gone, or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemberChange {
    /// It is a member now.
    Joined(Member),
    /// Its metadata is this now.
    Updated(Member),
    /// It is no member any more.
    Left(Member),
}

impl Membership {
    /// Waits until the member is in the group, for as long as etcd is away.
    ///
    /// # Errors
    ///
    /// What waiting does not mend: etcd refuses, or another one has come under the same id.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it changes nothing.
    pub async fn joined(&self) -> Result<(), MembersError> {
        Ok(self.publisher.published().await?)
    }

    /// Puts `member` in the place of the one before.
    ///
    /// # Errors
    ///
    /// As [`joined`](Self::joined).
    ///
    /// # Cancel safety
    ///
    /// Once polled it is replaced all the same; only the waiting is given up.
    pub async fn update(&self, member: Member) -> Result<(), MembersError> {
        let instance = member.to_instance(&self.group);
        Ok(self.publisher.update(instance).await?)
    }

    /// Leaves. The member is gone when this returns.
    ///
    /// # Errors
    ///
    /// etcd did not confirm that within one TTL. It is tried on in the background, and the lease does
    /// the rest.
    ///
    /// # Cancel safety
    ///
    /// Once polled it leaves all the same; only the waiting is given up.
    pub async fn leave(self) -> Result<(), MembersError> {
        Ok(self.publisher.stop().await?)
    }

    /// Returns a watch on how the membership is.
    pub fn status(&self) -> watch::Receiver<PublicationStatus> {
        self.publisher.status()
    }
}

impl Members {
    /// Joins a group, and stays in it. etcd need not be there yet.
    ///
    /// # Errors
    ///
    /// The name is invalid. Everything else is told by the membership.
    pub fn join<N>(
        registry: &Registry,
        group: N,
        member: Member,
    ) -> Result<Membership, MembersError>
    where
        N: TryInto<ServiceName, Error: Into<NameError>>,
    {
        let group = group.try_into().map_err(Into::into)?;
        let publisher = at(registry).publish(member.to_instance(&group))?;
        Ok(Membership { group, publisher })
    }

    /// Follows a group; returns when its members have been read.
    ///
    /// # Errors
    ///
    /// The name is invalid; etcd refuses, or did not answer within 10 s; or the registry was closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the following, unless others share it.
    pub async fn follow<N>(registry: &Registry, group: N) -> Result<Self, MembersError>
    where
        N: TryInto<ServiceName, Error: Into<NameError>>,
    {
        let group = group.try_into().map_err(Into::into)?;
        let instances = at(registry).discover(group).await?;
        let known = members(&instances.snapshot());
        Ok(Self { instances, known })
    }

    /// Returns the members that were there when [`changed`](Self::changed) returned last, by their ids.
    pub fn current(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.known.values()
    }

    /// Waits until somebody has come, gone or changed, and returns who.
    ///
    /// Who is gone and back before anybody looks has not left; who is gone since etcd lost its data is
    /// a member for 10 s more, as most of them are about to come back.
    ///
    /// # Errors
    ///
    /// The registry was closed.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it misses nothing.
    pub async fn changed(&mut self) -> Result<Vec<MemberChange>, MembersError> {
        loop {
            let now = members(&self.instances.changed().await?);
            let changes = changes(&self.known, &now);
            self.known = now;
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }

    /// Returns since when the members may be others; `None` while they are known to be right.
    pub fn staleness(&self) -> Option<Staleness> {
        self.instances.staleness()
    }
}

/// Returns a handle on where members are.
fn at(registry: &Registry) -> Registry {
    let namespace = Namespace::try_from("/switchboard/members").expect("it is a namespace");
    registry
        .with_namespace(namespace)
        .with_layout(Layout::kratos())
}

fn members(snapshot: &Snapshot) -> BTreeMap<InstanceId, Member> {
    let members = snapshot.instances().map(Member::from);
    members.map(|member| (member.id.clone(), member)).collect()
}

/// Returns what makes `now` of `before`, by ids, those who left first.
fn changes(
    before: &BTreeMap<InstanceId, Member>,
    now: &BTreeMap<InstanceId, Member>,
) -> Vec<MemberChange> {
    let left = before.values().filter(|it| !now.contains_key(&it.id));
    let there = now.values().filter_map(|it| match before.get(&it.id) {
        None => Some(MemberChange::Joined(it.clone())),
        Some(was) if was != it => Some(MemberChange::Updated(it.clone())),
        Some(_) => None,
    });
    left.cloned().map(MemberChange::Left).chain(there).collect()
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership")
            .field("publisher", &self.publisher)
            .finish()
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members")
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_tell_who_left_came_and_changed() {
        let member = |id: &str, zone: &str| Member::new(id).unwrap().with_metadata("zone", zone);
        let group = |members: &[Member]| -> BTreeMap<_, _> {
            members
                .iter()
                .map(|it| (it.id.clone(), it.clone()))
                .collect()
        };
        let before = group(&[member("a", "1"), member("b", "1"), member("c", "1")]);
        let now = group(&[member("b", "1"), member("c", "2"), member("d", "1")]);
        let expected = [
            MemberChange::Left(member("a", "1")),
            MemberChange::Updated(member("c", "2")),
            MemberChange::Joined(member("d", "1")),
        ];
        assert_eq!(changes(&before, &now), expected);
        assert_eq!(changes(&now, &now), []);
    }
}
