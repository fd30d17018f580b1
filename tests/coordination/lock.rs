//! One at a time.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use switchboard::{
    Registry,
    coordination::{Failure, Lock, LockError, LockGuard, Lost},
    keys::{KeyRange, KeyValue, Operation, Selection, Transaction},
};
use switchboard_embedded::{EmbeddedEtcd, Network};
use switchboard_test_support::{RawEtcd, eventually};
use tokio::time::{Instant, timeout};

use crate::{
    on_both,
    server::{SOON, Server, TTL, alive, cancel_after, delete, is_closed, put, soon, spawn},
};

on_both! {
    one_has_it_at_a_time_and_the_next_one_s_token_is_larger,
    who_waits_is_served_in_order,
    those_of_one_process_get_in_line_one_after_another,
    what_is_free_is_taken_at_once_and_what_is_not_leaves_no_trace,
    who_tries_while_etcd_is_away_is_not_told_that_it_is_taken,
    who_ends_is_passed_over,
    who_gives_up_leaves_the_line,
    what_is_cancelled_anywhere_leaves_nothing,
    a_lock_whose_key_is_deleted_is_lost,
    a_lock_whose_lease_is_revoked_is_lost,
    a_lock_is_lost_before_its_lease_can_be,
    work_ends_with_the_lock,
    who_loses_its_lease_while_it_waits_waits_again,
    waiting_goes_on_whatever_becomes_of_etcd,
    locks_whose_names_begin_alike_are_apart,
    a_lock_ends_with_its_registry,
    what_is_no_name_is_refused,
    a_key_under_a_lease_that_is_not_ours_is_refused,
    transactions_are_guarded_by_the_lock,
}

const NAME: &str = "/shop/stocktaking";

pub(crate) fn lock_of(registry: &Registry) -> Lock {
    Lock::new(registry, NAME).unwrap()
}

pub(crate) async fn lock(registry: &Registry) -> LockGuard {
    soon(lock_of(registry).lock()).await.unwrap()
}

/// Returns what is in etcd under the lock's name.
async fn keys(etcd: &Server) -> Vec<KeyValue> {
    let all = Selection::of(KeyRange::Under(format!("{NAME}/")));
    let registry = etcd.registry().await;
    soon(registry.keys().select(&all)).await.unwrap().keys
}

pub(crate) async fn nothing_is_left(etcd: &Server) {
    eventually(
        SOON,
        "no key is left",
        async || match &keys(etcd).await[..] {
            [] => Ok(()),
            left => Err(format!("{left:?}")),
        },
    )
    .await;
}

async fn waiting(etcd: &Server, count: usize) {
    let there = async || match keys(etcd).await.len() {
        there if there == count => Ok(()),
        there => Err(there),
    };
    eventually(SOON, "so many are in line", there).await;
}

async fn one_has_it_at_a_time_and_the_next_one_s_token_is_larger(etcd: &mut Server) {
    let inside = Arc::new(AtomicUsize::new(0));
    let last = Arc::new(tokio::sync::Mutex::new(0));
    let mut contenders = Vec::new();
    for _ in 0..6 {
        let registry = etcd.registry().await;
        let (inside, last) = (inside.clone(), last.clone());
        contenders.push(async move {
            for _ in 0..5 {
                let guard = lock(&registry).await;
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two have it");
                {
                    let mut last = last.lock().await;
                    assert!(guard.token() > *last);
                    *last = guard.token();
                }
                tokio::task::yield_now().await;
                assert!(guard.is_held());
                inside.fetch_sub(1, Ordering::SeqCst);
                guard.unlock().await.unwrap();
            }
        });
    }
    join_all(contenders).await;
    nothing_is_left(etcd).await;
}

async fn who_waits_is_served_in_order(etcd: &mut Server) {
    let first = lock(&etcd.registry().await).await;
    let (told, mut served) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..5 {
        let (registry, told) = (etcd.registry().await, told.clone());
        tasks.spawn(async move {
            let guard = lock(&registry).await;
            told.send(number).unwrap();
            guard.unlock().await.unwrap();
        });
        waiting(etcd, 2 + number).await;
    }
    first.unlock().await.unwrap();
    for number in 0..5 {
        assert_eq!(soon(served.recv()).await, Some(number));
    }
    soon(tasks.join_all()).await;
}

