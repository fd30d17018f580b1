//! A barrier that one holds and the other waits for.

use std::pin::pin;

use switchboard::coordination::{Barrier, BarrierError};
use tokio::time::timeout;

use crate::{
    go::Go,
    server::{A_WHILE, Server},
    soon,
};

const NAME: &str = "/shop/opening";

/// Who lets all go.
enum Releases {
    Rust,
    Go,
}

/// Sees that those in Go and in Rust wait until one lets them go.
async fn all_wait_until_it_is_released(server: &Server, go: &Go, releases: Releases) {
    let (holding, waiting) = (server.registry().await, server.registry().await);
    let [mut holder, mut one, mut two] = go.peers().await;
    let barrier = Barrier::new(&holding, NAME).unwrap();
    match releases {
        Releases::Rust => {
            soon(barrier.hold()).await.unwrap();
            let said = holder.fails(&format!("hold {NAME}")).await;
            assert_eq!(said, "key already exists");
        }
        Releases::Go => {
            holder.does(&format!("hold {NAME}")).await;
            let held = soon(barrier.hold()).await;
            assert!(matches!(held, Err(BarrierError::Held(_))), "{held:?}");
        }
    }
    for peer in [&mut one, &mut two] {
        peer.begin(&format!("wait {NAME}"));
    }
    let theirs = Barrier::new(&waiting, NAME).unwrap();
    let mut waits = pin!(theirs.wait());
    let waited = timeout(A_WHILE, &mut waits).await;
    assert!(waited.is_err(), "it is held");
    one.waits().await;
    match releases {
        Releases::Rust => soon(barrier.release()).await.unwrap(),
        Releases::Go => {
            holder.does(&format!("release {NAME}")).await;
        }
    }
    soon(waits).await.unwrap();
    one.done().await;
    two.done().await;
    // Nobody waits at one that nobody holds.
    soon(theirs.wait()).await.unwrap();
    one.does(&format!("wait {NAME}")).await;
}

pub(crate) async fn all_wait_for_what_rust_holds(server: &Server, go: Go) {
    all_wait_until_it_is_released(server, &go, Releases::Rust).await;
}

pub(crate) async fn all_wait_for_what_go_holds(server: &Server, go: Go) {
    all_wait_until_it_is_released(server, &go, Releases::Go).await;
}

pub(crate) async fn what_one_holds_the_other_releases(server: &Server, go: Go) {
    let (registry, mut peer) = (server.registry().await, go.peer().await);
    let barrier = Barrier::new(&registry, NAME).unwrap();
    peer.does(&format!("hold {NAME}")).await;
    soon(barrier.release()).await.unwrap();
    soon(barrier.hold()).await.unwrap();
    peer.does(&format!("release {NAME}")).await;
    soon(barrier.wait()).await.unwrap();
    peer.does(&format!("hold {NAME}")).await;
}
