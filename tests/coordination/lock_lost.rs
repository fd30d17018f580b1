//! A lock that was lost, and those of the same registry who wait for it.

use switchboard::{Registry, coordination::Lost, keys::KeysError};

use crate::{
    deaf::Deaf,
    lock::lock,
    on_both,
    server::{Server, soon},
};

on_both! {
    what_is_renewed_too_late_stays_lost,
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
