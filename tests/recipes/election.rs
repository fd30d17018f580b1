//! One leader at a time, in Go and in Rust, and who that is.

use std::pin::pin;

use futures::future::join;
use switchboard::{
    Registry,
    coordination::{Election, Leader, Leadership, Observer},
};
use tokio::time::{Instant, timeout};

use crate::{
    go::{Go, Peer},
    server::{A_WHILE, Server, TTL},
    soon,
};

const NAME: &str = "/shop/cashier";
/// Below it are those who stand.
const LINE: &str = "/shop/cashier/";

async fn campaign(registry: &Registry, proposal: &str) -> Leadership {
    let election = Election::new(registry, NAME).unwrap();
    soon(election.campaign(proposal)).await.unwrap()
}

/// One who observes in Rust, and one in Go.
struct Observers {
    ours: Observer,
    go: Peer,
    /// What ours has told.
    last: Option<Leader>,
    _registry: Registry,
}

impl Observers {
    async fn new(server: &Server, go: &Go) -> Self {
        let registry = server.registry().await;
        let mut ours = Election::new(&registry, NAME).unwrap().observe();
        assert!(soon(ours.next()).await.unwrap().is_none());
        let mut go = go.peer().await;
        go.begin(&format!("observe {NAME}"));
        Self {
            ours,
            go,
            last: None,
            _registry: registry,
        }
    }

    /// Sees that both are told of this leader next.
    async fn see(&mut self, expected: &str) -> Leader {
        let (go, ours) = join(self.go.says(), soon(self.ours.next())).await;
        assert_eq!(go, format!("leader {expected}"));
        let leader = ours.unwrap().expect("somebody leads");
        assert_eq!(leader.value, expected.as_bytes());
        if let Some(last) = self.last.replace(leader.clone()) {
            assert!(leader.token >= last.token, "{leader:?} after {last:?}");
        }
        leader
    }
}

pub(crate) async fn leaders_alternate_and_are_seen_by_both(server: &Server, go: Go) {
    let mut observers = Observers::new(server, &go).await;
    let [mut one, mut two] = go.peers().await;
    let (ours, next) = (server.registry().await, server.registry().await);

    let leadership = campaign(&ours, "rust-1").await;
    let leader = observers.see("rust-1").await;
    assert_eq!(leader.token, leadership.token());
    assert_eq!(two.does(&format!("leader {NAME}")).await, "rust-1");
    one.begin(&format!("campaign {NAME} go-1"));
    server.keys(LINE, 2).await;
    soon(leadership.proclaim("rust-1-again")).await.unwrap();
    observers.see("rust-1-again").await;
    one.waits().await;

    leadership.resign().await.unwrap();
    let its = one.number().await;
    assert!(its > leader.token, "{its} after {}", leader.token);
    assert_eq!(observers.see("go-1").await.token, its);
    let election = Election::new(&next, NAME).unwrap();
    let leads = soon(election.leader()).await.unwrap().expect("Go leads");
    assert_eq!((leads.value, leads.token), (b"go-1".to_vec(), its));
    let mut waiting = Box::pin(campaign(&next, "rust-2"));
    tokio::select! {
        _ = &mut waiting => panic!("two lead"),
        () = server.keys(LINE, 2) => {}
    }
    one.does(&format!("proclaim {NAME} go-1-again")).await;
    observers.see("go-1-again").await;
    assert!(timeout(A_WHILE, &mut waiting).await.is_err(), "two lead");

    one.does(&format!("resign {NAME}")).await;
    let leadership = (&mut waiting).await;
    drop(waiting);
    assert!(leadership.token() > its);
    observers.see("rust-2").await;
    two.begin(&format!("campaign {NAME} go-2"));
    server.keys(LINE, 2).await;
    next.close().await;
    two.done().await;
    observers.see("go-2").await;
    assert!(!leadership.is_held());
}

pub(crate) async fn a_leader_in_go_that_is_killed_is_followed_after_its_lease(
    server: &Server,
    go: Go,
) {
    let mut observers = Observers::new(server, &go).await;
    let mut leader = go.peer().await;
    leader.does(&format!("campaign {NAME} go")).await;
    observers.see("go").await;
    let registry = server.registry().await;
    let mut waiting = pin!(campaign(&registry, "rust"));
    tokio::select! {
        _ = &mut waiting => panic!("two lead"),
        () = server.keys(LINE, 2) => {}
    }
    let killed = Instant::now();
    leader.kill();
    let leadership = waiting.await;
    // It was renewed at most a third of it before.
    assert!(killed.elapsed() > TTL / 2, "{:?}", killed.elapsed());
    assert_eq!(observers.see("rust").await.token, leadership.token());
}
