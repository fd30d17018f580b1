//! Servers that come, go and change while they are called.

use std::time::Duration;

use switchboard::{Channel, Publisher};
use switchboard_test_support::Signal;
use tokio::time::{Instant, sleep_until};

use super::{Client, Fleet, Framework, Peer, caller::Caller, stand_in::StandIn};
use crate::{go::LIMIT, our_server::OurServer};

/// How long a server may be called, at most, after its record has gone.
const SOON: Duration = Duration::from_secs(2);

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
    fn nothing_failed(&self) {
        let failures = self.ours.so_far().failures;
        assert!(failures.is_empty(), "{failures:#?}");
    }
}

/// Publishes what serves at an address.
async fn publish(fleet: &Fleet, address: &str) -> Publisher {
    let publisher = fleet.registry().await.publish(fleet.instance(address));
    let publisher = publisher.unwrap();
    publisher.published().await.unwrap();
    publisher
}

pub(crate) async fn what_is_paused_is_called_when_it_resumes(mut fleet: Fleet) {
    let mut scene = Scene::start(&mut fleet).await;
    let (our_address, their_address) = (fleet.address(), fleet.address());
    let _our_server = StandIn::at(&our_address).await;
    let publisher = publish(&fleet, &our_address).await;
    let mut their_server = fleet.their_server(&their_address, &[]).await;
    scene.reach_all(&[&our_address, &their_address]).await;

    // The others' servers have no pause.
    let theirs_pauses = fleet.framework == Framework::GoZero;
    publisher.pause().await.unwrap();
    let mut paused = vec![&*our_address];
    if theirs_pauses {
        their_server.process.write_line("pause");
        paused.push(&*their_address);
    }
    scene.forget(&paused, Instant::now(), SOON).await;

    publisher.resume().await.unwrap();
    if theirs_pauses {
        their_server.process.write_line("resume");
    }
    scene.reach_all(&[&our_address, &their_address]).await;
    scene.nothing_failed();
}

pub(crate) async fn who_leaves_is_missed_by_nobody_and_called_when_it_is_back(mut fleet: Fleet) {
    let mut scene = Scene::start(&mut fleet).await;
    let (our_address, their_address) = (fleet.address(), fleet.address());
    let both = [&*our_address, &*their_address];
    let our_server = fleet.our_server(&our_address).await;
    let mut their_server = fleet.their_server(&their_address, &["-zone", "a"]).await;
    scene.reach_all(&both).await;

    their_server.process.signal(Signal::TERM);
    our_server.stop().await;
    their_server.process.wait(LIMIT).await;
    let left = Instant::now();
    let (one, other) = (
        StandIn::at(&our_address).await,
        StandIn::at(&their_address).await,
    );
    scene.forget(&both, left, SOON).await;
    one.end().await;
    other.end().await;

    let _our_server = fleet.our_server(&our_address).await;
    let _their_server = fleet.their_server(&their_address, &["-zone", "b"]).await;
    scene.reach_all(&both).await;
    scene.nothing_failed();
    // It says now what it had not said.
    let instances = fleet
        .registry()
        .await
        .discover(fleet.service())
        .await
        .unwrap();
    let snapshot = instances.snapshot();
    let mut theirs = snapshot.instances();
    let theirs = theirs.find(|it| it.origins()[0].address().to_string() == their_address);
    let zone = theirs.unwrap().metadata().get("zone").map(String::as_str);
    let expected = (fleet.framework != Framework::GoZero).then_some("b");
    assert_eq!(zone, expected);
}

pub(crate) async fn who_moves_is_called_where_it_is_now(mut fleet: Fleet) {
    let mut scene = Scene::start(&mut fleet).await;
    let [from, to, from_there, to_there] = [(); 4].map(|()| fleet.address());
    let _our_servers = [StandIn::at(&from).await, StandIn::at(&to).await];
    let publisher = publish(&fleet, &from).await;
    let _their_server = fleet.their_server(&from_there, &["-id", "7"]).await;
    scene.reach_all(&[&from, &from_there]).await;

    publisher.update(fleet.instance(&to)).await.unwrap();
    // One that takes the place of the former, which goes on serving.
    let _moved = fleet.their_server(&to_there, &["-id", "7"]).await;
    let moved = Instant::now();
    scene.reach_all(&[&to, &to_there]).await;
    scene.forget(&[&from, &from_there], moved, SOON).await;
    scene.nothing_failed();
}

pub(crate) async fn what_a_server_says_of_itself_may_change_while_it_is_called(mut fleet: Fleet) {
    let mut scene = Scene::start(&mut fleet).await;
    let address = fleet.address();
    let _our_server = StandIn::at(&address).await;
    let publisher = publish(&fleet, &address).await;
    for weight in 1..10 {
        let instance = fleet.instance(&address);
        let instance = instance.with_metadata("weight", weight.to_string());
        publisher.update(instance).await.unwrap();
        scene.reach_all(&[&address]).await;
    }
    scene.nothing_failed();
}
