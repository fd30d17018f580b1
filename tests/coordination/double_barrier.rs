//! To begin together and to end together.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::{join_all, try_join_all};
use switchboard::{
    Registry,
    coordination::{DoubleBarrier, EnterError, Inside, InvalidDoubleBarrier, LeaveError, Lost},
    keys::{KeyRange, KeyValue, Selection},
};
use switchboard_test_support::{RawEtcd, eventually};
use tokio::time::{sleep, timeout};

use crate::{
    on_both,
    server::{SOON, Server, delete, is_closed, put, soon},
};

on_both! {
    five_enter_together_and_leave_together,
    rounds_follow_each_other,
    one_too_many_is_refused_and_leaves_nothing,
    who_comes_while_others_leave_is_refused,
    of_many_at_once_so_many_enter,
    keys_are_where_go_has_them,
    those_of_go_are_counted_and_waited_for,
    who_dies_inside_is_not_waited_for,
    who_dies_while_it_waits_is_replaced,
    what_a_round_that_died_left_behind_lets_nobody_in,
    who_gives_up_waiting_is_not_counted,
    what_is_cancelled_anywhere_leaves_nothing,
    who_loses_its_key_while_it_waits_begins_anew,
    who_loses_its_lease_while_it_waits_begins_anew,
    who_has_lost_its_place_is_told,
    waiting_goes_on_whatever_becomes_of_etcd,
    barriers_whose_names_begin_alike_are_apart,
    a_barrier_ends_with_its_registry,
    what_is_no_name_or_for_nobody_is_refused,
}

const NAME: &str = "/shop/opening";
const READY: &str = "/shop/opening/ready";

fn barrier(registry: &Registry, count: usize) -> DoubleBarrier {
    DoubleBarrier::new(registry, NAME, count).unwrap()
}

async fn enter(registry: &Registry, count: usize) -> Inside {
    soon(barrier(registry, count).enter()).await.unwrap()
}

async fn leave(inside: Inside) {
    soon(inside.leave()).await.unwrap();
}

async fn registries(etcd: &Server, count: usize) -> Vec<Registry> {
    join_all((0..count).map(|_| etcd.registry())).await
}

/// Lets all of these in, in this order.
async fn enter_all(etcd: &Server, registries: &[Registry]) -> Vec<Inside> {
    let before = keys(etcd).await.len();
    let mut entering = Vec::new();
    for (number, registry) in registries.iter().enumerate() {
        let mut next = Box::pin(enter(registry, registries.len()));
        if number + 1 < registries.len() {
            let mut next = Pin::new(&mut next);
            waits(&mut next, etcd, before + number + 1).await;
        }
        entering.push(next);
    }
    join_all(entering).await
}

/// Returns what is in etcd under the barrier's name, in the order in which it came.
async fn keys(etcd: &Server) -> Vec<KeyValue> {
    let all = Selection::of(KeyRange::Under(format!("{NAME}/")));
    let registry = etcd.registry().await;
    let mut keys = soon(registry.keys().select(&all)).await.unwrap().keys;
    keys.sort_by_key(|kv| kv.created);
    keys
}

async fn there(etcd: &Server, count: usize) {
    let there = async || match keys(etcd).await.len() {
        there if there == count => Ok(()),
        there => Err(there),
    };
    eventually(SOON, "so many keys are there", there).await;
}

/// Sees that something waits until so many keys are there.
async fn waits<F: Future>(waiting: &mut Pin<&mut F>, etcd: &Server, count: usize) {
    tokio::select! {
        _ = waiting => panic!("it does not wait"),
        () = there(etcd, count) => {}
    }
}

/// Sees that something waits for now.
async fn still_waits<F: Future>(waiting: &mut Pin<&mut F>) {
    let waited = timeout(Duration::from_millis(300), waiting).await;
    assert!(waited.is_err(), "it does not wait");
}

