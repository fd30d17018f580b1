//! The task that owns a channel's endpoints.
//!
//! It takes what the source says and what the endpoints' tasks report, one thing at a time, and
//! publishes what follows from it: a [`View`] for the calls and a [`ChannelState`] for those who
//! watch. It outlives every task it started.
//!
//! Never waits for an endpoint, and never sees a call.

use std::{
    any::Any, collections::BTreeMap, io, panic::AssertUnwindSafe, pin::Pin, sync::Arc,
    time::Duration,
};

use futures::{FutureExt, Stream, StreamExt};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::{self, JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Cause, Endpoint, Update,
    balance::RoundRobin,
    dialing::Dialing,
    endpoint_handle::EndpointHandle,
    endpoint_set::{EndpointKey, EndpointSet},
    endpoint_task::{Command, EndpointTask, Report},
    idleness::{Activity, Idleness},
    metrics::EndpointMetrics,
    outlook::{Obstacle, Outlook, SourceStatus, Trouble, outlook},
    state::{ChannelState, Condition},
    subchannel::Subchannel,
    view::{Target, View, Views},
};

/// What feeds a channel, of whatever kind.
pub(crate) type BoxSource = Pin<Box<dyn Stream<Item = Update> + Send>>;

/// Owns a channel's endpoints; `run` is the task.
pub(crate) struct Balancer {
    service: Option<Arc<str>>,
    dialing: Arc<Dialing>,
    rng: fastrand::Rng,
    /// `None` once it has ended.
    source: Option<BoxSource>,
    status: SourceStatus,
    /// `None` before the first snapshot.
    endpoints: Option<EndpointSet>,
    /// How many endpoints the last snapshot names that are not of the channel's kind.
    others: usize,
    wanted: BTreeMap<EndpointKey, EndpointHandle>,
    draining: Vec<EndpointHandle>,
    tasks: JoinSet<()>,
    reports: mpsc::UnboundedReceiver<Report>,
    reporter: mpsc::UnboundedSender<Report>,
    idleness: Idleness,
    published: Published,
    /// What a task or the source panicked with, to go on once everything is over.
    panic: Option<Box<dyn Any + Send>>,
}

/// Where the balancer publishes.
pub(crate) struct Published {
    pub(crate) views: Arc<Views>,
    pub(crate) state: watch::Sender<Arc<ChannelState>>,
    pub(crate) metrics: EndpointMetrics,
}

/// How others tell the balancer what to do.
pub(crate) struct Signals {
    pub(crate) reset_backoff: Arc<Notify>,
    pub(crate) close: CancellationToken,
    pub(crate) activity: Arc<Activity>,
}

enum Input {
    Source(Result<Option<Update>, Box<dyn Any + Send>>),
    Report(Report),
    Ended(Result<(task::Id, ()), JoinError>),
    ResetBackoff,
    /// It is time to look for calls.
    Look,
    /// A call waits for the idle channel.
    Woken,
    Close,
}

impl Balancer {
    pub(crate) fn new(
        service: Option<Arc<str>>,
        source: BoxSource,
        dialing: Dialing,
        rng: fastrand::Rng,
        idle_timeout: Duration,
        published: Published,
    ) -> Self {
        let (reporter, reports) = mpsc::unbounded_channel();
        Self {
            service,
            dialing: Arc::new(dialing),
            rng,
            source: Some(source),
            status: SourceStatus::Pending,
            endpoints: None,
            others: 0,
            wanted: BTreeMap::new(),
            draining: Vec::new(),
            tasks: JoinSet::new(),
            reports,
            reporter,
            idleness: Idleness::new(idle_timeout, Instant::now().into_std()),
            published,
            panic: None,
        }
    }

    /// Works until the channel is closed and all calls have ended.
    pub(crate) async fn run(mut self, signals: Signals) {
        loop {
            match self.next_input(&signals).await {
                Input::Source(Ok(Some(update))) => self.on_update(update),
                Input::Source(Ok(None)) => self.on_source_ended(),
                Input::Source(Err(panic)) => {
                    self.on_source_lost("the source has panicked");
                    self.panic = Some(panic);
                }
                Input::Report(report) => self.on_report(report),
                Input::Ended(ended) => self.on_ended(ended),
                Input::ResetBackoff => self.tell_all(|| Command::ResetBackoff),
                Input::Look => self.look(&signals.activity),
                Input::Woken => self.wake(),
                Input::Close => break,
            }
            // What came at the same time is published at once: a thousand endpoints that connect
            // together are not a thousand views of a thousand.
            while let Ok(report) = self.reports.try_recv() {
                self.on_report(report);
            }
            self.on_others_ended();
            self.publish();
        }
        self.source = None;
        self.status = SourceStatus::Ended;
        self.published.views.publish(View::Closed);
        // A report holds its connection open as long as it lies there.
        self.reports.close();
        while self.reports.try_recv().is_ok() {}
        self.endpoints = Some(EndpointSet::default());
        for (_, handle) in std::mem::take(&mut self.wanted) {
            self.drain(handle);
        }
        while !self.tasks.is_empty() {
            self.publish_state();
            if let Some(ended) = self.tasks.join_next_with_id().await {
                self.on_ended(ended);
                self.on_others_ended();
            }
        }
        self.publish_state();
        if let Some(panic) = self.panic.take() {
            std::panic::resume_unwind(panic);
        }
    }

