//! What is counted of publications, watches, the lease, servers and requests to etcd, by way of the
//! `metrics` facade.
//!
//! Handles are made with what they are of, so a recorder that is installed later hears nothing of
//! that. What shows how many there are is added and taken away again: several in one process add up,
//! and nothing is left of what is gone. Where time alone changes what is to be shown, it is told as
//! a moment, which stays right for as long as nobody comes to tell another ([`moment`]).
//!
//! The labels are services, which whoever uses this crate names, and what it has a fixed number of.
//! `docs/observability.md` says what each metric is for; a test holds it to the names here.

mod moment;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use metrics::{Counter, Gauge, SharedString, Unit};
use tonic::Code;

use self::moment::Moment;
use crate::{
    PublicationStatus, ServiceName, clock, lease::Standing, serve::Phase, watch::Freshness,
};

const PUBLICATIONS: &str = "switchboard_publications";
const PUBLICATION_RETRIES: &str = "switchboard_publication_retries_total";
const LEASE_EXPIRY: &str = "switchboard_lease_expiry_timestamp_seconds";
const LEASE_RETRIES: &str = "switchboard_lease_retries_total";
const WATCH_STALE_SINCE: &str = "switchboard_watch_stale_since_timestamp_seconds";
const WATCH_RELISTS: &str = "switchboard_watch_relists_total";
const RECORDS_REJECTED: &str = "switchboard_records_rejected";
const ETCD_REQUESTS: &str = "switchboard_etcd_requests_total";
const SERVERS: &str = "switchboard_servers";

/// How a publication is.
pub(crate) struct PublicationMetrics {
    state: Place<5>,
    retries: Counter,
}

impl PublicationMetrics {
    /// Of one that begins to be registered.
    pub(crate) fn new(service: &ServiceName) -> Self {
        metrics::describe_gauge!(PUBLICATIONS, Unit::Count, "Publications, by state.");
        metrics::describe_counter!(
            PUBLICATION_RETRIES,
            Unit::Count,
            "Reads and writes of publications that failed, and are tried again."
        );
        let service = label(Some(service));
        let states = [
            "registering",
            "published",
            "paused",
            "retrying",
            "superseded",
        ];
        let state = Place::among(states.map(
            |state| metrics::gauge!(PUBLICATIONS, "service" => service.clone(), "state" => state),
        ));
        state.take(Some(0));
        Self {
            state,
            retries: metrics::counter!(PUBLICATION_RETRIES, "service" => service),
        }
    }

    pub(crate) fn show(&self, status: &PublicationStatus) {
        self.state.take(match status {
            PublicationStatus::Registering => Some(0),
            PublicationStatus::Published { .. } => Some(1),
            PublicationStatus::Paused => Some(2),
            PublicationStatus::Retrying { .. } => Some(3),
            PublicationStatus::Superseded => Some(4),
            PublicationStatus::Stopped => None,
        });
    }

    pub(crate) fn retried(&self) {
        self.retries.increment(1);
    }
}

/// How the lease stands.
pub(crate) struct LeaseMetrics {
    expiry: Moment,
    retries: Counter,
}

impl LeaseMetrics {
    pub(crate) fn new() -> Self {
        metrics::describe_gauge!(
            LEASE_EXPIRY,
            Unit::Seconds,
            "When the lease ends unless it is renewed, in Unix time; 0 where there is none to keep."
        );
        metrics::describe_counter!(
            LEASE_RETRIES,
            Unit::Count,
            "Grants and renewals of the lease that failed, and are tried again."
        );
        Self {
            expiry: Moment::new(LEASE_EXPIRY, None),
            retries: metrics::counter!(LEASE_RETRIES),
        }
    }

    pub(crate) fn show(&mut self, standing: Standing) {
        match standing {
            Standing::Held { until, .. } => self.expiry.set(until, clock::now()),
            // What is shown is its deadline, which is past; or, where etcd has dropped it, was to come.
            Standing::Expired { .. } | Standing::Absent => self.expiry.pass(clock::now()),
            Standing::Released => self.expiry.clear(),
        }
    }

    pub(crate) fn retried(&self) {
        self.retries.increment(1);
    }
}

/// How a range of keys is followed.
pub(crate) struct WatchMetrics {
    stale_since: Moment,
    begun: std::time::Instant,
    relists: Counter,
    has_listed: bool,
    rejected: Gauge,
    rejects: usize,
}

