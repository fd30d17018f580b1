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

/// Between attempts at what waiting alone does not mend: a refusal, or a newer server of the same
/// identity. Longer, and those who have mended it wait for it to be noticed; shorter, and an etcd
/// full of refused clients has nothing else to do.
pub(crate) const SLOW_RETRY: Duration = Duration::from_secs(10);