async fn those_of_one_process_get_in_line_one_after_another(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let first = lock(&registry).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let lock = lock_of(&registry);
        tasks.spawn(async move { lock.lock().await.unwrap().unlock().await });
    }
    let other = etcd.registry().await;
    let mut theirs = pin!(lock(&other));
    let in_line = async { waiting(etcd, 2).await };
    tokio::select! {
        _ = &mut theirs => panic!("it is taken"),
        () = in_line => {}
    }
    // One of us, one of them: who came first in this process does not keep all others out.
    assert_eq!(keys(etcd).await.len(), 2);
    first.unlock().await.unwrap();
    let theirs = soon(theirs).await;
    theirs.unlock().await.unwrap();
    for unlocked in soon(tasks.join_all()).await {
        unlocked.unwrap();
    }
    nothing_is_left(etcd).await;
}

async fn what_is_free_is_taken_at_once_and_what_is_not_leaves_no_trace(etcd: &mut Server) {
    let (here, there) = (etcd.registry().await, etcd.registry().await);
    let guard = soon(lock_of(&here).try_lock())
        .await
        .unwrap()
        .expect("it is free");
    // The lease is there now.
    let other = Lock::new(&there, "/other").unwrap();
    soon(other.lock()).await.unwrap().unlock().await.unwrap();
    let before = etcd.revision().await;
    assert!(soon(lock_of(&here).try_lock()).await.unwrap().is_none());
    assert!(soon(lock_of(&there).try_lock()).await.unwrap().is_none());
    assert_eq!(etcd.revision().await, before);
    guard.unlock().await.unwrap();
    let guard = soon(lock_of(&there).try_lock())
        .await
        .unwrap()
        .expect("it is free");
    drop(guard);
    nothing_is_left(etcd).await;
}

async fn who_tries_while_etcd_is_away_is_not_told_that_it_is_taken(etcd: &mut Server) {
    let registry = etcd.registry().await;
    lock(&registry).await.unlock().await.unwrap();
    etcd.freeze();
    let error = soon(lock_of(&registry).try_lock()).await.unwrap_err();
    assert!(
        matches!(error, LockError::Etcd(Failure::Unavailable(_))),
        "{error}"
    );
    // Nor where its lease ends while it tries.
    let theirs = lock_of(&registry);
    let mut trying = Box::pin(theirs.try_lock());
    let tried = timeout(TTL + Duration::from_millis(500), &mut trying).await;
    assert!(tried.is_err(), "nobody knows");
    etcd.thaw();
    drop(soon(trying).await.unwrap().expect("it is free"));
    nothing_is_left(etcd).await;
}

async fn who_ends_is_passed_over(etcd: &mut Server) {
    let first = lock(&etcd.registry().await).await;
    let second = etcd.registry().await;
    let mut waits = Box::pin(async move { lock(&second).await });
    tokio::select! {
        _ = &mut waits => panic!("it is taken"),
        () = waiting(etcd, 2) => {}
    }
    let third = etcd.registry().await;
    let mut third = pin!(lock(&third));
    tokio::select! {
        _ = &mut third => panic!("it is taken"),
        () = waiting(etcd, 3) => {}
    }
    drop(waits);
    // The one before it is gone, and not all before it.
    let waited = timeout(Duration::from_millis(300), &mut third).await;
    assert!(waited.is_err(), "it is taken");
    drop(first);
    soon(third).await.unlock().await.unwrap();
    nothing_is_left(etcd).await;
}

async fn who_gives_up_leaves_the_line(etcd: &mut Server) {
    let first = lock(&etcd.registry().await).await;
    let limit = Duration::from_millis(300);
    for registry in [etcd.registry().await, etcd.registry().await] {
        let error = lock_of(&registry).lock_within(limit).await.unwrap_err();
        assert!(matches!(error, LockError::TimedOut(_)), "{error}");
    }
    waiting(etcd, 1).await;
    first.unlock().await.unwrap();
    lock(&etcd.registry().await).await.unlock().await.unwrap();
}

async fn what_is_cancelled_anywhere_leaves_nothing(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let held = lock(&etcd.registry().await).await;
    for polls in 0..30 {
        let lock = lock_of(&registry);
        cancel_after(polls, lock.lock()).await;
    }
    waiting(etcd, 1).await;
    for polls in 0..10 {
        let mut unlocking = Box::pin(lock(&registry));
        for _ in 0..polls {
            let _ = timeout(Duration::from_millis(1), &mut unlocking).await;
        }
    }
    drop(held);
    nothing_is_left(etcd).await;
    // Whoever is half unlocked is unlocked.
    let mut unlocking = Box::pin(lock(&registry).await.unlock());
    assert!(futures::poll!(&mut unlocking).is_pending());
    drop(unlocking);
    nothing_is_left(etcd).await;
}

