//! One at a time, in Go and in Rust.

use std::pin::pin;

use futures::future::join_all;
use switchboard::{
    Registry,
    coordination::{Lock, LockGuard},
    keys::{Operation, Transaction},
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    go::{Go, Peer},
    server::{A_WHILE, LIMIT, Server, TTL},
    soon,
};

const NAME: &str = "/shop/stocktaking";
/// Below it are those who are in line.
const LINE: &str = "/shop/stocktaking/";
const COUNTER: &str = "/shop/counter";

async fn lock(registry: &Registry) -> LockGuard {
    let lock = Lock::new(registry, NAME).unwrap();
    soon(lock.lock()).await.unwrap()
}

/// Adds to a number so often, each time under the lock, and returns the number it was with its token.
async fn count(registry: &Registry, turns: usize) -> Vec<(i64, i64)> {
    let mut counted = Vec::new();
    for _ in 0..turns {
        let guard = lock(registry).await;
        let held = registry.keys().read(COUNTER, 0).await.unwrap().held;
        let number = held.map_or(0, |kv| {
            String::from_utf8(kv.value).unwrap().parse().unwrap()
        });
        let put = Operation::put(COUNTER, (number + 1).to_string(), None);
        let put = Transaction::new().then(put);
        registry.keys().commit(put).await.unwrap();
        counted.push((number, guard.token()));
        guard.unlock().await.unwrap();
    }
    counted
}

async fn count_in_go(peer: &mut Peer, turns: usize) -> Vec<(i64, i64)> {
    peer.begin(&format!("count {NAME} {COUNTER} {turns}"));
    let mut counted = Vec::new();
    for _ in 0..turns {
        let line = peer.says().await;
        let mut words = line.split(' ');
        assert_eq!(words.next(), Some("token"), "{line}");
        let mut number = || words.next().unwrap().parse().unwrap();
        counted.push((number(), number()));
    }
    peer.done().await;
    counted
}

pub(crate) async fn a_number_that_is_read_and_written_apart_comes_out_right(
    server: &Server,
    go: Go,
) {
    const TURNS: usize = 15;
    let mut peers = go.peers::<3>().await;
    let registries = join_all((0..3).map(|_| server.registry())).await;
    let in_go = peers.iter_mut().map(|peer| count_in_go(peer, TURNS));
    let in_rust = registries.iter().map(|registry| count(registry, TURNS));
    let (in_go, in_rust) = tokio::join!(join_all(in_go), join_all(in_rust));

    let mut counted: Vec<_> = in_go.into_iter().chain(in_rust).flatten().collect();
    counted.sort_unstable();
    let numbers: Vec<_> = counted.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, Vec::from_iter(0..6 * TURNS as i64));
    assert!(
        counted.is_sorted_by(|one, next| one.1 < next.1),
        "a later one has a smaller token: {counted:?}"
    );
    server.keys(LINE, 0).await;
}

pub(crate) async fn there_is_one_line_whoever_stands_in_it(server: &Server, go: Go) {
    let first = lock(&server.registry().await).await;
    let mut token = first.token();
    let (told, mut served) = mpsc::unbounded_channel();
    let mut ours = JoinSet::new();
    let mut peers = go.peers::<3>().await;
    // Go, Rust, Go, Rust, ...
    for (number, peer) in peers.iter_mut().enumerate() {
        peer.begin(&format!("lock {NAME}"));
        server.keys(LINE, 2 + 2 * number).await;
        let (registry, told) = (server.registry().await, told.clone());
        ours.spawn(async move {
            let guard = lock(&registry).await;
            told.send((number, guard)).unwrap();
            // Its registry lives as long as it does.
            std::future::pending::<()>().await;
            drop(registry);
        });
        server.keys(LINE, 3 + 2 * number).await;
    }
    let mut last = first;
    for (number, peer) in peers.iter_mut().enumerate() {
        last.unlock().await.unwrap();
        let its = peer.number().await;
        assert!(its > token, "{its} after {token}");
        assert!(served.try_recv().is_err(), "two have it");
        peer.does(&format!("unlock {NAME}")).await;
        let (next, guard) = soon(served.recv()).await.unwrap();
        assert_eq!(next, number);
        assert!(guard.token() > its, "{} after {its}", guard.token());
        token = guard.token();
        last = guard;
    }
    last.unlock().await.unwrap();
    server.keys(LINE, 0).await;
}

pub(crate) async fn what_is_taken_is_tried_in_vain(server: &Server, go: Go) {
    let (registry, mut peer) = (server.registry().await, go.peer().await);
    let ours = Lock::new(&registry, NAME).unwrap();
    let guard = soon(ours.try_lock()).await.unwrap().expect("it is free");
    assert_eq!(peer.does(&format!("try_lock {NAME}")).await, "taken");
    guard.unlock().await.unwrap();

    peer.begin(&format!("try_lock {NAME}"));
    peer.number().await;
    assert!(soon(ours.try_lock()).await.unwrap().is_none());
    peer.does(&format!("unlock {NAME}")).await;
    let guard = soon(ours.try_lock()).await.unwrap();
    assert!(guard.is_some(), "it is free");
}

pub(crate) async fn go_that_is_killed_is_passed_over_after_its_lease(server: &Server, go: Go) {
    let [mut holder, mut waiting, mut last] = go.peers().await;
    holder.does(&format!("lock {NAME}")).await;
    waiting.begin(&format!("lock {NAME}"));
    server.keys(LINE, 2).await;
    let registry = server.registry().await;
    let mut ours = pin!(lock(&registry));
    tokio::select! {
        _ = &mut ours => panic!("it is taken"),
        () = server.keys(LINE, 3) => {}
    }
    last.begin(&format!("lock {NAME}"));
    server.keys(LINE, 4).await;

    let killed = Instant::now();
    holder.kill();
    waiting.kill();
    let waited = timeout(A_WHILE, &mut ours).await;
    assert!(waited.is_err(), "a lease lives longer than its process");
    let guard = timeout(LIMIT, ours).await.expect("in time");
    // It was renewed at most a third of it before.
    assert!(killed.elapsed() > TTL / 2, "{:?}", killed.elapsed());
    last.waits().await;
    guard.unlock().await.unwrap();
    last.done().await;
}

pub(crate) async fn a_registry_that_closes_lets_go_in(server: &Server, go: Go) {
    let (registry, mut peer) = (server.registry().await, go.peer().await);
    let guard = lock(&registry).await;
    peer.begin(&format!("lock {NAME}"));
    server.keys(LINE, 2).await;
    peer.waits().await;
    registry.close().await;
    peer.done().await;
    assert!(!guard.is_held());
}
