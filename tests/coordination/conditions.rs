//! To go when a set of keys holds a set of values.

use std::time::Duration;

use switchboard::{
    Registry,
    coordination::{Conditions, ConditionsError, Failure},
};
use tokio::time::timeout;

use crate::{
    on_both,
    server::{Server, delete, is_closed, put, put_all, soon},
};

on_both! {
    they_are_met_when_all_hold_at_once,
    what_holds_already_is_met_at_once,
    a_value_must_be_the_same_to_the_byte,
    who_waits_goes_on_after_etcd_was_away,
    what_are_no_conditions_is_refused,
    waiting_ends_with_the_registry,
    confirming_ends_with_the_registry,
    values_that_etcd_does_not_compare_are_told_of,
}

fn conditions(registry: &Registry) -> Conditions {
    Conditions::new(registry)
        .holds("/shop/schema", "7")
        .and_then(|it| it.holds("/shop/cache", "warm"))
        .and_then(|it| it.absent("/shop/maintenance"))
        .unwrap()
}

async fn is_waiting(waiting: impl Future) -> bool {
    timeout(Duration::from_millis(100), waiting).await.is_err()
}

async fn they_are_met_when_all_hold_at_once(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let conditions = conditions(&registry);
    let mut waiting = Box::pin(conditions.met());
    put(&registry, "/shop/maintenance", "yes").await;
    assert!(is_waiting(&mut waiting).await, "nothing is there");
    put(&registry, "/shop/schema", "7").await;
    assert!(is_waiting(&mut waiting).await, "one of two");
    put_all(
        &registry,
        &[("/shop/schema", b"8"), ("/shop/cache", b"warm")],
    )
    .await;
    assert!(is_waiting(&mut waiting).await, "one after the other");
    put(&registry, "/shop/schema", "7").await;
    assert!(is_waiting(&mut waiting).await, "what must not be there is");
    let before = etcd.revision().await;
    delete(&registry, "/shop/maintenance").await;
    let met = soon(waiting).await.unwrap();
    assert!(met.revision > before);
}

async fn what_holds_already_is_met_at_once(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let all: [(&str, &[u8]); 2] = [("/shop/schema", b"7"), ("/shop/cache", b"warm")];
    put_all(&registry, &all).await;
    soon(conditions(&registry).met()).await.unwrap();
}

async fn a_value_must_be_the_same_to_the_byte(etcd: &mut Server) {
    let registry = etcd.registry().await;
    put(&registry, "/shop/schema", "7\n").await;
    let wanted = Conditions::new(&registry)
        .holds("/shop/schema", "7")
        .unwrap();
    assert!(is_waiting(wanted.met()).await);
    let wanted = Conditions::new(&registry)
        .holds("/shop/schem", "7\n")
        .unwrap();
    assert!(is_waiting(wanted.met()).await, "another key");
    let wanted = Conditions::new(&registry)
        .holds("/shop/schema", "7\n")
        .unwrap();
    soon(wanted.met()).await.unwrap();
}

async fn who_waits_goes_on_after_etcd_was_away(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let conditions = conditions(&registry);
    let mut waiting = Box::pin(conditions.met());
    assert!(is_waiting(&mut waiting).await);
    etcd.restart().await;
    let writer = etcd.registry().await;
    let all: [(&str, &[u8]); 2] = [("/shop/schema", b"7"), ("/shop/cache", b"warm")];
    put_all(&writer, &all).await;
    soon(waiting).await.unwrap();
}

async fn what_are_no_conditions_is_refused(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let none = Conditions::new(&registry).met().await;
    assert!(matches!(none, Err(ConditionsError::Number(0))));
    let twice = Conditions::new(&registry)
        .holds("/a", "1")
        .unwrap()
        .absent("/a");
    assert!(matches!(twice, Err(ConditionsError::Twice(key)) if key == "/a"));
    for key in ["", "/", "/a//b", "/a\n"] {
        let refused = Conditions::new(&registry).holds(key, "1");
        assert!(matches!(refused, Err(ConditionsError::Key(_))), "{key:?}");
    }
    let many = (0..101).try_fold(Conditions::new(&registry), |all, key| {
        all.holds(format!("/{key}"), "1")
    });
    let many = many.unwrap().met().await;
    assert!(matches!(many, Err(ConditionsError::Number(101))));
}

async fn waiting_ends_with_the_registry(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let conditions = conditions(&registry);
    let mut waiting = Box::pin(conditions.met());
    assert!(is_waiting(&mut waiting).await);
    soon(registry.close()).await;
    let error = soon(waiting).await.unwrap_err();
    assert!(
        matches!(&error, ConditionsError::Etcd(cause) if is_closed(cause)),
        "{error}"
    );
}

async fn confirming_ends_with_the_registry(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let conditions = Conditions::new(&registry).holds("/shop/a", "1").unwrap();
    let mut waiting = Box::pin(conditions.met());
    assert!(is_waiting(&mut waiting).await);
    put(&registry, "/shop/a", "1").await;
    // It is heard of meanwhile.
    tokio::time::sleep(Duration::from_millis(200)).await;
    etcd.freeze();
    assert!(is_waiting(&mut waiting).await, "etcd does not confirm it");
    let (error, ()) = tokio::join!(soon(waiting), soon(registry.close()));
    let error = error.unwrap_err();
    assert!(
        matches!(&error, ConditionsError::Etcd(cause) if is_closed(cause)),
        "{error}"
    );
    etcd.thaw();
}

async fn values_that_etcd_does_not_compare_are_told_of(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let large = vec![b'x'; 1 << 20];
    put(&registry, "/shop/a", &large).await;
    put(&registry, "/shop/b", &large).await;
    let conditions = Conditions::new(&registry)
        .holds("/shop/a", &*large)
        .and_then(|it| it.holds("/shop/b", &*large))
        .unwrap();
    let error = soon(conditions.met()).await.unwrap_err();
    assert!(
        matches!(error, ConditionsError::Etcd(Failure::Denied(_))),
        "{error}"
    );
}
