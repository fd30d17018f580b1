//! Many who read, or one who writes.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use switchboard::{
    Registry,
    coordination::{Lock, LockError, Lost, RwLock, RwLockReadGuard, RwLockWriteGuard},
    keys::{KeyRange, KeyValue, Selection},
};
use switchboard_test_support::{RawEtcd, eventually};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    on_both,
    server::{SOON, Server, TTL, delete, is_closed, put, soon},
};

on_both! {
    readers_share_and_a_writer_is_alone,
    who_reads_and_who_writes_come_in_order,
    who_keeps_reading_keeps_no_writer_out,
    twelve_who_read_and_write_never_meet,
    keys_are_where_go_has_them,
    those_of_go_are_waited_for,
    what_is_free_is_taken_at_once_and_what_is_not_leaves_no_trace,
    who_gives_up_leaves_the_line,
    what_is_cancelled_anywhere_leaves_nothing,
    a_guard_whose_key_is_deleted_is_lost,
    a_guard_is_lost_before_its_lease_can_be,
    who_loses_its_key_while_it_waits_waits_again,
    who_loses_its_lease_while_it_waits_waits_again,
    waiting_goes_on_whatever_becomes_of_etcd,
    names_that_begin_alike_are_apart,
    a_lock_of_the_same_name_is_another,
    a_lock_ends_with_its_registry,
    what_is_no_name_is_refused,
}

const NAME: &str = "/shop/prices";

fn lock_of(registry: &Registry) -> RwLock {
    RwLock::new(registry, NAME).unwrap()
}

async fn read(registry: &Registry) -> RwLockReadGuard {
    soon(lock_of(registry).read()).await.unwrap()
}

async fn write(registry: &Registry) -> RwLockWriteGuard {
    soon(lock_of(registry).write()).await.unwrap()
}

/// Returns what is in etcd under the lock's name, in the order in which it came.
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
        _ = waiting => panic!("it is taken"),
        () = there(etcd, count) => {}
    }
}

async fn readers_share_and_a_writer_is_alone(etcd: &mut Server) {
    let (here, elsewhere) = (etcd.registry().await, etcd.registry().await);
    let readers = [read(&here).await, read(&here).await, read(&elsewhere).await];
    let registry = etcd.registry().await;
    let mut writing = pin!(write(&registry));
    waits(&mut writing, etcd, 4).await;
    for reader in readers {
        // One is enough to keep it out, whichever that is.
        assert!(futures::poll!(&mut writing).is_pending());
        assert!(reader.is_held());
        reader.unlock().await.unwrap();
    }
    let writer = soon(writing).await;
    let mut reading = pin!(read(&here));
    waits(&mut reading, etcd, 2).await;
    let mut writing = pin!(write(&here));
    waits(&mut writing, etcd, 3).await;
    writer.unlock().await.unwrap();
    let reader = soon(reading).await;
    let waited = timeout(Duration::from_millis(300), &mut writing).await;
    assert!(waited.is_err(), "a reader has it");
    drop(reader);
    soon(writing).await.unlock().await.unwrap();
    there(etcd, 0).await;
}

async fn who_reads_and_who_writes_come_in_order(etcd: &mut Server) {
    let first = write(&etcd.registry().await).await;
    let (told, mut served) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = tokio::task::JoinSet::new();
    for (number, is_writer) in [false, false, true, false, true, true]
        .into_iter()
        .enumerate()
    {
        let (registry, told) = (etcd.registry().await, told.clone());
        tasks.spawn(async move {
            if is_writer {
                let guard = write(&registry).await;
                told.send((number, guard.token())).unwrap();
                guard.unlock().await.unwrap();
            } else {
                let guard = read(&registry).await;
                told.send((number, guard.token())).unwrap();
                guard.unlock().await.unwrap();
            }
        });
        there(etcd, number + 2).await;
    }
    let mut last = first.token();
    first.unlock().await.unwrap();
    let mut order = Vec::new();
    for _ in 0..6 {
        let (number, token) = soon(served.recv()).await.unwrap();
        assert!(token > last || number == 0, "{token} after {last}");
        last = last.max(token);
        order.push(number);
    }
    // The first two read together.
    order[..2].sort_unstable();
    assert_eq!(order, [0, 1, 2, 3, 4, 5]);
    soon(tasks.join_all()).await;
}

