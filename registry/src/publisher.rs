//! An instance, kept in etcd: the handle on it.

mod performer;
mod status;

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot, watch};

use self::performer::{Command, Done, Performer};
pub use self::status::{PublicationStatus, PublishError};
use crate::{
    Instance, InstanceError, Origin, Registry, ServiceName, instance::check_is_for_others,
};

/// An instance that is kept in etcd, for as long as this lives.
///
/// Whatever happens to etcd or to the connection, it is put back; [`status`](Self::status) says how
/// it is. Dropping it takes the instance away too, in the background; [`stop`](Self::stop) waits
/// for that.
///
/// ```
/// use switchboard_registry::{Instance, Registry};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let etcd = switchboard_embedded::EmbeddedEtcd::start();
/// # let registry = Registry::builder("etcd:2379")?.connector(etcd.connector()).connect().await?;
/// let publisher = registry.publish(Instance::new("greeter", "10.0.0.7:50051")?)?;
/// publisher.published().await?;
/// # let key = etcd.keys()[0].key.clone();
/// publisher.pause().await?; // gone from etcd
/// # assert!(etcd.keys().is_empty());
/// publisher.resume().await?; // and back, under the same key
/// # assert_eq!(etcd.keys()[0].key, key);
/// publisher.stop().await?; // gone for good
/// # assert!(etcd.keys().is_empty());
/// # Ok(()) }
/// ```
#[must_use = "a publisher that is dropped takes its instance out of etcd"]
pub struct Publisher {
    service: ServiceName,
    ttl: Duration,
    commands: mpsc::UnboundedSender<Command>,
    status: watch::Receiver<PublicationStatus>,
    /// What is published stays so while this lives, whatever becomes of the other handles.
    registry: Registry,
}

impl Publisher {
    pub(crate) fn start(registry: Registry, instance: Instance) -> Result<Self, PublishError> {
        let instance = prepare(&registry, instance)?;
        let (commands, received) = mpsc::unbounded_channel();
        let (status_sender, status) = watch::channel(PublicationStatus::Registering);
        let service = instance.service().clone();
        let shared = &registry.shared;
        let ttl = shared.ttl;
        let performer = Performer::new(&registry, instance, status_sender)?;
        shared
            .ending
            .writers
            .spawn_on(performer.run(received), &shared.runtime);
        Ok(Self {
            service,
            ttl,
            commands,
            status,
            registry,
        })
    }

    /// Waits until the instance is in etcd, for as long as etcd is away: bound it with a timeout where
    /// that matters.
    ///
    /// # Errors
    ///
    /// What waiting does not mend: the id is taken, etcd refuses, a newer publication of the same
    /// server has taken over, or this one was stopped. Except for the last it is tried on in the
    /// background.
    ///
    /// # Cancel safety
    ///
    /// Cancelling it changes nothing.
    pub async fn published(&self) -> Result<(), PublishError> {
        let mut status = self.status.clone();
        let settled = status.wait_for(|status| {
            matches!(status, PublicationStatus::Published { .. })
                || status.refusal(&self.service).is_some()
        });
        match settled.await {
            Ok(status) => status.refusal(&self.service).map_or(Ok(()), Err),
            Err(_) => Err(self.stopped()),
        }
    }

    /// Takes the instance out of etcd and keeps everything else, so that [`resume`](Self::resume)
    /// is quick. Returns when it is gone, however long etcd is away.
    ///
    /// Channels stop calling it, unless fewer than half of the servers would be left to call.
    ///
    /// # Errors
    ///
    /// etcd refuses, or the publisher was stopped.
    ///
    /// # Cancel safety
    ///
    /// Once polled it is paused all the same; only the waiting is given up.
    pub async fn pause(&self) -> Result<(), PublishError> {
        self.ask(Command::Pause).await
    }

    /// Puts the instance back into etcd, and takes the key over if a newer publication of the same
    /// server has it. Returns when it is there, however long etcd is away.
    ///
    /// # Errors
    ///
    /// As [`published`](Self::published).
    ///
    /// # Cancel safety
    ///
    /// Once polled it is resumed all the same; only the waiting is given up.
    pub async fn resume(&self) -> Result<(), PublishError> {
        self.ask(Command::Resume).await
    }

    /// Puts `instance` in the place of the one before. If its id is another one, the new key comes
    /// and the old one goes in one transaction; if another server has the new id, the old key goes
    /// all the same. A paused publisher stays so.
    ///
    /// # Errors
    ///
    /// The instance is of another service or has nothing that can be dialed: then nothing changes.
    /// Otherwise as [`published`](Self::published).
    ///
    /// # Cancel safety
    ///
    /// Once polled the instance is replaced all the same; only the waiting is given up.
    pub async fn update(&self, instance: Instance) -> Result<(), PublishError> {
        let instance = prepare(&self.registry, instance)?;
        if instance.service() != &self.service {
            let (given, expected) = (instance.service().clone(), self.service.clone());
            return Err(PublishError::OtherService { given, expected });
        }
        self.ask(|done| Command::Update(Box::new(instance), done))
            .await
    }

    /// Takes the instance out of etcd for good. It is gone when this returns.
    ///
    /// # Errors
    ///
    /// etcd did not confirm that within one TTL, or before the registry closed. Until it closes it
    /// is tried on in the background; without renewals the key then goes with its lease.
    ///
    /// # Cancel safety
    ///
    /// Once polled it is stopped all the same; only the waiting is given up.
    pub async fn stop(self) -> Result<(), PublishError> {
        match tokio::time::timeout(self.ttl, self.ask(Command::Stop)).await {
            Ok(answer) if !matches!(answer, Err(PublishError::Stopped { .. })) => answer,
            // Nobody works on it any more, or it takes too long.
            _ => match &*self.status.borrow() {
                PublicationStatus::Stopped => Ok(()),
                PublicationStatus::Retrying { cause } => Err(PublishError::clone(cause)),
                _ => Err(PublishError::Unavailable {
                    service: self.service.clone(),
                    cause: Arc::new(Unconfirmed(self.ttl)),
                }),
            },
        }
    }

    /// Returns a watch on how the publication is. It ends with [`PublicationStatus::Stopped`], or,
    /// if the registry closes while etcd does not answer, with what was last known.
    pub fn status(&self) -> watch::Receiver<PublicationStatus> {
        self.status.clone()
    }

    async fn ask(&self, command: impl FnOnce(Done) -> Command) -> Result<(), PublishError> {
        let (done, answer) = oneshot::channel();
        self.commands
            .send(command(done))
            .map_err(|_| self.stopped())?;
        answer.await.unwrap_or_else(|_| Err(self.stopped()))
    }

    fn stopped(&self) -> PublishError {
        PublishError::Stopped {
            service: self.service.clone(),
        }
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.borrow();
        f.debug_struct("Publisher")
            .field("service", &self.service)
            .field("status", &*status)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no answer in {} s", _0.as_secs())]
struct Unconfirmed(Duration);

/// Makes of what was given what is to be published.
fn prepare(registry: &Registry, instance: Instance) -> Result<Instance, InstanceError> {
    check(registry, &instance)?;
    Ok(instance.in_zone(registry.shared.zone.as_deref()))
}

/// What is published must be of use to somebody.
fn check(registry: &Registry, instance: &Instance) -> Result<(), InstanceError> {
    if instance.origins().is_empty() && registry.place.namespace.is_of_kratos() {
        return Err(InstanceError::NoEndpoint(instance.service().clone()));
    }
    let mut addresses = instance.origins().iter().map(Origin::address);
    addresses.try_for_each(check_is_for_others)
}
