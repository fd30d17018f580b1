//! How long vanished endpoints are kept, and when they are called.

use std::time::Duration;

/// What a channel does with endpoints that vanish from what its source lists, although they are
/// connected.
///
/// A registry that loses keys says that servers are gone. Mostly they are; but leases also run out
/// because etcd was away, or a network between, while the servers serve on. So a vanished endpoint
/// gets no more calls, and its connection is kept for a while: in *reserve*. It is called again only
/// if so many vanish that the rest can hardly do their work. A connection in reserve that is lost is
/// not replaced.
///
/// ```
/// use std::time::Duration;
/// use switchboard_resolver::{Channel, EmptyPolicy, ReservePolicy};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let channel = Channel::balance(["10.0.0.1:50051", "10.0.0.2:50051"])?
///     .reserve(ReservePolicy {
///         settled: Duration::from_secs(20),
///         empty: EmptyPolicy::Accept,
///         ..ReservePolicy::default()
///     })
///     .connect_lazy()?;
/// # channel.close().await;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReservePolicy {
    /// How long the source must have been right, without a break, until what vanished is let go;
    /// 40 s unless set, as Finagle has it.
    ///
    /// Shorter than a few TTLs of leases, and servers whose registrations come back find that they
    /// were given up. Longer, and those that were stopped are kept connected for longer if they let
    /// us.
    pub settled: Duration,
    /// How long what vanished is kept at most, while the source is not right; 5 min unless set, and
    /// nothing is kept with zero.
    ///
    /// Without an end, a long outage of the registry would let calls go to an address that
    /// something else has by now.
    pub limit: Duration,
    /// The reserve is called while fewer than this share of the last stable set, which is what is
    /// listed and what is in reserve, are listed and READY, which those that are ejected are not; from 0
    /// to 1, 0.5 unless set.
    ///
    /// Near 1, servers that were stopped on purpose get calls while they drain. Near 0, the few that
    /// are left meet all calls before the others help.
    pub share: f64,
    /// What it means that the source lists no endpoints at all.
    pub empty: EmptyPolicy,
}

/// What it means that a source lists no endpoints at all, after it had listed some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum EmptyPolicy {
    /// That something is wrong with the source: the last stable set stays in use, and is redialed,
    /// until the source lists something again. A service that is gone altogether is not missed: calls
    /// fail with what its last servers' addresses answer.
    #[default]
    KeepLast,
    /// What it says: calls fail, and the reserve goes, too.
    Accept,
}

impl Default for ReservePolicy {
    fn default() -> Self {
        Self {
            settled: Duration::from_secs(40),
            limit: Duration::from_secs(5 * 60),
            share: 0.5,
            empty: EmptyPolicy::default(),
        }
    }
}
