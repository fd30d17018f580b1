//! How far a job is.

use std::time::Duration;

use switchboard::coordination::{Percent, Progress, ProgressError};
use tokio::time::timeout;

use crate::{
    on_both,
    server::{Server, put, soon},
};

on_both! {
    who_waits_goes_on_when_the_job_is_so_far,
    what_is_no_percentage_is_refused_and_nothing_is_written,
    what_others_put_there_is_no_report,
    a_cleared_job_has_no_progress,
    reports_go_on_after_etcd_was_away,
    jobs_whose_names_begin_alike_are_apart,
}

const KEY: &str = "/switchboard/progress/import";

async fn who_waits_goes_on_when_the_job_is_so_far(etcd: &mut Server) {
    let mut job = Progress::report(&etcd.registry().await, "import").unwrap();
    let mut progress = soon(Progress::follow(&etcd.registry().await, "import"))
        .await
        .unwrap();
    assert_eq!(progress.current(), None);
    for percent in [0, 30, 60] {
        soon(job.reached(percent)).await.unwrap();
    }
    let half = soon(progress.wait(|percent| percent.get() >= 50))
        .await
        .unwrap();
    assert_eq!(half.get(), 60);
    let more = timeout(Duration::from_millis(100), progress.wait(Percent::is_done)).await;
    assert!(more.is_err(), "60 % is not all");
    soon(job.reached(100)).await.unwrap();
    soon(progress.wait(Percent::is_done)).await.unwrap();
    // Who comes later finds it done, though nobody reports any more.
    drop(job);
    let mut late = soon(Progress::follow(&etcd.registry().await, "import"))
        .await
        .unwrap();
    assert_eq!(late.current(), Some(Percent::DONE));
}

async fn what_is_no_percentage_is_refused_and_nothing_is_written(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let before = etcd.revision().await;
    let mut job = Progress::report(&registry, "import").unwrap();
    for percent in [-1, 101, i64::MAX] {
        let error = job.reached(percent).await.unwrap_err();
        assert!(matches!(error, ProgressError::Percent(_)), "{error}");
    }
    for name in ["", "a/b", "a\n"] {
        assert!(Progress::report(&registry, name).is_err());
        assert!(Progress::follow(&registry, name).await.is_err());
    }
    assert_eq!(etcd.revision().await, before);
}

async fn what_others_put_there_is_no_report(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let mut job = Progress::report(&registry, "import").unwrap();
    soon(job.reached(10)).await.unwrap();
    let mut progress = soon(Progress::follow(&registry, "import")).await.unwrap();
    for garbage in [&b"101"[..], b"-1", b"", b"half", b"\xff"] {
        put(&registry, KEY, garbage).await;
        assert_eq!(progress.current().unwrap().get(), 10);
    }
    // A report takes its place.
    soon(job.reached(20)).await.unwrap();
    soon(progress.wait(|percent| percent.get() == 20))
        .await
        .unwrap();
    assert_eq!(etcd.value(KEY).await.unwrap(), b"20");
}

async fn a_cleared_job_has_no_progress(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let mut job = Progress::report(&registry, "import").unwrap();
    soon(job.reached(10)).await.unwrap();
    let mut progress = soon(Progress::follow(&registry, "import")).await.unwrap();
    soon(job.clear()).await.unwrap();
    assert_eq!(etcd.value(KEY).await, None);
    let gone = async || match progress.current() {
        None => Ok(()),
        Some(percent) => Err(percent),
    };
    switchboard_test_support::eventually(Duration::from_secs(5), "it is cleared", gone).await;
}

async fn reports_go_on_after_etcd_was_away(etcd: &mut Server) {
    let mut job = Progress::report(&etcd.registry().await, "import").unwrap();
    let mut progress = soon(Progress::follow(&etcd.registry().await, "import"))
        .await
        .unwrap();
    soon(job.reached(10)).await.unwrap();
    etcd.restart().await;
    soon(job.reached(20)).await.unwrap();
    soon(progress.wait(|percent| percent.get() == 20))
        .await
        .unwrap();
}

async fn jobs_whose_names_begin_alike_are_apart(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let mut one = Progress::report(&registry, "import").unwrap();
    let mut other = Progress::report(&registry, "import-2").unwrap();
    soon(one.reached(10)).await.unwrap();
    soon(other.reached(90)).await.unwrap();
    let mut progress = soon(Progress::follow(&registry, "import")).await.unwrap();
    assert_eq!(progress.current().unwrap().get(), 10);
}