    async fn next_input(&mut self, signals: &Signals) -> Input {
        let source = &mut self.source;
        let update = async {
            match source {
                // Within tokio's budget: a source that always has more must leave its turn to
                // others.
                Some(source) => {
                    let next = AssertUnwindSafe(source.next()).catch_unwind();
                    tokio::task::coop::cooperative(next).await
                }
                None => std::future::pending().await,
            }
        };
        let look = self.idleness.next().map(Instant::from_std);
        let look = async {
            match look {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = signals.close.cancelled() => Input::Close,
            update = update => Input::Source(update),
            Some(report) = self.reports.recv() => Input::Report(report),
            Some(ended) = self.tasks.join_next_with_id() => Input::Ended(ended),
            () = signals.reset_backoff.notified() => Input::ResetBackoff,
            () = signals.activity.woken() => Input::Woken,
            () = look => Input::Look,
        }
    }

    fn on_update(&mut self, update: Update) {
        let trouble = |cause| Trouble {
            at: Instant::now().into_std(),
            cause,
        };
        self.status = match update {
            Update::Snapshot(endpoints) => {
                self.on_snapshot(endpoints);
                SourceStatus::Fresh
            }
            Update::Fresh if self.endpoints.is_none() => SourceStatus::Pending,
            Update::Fresh => SourceStatus::Fresh,
            Update::Stale { since, cause } => SourceStatus::Stale {
                since,
                trouble: trouble(cause),
            },
            Update::Failed { cause } => SourceStatus::Failed(trouble(cause)),
        };
    }

    fn on_source_ended(&mut self) {
        self.source = None;
        match self.status {
            SourceStatus::Pending => self.on_source_lost("the source has ended"),
            // Nobody will say any more whether the last snapshot is right.
            SourceStatus::Fresh => self.status = SourceStatus::Ended,
            // What stood in the way will now stay there, and says more.
            SourceStatus::Stale { .. } | SourceStatus::Failed(_) | SourceStatus::Ended => {}
        }
    }

    fn on_source_lost(&mut self, how: &'static str) {
        self.source = None;
        let cause: Cause = Arc::new(io::Error::new(io::ErrorKind::UnexpectedEof, how));
        self.on_update(Update::Failed { cause });
    }

    fn on_snapshot(&mut self, mut snapshot: Vec<Endpoint>) {
        let ours = self.dialing.security();
        let named = snapshot.len();
        // Before anything is told apart by its addresses, which both kinds may have in common.
        snapshot.retain(|endpoint| endpoint.security().is_none_or(|it| it == ours));
        self.others = named - snapshot.len();
        let changes = self.endpoints.get_or_insert_default().replace(snapshot);
        for key in changes.removed {
            if let Some(handle) = self.wanted.remove(&key) {
                self.drain(handle);
            }
        }
        for endpoint in changes.changed {
            if let Some(handle) = self.wanted.get_mut(endpoint.key()) {
                handle.update(endpoint);
            }
        }
        for endpoint in changes.added {
            let key = endpoint.key().clone();
            let handle = self.start(endpoint);
            self.wanted.insert(key, handle);
        }
    }

    fn start(&mut self, endpoint: Endpoint) -> EndpointHandle {
        let (commands, receiver) = mpsc::unbounded_channel();
        let task = EndpointTask {
            endpoint: endpoint.clone(),
            dialing: self.dialing.clone(),
            commands: receiver,
            reports: self.reporter.clone(),
            rng: self.rng.fork(),
        };
        let subchannel = match self.is_idle() {
            true => Subchannel::idle(self.dialing.backoff),
            false => Subchannel::new(self.dialing.backoff),
        };
        let condition = subchannel.condition();
        let task = self.tasks.spawn(task.run(subchannel)).id();
        EndpointHandle::new(task, endpoint, commands, condition)
    }

    fn drain(&mut self, handle: EndpointHandle) {
        // A task that has panicked will not end once more.
        if handle.is_heard() {
            self.draining.push(handle.into_draining());
        }
    }

    fn on_report(&mut self, report: Report) {
        // One that drains has nothing to report that matters.
        let wanted = self.wanted.get_mut(&report.key);
        let Some(handle) = wanted.filter(|it| it.task == report.task) else {
            return;
        };
        handle.log(self.service.as_deref(), &report);
        handle.take_in(report);
    }

    fn on_ended(&mut self, ended: Result<(task::Id, ()), JoinError>) {
        let task = match &ended {
            Ok((task, ())) => *task,
            Err(error) => error.id(),
        };
        self.draining.retain(|it| it.task != task);
        let Err(error) = ended else {
            return;
        };
        // One that panicked is not redialed; the others are called as before.
        if let Some(it) = self.wanted.values_mut().find(|it| it.task == task) {
            it.panicked();
        }
        // Not cancelled: nobody aborts these tasks.
        self.panic = error.try_into_panic().ok().or(self.panic.take());
    }

    /// Takes in the tasks that have ended at the same time, of which there are many when a set is
    /// emptied.
    fn on_others_ended(&mut self) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.on_ended(ended);
        }
    }

    fn tell_all(&self, command: impl Fn() -> Command) {
        for handle in self.wanted.values() {
            handle.tell(command());
        }
    }

    fn is_idle(&self) -> bool {
        self.idleness.next().is_none()
    }

    fn look(&mut self, activity: &Activity) {
        let mut handles = self.wanted.values().chain(&self.draining);
        // Asked first: that there is a call is noted before it takes a slot.
        let is_called = activity.was_called()
            || handles.any(|it| it.calls_in_flight() > 0)
            || self.dialing.vacancy.is_awaited();
        if self.idleness.look(is_called, Instant::now().into_std()) {
            tracing::debug!(name: "channel_idle", service = self.service.as_deref(), "channel is idle");
            self.tell_all(|| Command::Rest);
        }
    }

    fn wake(&mut self) {
        // Several calls may have asked for it.
        if self.is_idle() {
            self.idleness.wake(Instant::now().into_std());
            self.tell_all(|| Command::Wake);
        }
    }

    fn publish(&mut self) {
        if self.is_idle() {
            self.published.views.publish(View::Idle);
            return self.publish_state();
        }
        let observed: Vec<_> = self.wanted.values().map(EndpointHandle::observe).collect();
        let outlook = outlook(
            &self.status,
            self.endpoints.is_some().then_some(&observed[..]),
        );
        let view = match outlook {
            Outlook::Waiting(obstacle) => View::Waiting(obstacle),
            Outlook::Failing(Obstacle::NoEndpoints) if self.others > 0 => {
                let ours = self.dialing.security();
                View::Failing(Obstacle::NoneOfOurs(self.others, ours))
            }
            Outlook::Failing(obstacle) => View::Failing(obstacle),
            Outlook::Ready => {
                let targets = self.targets();
                // A new picker starts anywhere; while the READY ones stay the same, so does the
                // turn.
                if self.published.views.load().has_targets(&targets) {
                    return self.publish_state();
                }
                View::Ready(RoundRobin::new(targets, self.rng.usize(..)))
            }
        };
        self.published.views.publish(view);
        self.publish_state();
    }

    /// Returns where calls may go: to those that are READY, or to those that are suspect if all are.
    fn targets(&self) -> Vec<Arc<Target>> {
        let are = |condition| {
            let handles = self.wanted.values();
            let targets = handles.filter(move |it| it.condition == condition);
            targets
                .filter_map(|it| it.target.clone())
                .collect::<Vec<_>>()
        };
        let ready = are(Condition::Ready);
        match ready.is_empty() {
            true => are(Condition::Suspect),
            false => ready,
        }
    }

    fn publish_state(&self) {
        let endpoints = self.wanted.values().chain(&self.draining);
        let state = ChannelState {
            service: self.service.as_deref().map(str::to_owned),
            source: self.status.state(),
            endpoints: endpoints.map(|it| it.state.clone()).collect(),
        };
        self.published.metrics.show(&state);
        self.published.state.send_if_modified(|last| {
            let is_new = **last != state;
            if is_new {
                *last = Arc::new(state);
            }
            is_new
        });
    }
}

impl Drop for Balancer {
    /// Calls must not wait for a balancer that has panicked.
    fn drop(&mut self) {
        self.published.views.publish(View::Closed);
    }
}
