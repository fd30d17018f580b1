//! Servers that are killed.

use switchboard_test_support::Greeter;
use tokio::time::{Instant, sleep_until};

use super::{Fleet, Peer, SOON, TTL, scene::Scene, stand_in::StandIn};

/// A server of ours and one of theirs, in processes of their own.
struct Mortals {
    ours: Greeter,
    theirs: Peer,
}

impl Mortals {
    async fn start(fleet: &Fleet, addresses: &[String; 2]) -> Self {
        let (service, layout) = (fleet.service(), fleet.framework.to_string());
        let ttl = TTL.as_secs().to_string();
        let options = [
            ["--name", &service],
            ["--layout", &layout],
            ["--listen", &addresses[0]],
            ["--ttl", &ttl],
        ];
        Self {
            ours: Greeter::start(fleet.etcd.endpoint(), options.as_flattened()).await,
            theirs: fleet.their_server(&addresses[1], &[]).await,
        }
    }

    /// Kills both, and returns when that was.
    fn crash(mut self) -> Instant {
        self.ours.process.kill();
        self.theirs.process.kill();
        Instant::now()
    }
}

pub(crate) async fn who_crashes_is_called_for_what_is_left_of_its_lease(mut fleet: Fleet) {
    let mut scene = Scene::start(&mut fleet).await;
    let addresses = [fleet.address(), fleet.address()];
    let both = [&*addresses[0], &*addresses[1]];
    let mortals = Mortals::start(&fleet, &addresses).await;
    scene.reach_all(&both).await;

    let crashed = mortals.crash();
    let _others = [StandIn::at(both[0]).await, StandIn::at(both[1]).await];
    // While a lease lives, nobody can tell that somebody else listens there.
    scene.reach_all(&both).await;
    scene.forget(&both, crashed, TTL + SOON).await;
}

pub(crate) async fn who_crashes_and_is_back_is_called_past_the_end_of_its_former_lease(
    mut fleet: Fleet,
) {
    let mut scene = Scene::start(&mut fleet).await;
    let addresses = [fleet.address(), fleet.address()];
    let both = [&*addresses[0], &*addresses[1]];
    let mortals = Mortals::start(&fleet, &addresses).await;
    scene.reach_all(&both).await;

    let crashed = mortals.crash();
    let _mortals = Mortals::start(&fleet, &addresses).await;
    scene.reach_all(&both).await;
    sleep_until(crashed + TTL + SOON).await;
    scene.reach_all(&both).await;
}