async fn revoke(etcd: &Server, lease: i64) {
    let raw = RawEtcd::connect(etcd.endpoint());
    raw.revoke(lease).await.unwrap();
}

async fn five_enter_together_and_leave_together(etcd: &mut Server) {
    let (came, left) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    for (number, registry) in registries(etcd, 5).await.into_iter().enumerate() {
        let (came, left) = (came.clone(), left.clone());
        tasks.spawn(async move {
            sleep(Duration::from_millis(40 * number as u64)).await;
            came.fetch_add(1, Ordering::SeqCst);
            let inside = enter(&registry, 5).await;
            assert_eq!(came.load(Ordering::SeqCst), 5, "all have come");
            assert!(inside.is_held());
            sleep(Duration::from_millis(40 * (5 - number as u64))).await;
            left.fetch_add(1, Ordering::SeqCst);
            leave(inside).await;
            assert_eq!(left.load(Ordering::SeqCst), 5, "all are done");
        });
    }
    soon(tasks.join_all()).await;
    assert!(keys(etcd).await.is_empty());
}

async fn rounds_follow_each_other(etcd: &mut Server) {
    let came = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for registry in registries(etcd, 3).await {
        let came = came.clone();
        tasks.spawn(async move {
            for round in 1..=5 {
                came.fetch_add(1, Ordering::SeqCst);
                let inside = enter(&registry, 3).await;
                assert_eq!(came.load(Ordering::SeqCst), 3 * round);
                leave(inside).await;
            }
        });
    }
    soon(tasks.join_all()).await;
    assert!(keys(etcd).await.is_empty());
}

async fn one_too_many_is_refused_and_leaves_nothing(etcd: &mut Server) {
    let three = registries(etcd, 3).await;
    let inside = enter_all(etcd, &three[..2]).await;
    soon(three[2].keys().tenure()).await.unwrap();
    let before = etcd.revision().await;
    let error = soon(barrier(&three[2], 2).enter()).await.unwrap_err();
    assert!(matches!(error, EnterError::Full(2)), "{error}");
    assert_eq!(etcd.revision().await, before);
    soon(join_all(inside.into_iter().map(leave))).await;
    assert!(keys(etcd).await.is_empty());
}

async fn who_comes_while_others_leave_is_refused(etcd: &mut Server) {
    let three = registries(etcd, 3).await;
    let mut inside = enter_all(etcd, &three[..2]).await;
    let mut leaving = pin!(leave(inside.pop().unwrap()));
    // Its key is gone, and `ready` and the first one's are left.
    waits(&mut leaving, etcd, 2).await;
    soon(three[2].keys().tenure()).await.unwrap();
    let before = etcd.revision().await;
    let error = soon(barrier(&three[2], 2).enter()).await.unwrap_err();
    assert!(matches!(error, EnterError::Full(2)), "{error}");
    assert_eq!(etcd.revision().await, before);
    still_waits(&mut leaving).await;
    tokio::join!(leave(inside.remove(0)), leaving);
    let inside = enter_all(etcd, &three[1..]).await;
    soon(join_all(inside.into_iter().map(leave))).await;
    assert!(keys(etcd).await.is_empty());
}

async fn of_many_at_once_so_many_enter(etcd: &mut Server) {
    let registries = registries(etcd, 8).await;
    for registry in &registries {
        soon(registry.keys().tenure()).await.unwrap();
    }
    let entering = registries.iter().map(|it| barrier(it, 5));
    let entering = entering.map(|it| async move { it.enter().await });
    let (inside, refused): (Vec<_>, Vec<_>) = soon(join_all(entering))
        .await
        .into_iter()
        .partition(Result::is_ok);
    assert_eq!((inside.len(), refused.len()), (5, 3));
    assert!(
        refused
            .iter()
            .all(|it| matches!(it, Err(EnterError::Full(5))))
    );
    let leaving = inside.into_iter().map(|it| it.unwrap().leave());
    soon(try_join_all(leaving)).await.unwrap();
    assert!(keys(etcd).await.is_empty());
}

