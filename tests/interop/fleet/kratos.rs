//! What is kratos' alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use switchboard::{Filter, Publisher, Tls, WeightedRoundRobin};
use switchboard_test_support::{Authority, eventually};
use tokio::{net::TcpListener, time::timeout};
use tonic::transport::{Identity, ServerTlsConfig};
use tonic_health::ServingStatus;

use super::{Client, DRAIN, Fleet, Framework, Peers, stand_in::StandIn};
use crate::{go::LIMIT, our_server::OurServer};

pub(crate) async fn its_client_leaves_a_server_of_ours_that_is_not_healthy(peers: Peers) {
    let mut fleet = Fleet::start(peers, Framework::Kratos).await;
    let [sick, well] = [fleet.address(), fleet.address()];
    let servers = [StandIn::at(&sick).await, StandIn::at(&well).await];
    let _publishers = [
        publish(&fleet, &sick, "v1").await,
        publish(&fleet, &well, "v1").await,
    ];
    let mut client = fleet.their_client(&[]);
    client.reach_all(&[&sick, &well]).await;

    servers[0].health(ServingStatus::NotServing).await;
    only(&mut client, &[&well]).await;
    servers[0].health(ServingStatus::Serving).await;
    client.reach_all(&[&sick, &well]).await;
}

pub(crate) async fn a_server_is_called_by_its_services_name_on_both_sides(peers: Peers) {
    let mut fleet = Fleet::start(peers, Framework::Kratos).await;
    let [ours, theirs] = [fleet.address(), fleet.address()];
    let _our_server = fleet.our_server(&ours).await;
    let _their_server = fleet.their_server(&theirs, &[]).await;
    for mut client in [fleet.our_client().await, fleet.their_client(&[])] {
        client.reach_all(&[&ours, &theirs]).await;
        for _ in 0..4 {
            assert_eq!(client.ask("authority").await, fleet.service());
        }
    }
}

pub(crate) async fn inside_tls_a_server_is_who_its_services_name_says(peers: Peers) {
    let mut fleet = Fleet::start(peers, Framework::Kratos).await;
    let [ours, theirs] = [fleet.address(), fleet.address()];
    let authority = Authority::new("the fleet's");
    let certified = authority.certify(&[&fleet.service()]);
    let folder = tempfile::tempdir().unwrap();
    let [ca, certificate, key] = ["ca", "certificate", "key"].map(|name| folder.path().join(name));
    std::fs::write(&ca, authority.pem()).unwrap();
    certified.write(&certificate, &key);
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let [ca, certificate, key] = [ca, certificate, key].map(|path| text(&path));

    let identity = Identity::from_pem(&certified.certificate, &certified.key);
    let place = (fleet.registry().await, fleet.instance(&ours).with_tls());
    let listener = TcpListener::bind(&ours).await.unwrap();
    let tls = ServerTlsConfig::new().identity(identity);
    let _our_server = OurServer::serve(listener, vec![place], DRAIN, Some(tls));
    let options = ["-certificate", &certificate, "-key", &key];
    let _their_server = fleet.their_server(&theirs, &options).await;
    // In plain text, and so for nobody here.
    let plain = fleet.address();
    let _plain = fleet.our_server(&plain).await;

    let tls = Tls::new().ca_file(&ca).server_name(fleet.service());
    let our_client = Client::ours(fleet.dial().await.tls(tls));
    for mut client in [our_client, fleet.their_client(&["-ca", &ca])] {
        client.reach_all(&[&ours, &theirs]).await;
        only(&mut client, &[&ours, &theirs]).await;
    }
}

pub(crate) async fn one_version_is_called_on_both_sides(peers: Peers) {
    let mut fleet = Fleet::start(peers, Framework::Kratos).await;
    let [ours, their_first, their_second] = [(); 3].map(|()| fleet.address());
    let _our_server = StandIn::at(&ours).await;
    let publisher = publish(&fleet, &ours, "v1").await;
    let _their_servers = tokio::join!(
        fleet.their_server(&their_first, &["-version", "v1"]),
        fleet.their_server(&their_second, &["-version", "v2"]),
    );
    let channel = fleet.dial().await.filter(Filter::version("v2"));
    let mut clients = [
        Client::ours(channel),
        fleet.their_client(&["-version", "v2"]),
    ];
    for client in &mut clients {
        client.reach_all(&[&their_second]).await;
        only(client, &[&their_second]).await;
    }
    let instance = fleet.instance(&ours).with_version("v2");
    publisher.update(instance).await.unwrap();
    for client in &mut clients {
        client.reach_all(&[&ours, &their_second]).await;
        only(client, &[&ours, &their_second]).await;
    }
}

pub(crate) async fn weights_count_on_both_sides(peers: Peers) {
    let mut fleet = Fleet::start(peers, Framework::Kratos).await;
    let [ours, theirs] = [fleet.address(), fleet.address()];
    let _our_server = StandIn::at(&ours).await;
    let publisher = publish(&fleet, &ours, "v1").await;
    let instance = fleet.instance(&ours).with_metadata("weight", "10");
    publisher.update(instance).await.unwrap();
    let options = ["-metadata", "weight=30"];
    let _their_server = fleet.their_server(&theirs, &options).await;
    let channel = fleet.dial().await.policy(WeightedRoundRobin::new());
    for mut client in [Client::ours(channel), fleet.their_client(&[])] {
        client.reach_all(&[&ours, &theirs]).await;
        let mut had = BTreeMap::<_, u32>::new();
        for _ in 0..80 {
            let reply = client.greet("you").await.unwrap();
            *had.entry(reply.served_by).or_default() += 1;
        }
        // The first calls may still be of another round.
        assert!(had[&ours].abs_diff(20) <= 1, "{had:?}");
    }
}

/// A client's configuration needs no new words for us.
pub(crate) async fn its_target_is_one_of_ours(peers: Peers) {
    let mut fleet = Fleet::start(peers, Framework::Kratos).await;
    let address = fleet.address();
    let _server = fleet.their_server(&address, &[]).await;
    let target = format!("discovery:///{}", fleet.service());
    let channel = fleet.registry().await.dial_target(&*target).unwrap();
    Client::ours(channel).reach_all(&[&address]).await;
}

async fn publish(fleet: &Fleet, address: &str, version: &str) -> Publisher {
    let instance = fleet.instance(address).with_version(version);
    let publisher = fleet.registry().await.publish(instance).unwrap();
    timeout(LIMIT, publisher.published())
        .await
        .unwrap()
        .unwrap();
    publisher
}

/// Waits until a client calls all of these, and nobody else.
async fn only(client: &mut Client, addresses: &[&str]) {
    const CALLS: usize = 20;
    let expected: BTreeSet<_> = addresses.iter().map(|it| (*it).to_owned()).collect();
    let what = format!("{addresses:?} alone are called");
    eventually(LIMIT, &what, async || {
        let mut answered = BTreeSet::new();
        for _ in 0..CALLS {
            match client.greet("you").await {
                Ok(reply) => answered.insert(reply.served_by),
                Err(failure) => return Err(failure),
            };
        }
        (answered == expected)
            .then_some(())
            .ok_or(format!("{answered:?}"))
    })
    .await;
}
