//! lock, elect.

use std::time::Duration;

use switchboard_test_support::{Etcdctl, Process, Signal, eventually};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(30);
/// How long one who waits is seen to wait.
const A_WHILE: Duration = Duration::from_millis(300);

/// Waits until there are as many keys below a prefix.
pub(crate) async fn contenders(etcdctl: &Etcdctl, prefix: &str, count: usize) {
    let get = ["get", prefix, "--prefix", "--keys-only"];
    eventually(LIMIT, &format!("{count} contenders"), async || {
        let said = etcdctl.says(get).await;
        let keys = said.split_whitespace().count();
        (keys == count).then_some(()).ok_or(said)
    })
    .await;
}

async fn line(process: &mut Process) -> String {
    process.wait_for_line(LIMIT, |_| true).await
}

async fn waits(process: &mut Process) {
    let line = timeout(A_WHILE, process.next_line()).await;
    assert!(line.is_err(), "{line:?} (expected: nothing yet)");
}

pub(crate) async fn a_lock_has_one_owner_at_a_time(etcdctl: Etcdctl) {
    let mut first = etcdctl.spawn(["lock", "l"]);
    let key = line(&mut first).await;
    assert!(key.starts_with("l/"), "{key}");
    assert_eq!(etcdctl.says(["get", &key]).await, format!("{key}\n\n"));

    let mut second = etcdctl.spawn(["lock", "l"]);
    contenders(&etcdctl, "l/", 2).await;
    waits(&mut second).await;
    // Another lock, whose name begins alike, is free.
    let other = line(&mut etcdctl.spawn(["lock", "lx"])).await;
    assert!(other.starts_with("lx/"), "{other}");

    first.signal(Signal::INT);
    let next = line(&mut second).await;
    assert!(next.starts_with("l/") && next != key, "{key}, {next}");
    assert_eq!(etcdctl.says(["get", &key]).await, "");
    second.signal(Signal::INT);
    contenders(&etcdctl, "l/", 0).await;
}

pub(crate) async fn a_lock_of_one_who_vanished_is_had_when_the_lease_ends(etcdctl: Etcdctl) {
    let mut first = etcdctl.spawn(["lock", "l", "--ttl", "3"]);
    let key = line(&mut first).await;
    let mut second = etcdctl.spawn(["lock", "l", "--ttl", "3"]);
    contenders(&etcdctl, "l/", 2).await;
    first.kill();
    let next = line(&mut second).await;
    assert_ne!(next, key);
}

pub(crate) async fn a_command_is_run_under_a_lock(etcdctl: Etcdctl) {
    let lock = [
        "lock",
        "l",
        "--",
        "sh",
        "-c",
        "echo $ETCD_LOCK_KEY $ETCD_LOCK_REV",
    ];
    let said = etcdctl.says(lock).await;
    let (key, revision) = said.trim_end().split_once(' ').unwrap_or_default();
    assert!(key.starts_with("l/"), "{said}");
    assert_eq!(revision, "2");
    assert_eq!(etcdctl.says(["get", "l", "--prefix"]).await, "");
}

pub(crate) async fn a_leader_is_followed_by_the_next(etcdctl: Etcdctl) {
    let mut first = etcdctl.spawn(["elect", "e", "one"]);
    let key = line(&mut first).await;
    assert!(key.starts_with("e/"), "{key}");
    assert_eq!(line(&mut first).await, "one");
    let mut observer = etcdctl.spawn(["elect", "--listen", "e"]);
    assert_eq!(line(&mut observer).await, key);
    assert_eq!(line(&mut observer).await, "one");

    let mut second = etcdctl.spawn(["elect", "e", "two"]);
    contenders(&etcdctl, "e/", 2).await;
    waits(&mut second).await;
    first.signal(Signal::INT);
    let next = line(&mut second).await;
    assert!(next.starts_with("e/") && next != key, "{key}, {next}");
    assert_eq!(line(&mut second).await, "two");
    assert_eq!(line(&mut observer).await, next);
    assert_eq!(line(&mut observer).await, "two");
}
