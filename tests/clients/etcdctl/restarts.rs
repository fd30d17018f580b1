//! A server that ends while clients are at it, and is back with its data.

use std::time::Duration;

use switchboard_test_support::{Etcdctl, Process, Signal};
use tokio::time::timeout;

use crate::server::Server;

/// Between a server's return and that of its clients, who wait longer with each attempt.
const LIMIT: Duration = Duration::from_secs(60);
/// How long one who waits is seen to wait.
const A_WHILE: Duration = Duration::from_millis(300);

async fn line(process: &mut Process) -> String {
    process.wait_for_line(LIMIT, |_| true).await
}

pub(crate) async fn a_watch_goes_on(mut server: Server, etcdctl: Etcdctl) {
    let mut watch = etcdctl.spawn(["watch", "a", "--rev=2"]);
    for value in ["1", "2"] {
        etcdctl.says(["put", "a", value]).await;
    }
    for expected in ["PUT", "a", "1", "PUT", "a", "2"] {
        assert_eq!(line(&mut watch).await, expected);
    }
    server.restart().await;
    etcdctl.says(["put", "a", "3"]).await;
    // Nothing comes twice, and nothing is left out.
    for expected in ["PUT", "a", "3"] {
        assert_eq!(line(&mut watch).await, expected);
    }
}

pub(crate) async fn a_lease_is_kept_alive(mut server: Server, etcdctl: Etcdctl) {
    let granted = etcdctl.says(["lease", "grant", "4"]).await;
    let lease = granted.split(' ').nth(1).unwrap_or_default().to_owned();
    etcdctl.says(["put", "a", "1", "--lease", &lease]).await;
    let mut keeping = etcdctl.spawn(["lease", "keep-alive", &lease]);
    let kept = format!("lease {lease} keepalived with TTL(4)");
    assert_eq!(line(&mut keeping).await, kept);
    server.restart().await;
    // Each TTL's third, and one may have been on its way: more than a TTL.
    for _ in 0..5 {
        assert_eq!(line(&mut keeping).await, kept);
    }
    assert_eq!(etcdctl.says(["get", "a"]).await, "a\n1\n");
}

pub(crate) async fn a_lock_is_held(mut server: Server, etcdctl: Etcdctl) {
    let mut first = etcdctl.spawn(["lock", "l"]);
    let key = line(&mut first).await;
    let mut second = etcdctl.spawn(["lock", "l"]);
    super::coordination::contenders(&etcdctl, "l/", 2).await;
    server.restart().await;
    assert_eq!(etcdctl.says(["get", &key]).await, format!("{key}\n\n"));
    let early = timeout(A_WHILE, second.next_line()).await;
    assert!(early.is_err(), "{early:?} (expected: nothing yet)");
    first.signal(Signal::INT);
    assert_ne!(line(&mut second).await, key);
}
