//! What those who publish, those who discover and those who call see while etcd, machines and people go
//! wrong: on real etcds of one and of three members, of each release at hand.
//!
//! Each fault of the [table] befalls a [scene] of its own, in which three greeters are published and
//! called all the time, and somebody follows them. No call may fail, no list may lack a greeter
//! where etcd has them all the while, and by the times of the table all is well again. What was measured is printed in the end,
//! as the table that `docs/when-etcd-fails.md` shows.
//!
//! ```text
//! cargo test --test faults                     all of it, in some ten minutes
//! cargo test --test faults -- found::          on the etcd that the other tests have
//! cargo test --test faults -- three::frozen    one fault, on each release
//! ```
//!
//! etcd 3.5 and 3.6 are built by Go; where it cannot be had, their tests are listed as ignored.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

mod alone;
mod callers;
mod discoverer;
mod docs;
mod fleet;
mod operations;
mod people;
mod process;
mod report;
mod scene;
mod table;
mod three;

use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Trial};
use switchboard_test_support::{Release, trial};
use tokio::time::timeout;

use self::{
    fleet::SIZE,
    report::Report,
    scene::Scene,
    table::{FAULTS, Fault, Lists},
};

const RELEASES: [(&str, Release); 3] = [
    ("found", Release::Found),
    ("3.5", Release::V3_5),
    ("3.6", Release::V3_6),
];

/// Most of a test is waiting, so several run at once.
const AT_ONCE: usize = 6;

/// More than any takes whose waits have limits of their own.
const ALL: Duration = Duration::from_secs(300);

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let report = Report::default();
    let mut trials = vec![Trial::test("the_docs_promise_the_same", || {
        docs::promise_the_same();
        Ok(())
    })];
    for (name, release) in RELEASES {
        let of_release = |fault| of(name, release, fault, &report);
        trials.extend(FAULTS.iter().map(of_release));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    report.print();
    conclusion.exit();
}

/// Makes a test of a fault.
fn of(name: &str, release: Release, fault: &'static Fault, report: &Report) -> Trial {
    let report = report.clone();
    trial(format!("{name}::{}", fault.name), move || async move {
        let scene = match Scene::begin(release, fault).await {
            Ok(scene) => scene,
            Err(reason) => return Completion::ignored_with(reason),
        };
        let befallen = timeout(ALL, befall(scene, fault, &report)).await;
        assert!(befallen.is_ok(), "it hangs (limit: {ALL:?})");
        Completion::Completed
    })
}

async fn befall(mut scene: Scene, fault: &'static Fault, report: &Report) {
    let version = scene.cluster.version();
    let leases = scene.fleet.leases();
    let seen = (fault.befall)(&mut scene).await;
    if fault.members > 1 && fault.lists == Lists::Whole {
        // A member that lags is not taken for an etcd that was restored.
        assert_eq!(scene.fleet.leases(), leases, "a lease was left");
    }
    let outcome = scene.end().await;
    let calls = outcome.calls;
    report.note(fault, version, seen, calls.made);

    let failed = calls.failures.len();
    let first = calls.failures.first();
    assert_eq!(failed, 0, "of {} calls; the first: {first:?}", calls.made);
    assert!(calls.made > 0);
    if fault.lists == Lists::Whole {
        assert_eq!(outcome.shortest, SIZE, "a list lacked a greeter");
    }
    let (publishers, discoverers) = (fault.publishers(), fault.discoverers());
    assert!(
        seen.publishers <= publishers,
        "{seen:?} (expected: publishers {publishers:?})"
    );
    assert!(
        seen.discoverers <= discoverers,
        "{seen:?} (expected: discoverers {discoverers:?})"
    );
}
