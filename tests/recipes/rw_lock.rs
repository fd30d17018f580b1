//! Readers together and writers alone, in Go and in Rust.

use std::{
    pin::pin,
    sync::atomic::{AtomicI32, Ordering},
};

use futures::future::{BoxFuture, join_all};
use switchboard::{
    Registry,
    coordination::{RwLock, RwLockReadGuard, RwLockWriteGuard},
};
use tokio::time::{Instant, timeout};

use crate::{
    go::{Go, Peer},
    server::{A_WHILE, Server, TTL},
    soon,
};

const NAME: &str = "/shop/prices";
/// Below it are those who are in line.
const LINE: &str = "/shop/prices/";

async fn read(registry: &Registry) -> RwLockReadGuard {
    let lock = RwLock::new(registry, NAME).unwrap();
    soon(lock.read()).await.unwrap()
}

async fn write(registry: &Registry) -> RwLockWriteGuard {
    let lock = RwLock::new(registry, NAME).unwrap();
    soon(lock.write()).await.unwrap()
}

pub(crate) async fn a_writer_waits_for_all_before_it_and_all_behind_wait_for_it(
    server: &Server,
    go: Go,
) {
    let [mut reader, mut writer, mut late] = go.peers().await;
    let (reading, writing) = (server.registry().await, server.registry().await);
    let ours = read(&reading).await;
    reader.does(&format!("read_lock {NAME}")).await;

    writer.begin(&format!("write_lock {NAME}"));
    server.keys(LINE, 3).await;
    let mut next = pin!(write(&writing));
    tokio::select! {
        _ = &mut next => panic!("it is taken"),
        () = server.keys(LINE, 4) => {}
    }
    late.begin(&format!("read_lock {NAME}"));
    server.keys(LINE, 5).await;

    let first = ours.token();
    ours.unlock().await.unwrap();
    writer.waits().await;
    reader.does(&format!("read_unlock {NAME}")).await;
    writer.done().await;
    assert!(timeout(A_WHILE, &mut next).await.is_err(), "two write");
    late.waits().await;
    writer.does(&format!("write_unlock {NAME}")).await;
    let next = next.await;
    assert!(next.token() > first);
    late.waits().await;
    next.unlock().await.unwrap();
    late.done().await;
    // Readers share it again.
    let lock = RwLock::new(&reading, NAME).unwrap();
    assert!(soon(lock.try_write()).await.unwrap().is_none());
    let ours = soon(lock.try_read()).await.unwrap();
    assert!(ours.is_some());
    late.does(&format!("read_unlock {NAME}")).await;
}

/// Who has the lock: so many readers, or -1.
struct Inside(AtomicI32);

impl Inside {
    fn begin_to_read(&self) {
        assert!(self.0.fetch_add(1, Ordering::SeqCst) >= 0, "one writes");
    }

    fn begin_to_write(&self) {
        let swapped = self
            .0
            .compare_exchange(0, -1, Ordering::SeqCst, Ordering::SeqCst);
        swapped.expect("nobody else has it");
    }

    fn end_to_read(&self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }

    fn end_to_write(&self) {
        self.0.store(0, Ordering::SeqCst);
    }
}

async fn in_go(peer: &mut Peer, writes: bool, inside: &Inside) {
    if writes {
        peer.does(&format!("write_lock {NAME}")).await;
        inside.begin_to_write();
        tokio::task::yield_now().await;
        inside.end_to_write();
        peer.does(&format!("write_unlock {NAME}")).await;
    } else {
        peer.does(&format!("read_lock {NAME}")).await;
        inside.begin_to_read();
        tokio::task::yield_now().await;
        inside.end_to_read();
        peer.does(&format!("read_unlock {NAME}")).await;
    }
}

async fn in_rust(registry: &Registry, writes: bool, inside: &Inside) {
    if writes {
        let guard = write(registry).await;
        inside.begin_to_write();
        tokio::task::yield_now().await;
        inside.end_to_write();
        guard.unlock().await.unwrap();
    } else {
        let guard = read(registry).await;
        inside.begin_to_read();
        tokio::task::yield_now().await;
        inside.end_to_read();
        guard.unlock().await.unwrap();
    }
}

pub(crate) async fn who_writes_is_alone(server: &Server, go: Go) {
    const TURNS: usize = 12;
    let mut peers = go.peers::<3>().await;
    let registries = join_all((0..3).map(|_| server.registry())).await;
    let inside = &Inside(AtomicI32::new(0));
    let mut all: Vec<BoxFuture<'_, ()>> = Vec::new();
    for (who, peer) in peers.iter_mut().enumerate() {
        all.push(Box::pin(async move {
            for turn in 0..TURNS {
                in_go(peer, (who + turn) % 3 == 0, inside).await;
            }
        }));
    }
    for (who, registry) in registries.iter().enumerate() {
        all.push(Box::pin(async move {
            for turn in 0..TURNS {
                in_rust(registry, (who + turn) % 3 == 1, inside).await;
            }
        }));
    }
    join_all(all).await;
    server.keys(LINE, 0).await;
}

pub(crate) async fn a_writer_in_go_that_is_killed_is_passed_over(server: &Server, go: Go) {
    let (registry, mut peer) = (server.registry().await, go.peer().await);
    peer.does(&format!("write_lock {NAME}")).await;
    let mut reading = pin!(read(&registry));
    tokio::select! {
        _ = &mut reading => panic!("one writes"),
        () = server.keys(LINE, 2) => {}
    }
    let killed = Instant::now();
    peer.kill();
    let guard = reading.await;
    // It was renewed at most a third of it before.
    assert!(killed.elapsed() > TTL / 2, "{:?}", killed.elapsed());
    guard.unlock().await.unwrap();
}