async fn who_keeps_reading_keeps_no_writer_out(etcd: &mut Server) {
    let (here, elsewhere) = (etcd.registry().await, etcd.registry().await);
    let mut reader = read(&here).await;
    let mut writing = pin!(write(&elsewhere));
    waits(&mut writing, etcd, 2).await;
    // Who comes after the writer waits for it, though it would only read.
    let mut next = pin!(read(&here));
    waits(&mut next, etcd, 3).await;
    assert!(soon(lock_of(&here).try_read()).await.unwrap().is_none());
    reader.unlock().await.unwrap();
    let writer = tokio::select! {
        writer = soon(&mut writing) => writer,
        _ = &mut next => panic!("it reads beside one who writes"),
    };
    writer.unlock().await.unwrap();
    reader = soon(next).await;
    reader.unlock().await.unwrap();
}

async fn twelve_who_read_and_write_never_meet(etcd: &mut Server) {
    let (readers, writers) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (most, last) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicI64::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..12 {
        let registry = etcd.registry().await;
        let (readers, writers) = (readers.clone(), writers.clone());
        let (most, last) = (most.clone(), last.clone());
        tasks.spawn(async move {
            let lock = lock_of(&registry);
            for round in 0..6 {
                if (number + round) % 3 == 0 {
                    let guard = lock.write().await.unwrap();
                    assert_eq!(writers.fetch_add(1, Ordering::SeqCst), 0, "two write");
                    assert_eq!(readers.load(Ordering::SeqCst), 0, "one reads");
                    let before = last.swap(guard.token(), Ordering::SeqCst);
                    assert!(before < guard.token(), "tokens grow");
                    sleep(Duration::from_millis(1)).await;
                    assert_eq!(readers.load(Ordering::SeqCst), 0, "one reads");
                    assert!(guard.is_held());
                    writers.fetch_sub(1, Ordering::SeqCst);
                    guard.unlock().await.unwrap();
                } else {
                    let guard = lock.read().await.unwrap();
                    most.fetch_max(readers.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    assert_eq!(writers.load(Ordering::SeqCst), 0, "one writes");
                    assert!(last.load(Ordering::SeqCst) < guard.token());
                    sleep(Duration::from_millis(3)).await;
                    assert_eq!(writers.load(Ordering::SeqCst), 0, "one writes");
                    readers.fetch_sub(1, Ordering::SeqCst);
                    guard.unlock().await.unwrap();
                }
            }
        });
    }
    timeout(3 * SOON, tasks.join_all()).await.expect("in time");
    assert!(most.load(Ordering::SeqCst) > 1, "readers share");
    there(etcd, 0).await;
}

async fn keys_are_where_go_has_them(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let lease = soon(registry.keys().tenure()).await.unwrap().lease();
    let named = |kv: &KeyValue, kind: &str| {
        let key = std::str::from_utf8(&kv.key).unwrap();
        let moment = key.strip_prefix(&format!("{NAME}/{kind}/")).unwrap();
        assert_eq!(moment.len(), 19, "nanoseconds: {key}");
        assert!((kv.value.is_empty(), kv.lease) == (true, lease), "{kv:?}");
        moment.parse::<i64>().unwrap()
    };
    let (one, other) = (read(&registry).await, read(&registry).await);
    let there = keys(etcd).await;
    assert!(named(&there[0], "read") < named(&there[1], "read"));
    assert_eq!(
        [one.token(), other.token()],
        [there[0].created, there[1].created]
    );
    drop((one, other));
    let writer = write(&registry).await;
    let there = keys(etcd).await;
    named(there.last().unwrap(), "write");
    writer.unlock().await.unwrap();
}

/// Keys as Go has them, without a process to renew them.
async fn those_of_go_are_waited_for(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let (read_key, write_key) = (format!("{NAME}/read/17"), format!("{NAME}/write/18"));
    put(&registry, &read_key, "").await;
    assert!(
        soon(lock_of(&registry).try_write())
            .await
            .unwrap()
            .is_none()
    );
    let mut writing = pin!(write(&registry));
    waits(&mut writing, etcd, 2).await;
    delete(&registry, &read_key).await;
    soon(writing).await.unlock().await.unwrap();

    put(&registry, &write_key, "").await;
    assert!(soon(lock_of(&registry).try_read()).await.unwrap().is_none());
    let mut reading = pin!(read(&registry));
    waits(&mut reading, etcd, 2).await;
    delete(&registry, &write_key).await;
    soon(reading).await.unlock().await.unwrap();
}

async fn what_is_free_is_taken_at_once_and_what_is_not_leaves_no_trace(etcd: &mut Server) {
    let (here, elsewhere) = (etcd.registry().await, etcd.registry().await);
    for registry in [&here, &elsewhere] {
        // The lease is there then.
        soon(registry.keys().tenure()).await.unwrap();
    }
    let reader = soon(lock_of(&here).try_read())
        .await
        .unwrap()
        .expect("free");
    let before = etcd.revision().await;
    assert!(soon(lock_of(&here).try_write()).await.unwrap().is_none());
    assert!(
        soon(lock_of(&elsewhere).try_write())
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(etcd.revision().await, before);
    let other = soon(lock_of(&elsewhere).try_read())
        .await
        .unwrap()
        .expect("shared");
    reader.unlock().await.unwrap();
    other.unlock().await.unwrap();
    let writer = soon(lock_of(&elsewhere).try_write())
        .await
        .unwrap()
        .expect("free");
    let before = etcd.revision().await;
    assert!(soon(lock_of(&here).try_read()).await.unwrap().is_none());
    assert!(
        soon(lock_of(&elsewhere).try_write())
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(etcd.revision().await, before);
    drop(writer);
    there(etcd, 0).await;
}

async fn who_gives_up_leaves_the_line(etcd: &mut Server) {
    let writer = write(&etcd.registry().await).await;
    let (registry, limit) = (etcd.registry().await, Duration::from_millis(300));
    let lock = lock_of(&registry);
    let timed_out = |error: LockError| assert!(matches!(error, LockError::TimedOut(_)), "{error}");
    timed_out(lock.read_within(limit).await.unwrap_err());
    timed_out(lock.write_within(limit).await.unwrap_err());
    there(etcd, 1).await;
    // A writer that gives up keeps no reader out.
    writer.unlock().await.unwrap();
    let reader = read(&registry).await;
    timed_out(lock.write_within(limit).await.unwrap_err());
    soon(read(&etcd.registry().await))
        .await
        .unlock()
        .await
        .unwrap();
    reader.unlock().await.unwrap();
}

async fn what_is_cancelled_anywhere_leaves_nothing(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let writer = write(&etcd.registry().await).await;
    let delays = || (0..15).map(|count| Duration::from_micros(count * count * 100));
    for delay in delays() {
        let lock = lock_of(&registry);
        let (reading, writing) = (timeout(delay, lock.read()), timeout(delay, lock.write()));
        let (read, written) = tokio::join!(reading, writing);
        assert!(read.is_err() && written.is_err(), "it is taken");
    }
    there(etcd, 1).await;
    drop(writer);
    for delay in delays() {
        let lock = lock_of(&registry);
        // Had or not, it is given back.
        let _ = timeout(delay, lock.read()).await;
        let _ = timeout(delay, lock.try_write()).await;
        let _ = timeout(delay, lock.write()).await;
    }
    there(etcd, 0).await;
}

async fn a_guard_whose_key_is_deleted_is_lost(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let key = async |etcd: &Server| String::from_utf8(keys(etcd).await.remove(0).key).unwrap();
    let reader = read(&registry).await;
    let deleted = key(etcd).await;
    let (lost, ()) = tokio::join!(soon(reader.lost()), delete(&registry, &deleted));
    assert_eq!(lost, Lost::Key);
    assert!(!reader.is_held());
    assert_eq!(reader.unlock().await.unwrap_err(), Lost::Key);
    let writer = write(&registry).await;
    let deleted = key(etcd).await;
    let work = writer.hold(std::future::pending::<()>());
    let (held, ()) = tokio::join!(soon(work), delete(&registry, &deleted));
    assert_eq!(held, Err(Lost::Key));
    // Nobody else's is touched.
    let next = write(&etcd.registry().await).await;
    assert!(next.token() > writer.token());
    writer.unlock().await.unwrap_err();
    assert!(next.is_held());
    next.unlock().await.unwrap();
}

async fn a_guard_is_lost_before_its_lease_can_be(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let readers = [read(&registry).await, read(&registry).await];
    etcd.freeze();
    let start = Instant::now();
    let lost = soon(join_all(readers.iter().map(RwLockReadGuard::lost))).await;
    assert_eq!(lost, [Lost::Lease, Lost::Lease]);
    let (took, limit) = (start.elapsed(), TTL + Duration::from_millis(500));
    assert!(took <= limit, "{took:?}");
    etcd.thaw();
    for reader in readers {
        assert_eq!(reader.unlock().await.unwrap_err(), Lost::Lease);
    }
    // Whatever became of the lease, they are out of the way.
    write(&etcd.registry().await).await.unlock().await.unwrap();
}

async fn who_loses_its_key_while_it_waits_waits_again(etcd: &mut Server) {
    let reader = read(&etcd.registry().await).await;
    let (second, third) = (etcd.registry().await, etcd.registry().await);
    let mut writing = pin!(write(&second));
    waits(&mut writing, etcd, 2).await;
    let theirs = keys(etcd).await.remove(1);
    // One more who waits, so that the one whose key is gone would be let in too early.
    let mut behind = pin!(write(&third));
    waits(&mut behind, etcd, 3).await;
    delete(&third, std::str::from_utf8(&theirs.key).unwrap()).await;
    reader.unlock().await.unwrap();
    let behind = tokio::select! {
        behind = soon(behind) => behind,
        _ = &mut writing => panic!("it has no key"),
    };
    waits(&mut writing, etcd, 2).await;
    behind.unlock().await.unwrap();
    let writer = soon(writing).await;
    assert!(writer.token() > theirs.created);
    writer.unlock().await.unwrap();
}

async fn who_loses_its_lease_while_it_waits_waits_again(etcd: &mut Server) {
    let writer = write(&etcd.registry().await).await;
    let second = etcd.registry().await;
    let mut reading = pin!(read(&second));
    waits(&mut reading, etcd, 2).await;
    let theirs = keys(etcd).await.remove(1);
    let raw = RawEtcd::connect(etcd.endpoint());
    raw.revoke(theirs.lease).await.unwrap();
    waits(&mut reading, etcd, 1).await;
    waits(&mut reading, etcd, 2).await;
    writer.unlock().await.unwrap();
    let reader = soon(reading).await;
    assert!(reader.token() > theirs.created);
    reader.unlock().await.unwrap();
}

async fn waiting_goes_on_whatever_becomes_of_etcd(etcd: &mut Server) {
    let (here, elsewhere) = (etcd.registry().await, etcd.registry().await);
    let writer = write(&here).await;
    let mut tasks = tokio::task::JoinSet::new();
    let waiting = tasks.spawn(async move { lock_of(&elsewhere).read().await.unwrap() });
    there(etcd, 2).await;
    // Nobody has it any more after that.
    let check = || assert!(!(waiting.is_finished() && writer.is_held()), "both have it");
    etcd.suffer(&here, check).await;
    soon(writer.lost()).await;
    drop(writer);
    let reader = soon(tasks.join_next()).await.unwrap().unwrap();
    reader.unlock().await.unwrap();
    write(&here).await.unlock().await.unwrap();
}

async fn names_that_begin_alike_are_apart(etcd: &mut Server) {
    let (here, elsewhere) = (etcd.registry().await, etcd.registry().await);
    let mut held = Vec::new();
    for name in ["/a/b", "/ab", "/a", "/a/read", "/a/write", "/a/write/read"] {
        let lock = RwLock::new(&here, name).unwrap();
        held.push(soon(lock.write()).await.unwrap());
        let lock = RwLock::new(&elsewhere, name).unwrap();
        assert!(soon(lock.try_read()).await.unwrap().is_none(), "{name}");
    }
    held.remove(2).unlock().await.unwrap();
    let lock = RwLock::new(&elsewhere, "/a").unwrap();
    let writer = soon(lock.try_write()).await.unwrap().expect("free");
    writer.unlock().await.unwrap();
    let reader = soon(lock.try_read()).await.unwrap().expect("free");
    reader.unlock().await.unwrap();
}

async fn a_lock_of_the_same_name_is_another(etcd: &mut Server) {
    let (here, elsewhere) = (etcd.registry().await, etcd.registry().await);
    let lock = Lock::new(&here, NAME).unwrap();
    let guard = soon(lock.lock()).await.unwrap();
    let writer = soon(lock_of(&elsewhere).try_write())
        .await
        .unwrap()
        .expect("free");
    let other = Lock::new(&elsewhere, NAME).unwrap();
    let limit = Duration::from_millis(300);
    other.lock_within(limit).await.unwrap_err();
    guard.unlock().await.unwrap();
    soon(other.lock()).await.unwrap().unlock().await.unwrap();
    writer.unlock().await.unwrap();
    write(&elsewhere).await.unlock().await.unwrap();
}

async fn a_lock_ends_with_its_registry(etcd: &mut Server) {
    let (registry, other) = (etcd.registry().await, etcd.registry().await);
    let reader = read(&registry).await;
    let theirs = lock_of(&other);
    let mut writing = pin!(theirs.write());
    waits(&mut writing, etcd, 2).await;
    let (waited, ()) = tokio::join!(writing, soon(other.close()));
    let closed = |it: &LockError| matches!(it, LockError::Etcd(failure) if is_closed(failure));
    assert!(closed(&waited.unwrap_err()));
    let (lost, ()) = tokio::join!(reader.lost(), soon(registry.clone().close()));
    assert_eq!(lost, Lost::Lease);
    assert!(closed(&lock_of(&registry).read().await.unwrap_err()));
    assert!(closed(&lock_of(&registry).try_write().await.unwrap_err()));
    there(etcd, 0).await;
}

async fn what_is_no_name_is_refused(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let before = etcd.revision().await;
    for name in ["", "/", "/a//b", "/a\n", "/microservices/greeter"] {
        RwLock::new(&registry, name).unwrap_err();
    }
    assert_eq!(etcd.revision().await, before);
}
