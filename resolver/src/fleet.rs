//! The endpoints of a channel, and the tasks that keep them connected.
//!
//! Each is listed by the source, or in reserve, or drains: it gets no more calls, and ends with its
//! last one. Who is what is decided elsewhere; this does it, and knows how each is.

use std::{
    any::Any,
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use tokio::{
    sync::mpsc,
    task::{self, JoinError, JoinSet},
    time::Instant,
};

use crate::{
    Endpoint,
    dialing::Dialing,
    ejection::{Ejection, Judge},
    endpoint_handle::EndpointHandle,
    endpoint_set::EndpointKey,
    endpoint_task::{Command, EndpointTask, Report},
    outlook::Observed,
    reserve::Counts,
    selection::Callable,
    slow_start::{Ramps, SlowStart},
    state::{Condition, EndpointState},
    subchannel::Subchannel,
    transport::Capacity,
};

/// The endpoints of a channel.
pub(crate) struct Fleet {
    dialing: Arc<Dialing>,
    rng: fastrand::Rng,
    service: Option<Arc<str>>,
    /// If endpoints are judged by how their calls end.
    judge: Option<Judge>,
    /// If endpoints that are new get few calls at first.
    ramps: Option<Ramps>,
    /// Those that are listed, and those in reserve.
    known: BTreeMap<EndpointKey, EndpointHandle>,
    draining: Vec<EndpointHandle>,
    tasks: JoinSet<()>,
    reports: mpsc::UnboundedReceiver<Report>,
    reporter: mpsc::UnboundedSender<Report>,
    /// What a task panicked with.
    panic: Option<Box<dyn Any + Send>>,
}

/// What was lost by what tasks told.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    /// Endpoints in reserve that are gone.
    pub(crate) reserved: Vec<EndpointKey>,
    /// Whether a listed one has lost its connection, or begins to fail.
    pub(crate) any: bool,
}

/// What tasks and calls have to tell.
pub(crate) enum News {
    Report(Report),
    Ended(Result<(task::Id, ()), JoinError>),
    /// How calls have ended is to be looked at.
    Calls,
}

impl Fleet {
    pub(crate) fn new(
        service: Option<Arc<str>>,
        dialing: Arc<Dialing>,
        ejection: Option<Ejection>,
        slow_start: Option<SlowStart>,
        mut rng: fastrand::Rng,
    ) -> Self {
        let (reporter, reports) = mpsc::unbounded_channel();
        let judge = ejection.map(|settings| {
            let vacancy = dialing.vacancy.clone();
            Judge::new(settings, rng.fork(), vacancy, Instant::now().into_std())
        });
        Self {
            dialing,
            rng,
            service,
            judge,
            ramps: slow_start.map(Ramps::new),
            known: BTreeMap::new(),
            draining: Vec::new(),
            tasks: JoinSet::new(),
            reports,
            reporter,
            panic: None,
        }
    }

