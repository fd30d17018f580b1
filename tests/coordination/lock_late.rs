//! A lock that was asked for by a request which arrives when nobody wants it any more.

use std::time::Duration;

use tokio::time::timeout;

use crate::{
    detour::{Detour, let_it_leave},
    lock::{lock, lock_of, nothing_is_left},
    on_both,
    server::Server,
};

on_both! {
    a_put_that_lands_late_keeps_nobody_out,
    a_put_of_a_connection_that_broke_keeps_nobody_out,
    a_lock_whose_answer_was_lost_is_had,
}

async fn a_put_that_lands_late_keeps_nobody_out(etcd: &mut Server) {
    let (here, there) = (etcd.registry().await, etcd.registry().await);
    lock(&here).await.unlock().await.unwrap();
    for pause in [0, 1, 5, 20, 50] {
        etcd.freeze();
        let locking = timeout(Duration::from_millis(pause), lock_of(&here).lock()).await;
        assert!(locking.is_err(), "etcd does not answer");
        etcd.thaw();
        lock(&there).await.unlock().await.unwrap();
        nothing_is_left(etcd).await;
    }
}

async fn a_put_of_a_connection_that_broke_keeps_nobody_out(etcd: &mut Server) {
    let mut way = Detour::to(etcd).await;
    let here = way.registry().await;
    lock(&here).await.unlock().await.unwrap();
    way.keep_requests();
    let broken = async {
        let_it_leave().await;
        way.hang_up();
    };
    let (guard, ()) = tokio::join!(lock(&here), broken);
    guard.unlock().await.unwrap();
    way.deliver().await;
    nothing_is_left(etcd).await;
    let there = etcd.registry().await;
    lock(&there).await.unlock().await.unwrap();
    lock(&here).await.unlock().await.unwrap();
    nothing_is_left(etcd).await;
}

async fn a_lock_whose_answer_was_lost_is_had(etcd: &mut Server) {
    let way = Detour::to(etcd).await;
    let here = way.registry().await;
    lock(&here).await.unlock().await.unwrap();
    way.lose_answers();
    let broken = async {
        let_it_leave().await;
        way.hang_up();
    };
    let (guard, ()) = tokio::join!(lock(&here), broken);
    assert!(guard.is_held());
    guard.unlock().await.unwrap();
    nothing_is_left(etcd).await;
}
