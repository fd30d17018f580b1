//! To read and write several keys while etcd is compacted, away, or closed to us.

use std::{future::poll_fn, pin::pin, sync::Mutex, task::Poll, time::Duration};

use switchboard::coordination::{Stm, StmError};
use tokio::{
    sync,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    on_both,
    server::{Server, is_closed, put, put_all, soon},
    stm::{Seen, increment, number, stm, value},
};

on_both! {
    no_update_is_lost_or_done_twice_while_etcd_restarts,
    a_compaction_in_the_middle_begins_anew,
    a_wipe_in_the_middle_begins_anew,
    a_restart_in_the_middle_does_no_harm,
    an_unknown_outcome_is_told_and_not_tried_again,
    a_cancelled_transaction_is_done_wholly_or_not_at_all,
    a_closed_registry_ends_it,
}

async fn no_update_is_lost_or_done_twice_while_etcd_restarts(etcd: &mut Server) {
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let stm = stm(etcd).await;
        tasks.spawn(async move {
            let (mut done, mut unknown) = (0, 0);
            for _ in 0..25 {
                match increment(&stm, "/counter").await {
                    Ok(_) => done += 1,
                    Err(StmError::Unknown(_)) => unknown += 1,
                    Err(error) => panic!("{error:?}"),
                }
                sleep(Duration::from_millis(20)).await;
            }
            (done, unknown)
        });
    }
    for _ in 0..2 {
        sleep(Duration::from_millis(100)).await;
        etcd.restart().await;
    }
    let all = timeout(Duration::from_secs(60), tasks.join_all())
        .await
        .unwrap();
    let (done, unknown) = all.iter().fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
    assert_eq!(done + unknown, 4 * 25);
    let counted = value(etcd, "/counter").await;
    assert!(
        (done..=done + unknown).contains(&counted),
        "{counted}: {done} done, {unknown} unknown"
    );
}

/// Reads one key, sees something done to etcd, reads another one and writes both.
async fn interrupted(etcd: &mut Server, interrupt: impl AsyncFn(&mut Server)) -> Vec<(i64, i64)> {
    let (stm, seen) = (stm(etcd).await, &Seen::default());
    let (etcd, interrupt) = (&sync::Mutex::new(etcd), &interrupt);
    let run = stm.run(|mut tx| async move {
        let a = number(&mut tx, "/a").await?;
        if seen.runs() == 0 {
            interrupt(&mut **etcd.lock().await).await;
        }
        // The next reading may fail.
        seen.add((a, -1));
        let b = number(&mut tx, "/b").await?;
        *seen.all().last_mut().unwrap() = (a, b);
        tx.put("/a", (a + 10).to_string())?;
        tx.put("/b", (b + 10).to_string())
    });
    soon(run).await.unwrap();
    seen.all().clone()
}

async fn a_compaction_in_the_middle_begins_anew(etcd: &mut Server) {
    let other = etcd.registry().await;
    put_all(&other, &[("/a", b"1"), ("/b", b"1")]).await;
    let compact = async |etcd: &mut Server| {
        put_all(&other, &[("/a", b"2"), ("/b", b"2")]).await;
        etcd.compact().await;
    };
    assert_eq!(interrupted(etcd, compact).await, [(1, -1), (2, 2)]);
    assert_eq!((value(etcd, "/a").await, value(etcd, "/b").await), (12, 12));
}

async fn a_wipe_in_the_middle_begins_anew(etcd: &mut Server) {
    put_all(&etcd.registry().await, &[("/a", b"1"), ("/b", b"1")]).await;
    let seen = interrupted(etcd, async |etcd: &mut Server| etcd.wipe().await).await;
    assert_eq!(seen, [(1, -1), (0, 0)]);
    assert_eq!(value(etcd, "/a").await, 10);
}

async fn a_restart_in_the_middle_does_no_harm(etcd: &mut Server) {
    put_all(&etcd.registry().await, &[("/a", b"1"), ("/b", b"1")]).await;
    let seen = interrupted(etcd, async |etcd: &mut Server| etcd.restart().await).await;
    assert_eq!(seen, [(1, 1)]);
    assert_eq!((value(etcd, "/a").await, value(etcd, "/b").await), (11, 11));
}

async fn an_unknown_outcome_is_told_and_not_tried_again(etcd: &mut Server) {
    put(&etcd.registry().await, "/counter", "1").await;
    let stm = stm(etcd).await;
    let mut runs = 0;
    let frozen = &Mutex::new(&mut *etcd);
    let write = stm.run(|mut tx| {
        runs += 1;
        async move {
            let next = number(&mut tx, "/counter").await? + 1;
            frozen.lock().unwrap().freeze();
            tx.put("/counter", next.to_string())
        }
    });
    let error = soon(write).await.unwrap_err();
    etcd.thaw();
    assert!(matches!(error, StmError::Unknown(_)), "{error:?}");
    assert_eq!(runs, 1);
    // Whether or not it has arrived, it counts once.
    let next = soon(increment(&stm, "/counter")).await.unwrap();
    assert!((2..=3).contains(&next), "{next}");
}

/// Cancels what is not done when it has been polled so many times, and once.
async fn polled<T>(what: impl Future<Output = T>, mut polls: u32) -> Option<T> {
    let mut what = pin!(what);
    let done = poll_fn(|context| match what.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if polls == 0 => Poll::Ready(None),
        Poll::Pending => {
            polls -= 1;
            Poll::Pending
        }
    });
    soon(done).await
}

async fn a_cancelled_transaction_is_done_wholly_or_not_at_all(etcd: &mut Server) {
    let stm = stm(etcd).await;
    let mut cancelled = 0;
    for round in 0..60 {
        let polls = round % 15;
        let run = stm.run(|mut tx| async move {
            let (a, b) = (number(&mut tx, "/a").await?, number(&mut tx, "/b").await?);
            tx.put("/a", (a + 1).to_string())?;
            tx.put("/b", (b + 1).to_string())
        });
        match polled(run, polls).await {
            Some(done) => done.unwrap(),
            None => cancelled += 1,
        }
        let both = stm.run(|mut tx| async move {
            Ok::<_, StmError>((number(&mut tx, "/a").await?, number(&mut tx, "/b").await?))
        });
        let (a, b) = soon(both).await.unwrap();
        assert_eq!(a, b);
    }
    assert!((4..60).contains(&cancelled), "{cancelled} of 60");
}

async fn a_closed_registry_ends_it(etcd: &mut Server) {
    let before = etcd.revision().await;
    for closes_before_commit in [false, true] {
        let registry = etcd.registry().await;
        let stm = Stm::new(&registry);
        let mut registry = Some(registry);
        let run = stm.run(|mut tx| {
            let registry = registry.take();
            async move {
                number(&mut tx, "/a").await?;
                if let Some(registry) = registry {
                    registry.close().await;
                }
                if !closes_before_commit {
                    number(&mut tx, "/b").await?;
                }
                tx.put("/a", "1")
            }
        });
        // At once, and not when nobody has answered for 10 s.
        let run = timeout(Duration::from_secs(5), run).await.unwrap();
        let error = run.unwrap_err();
        let is_closed = matches!(&error, StmError::Etcd(cause) if is_closed(cause));
        assert!(is_closed, "{error:?}");
    }
    assert_eq!(etcd.revision().await, before);
}
