//! One lease per process, kept alive: the performer of [`lease`](crate::lease).

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock,
    etcd::{self, Etcd, EtcdError, KeepAlive, Kind, Reachable},
    lease::{Former, Lease, LeaseId, Place, Position, Standing, Step},
    metrics::LeaseMetrics,
    trouble::Trouble,
};

/// A lease, shared by all who write under it.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    state: watch::Receiver<SessionState>,
    doubts: mpsc::UnboundedSender<LeaseId>,
}

/// How the lease stands, and what keeps it from standing better.
#[derive(Debug, Clone)]
pub(crate) struct SessionState {
    pub(crate) standing: Standing,
    pub(crate) trouble: Option<Trouble>,
    /// How often a lease was lost, or might have been.
    pub(crate) term: u64,
    /// The leases that there were before.
    pub(crate) former: Former,
}

/// When a session ends: asked to, and with nobody left who writes under its lease.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    pub(crate) asked: CancellationToken,
    pub(crate) writers: TaskTracker,
}

impl Session {
    /// Starts the session on `tasks`, where it runs until `ending`; then its lease is revoked.
    pub(crate) fn start(
        etcd: Etcd,
        ttl: Duration,
        ending: Ending,
        tasks: &TaskTracker,
        runtime: &Handle,
    ) -> Self {
        let initial = SessionState {
            standing: Standing::Absent,
            trouble: None,
            term: 0,
            former: Former::default(),
        };
        let (state_sender, state) = watch::channel(initial);
        let (doubts, doubted) = mpsc::unbounded_channel();
        let keeper = Keeper {
            reachable: etcd.reachable(),
            etcd,
            lease: Lease::new(ttl),
            granted: None,
            stream: None,
            trouble: None,
            rng: fastrand::Rng::new(),
            metrics: LeaseMetrics::new(),
            state: state_sender,
        };
        tasks.spawn_on(keeper.run(doubted, ending), runtime);
        Self { state, doubts }
    }

    /// Returns how the lease stands, now and later.
    pub(crate) fn state(&self) -> watch::Receiver<SessionState> {
        self.state.clone()
    }

    /// Tells that etcd did not know the lease.
    pub(crate) fn doubt(&self, lease: LeaseId) {
        // A session that has ended has no lease to doubt.
        let _ = self.doubts.send(lease);
    }
}

/// What keeps the lease.
struct Keeper {
    etcd: Etcd,
    reachable: Reachable,
    lease: Lease,
    /// The last lease that etcd is known to have granted, and its TTL.
    granted: Option<(LeaseId, Duration)>,
    stream: Option<KeepAlive>,
    trouble: Option<Trouble>,
    rng: fastrand::Rng,
    metrics: LeaseMetrics,
    state: watch::Sender<SessionState>,
}

impl Keeper {
    async fn run(mut self, mut doubted: mpsc::UnboundedReceiver<LeaseId>, ending: Ending) {
        let mut ended = std::pin::pin!(async {
            ending.asked.cancelled().await;
            ending.writers.wait().await;
        });
        loop {
            let step = self.lease.next(clock::now(), &mut self.rng);
            self.report();
            match step {
                Step::Grant { id, ttl } => self.grant(id, ttl).await,
                Step::Renew { id } => self.renew(id).await,
                Step::Confirm => self.confirm().await,
                Step::Revoke { id } => self.revoke(id).await,
                Step::WaitUntil(_) => {}
                Step::Done => return,
            }
            let wait = match step {
                Step::WaitUntil(at) => at,
                _ => clock::now(),
            };
            let event = tokio::select! {
                biased;
                () = &mut ended, if self.lease.standing() != Standing::Released => Event::Ended,
                Some(lease) = doubted.recv() => Event::Doubted(lease),
                () = self.reachable.again() => Event::Reachable,
                () = clock::until(Some(wait)) => Event::Time,
            };
            match event {
                Event::Ended => self.lease.release(),
                Event::Doubted(lease) => self.lease.doubt(lease, clock::now()),
                Event::Reachable => self.lease.reachable(clock::now()),
                Event::Time => {}
            }
        }
    }

    async fn grant(&mut self, id: LeaseId, ttl: Duration) {
        let sent = clock::now();
        match self.etcd.grant(id, ttl).await {
            Ok((granted, _)) => {
                // It is of the history that there is.
                if self.etcd.has_gone_back() {
                    self.etcd.forget_history();
                }
                self.lease.granted(id, granted, sent);
                self.succeed(id, granted);
                tracing::debug!(name: "lease_granted", lease = id, ttl = granted.as_secs(), "lease granted");
            }
            Err(error) if error.kind == Kind::LeaseExists => self.lease.exists(id),
            Err(error) => self.fail(error),
        }
    }

    async fn renew(&mut self, id: LeaseId) {
        let sent = clock::now();
        let limit = self.lease.patience(sent);
        let renewed = etcd::within(limit, self.renewal(id)).await;
        // What could have run out meanwhile is lost, also to those who look only later.
        self.lease.pass(clock::now());
        self.report();
        match renewed {
            Ok(Some(_)) if self.etcd.has_gone_back() => {
                self.lease.gone(id);
                self.lose(LeaseLost::Restored(id));
            }
            Ok(Some((ttl, place))) => {
                self.lease.renewed(id, ttl, place, sent);
                self.succeed(id, ttl);
            }
            Ok(None) => {
                self.lease.gone(id);
                self.lose(LeaseLost::Gone(id));
            }
            Err(error) => {
                // Whatever the stream still says would answer an older question.
                self.stream = None;
                self.fail(error);
            }
        }
    }

