//! To wait until somebody lets all go.

use std::time::Duration;

use switchboard::{
    Registry,
    coordination::{Barrier, BarrierError},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    deaf::Deaf,
    on_both,
    server::{Server, delete, is_closed, put, soon},
};

on_both! {
    all_wait_until_it_is_released,
    who_comes_when_nobody_holds_it_does_not_wait,
    it_stays_when_who_holds_it_has_gone,
    who_holds_it_while_it_is_held_is_refused,
    who_waited_goes_on_though_it_is_held_again,
    it_is_go_s,
    a_hold_whose_answer_was_lost_is_our_own,
    a_hold_that_lands_late_holds_up_nobody,
    a_release_that_lands_late_releases_nobody_who_came_after,
    who_waits_goes_on_whatever_becomes_of_etcd,
    a_wiped_etcd_holds_no_barrier,
    waiting_ends_with_the_registry,
    barriers_whose_names_begin_alike_are_apart,
    what_is_no_name_is_refused_and_nothing_is_written,
}

const NAME: &str = "/shop/opening";

fn barrier(registry: &Registry) -> Barrier {
    Barrier::new(registry, NAME).unwrap()
}

async fn is_waiting(waiting: impl Future) -> bool {
    timeout(Duration::from_millis(150), waiting).await.is_err()
}

async fn all_wait_until_it_is_released(etcd: &mut Server) {
    let here = barrier(&etcd.registry().await);
    soon(here.hold()).await.unwrap();
    let mut waiting = JoinSet::new();
    for _ in 0..5 {
        let there = barrier(&etcd.registry().await);
        waiting.spawn(async move { there.wait().await });
    }
    assert!(is_waiting(waiting.join_next()).await);
    soon(here.release()).await.unwrap();
    for waited in soon(waiting.join_all()).await {
        waited.unwrap();
    }
    assert_eq!(etcd.value(NAME).await, None);
    soon(here.wait()).await.unwrap();
}

async fn who_comes_when_nobody_holds_it_does_not_wait(etcd: &mut Server) {
    let barrier = barrier(&etcd.registry().await);
    soon(barrier.wait()).await.unwrap();
    let before = etcd.revision().await;
    soon(barrier.release()).await.unwrap();
    soon(barrier.release()).await.unwrap();
    assert_eq!(etcd.revision().await, before, "there was nothing to do");
}

async fn it_stays_when_who_holds_it_has_gone(etcd: &mut Server) {
    let registry = etcd.registry().await;
    soon(barrier(&registry).hold()).await.unwrap();
    soon(registry.close()).await;
    let other = barrier(&etcd.registry().await);
    assert!(is_waiting(other.wait()).await);
    soon(other.release()).await.unwrap();
    soon(other.wait()).await.unwrap();
}

async fn who_holds_it_while_it_is_held_is_refused(etcd: &mut Server) {
    let (here, there) = (
        barrier(&etcd.registry().await),
        barrier(&etcd.registry().await),
    );
    for _ in 0..3 {
        soon(here.hold()).await.unwrap();
        for other in [&here, &there] {
            let error = soon(other.hold()).await.unwrap_err();
            assert!(matches!(&error, BarrierError::Held(name) if name == NAME));
        }
        soon(there.release()).await.unwrap();
        soon(there.hold()).await.unwrap();
        // It does not know that it is another one by now.
        soon(here.release()).await.unwrap();
        assert_eq!(etcd.value(NAME).await, None);
    }
}

async fn who_waited_goes_on_though_it_is_held_again(etcd: &mut Server) {
    let (here, there) = (etcd.registry().await, etcd.registry().await);
    let held = barrier(&here);
    soon(held.hold()).await.unwrap();
    let waiting = JoinSet::from_iter([async move { barrier(&there).wait().await }]);
    sleep(Duration::from_millis(150)).await;
    soon(held.release()).await.unwrap();
    soon(held.hold()).await.unwrap();
    for waited in soon(waiting.join_all()).await {
        waited.unwrap();
    }
}

async fn it_is_go_s(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let barrier = barrier(&registry);
    // Go's clients put it empty, and delete it whatever it holds.
    put(&registry, NAME, "").await;
    let error = soon(barrier.hold()).await.unwrap_err();
    assert!(matches!(error, BarrierError::Held(_)), "{error}");
    assert!(is_waiting(barrier.wait()).await);
    let waited = async { tokio::join!(barrier.wait(), delete(&registry, NAME)).0 };
    soon(waited).await.unwrap();
    soon(barrier.hold()).await.unwrap();
    delete(&registry, NAME).await;
    soon(barrier.wait()).await.unwrap();
    put(&registry, NAME, "").await;
    soon(barrier.release()).await.unwrap();
    assert_eq!(etcd.value(NAME).await, None);
}

