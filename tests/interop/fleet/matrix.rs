//! Everybody calls everybody that is in the same place.

use tokio::net::TcpListener;

use super::{DRAIN, Fleet, Framework, Peers};
use crate::our_server::OurServer;

pub(crate) async fn everybody_is_called_by_everybody(peers: Peers) {
    let mut fleet = Fleet::start(peers, Framework::Kratos).await;
    let our_servers = [everywhere(&mut fleet).await, everywhere(&mut fleet).await];
    for framework in Framework::ALL {
        fleet.follow(framework);
        let their_addresses = [fleet.address(), fleet.address()];
        let _their_servers = tokio::join!(
            fleet.their_server(&their_addresses[0], &[]),
            fleet.their_server(&their_addresses[1], &[]),
        );
        let ours = our_servers.iter().map(|it| &*it.address);
        let all: Vec<&str> = ours.chain(their_addresses.iter().map(|it| &**it)).collect();

        for mut client in [fleet.our_client().await, fleet.their_client(&[])] {
            client.reach_all(&all).await;
            for _ in 0..100 {
                let answered = client.greet("you").await.unwrap().served_by;
                assert!(all.contains(&&*answered), "{framework}: {answered}");
            }
        }
    }
}

/// Starts a server of ours that is found in every place.
async fn everywhere(fleet: &mut Fleet) -> OurServer {
    let address = fleet.address();
    let mut places = Vec::new();
    let registry = fleet.registry().await;
    for framework in Framework::ALL {
        fleet.follow(framework);
        let registry = registry.with_layout(framework.layout());
        places.push((registry, fleet.instance(&address)));
    }
    let listener = TcpListener::bind(&address).await.unwrap();
    OurServer::serve(listener, places, DRAIN, None)
}
