//! What goes on while servers come, go and change.

use std::time::Duration;

use switchboard::Channel;
use tokio::time::{Instant, sleep_until};

use super::{Client, Fleet, Peer, caller::Caller};
use crate::our_server::OurServer;

/// How much later than theirs our client may hear of something, on a busy machine.
const NOTICEABLY: Duration = Duration::from_secs(1);

/// Two clients that call without end, and two servers that stay: with half of a fleet we do not call on
/// those that have left it.
pub(super) struct Scene {
    staying: [String; 2],
    _our_server: OurServer,
    _their_server: Peer,
    ours: Caller,
    theirs: Caller,
}

impl Scene {
    pub(super) async fn start(fleet: &mut Fleet) -> Self {
        let staying = [fleet.address(), fleet.address()];
        Self {
            _our_server: fleet.our_server(&staying[0]).await,
            _their_server: fleet.their_server(&staying[1], &[]).await,
            ours: Caller::start(fleet.our_client().await),
            theirs: Caller::start(fleet.their_client(&[])),
            staying,
        }
    }

    /// Waits until both clients are answered by each of these servers, from now on.
    pub(super) async fn reach_all(&mut self, addresses: &[&str]) {
        self.ours.reach_all(addresses).await;
        self.theirs.reach_all(addresses).await;
    }

    /// Sees that both clients call these servers no longer than so long, and ours not noticeably longer
    /// than theirs, though somebody answers there.
    pub(super) async fn forget(&mut self, addresses: &[&str], since: Instant, limit: Duration) {
        // A while longer, in which calls are made that must not go there.
        sleep_until(since + limit + Duration::from_millis(500)).await;
        let staying = self.staying.clone();
        self.reach_all(&[&staying[0], &staying[1]]).await;
        for address in addresses {
            let [ours, theirs] = [&self.ours, &self.theirs].map(|caller| caller.last(address));
            let after = |made: Instant| made.saturating_duration_since(since);
            let (ours, theirs) = (after(ours), after(theirs));
            let seen = format!("{address}: called by us {ours:?} later, by them {theirs:?} later");
            assert!(ours <= limit && theirs <= limit, "{seen}");
            assert!(ours <= theirs + NOTICEABLY, "{seen}");
            let mut caller = Client::ours(Channel::balance([*address]).unwrap());
            caller.reach_all(&[address]).await;
        }
    }

    /// Sees that no call of ours has failed.
    pub(super) fn nothing_failed(&self) {
        let failures = self.ours.so_far().failures;
        assert!(failures.is_empty(), "{failures:#?}");
    }

    /// The same, and that no call of theirs has.
    pub(super) fn nothing_failed_for_anybody(&self) {
        self.nothing_failed();
        let failures = self.theirs.so_far().failures;
        assert!(failures.is_empty(), "{failures:#?}");
    }
}
