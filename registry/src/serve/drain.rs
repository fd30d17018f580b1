//! How long the parts of a graceful stop may take.

use std::time::Duration;

/// How long the parts of a graceful stop may take, inside the 30 s that orchestrators allow between
/// SIGTERM and SIGKILL.
///
/// 1. The instance is taken out of etcd, so that no client begins to call the server.
/// 2. Health is NOT_SERVING; clients that watch it leave.
/// 3. The server goes on serving, for those that have not heard yet.
/// 4. GOAWAY on every connection; calls in flight finish.
/// 5. Connections that are left are closed, the lease is revoked.
///
/// ```
/// use std::time::Duration;
/// use switchboard_registry::Drain;
///
/// let quick = Drain { linger: Duration::from_secs(1), ..Drain::default() };
/// assert_eq!(quick.total, Duration::from_secs(28));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// How long to wait for etcd to confirm that the instance is gone. If it does not, the drain
    /// goes on: the key goes with its lease.
    pub deregister: Duration,
    /// How long the server goes on serving, counted from the signal: longer than a watch event
    /// takes to reach the slowest client, or calls fail.
    pub linger: Duration,
    /// How long calls in flight may take after that; `total` caps it.
    pub finish: Duration,
    /// How long to wait for etcd to revoke the lease.
    pub revoke: Duration,
    /// How long all of it may take, counted from the signal.
    pub total: Duration,
}

/// Where a server is between its start and its end.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Phase {
    /// It serves, published or not.
    Serving,
    /// It is taken out of etcd.
    Deregister,
    /// It goes on serving, for those that have not heard.
    Linger,
    /// It takes no new calls, and those in flight finish.
    Finish,
    /// Its connections are ended, whatever is in flight.
    Force,
}

impl Drain {
    /// Returns when, counted from the signal, waiting for etcd to confirm is given up.
    pub(crate) fn deregistered_by(&self) -> Duration {
        self.deregister.min(self.forced_at())
    }

    /// Returns when, counted from the signal, the server begins to end its connections.
    pub(crate) fn goaway_at(&self) -> Duration {
        self.linger.min(self.forced_at())
    }

    /// Returns when, counted from the signal, calls that are still in flight are ended.
    pub(crate) fn forced_at(&self) -> Duration {
        let finished = self.deregister.max(self.linger).saturating_add(self.finish);
        finished.min(self.total.saturating_sub(self.revoke))
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            deregister: Duration::from_secs(2),
            linger: Duration::from_secs(5),
            finish: Duration::from_secs(20),
            revoke: Duration::from_secs(2),
            total: Duration::from_secs(28),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_fit_into_the_total() {
        let drain = Drain::default();
        assert_eq!(drain.forced_at(), Duration::from_secs(25));
        assert!(drain.forced_at() + drain.revoke <= drain.total);
        let long = Drain {
            finish: Duration::from_secs(600),
            ..drain
        };
        assert_eq!(long.forced_at(), Duration::from_secs(26));
        let short = Drain {
            total: Duration::from_secs(1),
            ..drain
        };
        assert_eq!(short.forced_at(), Duration::ZERO);
        assert_eq!(
            (short.goaway_at(), short.deregistered_by()),
            (Duration::ZERO, Duration::ZERO)
        );
        let patient = Drain {
            finish: Duration::MAX,
            total: Duration::MAX,
            ..drain
        };
        assert_eq!(patient.forced_at(), Duration::MAX - drain.revoke);
    }
}