async fn keys_are_where_go_has_them(etcd: &mut Server) {
    let two = registries(etcd, 2).await;
    let inside = enter_all(etcd, &two).await;
    let there = keys(etcd).await;
    assert_eq!(there.len(), 3);
    for (kv, registry) in there.iter().zip(&two) {
        let key = std::str::from_utf8(&kv.key).unwrap();
        let moment = key.strip_prefix("/shop/opening/waiters/").unwrap();
        assert_eq!(
            moment.parse::<i64>().unwrap().to_string().len(),
            19,
            "{key}"
        );
        let lease = soon(registry.keys().tenure()).await.unwrap().lease();
        assert!(kv.value.is_empty() && kv.lease == lease, "{kv:?}");
    }
    assert_eq!(there[2].key, READY.as_bytes());
    assert!(there[2].value.is_empty() && there[2].lease == 0);
    drop(inside);
}

/// Keys as Go has them, written in the order in which Go does.
async fn those_of_go_are_counted_and_waited_for(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let key = |moment: i64| format!("{NAME}/waiters/{moment}");
    // Ours is the last one, and opens.
    put(&registry, &key(17), "").await;
    let inside = enter(&registry, 2).await;
    assert!(etcd.value(READY).await.is_some());
    // It is not the first: it goes, and waits for the first.
    let mut leaving = pin!(leave(inside));
    waits(&mut leaving, etcd, 2).await;
    still_waits(&mut leaving).await;
    delete(&registry, READY).await;
    delete(&registry, &key(17)).await;
    leaving.await;

    // Ours is the first one. One of Go's opens; it goes first, too.
    let mut entering = pin!(enter(&registry, 2));
    waits(&mut entering, etcd, 1).await;
    put(&registry, &key(18), "").await;
    still_waits(&mut entering).await;
    put(&registry, READY, "").await;
    let inside = soon(entering).await;
    let mut leaving = pin!(leave(inside));
    still_waits(&mut leaving).await;
    assert_eq!(keys(etcd).await.len(), 3, "the first is the last to go");
    delete(&registry, &key(18)).await;
    leaving.await;
    assert!(keys(etcd).await.is_empty());
}

async fn who_dies_inside_is_not_waited_for(etcd: &mut Server) {
    for dead in 0..3 {
        let three = registries(etcd, 3).await;
        let mut inside = enter_all(etcd, &three).await;
        let one = inside.remove(dead);
        let mut leaving = pin!(join_all(inside.into_iter().map(leave)));
        still_waits(&mut leaving).await;
        let lease = soon(three[dead].keys().tenure()).await.unwrap().lease();
        revoke(etcd, lease).await;
        soon(leaving).await;
        assert!(keys(etcd).await.is_empty(), "{:?}", keys(etcd).await);
        soon(one.lost()).await;
        assert!(matches!(one.leave().await, Err(LeaveError::Lost(_))));
    }
}

async fn who_dies_while_it_waits_is_replaced(etcd: &mut Server) {
    let three = registries(etcd, 3).await;
    let mut first = pin!(enter(&three[0], 2));
    waits(&mut first, etcd, 1).await;
    soon(three[0].clone().close()).await;
    // It is told, and nobody counts it.
    let closed = soon(barrier(&three[0], 2).enter()).await.unwrap_err();
    assert!(matches!(&closed, EnterError::Etcd(failure) if is_closed(failure)));
    let mut second = pin!(enter(&three[1], 2));
    waits(&mut second, etcd, 1).await;
    still_waits(&mut second).await;
    let (second, third) = tokio::join!(second, enter(&three[2], 2));
    tokio::join!(leave(second), leave(third));
    assert!(keys(etcd).await.is_empty());
}

