//! A moment that a gauge shows, in Unix time.
//!
//! "Seconds left" would be wrong as soon as it is told, and stay so where a process hangs, just when
//! it matters. A moment stays right; whoever asks subtracts it from the time, as Prometheus has it.
//!
//! Several in one process may have the same gauge, as two registries with a lease each. It shows the
//! earliest, which is the worst of them.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

use metrics::{Gauge, SharedString};

/// What each of those that share a gauge shows. Its name and service tell which gauge.
static SHOWN: Mutex<BTreeMap<Shared, Earliest>> = Mutex::new(BTreeMap::new());

type Shared = (&'static str, String);

/// The moments of those that share a gauge, by who shows them.
type Earliest = BTreeMap<u64, f64>;

/// One's moment; a gauge is 0 where nobody shows one.
pub(super) struct Moment {
    shared: Shared,
    who: u64,
    gauge: Gauge,
    at: Option<f64>,
}

impl Moment {
    /// Shows nothing yet.
    pub(super) fn new(name: &'static str, service: Option<SharedString>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let shared = (name, service.as_deref().unwrap_or_default().to_owned());
        Self {
            shared,
            who: NEXT.fetch_add(1, Ordering::Relaxed),
            gauge: match service {
                Some(service) => metrics::gauge!(name, "service" => service),
                None => metrics::gauge!(name),
            },
            at: None,
        }
    }

    /// Shows `at`; it is `now`.
    pub(super) fn set(&mut self, at: Instant, now: Instant) {
        let ahead = at.saturating_duration_since(now).as_secs_f64();
        let ago = now.saturating_duration_since(at).as_secs_f64();
        self.show(Some(unix_time() + ahead - ago));
    }

    /// What is shown as being to come has come, if something is shown: it is `now`.
    pub(super) fn pass(&mut self, now: Instant) {
        if self.at.is_some_and(|at| at > unix_time()) {
            self.set(now, now);
        }
    }

    /// Shows nothing any more.
    pub(super) fn clear(&mut self) {
        self.show(None);
    }

    fn show(&mut self, at: Option<f64>) {
        if at.is_none() && self.at.is_none() {
            return;
        }
        self.at = at;
        let mut shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = shown.entry(self.shared.clone()).or_default();
        match at {
            Some(at) => shared.insert(self.who, at),
            None => shared.remove(&self.who),
        };
        // Under the lock, or the last to look is not the last to tell.
        self.gauge.set(earliest(shared).unwrap_or_default());
        if shared.is_empty() {
            shown.remove(&self.shared);
        }
    }
}

impl Drop for Moment {
    fn drop(&mut self) {
        self.clear();
    }
}

fn earliest(shared: &Earliest) -> Option<f64> {
    shared.values().copied().reduce(f64::min)
}

/// Returns the time in seconds since 1970.
fn unix_time() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}
