//! Servers that come, go and change while they are called.

use switchboard::Publisher;
use switchboard_test_support::Signal;
use tokio::time::Instant;

use super::{Fleet, Framework, SOON, scene::Scene, stand_in::StandIn};
use crate::go::LIMIT;

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
    let began = Instant::now();
    publisher.pause().await.unwrap();
    let mut paused = vec![&*our_address];
    if theirs_pauses {
        their_server.process.write_line("pause");
        paused.push(&*their_address);
    }
    scene.forget(&paused, began, SOON).await;

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
    let mut their_server = fleet
        .their_server(&their_address, &["-metadata", "zone=a"])
        .await;
    scene.reach_all(&both).await;

    our_server.stop().await;
    scene.nothing_failed_for_anybody();
    // They may fail calls of their own clients': not all linger.
    their_server.process.signal(Signal::TERM);
    their_server.process.wait(LIMIT).await;
    let left = Instant::now();
    let at_ours = StandIn::at(&our_address).await;
    let at_theirs = StandIn::at(&their_address).await;
    scene.forget(&both, left, SOON).await;
    at_ours.end().await;
    at_theirs.end().await;

    let _our_server = fleet.our_server(&our_address).await;
    let _their_server = fleet
        .their_server(&their_address, &["-metadata", "zone=b"])
        .await;
    scene.reach_all(&both).await;
    scene.nothing_failed();
    // It says now what it had not said.
    let registry = fleet.registry().await;
    let instances = registry.discover(fleet.service()).await.unwrap();
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
