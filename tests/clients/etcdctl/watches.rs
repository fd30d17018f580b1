//! watch.

use std::time::Duration;

use switchboard_test_support::{Etcdctl, Process};

const LIMIT: Duration = Duration::from_secs(30);

/// Sees that the next lines are these.
async fn shows(process: &mut Process, lines: &str) {
    for (number, expected) in lines.split('\n').enumerate() {
        let line = process.wait_for_line(LIMIT, |_| true).await;
        assert_eq!(line, expected, "line {number} of {lines:?}");
    }
}

pub(crate) async fn what_was_put_before_is_replayed(etcdctl: Etcdctl) {
    for value in ["1", "2"] {
        etcdctl.says(["put", "a", value]).await;
        etcdctl.says(["put", "b", value]).await;
    }
    etcdctl.says(["del", "a"]).await;
    let mut watch = etcdctl.spawn(["watch", "a", "--rev=4"]);
    shows(&mut watch, "PUT\na\n2\nDELETE\na\n").await;
    etcdctl.says(["put", "b", "3"]).await;
    etcdctl.says(["put", "a", "3"]).await;
    shows(&mut watch, "PUT\na\n3").await;

    // Revisions to come are waited for.
    let mut ahead = etcdctl.spawn(["watch", "a", "--rev=10"]);
    for value in ["at 9", "at 10", "at 11"] {
        etcdctl.says(["put", "a", value]).await;
    }
    shows(&mut ahead, "PUT\na\nat 10\nPUT\na\nat 11").await;
    shows(&mut watch, "PUT\na\nat 9\nPUT\na\nat 10").await;
}

pub(crate) async fn a_prefix_is_watched_with_what_was_there_before(etcdctl: Etcdctl) {
    etcdctl.says(["put", "a1", "1"]).await;
    etcdctl.says(["put", "b", "0"]).await;
    etcdctl.says(["put", "a1", "2"]).await;
    let watch = ["watch", "a", "--prefix", "--prev-kv", "--rev=2"];
    let mut watch = etcdctl.spawn(watch);
    shows(&mut watch, "PUT\na1\n1\nPUT\na1\n1\na1\n2").await;

    // Three at once come at once.
    let txn = "\nput a2 3\nput a3 4\ndel a1\n\n\n";
    etcdctl.answers(["txn"], txn).await;
    shows(&mut watch, "PUT\na2\n3\nPUT\na3\n4\nDELETE\na1\n2\na1\n").await;
    etcdctl.says(["del", "", "--prefix"]).await;
    shows(&mut watch, "DELETE\na2\n3\na2\n\nDELETE\na3\n4\na3\n").await;
}

pub(crate) async fn a_range_is_watched(etcdctl: Etcdctl) {
    let mut watch = etcdctl.spawn(["watch", "b", "d", "--rev=2"]);
    for key in ["a", "b", "c", "d", "bb"] {
        etcdctl.says(["put", key, "1"]).await;
    }
    shows(&mut watch, "PUT\nb\n1\nPUT\nc\n1\nPUT\nbb\n1").await;
    // What begins with an empty prefix is everything.
    let mut all = etcdctl.spawn(["watch", "", "--prefix", "--rev=5"]);
    shows(&mut all, "PUT\nd\n1\nPUT\nbb\n1").await;
}

pub(crate) async fn a_compacted_revision_is_not_watched(etcdctl: Etcdctl) {
    for value in ["1", "2", "3"] {
        etcdctl.says(["put", "a", value]).await;
    }
    etcdctl.says(["compaction", "3"]).await;
    let refused = etcdctl.fails(["watch", "a", "--rev=2"]).await;
    let reason = "etcdserver: mvcc: required revision has been compacted";
    assert!(refused.contains(reason), "{refused}");
    let mut watch = etcdctl.spawn(["watch", "a", "--rev=4"]);
    shows(&mut watch, "PUT\na\n3").await;
}
