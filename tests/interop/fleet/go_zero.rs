//! What is go-zero's alone.

use std::{collections::BTreeMap, time::Duration};

use switchboard::Instance;
use switchboard_test_support::Relay;
use tokio::net::TcpListener;

use super::{Client, DRAIN, Fleet, Framework, Peers};
use crate::our_server::OurServer;

/// Its default balancer compares how soon two servers answer.
pub(crate) async fn of_our_servers_the_one_that_answers_sooner_is_called_more(peers: Peers) {
    let mut fleet = Fleet::start(peers, Framework::GoZero).await;
    let (fast, slow) = (fleet.address(), fleet.address());
    let _fast = fleet.our_server(&fast).await;
    let listener = TcpListener::bind(&slow).await.unwrap();
    let relay = Relay::start(listener.local_addr().unwrap().port()).await;
    relay.delay(Duration::from_millis(20));
    let instance = fleet.instance(&relay.address().to_string());
    let place = (fleet.registry().await, instance);
    let _slow = OurServer::serve(listener, vec![place], DRAIN, None);

    let mut client = fleet.their_client(&[]);
    client.reach_all(&[&fast, &slow]).await;
    let mut had = BTreeMap::<_, u32>::new();
    for _ in 0..400 {
        let reply = client.greet("you").await.unwrap();
        *had.entry(reply.served_by).or_default() += 1;
    }
    let fewer = had.get(&slow).copied().unwrap_or_default();
    assert!(had[&fast] > 10 * fewer, "{had:?}");
}

/// A client's configuration needs no new words for us.
pub(crate) async fn its_target_is_one_of_ours(peers: Peers) {
    let mut fleet = Fleet::start(peers, Framework::GoZero).await;
    let address = fleet.address();
    let _server = fleet.their_server(&address, &[]).await;
    let target = format!("etcd:///{}?key={}", fleet.etcd.endpoint(), fleet.service());
    let mut client = Client::ours(switchboard::dial(&*target).unwrap());
    client.reach_all(&[&address]).await;
}

/// As it is in go-zero, where each start takes a new lease, and so a new id.
pub(crate) async fn our_server_may_take_the_lease_for_its_id_too(peers: Peers) {
    let mut fleet = Fleet::start(peers, Framework::GoZero).await;
    let address = fleet.address();
    let listener = TcpListener::bind(&address).await.unwrap();
    let instance: Instance = fleet.instance(&address).with_lease_id();
    let place = (fleet.registry().await, instance);
    let _server = OurServer::serve(listener, vec![place], DRAIN, None);
    for mut client in [fleet.our_client().await, fleet.their_client(&[])] {
        client.reach_all(&[&address]).await;
    }
}
