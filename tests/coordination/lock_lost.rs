//! A lock that was lost, and those of the same registry who wait for it.

use std::pin::pin;

use futures::poll;
use switchboard::{
    Registry,
    coordination::{LockError, Lost},
    keys::KeysError,
};
use switchboard_test_support::RawEtcd;
use tokio::time::{Duration, sleep};

use crate::{
    deaf::{Deaf, wait},
    lock::{lock, lock_of},
    on_both,
    server::{Server, is_closed, soon},
};

on_both! {
    what_is_renewed_too_late_stays_lost,
    who_waits_for_one_that_is_lost_gets_in_line_with_the_next_lease,
    who_waits_for_one_of_its_registry_ends_with_that,
    what_is_free_is_taken_though_the_lease_is_lost,
}

/// Returns the lease that a registry has, once it is certain to live.
async fn lease(registry: &Registry) -> Result<i64, KeysError> {
    Ok(soon(registry.keys().tenure()).await?.lease())
}

async fn what_is_renewed_too_late_stays_lost(etcd: &mut Server) {
    let deaf = Deaf::to(etcd).await;
    let registry = deaf.registry().await;
    let guard = lock(&registry).await;
    let held = lease(&registry).await.unwrap();
    // etcd renews the lease in time, and says so too late.
    deaf.hold();
    assert_eq!(soon(guard.lost()).await, Lost::Lease);
    deaf.release();
    assert_eq!(lease(&registry).await.unwrap(), held);
    assert!(!guard.is_held());
    assert_eq!(guard.hold(async {}).await, Err(Lost::Lease));
    assert_eq!(guard.unlock().await.unwrap_err(), Lost::Lease);
    soon(lock(&registry).await.unlock()).await.unwrap();
}

async fn who_waits_for_one_that_is_lost_gets_in_line_with_the_next_lease(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let guard = lock(&registry).await;
    let lost = lease(&registry).await.unwrap();
    let mut waits = pin!(lock(&registry));
    assert!(poll!(&mut waits).is_pending());
    RawEtcd::connect(etcd.endpoint())
        .revoke(lost)
        .await
        .unwrap();
    soon(guard.lost()).await;
    wait(async || lease(&registry).await.is_ok_and(|it| it != lost)).await;
    // Whoever has lost it may not know for long.
    let next = waits.await;
    assert!(next.token() > guard.token());
    assert_eq!(guard.unlock().await.unwrap_err(), Lost::Key);
    assert!(next.is_held());
    next.unlock().await.unwrap();
}

async fn who_waits_for_one_of_its_registry_ends_with_that(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let guard = lock(&registry).await;
    let theirs = lock_of(&registry);
    let mut waits = pin!(theirs.lock());
    assert!(poll!(&mut waits).is_pending());
    sleep(Duration::from_millis(100)).await;
    soon(registry.close()).await;
    let error = soon(waits).await.unwrap_err();
    assert!(
        matches!(&error, LockError::Etcd(failure) if is_closed(failure)),
        "{error}"
    );
    drop(guard);
}

async fn what_is_free_is_taken_though_the_lease_is_lost(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let lost = lease(&registry).await.unwrap();
    RawEtcd::connect(etcd.endpoint())
        .revoke(lost)
        .await
        .unwrap();
    let guard = soon(lock_of(&registry).try_lock()).await.unwrap();
    let guard = guard.expect("nobody has it");
    assert_ne!(lease(&registry).await.unwrap(), lost);
    guard.unlock().await.unwrap();
}
