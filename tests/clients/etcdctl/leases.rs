//! lease grant, keep-alive, timetolive, list and revoke.

use std::time::Duration;

use switchboard_test_support::{Etcdctl, eventually};

const LIMIT: Duration = Duration::from_secs(30);
const NOT_FOUND: &str = "etcdserver: requested lease not found";

/// Grants a lease, and returns its id, in hex as etcdctl has it.
async fn grant(etcdctl: &Etcdctl, ttl: u32) -> String {
    let granted = etcdctl.says(["lease", "grant", &ttl.to_string()]).await;
    let id = granted.split(' ').nth(1).unwrap_or_default().to_owned();
    let expected = format!("lease {id} granted with TTL({ttl}s)\n");
    assert_eq!(granted, expected);
    assert!(i64::from_str_radix(&id, 16).is_ok_and(|id| id > 0), "{id}");
    id
}

pub(crate) async fn a_lease_is_granted_listed_told_of_and_revoked(etcdctl: Etcdctl) {
    let none = etcdctl.says(["lease", "list"]).await;
    assert_eq!(none, "found 0 leases\n");
    let (one, other) = (grant(&etcdctl, 600).await, grant(&etcdctl, 60).await);
    let listed = etcdctl.says(["lease", "list"]).await;
    let mut listed: Vec<_> = listed.lines().collect();
    listed[1..].sort_unstable();
    let mut expected = vec!["found 2 leases", &one, &other];
    expected[1..].sort_unstable();
    assert_eq!(listed, expected);

    for key in ["b", "a"] {
        etcdctl.says(["put", key, "1", "--lease", &one]).await;
    }
    let told = etcdctl.says(["lease", "timetolive", &one, "--keys"]).await;
    let told = told.strip_prefix(&format!("lease {one} granted with TTL(600s), remaining(5"));
    let told = told.and_then(|told| told.split_once("s), attached keys(["));
    let keys = told.and_then(|(_, keys)| keys.strip_suffix("])\n"));
    let mut keys: Vec<_> = keys.unwrap_or_default().split(' ').collect();
    keys.sort_unstable();
    assert_eq!(keys, ["a", "b"], "{told:?}");

    let revoked = etcdctl.says(["lease", "revoke", &one]).await;
    assert_eq!(revoked, format!("lease {one} revoked\n"));
    assert_eq!(etcdctl.says(["get", "", "--prefix"]).await, "");
    let told = etcdctl.says(["lease", "timetolive", &one]).await;
    assert_eq!(told, format!("lease {one} already expired\n"));
    for refused in [
        ["lease", "revoke", &one].as_slice(),
        &["put", "a", "1", "--lease", &one],
    ] {
        let said = etcdctl.fails(refused).await;
        assert!(said.contains(NOT_FOUND), "{refused:?}: {said}");
    }
    let listed = etcdctl.says(["lease", "list"]).await;
    assert_eq!(listed, format!("found 1 leases\n{other}\n"));
}

pub(crate) async fn a_key_goes_with_its_lease(etcdctl: Etcdctl) {
    let lease = grant(&etcdctl, 2).await;
    etcdctl.says(["put", "a", "1", "--lease", &lease]).await;
    etcdctl.says(["put", "b", "1", "--lease", &lease]).await;
    etcdctl.says(["put", "c", "1"]).await;
    let mut watch = etcdctl.spawn(["watch", "", "--prefix", "--rev=2"]);
    for key in ["a", "b", "c"] {
        watch.wait_for_line(LIMIT, |line| line == key).await;
    }
    watch.wait_for_line(LIMIT, |line| line == "DELETE").await;
    let key = watch.wait_for_line(LIMIT, |_| true).await;
    assert_eq!(key, "a", "they go in their order");
    watch.wait_for_line(LIMIT, |line| line == "b").await;
    assert_eq!(etcdctl.says(["get", "", "--prefix"]).await, "c\n1\n");
    // Both at one revision.
    let before = etcdctl.says(["get", "", "--prefix", "--rev=4"]).await;
    assert_eq!(before, "a\n1\nb\n1\nc\n1\n");
    let after = etcdctl.says(["get", "", "--prefix", "--rev=5"]).await;
    assert_eq!(after, "c\n1\n");
    etcdctl.fails(["get", "", "--prefix", "--rev=6"]).await;
}

pub(crate) async fn a_lease_that_is_kept_alive_outlives_its_time(etcdctl: Etcdctl) {
    let lease = grant(&etcdctl, 4).await;
    etcdctl.says(["put", "a", "1", "--lease", &lease]).await;
    let once = ["lease", "keep-alive", "--once", &lease];
    let kept = format!("lease {lease} keepalived with TTL(4)");
    assert_eq!(etcdctl.says(once).await, format!("{kept}\n"));

    let mut keeping = etcdctl.spawn(["lease", "keep-alive", &lease]);
    // Each TTL's third: more than two TTLs.
    for _ in 0..8 {
        keeping.wait_for_line(LIMIT, |line| line == kept).await;
    }
    assert_eq!(etcdctl.says(["get", "a"]).await, "a\n1\n");

    etcdctl.says(["lease", "revoke", &lease]).await;
    let gone = format!("lease {lease} expired or revoked.");
    keeping.wait_for_line(LIMIT, |line| line == gone).await;
    assert!(keeping.wait(LIMIT).await.status.success());
    assert_eq!(etcdctl.says(["get", "a"]).await, "");
}

pub(crate) async fn a_key_may_keep_its_lease_or_lose_it(etcdctl: Etcdctl) {
    let lease = grant(&etcdctl, 600).await;
    for key in ["keeps", "loses", "keeps value"] {
        etcdctl.says(["put", key, "1", "--lease", &lease]).await;
    }
    etcdctl.says(["put", "keeps", "2", "--ignore-lease"]).await;
    etcdctl.says(["put", "loses", "2"]).await;
    let other = grant(&etcdctl, 600).await;
    let put = ["put", "keeps value", "--ignore-value", "--lease", &other];
    etcdctl.says(put).await;
    etcdctl.says(["lease", "revoke", &lease]).await;
    let left = etcdctl.says(["get", "", "--prefix"]).await;
    assert_eq!(left, "keeps value\n1\nloses\n2\n");
    eventually(LIMIT, "the other lease has its key", async || {
        let told = etcdctl
            .says(["lease", "timetolive", &other, "--keys"])
            .await;
        if told.ends_with("attached keys([keeps value])\n") {
            return Ok(());
        }
        Err(told)
    })
    .await;
}
