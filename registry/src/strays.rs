//! Keys that a put of unknown outcome may yet bring, looked after until its lease is gone.
//!
//! Nobody knows when such a put lands: it may lie in the buffers of a member that is frozen or cut
//! off, while the others answer. A publication looks once more before it takes its key for gone.
//! What lands later is found here, and deleted if no publication of the registry wants the key.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock,
    etcd::{Etcd, EtcdError, MOST_KEYS},
    lease::{LeaseId, Standing},
    session::SessionState,
    turns::Turns,
};

/// Between the first two looks at a key, and, each time twice as long, the most there is between
/// two: for that long a server that has stopped may be listed again.
const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(8);

/// Where keys are handed to be looked after.
#[derive(Debug, Clone)]
pub(crate) struct Strays {
    doubts: mpsc::UnboundedSender<(String, LeaseId)>,
}

impl Strays {
    /// Starts looking on `tasks`, until `stop`.
    pub(crate) fn start(
        etcd: Etcd,
        turns: Turns,
        session: watch::Receiver<SessionState>,
        stop: CancellationToken,
        tasks: &TaskTracker,
        runtime: &Handle,
    ) -> Self {
        let (doubts, doubted) = mpsc::unbounded_channel();
        let watchman = Watchman {
            etcd,
            turns,
            session,
            keys: BTreeMap::new(),
        };
        tasks.spawn_on(watchman.run(doubted, stop), runtime);
        Self { doubts }
    }

    /// Looks after `key`: nobody knows whether a put there, under `lease`, has gone through.
    pub(crate) fn look_after(&self, key: &str, lease: LeaseId) {
        // Once the registry is closed its lease is revoked, and no put lands.
        let _ = self.doubts.send((key.to_owned(), lease));
    }
}

/// What looks after them.
struct Watchman {
    etcd: Etcd,
    turns: Turns,
    session: watch::Receiver<SessionState>,
    keys: BTreeMap<String, Doubt>,
}

/// A put that may yet land.
struct Doubt {
    lease: LeaseId,
    look_at: Instant,
    pause: Duration,
}

enum Event {
    Stop,
    Doubted(String, LeaseId),
    Session,
    Time,
}

impl Watchman {
    async fn run(
        mut self,
        mut doubted: mpsc::UnboundedReceiver<(String, LeaseId)>,
        stop: CancellationToken,
    ) {
        loop {
            let next = self.keys.values().map(|doubt| doubt.look_at).min();
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => Event::Stop,
                Some((key, lease)) = doubted.recv() => Event::Doubted(key, lease),
                Ok(()) = self.session.changed() => Event::Session,
                () = clock::until(next) => Event::Time,
            };
            match event {
                Event::Stop => return,
                Event::Doubted(key, lease) => {
                    let doubt = Doubt {
                        lease,
                        look_at: clock::now() + FIRST,
                        pause: FIRST,
                    };
                    self.keys.insert(key, doubt);
                }
                Event::Session => self.forget_lost_leases(),
                Event::Time => {
                    let looked = tokio::select! {
                        biased;
                        () = stop.cancelled() => return,
                        looked = self.look() => looked,
                    };
                    if let Err(error) = looked {
                        tracing::debug!(name: "strays_not_seen", cause = %error, "looked for later");
                    }
                }
            }
        }
    }

    /// No put lands under a lease that is gone.
    fn forget_lost_leases(&mut self) {
        let lease = match self.session.borrow_and_update().standing {
            Standing::Held { id, .. } | Standing::Expired { id } => Some(id),
            Standing::Absent | Standing::Released => None,
        };
        self.keys.retain(|_, doubt| Some(doubt.lease) == lease);
    }

    /// Looks at the keys that are due and that nobody wants, and deletes what has landed there.
    async fn look(&mut self) -> Result<(), EtcdError> {
        let now = clock::now();
        let mut unwanted = Vec::new();
        for (key, doubt) in self.keys.iter_mut().filter(|(_, it)| it.look_at <= now) {
            doubt.pause = (doubt.pause * 2).min(MOST);
            doubt.look_at = now + doubt.pause;
            if !self.turns.is_wanted(key) {
                unwanted.push(key.clone());
            }
        }
        for keys in unwanted.chunks(MOST_KEYS) {
            for (key, held) in self.etcd.read(keys).await?.keys {
                let lease = self.keys.get(&key).map(|doubt| doubt.lease);
                let Some(held) = held.filter(|held| Some(held.lease) == lease) else {
                    continue;
                };
                // Somebody may have come to want it since it was read.
                if !self.turns.is_wanted(&key) && self.etcd.delete_at(&key, held.revision).await? {
                    tracing::warn!(name: "stray_deleted", key, "a put that had been given up has landed");
                }
            }
        }
        Ok(())
    }
}