impl WatchMetrics {
    /// Of those who follow a service, or other keys.
    pub(crate) fn new(service: Option<&ServiceName>) -> Self {
        metrics::describe_gauge!(
            WATCH_STALE_SINCE,
            Unit::Seconds,
            "Since when what is known of a service may be out of date, in Unix time; 0 while it is not."
        );
        metrics::describe_counter!(
            WATCH_RELISTS,
            Unit::Count,
            "Lists that were read anew, since a watch could not go on."
        );
        metrics::describe_gauge!(
            RECORDS_REJECTED,
            Unit::Count,
            "Records in etcd that are left out, since they cannot be read."
        );
        let service = label(service);
        Self {
            stale_since: Moment::new(WATCH_STALE_SINCE, Some(service.clone())),
            begun: clock::now(),
            relists: metrics::counter!(WATCH_RELISTS, "service" => service.clone()),
            has_listed: false,
            rejected: metrics::gauge!(RECORDS_REJECTED, "service" => service),
            rejects: 0,
        }
    }

    /// A whole list was read.
    pub(crate) fn listed(&mut self) {
        if std::mem::replace(&mut self.has_listed, true) {
            self.relists.increment(1);
        }
    }

    pub(crate) fn show(&mut self, freshness: &Freshness, rejects: usize) {
        match freshness {
            Freshness::Fresh | Freshness::Unread { cause: None } => self.stale_since.clear(),
            Freshness::Stale { since, .. } => self.stale_since.set(*since, clock::now()),
            // Nothing was ever known.
            Freshness::Unread { cause: Some(_) } | Freshness::Denied { .. } => {
                self.stale_since.set(self.begun, clock::now());
            }
        }
        self.reject(rejects);
    }

    fn reject(&mut self, rejects: usize) {
        let known = std::mem::replace(&mut self.rejects, rejects);
        self.rejected.increment(rejects as f64 - known as f64);
    }
}

impl Drop for WatchMetrics {
    fn drop(&mut self) {
        self.reject(0);
    }
}

/// Where a server is between its start and its end.
pub(crate) struct ServerMetrics(Place<5>);

impl ServerMetrics {
    pub(crate) fn new(service: &ServiceName) -> Self {
        metrics::describe_gauge!(SERVERS, Unit::Count, "Servers, by phase.");
        let service = label(Some(service));
        let phases = ["serving", "deregister", "linger", "finish", "force"];
        Self(Place::among(phases.map(
            |phase| metrics::gauge!(SERVERS, "service" => service.clone(), "phase" => phase),
        )))
    }

    pub(crate) fn show(&self, phase: Phase) {
        self.0.take(Some(match phase {
            Phase::Serving => 0,
            Phase::Deregister => 1,
            Phase::Linger => 2,
            Phase::Finish => 3,
            Phase::Force => 4,
        }));
    }
}

/// etcd has answered a request with this code, or not in time.
pub(crate) fn etcd_answered(code: Code) {
    // Requests are rare beside what each costs: no handle is kept.
    metrics::describe_counter!(
        ETCD_REQUESTS,
        Unit::Count,
        "Requests to etcd, by gRPC code."
    );
    metrics::counter!(ETCD_REQUESTS, "code" => name(code)).increment(1);
}

/// A code's name in gRPC, such as NOT_FOUND.
fn name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_uppercase());
    }
    name
}

/// That something is in one of a few states: each has a gauge of how many are in it.
struct Place<const N: usize> {
    gauges: [Gauge; N],
    /// `N` stands for none of them.
    at: AtomicUsize,
}

impl<const N: usize> Place<N> {
    fn among(gauges: [Gauge; N]) -> Self {
        let at = AtomicUsize::new(N);
        Self { gauges, at }
    }

    fn take(&self, to: Option<usize>) {
        let to = to.unwrap_or(N);
        // There is one who writes.
        let from = self.at.swap(to, Ordering::Relaxed);
        if from == to {
            return;
        }
        if let Some(gauge) = self.gauges.get(from) {
            gauge.decrement(1);
        }
        if let Some(gauge) = self.gauges.get(to) {
            gauge.increment(1);
        }
    }
}

impl<const N: usize> Drop for Place<N> {
    fn drop(&mut self) {
        self.take(None);
    }
}

fn label(service: Option<&ServiceName>) -> SharedString {
    match service {
        Some(service) => Arc::<str>::from(service.as_str()).into(),
        None => SharedString::const_str(""),
    }
}