async fn what_a_round_that_died_left_behind_lets_nobody_in(etcd: &mut Server) {
    let two = registries(etcd, 2).await;
    let inside = enter_all(etcd, &two).await;
    drop(inside);
    there(etcd, 1).await;
    assert!(etcd.value(READY).await.is_some(), "nobody has left");
    let mut first = pin!(enter(&two[0], 2));
    waits(&mut first, etcd, 2).await;
    still_waits(&mut first).await;
    let (first, second) = tokio::join!(first, enter(&two[1], 2));
    tokio::join!(leave(first), leave(second));
    assert!(keys(etcd).await.is_empty());
}

async fn who_gives_up_waiting_is_not_counted(etcd: &mut Server) {
    let three = registries(etcd, 3).await;
    let limit = Duration::from_millis(300);
    timeout(limit, barrier(&three[0], 2).enter())
        .await
        .unwrap_err();
    there(etcd, 0).await;
    let mut second = pin!(enter(&three[1], 2));
    waits(&mut second, etcd, 1).await;
    still_waits(&mut second).await;
    drop(tokio::join!(second, enter(&three[2], 2)));
}

async fn what_is_cancelled_anywhere_leaves_nothing(etcd: &mut Server) {
    let two = registries(etcd, 2).await;
    let delays = || {
        (0..12)
            .chain([20, 50])
            .map(|ms| Duration::from_micros(300 * ms))
    };
    for attempt in 0..400 {
        let delay = Duration::from_micros(50 * (attempt % 80));
        // It is not counted beside what it has yet to remove.
        let entering = timeout(delay, barrier(&two[0], 2).enter()).await;
        assert!(entering.is_err(), "it is alone");
    }
    there(etcd, 0).await;
    for delay in delays() {
        let inside = enter_all(etcd, &two).await;
        for inside in inside {
            let _ = timeout(delay, inside.leave()).await;
        }
        // Whether anybody was told that all have left or not, `ready` is all that may be left.
        let gone = async || match keys(etcd).await.iter().all(|kv| kv.key == READY.as_bytes()) {
            true => Ok(()),
            false => Err("not yet"),
        };
        eventually(SOON, "all have left", gone).await;
    }
    let inside = enter_all(etcd, &two).await;
    join_all(inside.into_iter().map(leave)).await;
    assert!(keys(etcd).await.is_empty());
}

async fn who_loses_its_key_while_it_waits_begins_anew(etcd: &mut Server) {
    let two = registries(etcd, 2).await;
    let mut first = pin!(enter(&two[0], 2));
    waits(&mut first, etcd, 1).await;
    let lost = keys(etcd).await.remove(0);
    delete(&two[1], std::str::from_utf8(&lost.key).unwrap()).await;
    // It looks for it now and then.
    waits(&mut first, etcd, 0).await;
    waits(&mut first, etcd, 1).await;
    let (first, second) = tokio::join!(first, enter(&two[1], 2));
    tokio::join!(leave(first), leave(second));
}

async fn who_loses_its_lease_while_it_waits_begins_anew(etcd: &mut Server) {
    let two = registries(etcd, 2).await;
    let mut first = pin!(enter(&two[0], 2));
    waits(&mut first, etcd, 1).await;
    revoke(etcd, keys(etcd).await[0].lease).await;
    waits(&mut first, etcd, 0).await;
    waits(&mut first, etcd, 1).await;
    // Frozen for longer than the lease is certain to live: what it has put before is not counted beside
    // what it puts now.
    etcd.freeze();
    still_waits(&mut first).await;
    let frozen = timeout(Duration::from_millis(2200), &mut first).await;
    assert!(frozen.is_err(), "etcd does not answer");
    etcd.thaw();
    let alone = timeout(Duration::from_secs(2), &mut first).await;
    assert!(alone.is_err(), "it is alone");
    let (first, second) = tokio::join!(first, enter(&two[1], 2));
    tokio::join!(leave(first), leave(second));
    assert!(keys(etcd).await.is_empty());
}

