//! A fleet whose calls and clock are the test's.

use super::*;

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// Endpoints `a:1`, `a:2` and so on, with a clock that only moves when told.
pub(super) struct Fleet {
    pub(super) outliers: Outliers,
    pub(super) tallies: BTreeMap<EndpointKey, Arc<Tally>>,
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) rng: fastrand::Rng,
    /// What is READY; all of them unless told otherwise.
    pub(super) ready: Option<Vec<EndpointKey>>,
    pub(super) offered: Vec<EndpointKey>,
    pub(super) is_wider: bool,
}

pub(super) fn key(port: usize) -> EndpointKey {
    let endpoint = Endpoint::new(format!("a:{port}").parse().unwrap());
    EndpointKey::of(&endpoint)
}

pub(super) fn without_jitter(mut ejection: Ejection) -> Ejection {
    if let Some(breaker) = &mut ejection.breaker {
        breaker.times.jitter = 0.0;
    }
    ejection
}

impl Fleet {
    pub(super) fn new(endpoints: usize) -> Self {
        Self::with(endpoints, without_jitter(Ejection::default()))
    }

    pub(super) fn with(endpoints: usize, settings: Ejection) -> Self {
        settings.check().unwrap();
        let start = tokio::time::Instant::now().into_std();
        let mut fleet = Self {
            outliers: Outliers::new(settings, start),
            tallies: BTreeMap::new(),
            start,
            now: start,
            rng: fastrand::Rng::with_seed(3),
            ready: None,
            offered: Vec::new(),
            is_wider: false,
        };
        for port in 1..=endpoints {
            fleet.add(port);
        }
        fleet
    }

    pub(super) fn add(&mut self, port: usize) {
        let tally = self.outliers.added(&key(port), self.now);
        self.tallies.insert(key(port), tally);
        self.offer();
    }

    pub(super) fn remove(&mut self, port: usize) {
        self.outliers.removed(&key(port));
        self.tallies.remove(&key(port));
        self.offer();
    }

    pub(super) fn only_ready(&mut self, ports: &[usize]) {
        self.ready = Some(ports.iter().map(|port| key(*port)).collect());
        self.offer();
    }

    pub(super) fn offer(&mut self) {
        let all = || self.tallies.keys().cloned().collect();
        let mut ready = self.ready.clone().unwrap_or_else(all);
        ready.retain(|it| self.tallies.contains_key(it));
        let offer = self.outliers.offer(ready, |it| it);
        (self.offered, self.is_wider) = (offer.targets, offer.is_wider);
    }

    pub(super) fn tally(&self, port: usize) -> &Arc<Tally> {
        &self.tallies[&key(port)]
    }

    pub(super) fn call(&mut self, port: usize, verdict: Verdict) -> Vec<Change> {
        let admission = self.tally(port).admit().expect("it is admitted");
        match self.tally(port).ended(verdict, admission) {
            Look::Now => self.look(),
            Look::Later => Vec::new(),
        }
    }

    /// Calls an endpoint that answers all but as many calls.
    pub(super) fn calls(&mut self, port: usize, calls: usize, failures: usize) -> Vec<Change> {
        let verdicts = (0..calls).map(|it| match it % calls < failures {
            true => Verdict::Failure,
            false => Verdict::Success,
        });
        let verdicts: Vec<_> = verdicts.collect();
        let changes = verdicts.into_iter().map(|it| self.call(port, it));
        changes.collect::<Vec<_>>().concat()
    }

    /// Lets an interval pass in which all have so many good calls that they are compared from then on.
    pub(super) fn warm_up(mut self) -> Self {
        for port in 1..=self.tallies.len() {
            self.calls(port, 200, 0);
        }
        assert_eq!(self.pass(self.outliers.settings.interval), []);
        self
    }

    pub(super) fn look(&mut self) -> Vec<Change> {
        let changes = self.outliers.look(self.now, &mut self.rng);
        self.offer();
        changes
    }

    /// Lets time pass, and looks whenever that is due.
    pub(super) fn pass(&mut self, time: Duration) -> Vec<Change> {
        let end = self.now + time;
        let mut changes = Vec::new();
        while let Some(next) = self.outliers.next().filter(|it| *it <= end) {
            self.now = self.now.max(next);
            changes.extend(self.look());
        }
        self.now = end;
        changes
    }

    pub(super) fn passed(&self) -> Duration {
        self.now - self.start
    }

    pub(super) fn out(&self) -> Vec<usize> {
        let is_out = |port: &usize| self.outliers.standing(&key(*port)) != Standing::Admitted;
        (1..=self.tallies.len()).filter(is_out).collect()
    }

    pub(super) fn is_offered(&self, port: usize) -> bool {
        self.offered.contains(&key(port))
    }
}
