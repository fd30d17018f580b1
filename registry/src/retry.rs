//! How long to wait before asking etcd again.

use std::time::Duration;

use switchboard_resolver::Backoff;

/// Between attempts that fail: from 100 ms, so that one lost answer costs little, to 5 s, so that a
/// thousand clients do not keep an etcd down that is trying to come up.
pub(crate) const RETRY: Backoff = Backoff {
    base: Duration::from_millis(100),
    factor: 1.6,
    cap: Duration::from_secs(5),
    jitter: 0.2,
};