    /// Waits until a task or a call has something to tell. Cancel safe.
    pub(crate) async fn news(&mut self) -> News {
        let judge = &self.judge;
        let asked = async {
            match judge {
                Some(judge) => judge.asked().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(report) = self.reports.recv() => News::Report(report),
            Some(ended) = self.tasks.join_next_with_id() => News::Ended(ended),
            () = asked => News::Calls,
        }
    }

    /// Takes in what a task tells, and what else was told by now: a thousand endpoints that connect
    /// together are not a thousand views of a thousand.
    pub(crate) fn take_in(&mut self, news: News) -> Losses {
        let mut lost = Losses::default();
        let mut ended = HashSet::new();
        let mut next = Some(news);
        while let Some(news) = next {
            match news {
                News::Report(report) => self.on_report(report, &mut lost),
                News::Ended(task) => {
                    ended.insert(self.on_ended(task));
                }
                News::Calls => self.look(),
            }
            next = self.next_news();
        }
        self.forget(&ended);
        lost
    }

    /// Returns what a task has to tell already: its reports before its end.
    fn next_news(&mut self) -> Option<News> {
        let report = self.reports.try_recv().ok().map(News::Report);
        report.or_else(|| self.tasks.try_join_next_with_id().map(News::Ended))
    }

    /// Adds an endpoint that is listed now, or takes it out of the reserve, connected as it is.
    pub(crate) fn add(&mut self, endpoint: Endpoint, is_idle: bool) {
        match self.known.get_mut(endpoint.key()) {
            Some(handle) => handle.relist(endpoint),
            None => {
                let handle = self.start(endpoint.clone(), is_idle);
                self.known.insert(endpoint.key().clone(), handle);
            }
        }
    }

    fn start(&mut self, endpoint: Endpoint, is_idle: bool) -> EndpointHandle {
        let (commands, receiver) = mpsc::unbounded_channel();
        let capacity = self.capacity(&endpoint);
        let task = EndpointTask {
            endpoint: endpoint.clone(),
            dialing: self.dialing.clone(),
            capacity: capacity.clone(),
            commands: receiver,
            reports: self.reporter.clone(),
            rng: self.rng.fork(),
        };
        let subchannel = match is_idle {
            true => Subchannel::idle(self.dialing.backoff),
            false => Subchannel::new(self.dialing.backoff),
        };
        let condition = subchannel.condition();
        let task = self.tasks.spawn(task.run(subchannel)).id();
        let now = Instant::now().into_std();
        let judge = self.judge.as_mut();
        let witness = judge.map(|it| it.added(endpoint.key(), now));
        EndpointHandle::new(task, endpoint, commands, condition, witness, capacity)
    }

    /// Returns how many calls an endpoint may have. One that comes back while it drains has those it had.
    fn capacity(&self, endpoint: &Endpoint) -> Capacity {
        let is_limited = self.dialing.settings.max_calls_in_flight.is_some();
        let mut draining = self.draining.iter().filter(|_| is_limited);
        let before = draining.find(|it| it.endpoint().key() == endpoint.key());
        before.map_or_else(|| self.dialing.capacity(), |it| it.capacity.clone())
    }

    /// Takes in that the source says something else of an endpoint.
    pub(crate) fn update(&mut self, endpoint: Endpoint) {
        if let Some(handle) = self.known.get_mut(endpoint.key()) {
            handle.update(endpoint);
        }
    }

    /// Returns whether a connection to the endpoint is there to be kept.
    pub(crate) fn is_connected(&self, key: &EndpointKey) -> bool {
        self.known
            .get(key)
            .is_some_and(EndpointHandle::is_connected)
    }

    /// Keeps an endpoint that is not listed any more.
    pub(crate) fn reserve(&mut self, key: &EndpointKey) {
        if let Some(handle) = self.known.get_mut(key) {
            handle.reserve();
        }
    }

    /// Gives an endpoint no more calls.
    pub(crate) fn drain(&mut self, key: &EndpointKey) {
        if let Some(judge) = &mut self.judge {
            judge.removed(key);
        }
        if let Some(ramps) = &mut self.ramps {
            ramps.failed(key);
        }
        // A task that has panicked will not end once more.
        if let Some(handle) = self.known.remove(key).filter(EndpointHandle::is_heard) {
            self.draining.push(handle.into_draining());
        }
    }

    /// Gives those in reserve no more calls.
    pub(crate) fn drain_reserve(&mut self) {
        for endpoint in self.reserved() {
            self.drain(endpoint.key());
        }
    }

    fn on_report(&mut self, report: Report, lost: &mut Losses) {
        let handle = self.known.get_mut(&report.key);
        // One that drains has nothing to report that matters.
        let Some(handle) = handle.filter(|it| it.task == report.task) else {
            return;
        };
        handle.log(self.service.as_deref(), &report);
        let (key, condition) = (report.key.clone(), report.condition);
        let was_connected = handle.is_connected();
        lost.any |= is_lost(handle.condition, condition);
        handle.take_in(report);
        if let Some(judge) = &mut self.judge
            && handle.is_connected()
            && !was_connected
        {
            judge.reconnected(&key);
        }
        if let Some(ramps) = &mut self.ramps {
            match condition {
                Condition::Ready => ramps.ready(&key, Instant::now().into_std()),
                Condition::Failing | Condition::Unhealthy => ramps.failed(&key),
                _ => {}
            }
        }
        if condition != Condition::Draining {
            return;
        }
        // Its connection was lost while it was in reserve, and was not replaced.
        let (endpoint, is_reserved) = (handle.endpoint().clone(), handle.is_reserved());
        self.drain(&key);
        match is_reserved {
            true => lost.reserved.push(key),
            // It was listed again meanwhile.
            false => self.add(endpoint, false),
        }
    }

    /// Takes in that a task has ended, and returns which.
    fn on_ended(&mut self, ended: Result<(task::Id, ()), JoinError>) -> task::Id {
        let error = match ended {
            Ok((task, ())) => return task,
            Err(error) => error,
        };
        let task = error.id();
        // One that panicked is not redialed; the others are called as before.
        if let Some(it) = self.known.values_mut().find(|it| it.task == task) {
            it.panicked();
        }
        // Not cancelled: nobody aborts these tasks.
        self.panic = error.try_into_panic().ok().or(self.panic.take());
        task
    }

    /// Forgets those of whose tasks nothing is left: all at once, for thousands end together.
    fn forget(&mut self, ended: &HashSet<task::Id>) {
        if !ended.is_empty() {
            self.draining.retain(|it| !ended.contains(&it.task));
        }
    }

    pub(crate) fn tell_all(&self, command: impl Fn() -> Command) {
        for handle in self.known.values() {
            handle.tell(command());
        }
    }

    pub(crate) fn is_called(&self) -> bool {
        let mut handles = self.handles();
        handles.any(|it| it.calls_in_flight() > 0)
    }

    /// Returns those that are in reserve, as they were last described.
    pub(crate) fn reserved(&self) -> Vec<Endpoint> {
        let reserved = self.known.values().filter(|it| it.is_reserved());
        reserved.map(|it| it.endpoint().clone()).collect()
    }

    pub(crate) fn counts(&self) -> Counts {
        let of =
            |is: &dyn Fn(&EndpointHandle) -> bool| self.known.values().filter(|it| is(it)).count();
        Counts {
            listed: of(&|it| !it.is_reserved()),
            // As it is shown: one that is ejected does not do its work either.
            ready: of(&|it| !it.is_reserved() && it.state.condition == Condition::Ready),
            reserved: of(&|it| it.is_reserved()),
        }
    }

    /// Returns what is known of those that may be called, in the order of keys.
    pub(crate) fn observe(&self, with_reserve: bool) -> Vec<Observed<'_>> {
        self.listed(with_reserve)
            .map(EndpointHandle::observe)
            .collect()
    }