async fn a_lock_whose_key_is_deleted_is_lost(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let guard = lock(&registry).await;
    let key = String::from_utf8(keys(etcd).await.remove(0).key).unwrap();
    let (lost, ()) = tokio::join!(soon(guard.lost()), delete(&registry, &key));
    assert_eq!(lost, Lost::Key);
    assert!(!guard.is_held());
    assert_eq!(guard.unlock().await.unwrap_err(), Lost::Key);
    // Also one who is not waiting for it is told, and another one's key is let be.
    let guard = lock(&registry).await;
    delete(&registry, &key).await;
    assert_eq!(guard.unlock().await.unwrap_err(), Lost::Key);
    nothing_is_left(etcd).await;
}

async fn a_lock_whose_lease_is_revoked_is_lost(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let guard = lock(&registry).await;
    let lease = keys(etcd).await[0].lease;
    RawEtcd::connect(etcd.endpoint())
        .revoke(lease)
        .await
        .unwrap();
    soon(guard.lost()).await;
    assert!(!guard.is_held());
    let other = lock(&etcd.registry().await).await;
    assert!(other.token() > guard.token());
    guard.unlock().await.unwrap_err();
    other.unlock().await.unwrap();
    // There is another lease to lock with.
    lock(&registry).await.unlock().await.unwrap();
}

async fn a_lock_is_lost_before_its_lease_can_be(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let guard = lock(&registry).await;
    etcd.freeze();
    let start = Instant::now();
    let lost = soon(guard.lost()).await;
    assert_eq!(lost, Lost::Lease);
    assert!(
        start.elapsed() <= TTL + Duration::from_millis(500),
        "{:?}",
        start.elapsed()
    );
    assert!(!guard.is_held());
    etcd.thaw();
    // What was lost stays lost, though the lease may have been renewed: then the key is there until the
    // guard is gone.
    let other = Lock::new(&registry, "/other").unwrap();
    soon(other.lock()).await.unwrap().unlock().await.unwrap();
    assert!(!guard.is_held());
    assert_eq!(guard.unlock().await.unwrap_err(), Lost::Lease);
    lock(&etcd.registry().await).await.unlock().await.unwrap();
    lock(&registry).await.unlock().await.unwrap();
}

async fn work_ends_with_the_lock(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let guard = lock(&registry).await;
    assert_eq!(guard.hold(async { 42 }).await, Ok(42));
    let work = std::future::pending::<()>();
    let key = String::from_utf8(keys(etcd).await.remove(0).key).unwrap();
    let (held, ()) = tokio::join!(soon(guard.hold(work)), delete(&registry, &key));
    assert_eq!(held, Err(Lost::Key));
    assert_eq!(guard.hold(async { 42 }).await, Err(Lost::Key));
}

async fn who_loses_its_lease_while_it_waits_waits_again(etcd: &mut Server) {
    let first = lock(&etcd.registry().await).await;
    let second = etcd.registry().await;
    let mut waits = pin!(lock(&second));
    tokio::select! {
        _ = &mut waits => panic!("it is taken"),
        () = waiting(etcd, 2) => {}
    }
    let there = keys(etcd).await;
    let theirs = there.iter().find(|kv| kv.created != first.token()).unwrap();
    RawEtcd::connect(etcd.endpoint())
        .revoke(theirs.lease)
        .await
        .unwrap();
    tokio::select! {
        _ = &mut waits => panic!("it is taken"),
        () = waiting(etcd, 1) => {}
    }
    tokio::select! {
        _ = &mut waits => panic!("it is taken"),
        () = waiting(etcd, 2) => {}
    }
    first.unlock().await.unwrap();
    let guard = soon(waits).await;
    assert!(guard.token() > theirs.created);
    guard.unlock().await.unwrap();
}

async fn waiting_goes_on_whatever_becomes_of_etcd(etcd: &mut Server) {
    let (here, there) = (etcd.registry().await, etcd.registry().await);
    let guard = lock(&here).await;
    let waits = spawn(async move { lock_of(&there).lock().await.unwrap() });
    waiting(etcd, 2).await;
    // Nobody has it any more after that.
    let check = || assert!(!(waits.is_finished() && guard.is_held()), "two have it");
    etcd.suffer(&here, check).await;
    soon(guard.lost()).await;
    drop(guard);
    waits.joined().await.unlock().await.unwrap();
}