async fn who_has_lost_its_place_is_told(etcd: &mut Server) {
    let two = registries(etcd, 2).await;
    let mut inside = enter_all(etcd, &two).await;
    let first = String::from_utf8(keys(etcd).await.remove(0).key).unwrap();
    let work = inside[0].hold(std::future::pending::<()>());
    let (held, ()) = tokio::join!(soon(work), delete(&two[1], &first));
    assert_eq!(held, Err(Lost::Key));
    assert!(!inside[0].is_held() && inside[1].is_held());
    let left = soon(inside.remove(0).leave()).await;
    assert!(matches!(left, Err(LeaveError::Lost(_))), "{left:?}");
    leave(inside.remove(0)).await;
    assert!(keys(etcd).await.is_empty());
}

async fn waiting_goes_on_whatever_becomes_of_etcd(etcd: &mut Server) {
    let two = registries(etcd, 2).await;
    let first = barrier(&two[0], 2);
    let mut entering = pin!(first.enter());
    waits(&mut entering, etcd, 1).await;
    for fault in 0..3 {
        match fault {
            0 => etcd.restart().await,
            1 => {
                put(&two[1], "/other", "1").await;
                etcd.compact().await;
                etcd.restart().await;
            }
            _ => etcd.wipe().await,
        }
        waits(&mut entering, etcd, 1).await;
    }
    let (first, second) = soon(async { tokio::join!(entering, enter(&two[1], 2)) }).await;
    // So does leaving.
    let mut leaving = pin!(second.leave());
    waits(&mut leaving, etcd, 2).await;
    etcd.restart().await;
    etcd.compact().await;
    still_waits(&mut leaving).await;
    leave(first.unwrap()).await;
    soon(leaving).await.unwrap();
    assert!(keys(etcd).await.is_empty());
}

async fn barriers_whose_names_begin_alike_are_apart(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let mut inside = Vec::new();
    for name in ["/a", "/a/waiters", "/ab", "/a/b", "/a/waiters/b"] {
        let barrier = DoubleBarrier::new(&registry, name, 2).unwrap();
        let mut first = pin!(barrier.enter());
        still_waits(&mut first).await;
        let (first, second) = soon(async { tokio::join!(first, barrier.enter()) }).await;
        inside.extend([first.unwrap(), second.unwrap()]);
    }
    while let (Some(second), Some(first)) = (inside.pop(), inside.pop()) {
        tokio::join!(leave(first), leave(second));
    }
}

async fn a_barrier_ends_with_its_registry(etcd: &mut Server) {
    let two = registries(etcd, 2).await;
    let theirs = barrier(&two[0], 2);
    let mut entering = pin!(theirs.enter());
    waits(&mut entering, etcd, 1).await;
    let (entered, ()) = tokio::join!(entering, soon(two[0].clone().close()));
    let error = entered.unwrap_err();
    assert!(
        matches!(&error, EnterError::Etcd(failure) if is_closed(failure)),
        "{error}"
    );
    there(etcd, 0).await;
    let alone = enter(&two[1], 1).await;
    let (lost, ()) = tokio::join!(alone.lost(), soon(two[1].clone().close()));
    assert_eq!(lost, Lost::Lease);
    let error = soon(alone.leave()).await.unwrap_err();
    assert!(matches!(error, LeaveError::Lost(_)), "{error}");
}

async fn what_is_no_name_or_for_nobody_is_refused(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let before = etcd.revision().await;
    for name in ["", "/", "/a//b", "/a\n", "/microservices/greeter"] {
        let error = DoubleBarrier::new(&registry, name, 2).unwrap_err();
        assert!(matches!(error, InvalidDoubleBarrier::Name(_)), "{error}");
    }
    let error = DoubleBarrier::new(&registry, NAME, 0).unwrap_err();
    assert_eq!(error.to_string(), "invalid count: 0 (expected: at least 1)");
    assert_eq!(etcd.revision().await, before);
}
