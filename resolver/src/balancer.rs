//! The task that owns a channel's endpoints.
//!
//! It takes what the source says and what the endpoints' tasks report, one thing at a time, and
//! publishes what follows from it: a [`View`] for the calls and a [`ChannelState`] for those who
//! watch. It outlives every task it started.
//!
//! Never waits for an endpoint, and never sees a call.

mod listed;

use std::{
    any::Any,
    future::poll_fn,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, Stream, StreamExt};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Cause, Ejection, ReservePolicy, ServiceConfig, SlowStart, Source, Update,
    balance::Contained,
    dialing::Dialing,
    endpoint_set::EndpointSet,
    endpoint_task::Command,
    fleet::{Fleet, Losses, News},
    idleness::{Activity, Idleness},
    metrics::EndpointMetrics,
    outlook::{Outlook, SourceStatus, Trouble, outlook},
    reserve::{Counts, Reserve},
    selection::{Listing, Renewal, Selection},
    service_config::{Adoption, Configuration, Methods},
    state::{ChannelState, ReserveUse, ServiceConfigState},
    view::{View, Views},
};

/// What feeds a channel, of whatever kind.
pub(crate) type BoxSource = Pin<Box<dyn Source>>;

/// What tells the configuration's text, each time it changes.
pub(crate) type BoxConfigs = Pin<Box<dyn Stream<Item = Option<String>> + Send>>;

/// Owns a channel's endpoints; `run` is the task.
pub(crate) struct Balancer {
    service: Option<Arc<str>>,
    dialing: Arc<Dialing>,
    rng: fastrand::Rng,
    /// `None` once it has ended.
    source: Option<BoxSource>,
    status: SourceStatus,
    listing: Listing,
    /// Those of what is listed that are used; `None` before the first snapshot.
    endpoints: Option<EndpointSet>,
    /// The groups of the split that none of those is in.
    empty_groups: Vec<String>,
    /// How many endpoints the last snapshot names that are not of the channel's kind.
    others: usize,
    fleet: Fleet,
    reserve: Reserve,
    /// `None` if the configuration is not told of, or not any more.
    configs: Option<BoxConfigs>,
    configuration: Configuration,
    idleness: Idleness,
    published: Published,
    /// The policy that the channel was built with, if one was set.
    policy: Option<Contained>,
    /// What the source panicked with, to go on once everything is over.
    panic: Option<Box<dyn Any + Send>>,
}

/// Where the balancer publishes.
pub(crate) struct Published {
    pub(crate) views: Arc<Views>,
    pub(crate) methods: Arc<Methods>,
    pub(crate) state: watch::Sender<Arc<ChannelState>>,
    pub(crate) metrics: EndpointMetrics,
}

/// How others tell the balancer what to do.
pub(crate) struct Signals {
    pub(crate) reset_backoff: Arc<Notify>,
    pub(crate) close: CancellationToken,
    pub(crate) activity: Arc<Activity>,
}

/// What the balancer is set up with.
pub(crate) struct Settings {
    pub(crate) idle_timeout: Duration,
    pub(crate) reserve: ReservePolicy,
    pub(crate) ejection: Option<Ejection>,
    pub(crate) slow_start: Option<SlowStart>,
    pub(crate) config: ServiceConfig,
    pub(crate) configs: Option<BoxConfigs>,
}