async fn locks_whose_names_begin_alike_are_apart(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let mut held = Vec::new();
    for name in ["/a/b", "/ab", "/a-b", "/a", "/a/b/c"] {
        let lock = Lock::new(&registry, name).unwrap();
        held.push(soon(lock.lock()).await.unwrap());
    }
    let other = etcd.registry().await;
    for name in ["/a", "/a/b"] {
        let lock = Lock::new(&other, name).unwrap();
        assert!(soon(lock.try_lock()).await.unwrap().is_none());
    }
    // Of those that are free nobody keeps others out who is below or beside it.
    drop(held.remove(3));
    let lock = Lock::new(&other, "/a").unwrap();
    let taken = async || match lock.try_lock().await.unwrap() {
        Some(guard) => Ok(guard),
        None => Err("taken"),
    };
    let guard = eventually(SOON, "/a is free", taken).await;
    let third = etcd.registry().await;
    let third = Lock::new(&third, "/a").unwrap();
    let mut waits = pin!(third.lock());
    let waited = timeout(Duration::from_millis(300), &mut waits).await;
    assert!(waited.is_err(), "it is taken");
    guard.unlock().await.unwrap();
    soon(waits).await.unwrap().unlock().await.unwrap();
}

async fn a_lock_ends_with_its_registry(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let guard = lock(&registry).await;
    let other = etcd.registry().await;
    let theirs = lock_of(&other);
    let mut waits = pin!(theirs.lock());
    tokio::select! {
        _ = &mut waits => panic!("it is taken"),
        () = waiting(etcd, 2) => {}
    }
    let (waited, ()) = tokio::join!(waits, soon(other.close()));
    let error = waited.unwrap_err();
    assert!(
        matches!(&error, LockError::Etcd(failure) if is_closed(failure)),
        "{error}"
    );
    let (lost, ()) = tokio::join!(guard.lost(), soon(registry.clone().close()));
    assert_eq!(lost, Lost::Lease);
    let error = lock_of(&registry).lock().await.unwrap_err();
    assert!(
        matches!(&error, LockError::Etcd(failure) if is_closed(failure)),
        "{error}"
    );
    nothing_is_left(etcd).await;
}

async fn what_is_no_name_is_refused(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let before = etcd.revision().await;
    for name in ["", "/", "/a//b", "/a\n", "/microservices/greeter"] {
        Lock::new(&registry, name).unwrap_err();
    }
    assert_eq!(etcd.revision().await, before);
}

async fn a_key_under_a_lease_that_is_not_ours_is_refused(etcd: &mut Server) {
    let registry = etcd.registry().await;
    lock(&registry).await.unlock().await.unwrap();
    let lease = soon(registry.keys().tenure()).await.unwrap().lease();
    let key = format!("{NAME}/{lease:x}");
    put(&registry, &key, "theirs").await;
    let before = etcd.revision().await;
    let error = soon(lock_of(&registry).lock()).await.unwrap_err();
    assert!(
        matches!(&error, LockError::Foreign(it) if *it == key),
        "{error}"
    );
    assert_eq!(etcd.revision().await, before);
    assert_eq!(keys(etcd).await.len(), 1);
}

async fn transactions_are_guarded_by_the_lock(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let write = |guard| {
        Transaction::new()
            .when(guard)
            .then(Operation::put("/stock", "7", None))
    };
    let guard = lock(&registry).await;
    let guarded = guard.guard();
    assert!(
        soon(registry.keys().commit(write(guarded.clone())))
            .await
            .unwrap()
            .succeeded
    );
    guard.unlock().await.unwrap();
    let again = lock(&registry).await;
    assert!(
        !soon(registry.keys().commit(write(guarded)))
            .await
            .unwrap()
            .succeeded
    );
    assert!(
        soon(registry.keys().commit(write(again.guard())))
            .await
            .unwrap()
            .succeeded
    );
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_cannot_be_given_back_keeps_no_registry_from_ending() {
    let (etcd, network) = (EmbeddedEtcd::start(), Network::new());
    etcd.serve(network.listen("etcd:2379").unwrap());
    let before = alive();
    let builder = Registry::builder("etcd:2379").unwrap();
    let registry = builder.connector(network.connector("here"));
    let registry = registry.connect().await.unwrap();
    let guard = lock(&registry).await;
    let link = network.link("here", "etcd:2379");
    link.refuse();
    link.reset();
    drop(guard);
    tokio::time::sleep(Duration::from_secs(60)).await;
    drop(registry);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(alive(), before);
}