    /// Returns where calls may go: to those that are READY, or to those that are suspect if all are;
    /// of these to those that are not ejected, or to all if all are.
    ///
    /// Returns, too, whether more calls are let through to the same ones than before.
    pub(crate) fn callable(&self, with_reserve: bool) -> (Vec<Callable>, bool) {
        let are = |condition| {
            let handles = self.listed(with_reserve);
            let targets = handles.filter(move |it| it.condition == condition);
            targets
                .filter_map(|it| it.target.clone())
                .collect::<Vec<_>>()
        };
        let ready = are(Condition::Ready);
        let ready = match ready.is_empty() {
            true => are(Condition::Suspect),
            false => ready,
        };
        let (targets, is_wider) = match &self.judge {
            Some(judge) => judge.offer(ready),
            None => (ready, false),
        };
        let keys = targets.iter().map(|it| it.endpoint.key());
        let now = Instant::now().into_std();
        let ramps = self.ramps.as_ref();
        let shares = ramps.and_then(|ramps| ramps.shares(keys, now));
        let share = |index| shares.as_ref().map_or(1.0, |shares| shares[index]);
        let targets = targets.into_iter().enumerate();
        let callable = targets.map(|(index, target)| Callable {
            target,
            share: share(index),
        });
        (callable.collect(), is_wider)
    }

    /// Returns when to look at how calls have ended, if none asks for it before, or when shares change.
    pub(crate) fn next(&self) -> Option<Instant> {
        let now = Instant::now().into_std();
        let judge = self.judge.as_ref().and_then(Judge::next);
        let ramps = self.ramps.as_ref().and_then(|it| it.next(now));
        judge.into_iter().chain(ramps).min().map(Instant::from_std)
    }

    /// Looks at how calls have ended.
    pub(crate) fn look(&mut self) {
        let Some(judge) = &mut self.judge else {
            return;
        };
        for change in judge.look(Instant::now().into_std()) {
            if let Some(handle) = self.known.get_mut(change.endpoint()) {
                handle.judged(&change, self.service.as_deref());
            }
        }
    }

    /// Returns those that are listed, and those in reserve if they are called, too.
    fn listed(&self, with_reserve: bool) -> impl Iterator<Item = &EndpointHandle> {
        let handles = self.known.values();
        handles.filter(move |it| with_reserve || !it.is_reserved())
    }

    pub(crate) fn states(&self) -> Vec<Arc<EndpointState>> {
        self.handles().map(|it| it.state.clone()).collect()
    }

    fn handles(&self) -> impl Iterator<Item = &EndpointHandle> {
        self.known.values().chain(&self.draining)
    }

    /// Gives nobody calls any more, and hears no more reports.
    pub(crate) fn drain_all(&mut self) {
        // A report holds its connection open as long as it lies there.
        self.reports.close();
        while self.reports.try_recv().is_ok() {}
        for (_, handle) in std::mem::take(&mut self.known) {
            if handle.is_heard() {
                self.draining.push(handle.into_draining());
            }
        }
    }

    /// Waits until one of those that drain has ended, and takes in those that have ended with it, of
    /// which there are many when a set is emptied; returns `false` if there is none.
    pub(crate) async fn one_has_ended(&mut self) -> bool {
        let Some(ended) = self.tasks.join_next_with_id().await else {
            return false;
        };
        let mut tasks = HashSet::from([self.on_ended(ended)]);
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            tasks.insert(self.on_ended(ended));
        }
        self.forget(&tasks);
        true
    }

    /// Returns what a task panicked with, if one did; once.
    pub(crate) fn take_panic(&mut self) -> Option<Box<dyn Any + Send>> {
        self.panic.take()
    }
}

/// Returns whether an endpoint has lost its connection, or begins to fail: reasons to doubt that it
/// still exists. That it goes on to fail is no news.
fn is_lost(before: Condition, now: Condition) -> bool {
    match now {
        Condition::Connecting => matches!(before, Condition::Ready | Condition::Suspect),
        Condition::Failing => before != Condition::Failing,
        _ => false,
    }
}