async fn a_hold_whose_answer_was_lost_is_our_own(etcd: &mut Server) {
    let deaf = Deaf::to(etcd).await;
    let registry = deaf.registry().await;
    let barrier = barrier(&registry);
    soon(barrier.wait()).await.unwrap();
    let done = async || etcd.value(NAME).await.is_some();
    let held = deaf.unheard(barrier.hold(), done).await;
    held.unwrap();
    let error = soon(barrier.hold()).await.unwrap_err();
    assert!(matches!(error, BarrierError::Held(_)), "{error}");
    soon(barrier.release()).await.unwrap();
    assert_eq!(etcd.value(NAME).await, None);
}

async fn a_hold_that_lands_late_holds_up_nobody(etcd: &mut Server) {
    let deaf = Deaf::to(etcd).await;
    let barrier = barrier(&deaf.registry().await);
    soon(barrier.wait()).await.unwrap();
    deaf.late(barrier.hold()).await.unwrap();
    soon(barrier.release()).await.unwrap();
    deaf.land().await;
    assert_eq!(etcd.value(NAME).await, None);
    soon(barrier.wait()).await.unwrap();
}

async fn a_release_that_lands_late_releases_nobody_who_came_after(etcd: &mut Server) {
    let deaf = Deaf::to(etcd).await;
    let barrier = barrier(&deaf.registry().await);
    soon(barrier.hold()).await.unwrap();
    deaf.late(barrier.release()).await.unwrap();
    soon(barrier.hold()).await.unwrap();
    deaf.land().await;
    assert!(etcd.value(NAME).await.is_some());
}

async fn who_waits_goes_on_whatever_becomes_of_etcd(etcd: &mut Server) {
    let (here, there) = (etcd.registry().await, etcd.registry().await);
    soon(barrier(&here).hold()).await.unwrap();
    let mut waiting = JoinSet::from_iter([async move { barrier(&there).wait().await }]);
    assert!(is_waiting(waiting.join_next()).await);
    etcd.restart().await;
    assert!(is_waiting(waiting.join_next()).await, "it is held still");
    put(&here, "/other", "1").await;
    etcd.compact().await;
    etcd.restart().await;
    assert!(is_waiting(waiting.join_next()).await, "it is held still");
    etcd.freeze();
    sleep(Duration::from_secs(3)).await;
    etcd.thaw();
    assert!(is_waiting(waiting.join_next()).await, "it is held still");
    soon(barrier(&here).release()).await.unwrap();
    for waited in soon(waiting.join_all()).await {
        waited.unwrap();
    }
}

async fn a_wiped_etcd_holds_no_barrier(etcd: &mut Server) {
    let (here, there) = (etcd.registry().await, etcd.registry().await);
    soon(barrier(&here).hold()).await.unwrap();
    let mut waiting = JoinSet::from_iter([async move { barrier(&there).wait().await }]);
    assert!(is_waiting(waiting.join_next()).await);
    etcd.wipe().await;
    for waited in soon(waiting.join_all()).await {
        waited.unwrap();
    }
    soon(barrier(&here).hold()).await.unwrap();
}

async fn waiting_ends_with_the_registry(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let barrier = barrier(&registry);
    soon(barrier.hold()).await.unwrap();
    let waits = barrier.clone();
    let mut waiting = JoinSet::from_iter([async move { waits.wait().await }]);
    assert!(is_waiting(waiting.join_next()).await);
    soon(registry.close()).await;
    let mut ended = soon(waiting.join_all()).await;
    ended.push(soon(barrier.wait()).await);
    ended.push(soon(barrier.hold()).await);
    ended.push(soon(barrier.release()).await);
    for ended in ended {
        match ended.unwrap_err() {
            BarrierError::Etcd { barrier, cause } => {
                assert!(barrier == NAME && is_closed(&cause), "{cause}")
            }
            error => panic!("{error}"),
        }
    }
}

async fn barriers_whose_names_begin_alike_are_apart(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let of = |name: &str| Barrier::new(&registry, name).unwrap();
    for name in ["a/b", "ab", "a-b", "/a"] {
        soon(of(name).hold()).await.unwrap();
    }
    soon(of("a").wait()).await.unwrap();
    soon(of("a").hold()).await.unwrap();
    soon(of("a").release()).await.unwrap();
    for name in ["a/b", "ab", "a-b", "/a"] {
        assert!(is_waiting(of(name).wait()).await, "{name}");
    }
}

async fn what_is_no_name_is_refused_and_nothing_is_written(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let before = etcd.revision().await;
    for name in ["", "/", "/a//b", "/a\n", "/microservices/opening"] {
        Barrier::new(&registry, name).unwrap_err();
    }
    assert_eq!(etcd.revision().await, before);
}