    /// Renews over the open stream, or over a new one, whose opening renews too.
    async fn renewal(&mut self, id: LeaseId) -> Result<Option<(Duration, Place)>, EtcdError> {
        // What it tells from now on is no earlier.
        let furthest = self.etcd.furthest();
        let placed = |(ttl, at): (Duration, Option<Position>)| match (at, furthest) {
            (Some(at), Some(furthest)) if at.is_before(furthest) => (ttl, Place::Behind(furthest)),
            _ => (ttl, Place::Reached),
        };
        if let Some(stream) = &mut self.stream {
            match stream.renew().await {
                // Newer versions look at a stream's token with each renewal (`checkLeaseRenew`);
                // to open another one logs in.
                Err(error) if error.kind == Kind::Token => self.stream = None,
                answer => return Ok(answer?.map(placed)),
            }
        }
        match self.etcd.keep_alive(id).await {
            Ok(stream) => {
                let stream = self.stream.insert(stream);
                match self.granted {
                    // On a slow way there may be no time for a second answer, which would tell no other TTL.
                    Some((granted, ttl)) if granted == id => Ok(Some((ttl, Place::Untold))),
                    _ => Ok(stream.renew().await?.map(placed)),
                }
            }
            Err(error) if error.kind == Kind::LeaseNotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Finds out where a majority is, by a request that needs no key which a user may read: a lease that
    /// is of no other use, and soon over.
    async fn confirm(&mut self) {
        let limit = self.lease.patience(clock::now());
        let spare = self.rng.i64(1..=LeaseId::MAX);
        let granted = self.etcd.grant(spare, Duration::from_secs(1));
        match etcd::within(limit, granted).await {
            Ok((_, Some(at))) => {
                if let Some(left) = self.lease.confirmed(at) {
                    self.lose(LeaseLost::Restored(left));
                }
            }
            // The lease itself is renewed, and so there is nothing to tell.
            Ok((_, None)) | Err(_) => self.lease.unconfirmed(),
        }
    }

    async fn revoke(&mut self, id: LeaseId) {
        if let Err(error) = self.etcd.revoke(id).await
            && error.kind != Kind::LeaseNotFound
            && self.granted.is_some_and(|(granted, _)| granted == id)
        {
            tracing::warn!(name: "lease_not_revoked", lease = id, cause = %error, "lease not revoked; its TTL does the rest");
        }
        self.lease.revoked(id);
    }

    fn lose(&mut self, lost: LeaseLost) {
        self.stream = None;
        self.etcd.forget_history();
        let (LeaseLost::Gone(lease) | LeaseLost::Restored(lease)) = lost;
        tracing::warn!(name: "lease_lost", lease, cause = %lost, "lease lost");
        self.trouble = Some(Trouble::Passing(Arc::new(lost)));
    }

    fn succeed(&mut self, id: LeaseId, ttl: Duration) {
        self.granted = Some((id, ttl));
        if self.trouble.take().is_some() {
            tracing::info!(name: "lease_renewed", lease = id, "lease granted or renewed again");
        }
    }

    fn fail(&mut self, error: EtcdError) {
        self.metrics.retried();
        let trouble = error.into_trouble();
        match &trouble {
            Trouble::Passing(_) => self.lease.failed(clock::now(), &mut self.rng),
            Trouble::Denied(_) => self.lease.denied(clock::now(), &mut self.rng),
        }
        if self.trouble.is_none() {
            let cause = trouble.cause();
            tracing::warn!(name: "lease_not_renewed", %cause, "lease neither granted nor renewed");
        }
        self.trouble = Some(trouble);
    }

    fn report(&mut self) {
        let standing = self.lease.standing();
        self.metrics.show(standing);
        self.state.send_if_modified(|state| {
            let is_same = match (&state.trouble, &self.trouble) {
                (Some(was), Some(is)) => was.is_like(is),
                (was, is) => was.is_none() && is.is_none(),
            };
            if state.standing == standing && is_same {
                return false;
            }
            let was_held = matches!(state.standing, Standing::Held { .. });
            let is_held = matches!(standing, Standing::Held { .. });
            *state = SessionState {
                standing,
                trouble: self.trouble.clone(),
                term: state.term + u64::from(was_held && !is_held),
                former: self.lease.former().clone(),
            };
            true
        });
    }
}

/// Why a lease is of no use any more.
#[derive(Debug, thiserror::Error)]
enum LeaseLost {
    #[error("etcd has no lease {0} any more")]
    Gone(LeaseId),
    #[error(
        "etcd was restored from a backup: what stood under lease {0} then stands there again, and so it is left to end"
    )]
    Restored(LeaseId),
}

/// What a keeper waits for.
enum Event {
    Ended,
    Doubted(LeaseId),
    Reachable,
    Time,
}
