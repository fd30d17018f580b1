//! To begin together and to end together, in Go and in Rust.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::{BoxFuture, join_all};
use switchboard::coordination::{DoubleBarrier, EnterError};

use crate::{go::Go, server::Server, soon};

const NAME: &str = "/shop/stocktaking";
/// Below it are those who have entered.
const WAITERS: &str = "/shop/stocktaking/waiters/";

pub(crate) async fn two_of_each_enter_and_leave_together(server: &Server, go: Go) {
    let mut peers = go.peers::<2>().await;
    let registries = join_all((0..2).map(|_| server.registry())).await;
    // Each round has a name of its own, as is demanded where Go's take part.
    for round in 0..5 {
        let name = &format!("{NAME}-{round}");
        let (come, done) = (&AtomicUsize::new(0), &AtomicUsize::new(0));
        let mut all: Vec<BoxFuture<'_, ()>> = Vec::new();
        for peer in &mut peers {
            all.push(Box::pin(async move {
                come.fetch_add(1, Ordering::SeqCst);
                peer.does(&format!("enter {name} 4")).await;
                assert_eq!(come.load(Ordering::SeqCst), 4, "who came before all had");
                done.fetch_add(1, Ordering::SeqCst);
                peer.does(&format!("leave {name}")).await;
                assert_eq!(
                    done.load(Ordering::SeqCst),
                    4,
                    "who left before all were done"
                );
            }));
        }
        for registry in &registries {
            all.push(Box::pin(async move {
                let barrier = DoubleBarrier::new(registry, name.as_str(), 4).unwrap();
                come.fetch_add(1, Ordering::SeqCst);
                let inside = soon(barrier.enter()).await.unwrap();
                assert_eq!(come.load(Ordering::SeqCst), 4, "who came before all had");
                done.fetch_add(1, Ordering::SeqCst);
                soon(inside.leave()).await.unwrap();
                assert_eq!(
                    done.load(Ordering::SeqCst),
                    4,
                    "who left before all were done"
                );
            }));
        }
        // The next one begins with another.
        all.rotate_left(round % 4);
        join_all(all).await;
        server.keys(&format!("{name}/"), 0).await;
    }
}

pub(crate) async fn the_last_one_opens_whoever_that_is(server: &Server, go: Go) {
    let [mut one, mut two] = go.peers().await;
    let registries = join_all((0..2).map(|_| server.registry())).await;
    let barriers = registries
        .iter()
        .map(|registry| DoubleBarrier::new(registry, NAME, 3).unwrap());
    let [ours, other] = barriers.collect::<Vec<_>>().try_into().unwrap();
    one.begin(&format!("enter {NAME} 3"));
    server.keys(WAITERS, 1).await;
    two.begin(&format!("enter {NAME} 3"));
    server.keys(WAITERS, 2).await;
    one.waits().await;
    let inside = soon(ours.enter()).await.unwrap();
    one.done().await;
    two.done().await;

    // There is no room for more, in either.
    let refused = soon(other.enter()).await;
    assert!(matches!(refused, Err(EnterError::Full(3))), "{refused:?}");
    let mut late = go.peer().await;
    let refused = late.fails(&format!("enter {NAME} 3")).await;
    assert_eq!(refused, "too many clients");

    one.begin(&format!("leave {NAME}"));
    two.begin(&format!("leave {NAME}"));
    one.waits().await;
    soon(inside.leave()).await.unwrap();
    one.done().await;
    two.done().await;
    server.keys(WAITERS, 0).await;
}

pub(crate) async fn go_that_is_killed_inside_is_not_waited_for(server: &Server, go: Go) {
    let (registry, mut peer) = (server.registry().await, go.peer().await);
    let barrier = DoubleBarrier::new(&registry, NAME, 2).unwrap();
    peer.begin(&format!("enter {NAME} 2"));
    server.keys(WAITERS, 1).await;
    let inside = soon(barrier.enter()).await.unwrap();
    peer.done().await;
    peer.kill();
    soon(inside.leave()).await.unwrap();
    server.keys(WAITERS, 0).await;
}