enum Input {
    Source(Result<Option<Update>, Box<dyn Any + Send>>),
    /// `None` once there will be no more.
    Config(Result<Option<Option<String>>, Box<dyn Any + Send>>),
    News(News),
    ResetBackoff,
    /// It is time to look for calls, at the reserve, or at how calls have ended.
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
        mut rng: fastrand::Rng,
        settings: Settings,
        published: Published,
    ) -> Self {
        let dialing = Arc::new(dialing);
        let mut config = settings.config;
        let policy = config.policy.take();
        let policy = policy.map(|it| Contained::new(it, service.clone()));
        if let Some(policy) = &policy {
            config = config.with_policy(policy.clone());
        }
        Self {
            fleet: Fleet::new(
                service.clone(),
                dialing.clone(),
                settings.ejection,
                settings.slow_start,
                rng.fork(),
            ),
            listing: Listing::new(rng.u64(..)),
            service,
            dialing,
            rng,
            source: Some(source),
            status: SourceStatus::Pending,
            endpoints: None,
            empty_groups: Vec::new(),
            others: 0,
            reserve: Reserve::new(settings.reserve),
            configs: settings.configs,
            configuration: Configuration::new(config),
            idleness: Idleness::new(settings.idle_timeout, Instant::now().into_std()),
            published,
            policy,
            panic: None,
        }
    }

    /// Works until the channel is closed and all calls have ended.
    pub(crate) async fn run(mut self, signals: Signals) {
        loop {
            match self.next_input(&signals).await {
                Input::Source(Ok(Some(update))) => self.on_update(update),
                Input::Source(Ok(None)) => self.on_source_ended(),
                Input::Source(Err(panic)) => self.on_source_panicked(panic),
                Input::Config(told) => self.on_config(told),
                Input::News(news) => self.on_news(news),
                Input::ResetBackoff => {
                    self.fleet.tell_all(|| Command::ResetBackoff);
                    self.resolve_now();
                }
                Input::Look => self.look(&signals.activity),
                Input::Woken => self.wake(),
                Input::Close => break,
            }
            self.publish();
        }
        self.source = None;
        self.status = SourceStatus::Ended;
        self.published.views.publish(View::Closed);
        self.endpoints = Some(EndpointSet::default());
        self.fleet.drain_all();
        self.publish_state();
        while self.fleet.one_has_ended().await {
            self.publish_state();
        }
        let of_policy = self.policy.as_ref().and_then(Contained::take_panic);
        let panic = self.fleet.take_panic().or(self.panic.take());
        if let Some(panic) = panic.or(of_policy) {
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
                    let next = poll_fn(|cx| source.as_mut().poll_update(cx));
                    let next = AssertUnwindSafe(next).catch_unwind();
                    tokio::task::coop::cooperative(next).await
                }
                None => std::future::pending().await,
            }
        };
        let configs = &mut self.configs;
        let config = async {
            match configs {
                Some(configs) => {
                    let next = AssertUnwindSafe(configs.next()).catch_unwind();
                    tokio::task::coop::cooperative(next).await
                }
                None => std::future::pending().await,
            }
        };
        let looks = [self.idleness.next(), self.reserve.next()];
        let looks = looks.into_iter().flatten().map(Instant::from_std);
        let look = looks.chain(self.fleet.next()).min();
        let look = async {
            match look {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = signals.close.cancelled() => Input::Close,
            update = update => Input::Source(update),
            told = config => Input::Config(told),
            news = self.fleet.news() => Input::News(news),
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

    fn on_source_panicked(&mut self, panic: Box<dyn Any + Send>) {
        self.on_source_lost("the source has panicked");
        self.panic = Some(panic);
    }

    /// Takes in what the configuration says. One that ends, or panics, leaves the last one in force.
    fn on_config(&mut self, told: Result<Option<Option<String>>, Box<dyn Any + Send>>) {
        let text = match told {
            Ok(Some(text)) => text,
            Ok(None) => return self.configs = None,
            Err(panic) => {
                self.configs = None;
                self.panic = Some(panic);
                return;
            }
        };
        let service = self.service.as_deref().unwrap_or_default();
        match (self.configuration.tell(text), self.configuration.rejected()) {
            (Adoption::Adopted, _) => {
                self.published.methods.publish(self.configuration.current());
                let policy = self.configuration.current().policy();
                let policy = policy.name();
                tracing::info!(name: "service_config_adopted", service, policy, "configuration is in force");
                // What was listed before is still there, whether it was used or not.
                if self.endpoints.is_some() {
                    self.choose(false);
                }
            }
            (Adoption::Rejected, Some(cause)) => {
                let instead = match self.configuration.adopted() {
                    Some(_) => "the last good one",
                    None => "none: the channel is as it was built",
                };
                tracing::warn!(name: "service_config_rejected", service, %cause, instead, "configuration makes no sense");
            }
            (Adoption::Rejected, None) | (Adoption::Known, _) => {}
        }
    }

    /// Tells the source that what it said may be out of date; how often it looks is its own
    /// business.
    fn resolve_now(&mut self) {
        let Some(source) = &mut self.source else {
            return;
        };
        let told = catch_unwind(AssertUnwindSafe(|| source.as_mut().resolve_now()));
        if let Err(panic) = told {
            self.on_source_panicked(panic);
        }
    }

    fn on_news(&mut self, news: News) {
        let Losses { reserved, any } = self.fleet.take_in(news);
        for key in reserved {
            self.reserve.forget(&key);
        }
        if any {
            self.resolve_now();
        }
    }

    fn is_idle(&self) -> bool {
        self.idleness.next().is_none()
    }

    fn look(&mut self, activity: &Activity) {
        let now = Instant::now().into_std();
        for key in self.reserve.due(now) {
            self.fleet.drain(&key);
        }
        self.fleet.look();
        if self.idleness.next().is_none_or(|at| at > now) {
            return;
        }
        // Asked first: that there is a call is noted before it takes a slot.
        let is_called =
            activity.was_called() || self.fleet.is_called() || self.dialing.vacancy.is_awaited();
        if self.idleness.look(is_called, now) {
            tracing::debug!(name: "channel_idle", service = self.service.as_deref(), "channel is idle");
            // Nobody is kept connected.
            self.reserve.clear();
            self.fleet.drain_reserve();
            self.fleet.tell_all(|| Command::Rest);
        }
    }

    fn wake(&mut self) {
        // Several calls may have asked for it.
        if self.is_idle() {
            self.idleness.wake(Instant::now().into_std());
            self.fleet.tell_all(|| Command::Wake);
        }
    }

    fn publish(&mut self) {
        let now = Instant::now().into_std();
        self.reserve.on_source(self.status.is_right(), now);
        if self.is_idle() {
            self.published.views.publish(View::Idle);
            return self.publish_state();
        }
        let is_reserve_used = self.uses_reserve();
        let observed = self.fleet.observe(is_reserve_used);
        let outlook = outlook(
            &self.status,
            self.endpoints.is_some().then_some(&observed[..]),
        );
        let view = match outlook {
            Outlook::Waiting(obstacle) => View::Waiting(obstacle),
            Outlook::Failing(obstacle) => {
                View::Failing(self.why_nobody(observed.len()).unwrap_or(obstacle))
            }
            Outlook::Ready => {
                let (callable, is_wider) = self.fleet.callable(is_reserve_used);
                // A new picker starts anywhere; while the READY ones stay the same, so does the
                // turn.
                let config = self.configuration.current();
                let renewal = match &**self.published.views.load() {
                    View::Ready(known) if !is_wider => known.renewal(config, &callable, &observed),
                    _ => Renewal::Anew,
                };
                let selection = match renewal {
                    Renewal::Same => return self.publish_state(),
                    Renewal::Continued(selection) => selection,
                    Renewal::Anew => {
                        Selection::new(config.clone(), callable, &observed, self.rng.u64(..))
                    }
                };
                // Before it counts. Those who wait look again when it does.
                let vacancy = &self.dialing.vacancy;
                vacancy.wake_all(!selection.offers_all());
                View::Ready(selection)
            }
        };
        self.published.views.publish(view);
        self.publish_state();
    }

    /// Returns whether calls go to vanished endpoints, too; says so when that begins, and ends.
    fn uses_reserve(&mut self) -> bool {
        let counts = self.fleet.counts();
        let (was, is) = self.reserve.assess(counts);
        let Counts {
            listed,
            ready,
            reserved,
        } = counts;
        let service = self.service.as_deref().unwrap_or_default();
        match (was, is) {
            (ReserveUse::Unused, ReserveUse::LastSet) => {
                tracing::warn!(name: "reserve_used", service, listed = 0, ready, kept = listed, "no endpoints are listed any more: the last ones stay in use");
            }
            (ReserveUse::Unused, ReserveUse::Used) => {
                tracing::warn!(name: "reserve_used", service, listed, ready, kept = reserved, "few of the last endpoints are listed and READY: vanished ones that are connected stay in use");
            }
            (ReserveUse::Used | ReserveUse::LastSet, ReserveUse::Unused) => {
                tracing::info!(name: "reserve_left", service, listed, ready, kept = reserved, "calls go to listed endpoints alone");
            }
            _ => {}
        }
        is == ReserveUse::Used
    }

    fn publish_state(&self) {
        let state = ChannelState {
            service: self.service.as_deref().map(str::to_owned),
            source: self.status.state(),
            reserve: self.reserve.usage(),
            config: ServiceConfigState {
                policy: self.configuration.current().policy().name().to_owned(),
                adopted: self.configuration.adopted().cloned(),
                rejected: self.configuration.rejected().map(ToString::to_string),
                empty_groups: self.empty_groups.clone(),
            },
            endpoints: self.fleet.states(),
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
