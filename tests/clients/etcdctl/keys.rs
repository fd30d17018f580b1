//! put, get, del, txn, compaction.

use switchboard_test_support::Etcdctl;

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";

pub(crate) async fn what_is_put_is_got(etcdctl: Etcdctl) {
    assert_eq!(etcdctl.says(["put", "a", "1"]).await, "OK\n");
    let put = ["put", "a", "2", "--prev-kv"];
    assert_eq!(etcdctl.says(put).await, "OK\na\n1\n");
    assert_eq!(etcdctl.says(["get", "a"]).await, "a\n2\n");
    assert_eq!(
        etcdctl.says(["get", "a", "--consistency=s"]).await,
        "a\n2\n"
    );
    let value = ["get", "a", "--print-value-only"];
    assert_eq!(etcdctl.says(value).await, "2\n");
    assert_eq!(etcdctl.says(["get", "b"]).await, "");
    assert_eq!(etcdctl.says(["put", "--", "-b", "--"]).await, "OK\n");
    assert_eq!(etcdctl.says(["get", "--", "-b"]).await, "-b\n--\n");
    assert_eq!(
        etcdctl.says(["put", "a", "--ignore-value"]).await,
        "OK\n",
        "the value stays"
    );
    let got: Vec<_> = fields(&etcdctl.says(["get", "a", "-w", "fields"]).await);
    let expected = [
        ("Revision", "5"),
        ("Key", "\"a\""),
        ("CreateRevision", "2"),
        ("ModRevision", "5"),
        ("Version", "3"),
        ("Value", "\"2\""),
        ("Lease", "0"),
        ("More", "false"),
        ("Count", "1"),
    ];
    for (name, value) in expected {
        let found = got.iter().find(|(field, _)| field == name);
        assert_eq!(found.map(|it| &*it.1), Some(value), "{name} of {got:?}");
    }
    let refused = etcdctl.fails(["put", "b", "--ignore-value"]).await;
    assert!(refused.contains("etcdserver: key not found"), "{refused}");
    let refused = etcdctl.fails(["put", "", "1"]).await;
    assert!(refused.contains("key is not provided"), "{refused}");
}

/// Reads lines such as `"Revision" : 3`.
fn fields(output: &str) -> Vec<(String, String)> {
    let pairs = output.lines().filter_map(|line| line.split_once(" : "));
    pairs
        .map(|(name, value)| (name.trim_matches('"').to_owned(), value.to_owned()))
        .collect()
}

pub(crate) async fn a_range_is_sorted_limited_and_counted(etcdctl: Etcdctl) {
    for (key, value) in [
        ("k2", "x"),
        ("k1", "z"),
        ("k3", "y"),
        ("l", "w"),
        ("k2", "x"),
    ] {
        etcdctl.says(["put", key, value]).await;
    }
    for (get, expected) in [
        ("--prefix k", "k1 k2 k3"),
        ("k1 k3", "k1 k2"),
        ("--from-key k3", "k3 l"),
        ("--prefix k --order=DESCEND", "k3 k2 k1"),
        ("--prefix k --order=DESCEND --limit=2", "k3 k2"),
        ("--prefix k --limit=2", "k1 k2"),
        ("--prefix k --sort-by=VALUE", "k2 k3 k1"),
        ("--prefix k --sort-by=VALUE --order=DESCEND", "k1 k3 k2"),
        ("--prefix k --sort-by=CREATE", "k2 k1 k3"),
        ("--prefix k --sort-by=MODIFY", "k1 k3 k2"),
        (
            "--prefix k --sort-by=MODIFY --order=DESCEND --limit=1",
            "k2",
        ),
        (
            "--prefix k --sort-by=VERSION --order=DESCEND --limit=1",
            "k2",
        ),
        ("--prefix m", ""),
        ("k3 k1", ""),
    ] {
        let arguments = ["get", "--keys-only"].into_iter().chain(get.split(' '));
        let said = etcdctl.says(arguments).await;
        let keys: Vec<_> = said.split_whitespace().collect();
        assert_eq!(keys.join(" "), expected, "{get}");
    }
    // All keys are those with the empty prefix.
    let all = ["get", "", "--prefix", "--limit=1", "-w", "fields"];
    let all = fields(&etcdctl.says(all).await);
    for (name, value) in [("Count", "4"), ("More", "true"), ("Key", "\"k1\"")] {
        let expected = (name.to_owned(), value.to_owned());
        assert!(all.contains(&expected), "{name} of {all:?}");
    }
    let all = etcdctl.says(["get", "", "--from-key"]).await;
    assert_eq!(all, "k1\nz\nk2\nx\nk3\ny\nl\nw\n");
}

pub(crate) async fn old_revisions_are_read_until_they_are_compacted(etcdctl: Etcdctl) {
    for value in ["1", "2", "3"] {
        etcdctl.says(["put", "a", value]).await;
    }
    etcdctl.says(["del", "a"]).await;
    for (revision, expected) in [("1", ""), ("2", "a\n1\n"), ("4", "a\n3\n"), ("5", "")] {
        let revision = format!("--rev={revision}");
        assert_eq!(etcdctl.says(["get", "a", &revision]).await, expected);
    }
    let ahead = etcdctl.fails(["get", "a", "--rev=6"]).await;
    assert!(ahead.contains(FUTURE), "{ahead}");

    let compacted = etcdctl.says(["compaction", "3"]).await;
    assert_eq!(compacted, "compacted revision 3\n");
    assert_eq!(etcdctl.says(["get", "a", "--rev=3"]).await, "a\n2\n");
    for (refused, reason) in [
        (["get", "a", "--rev=2"].as_slice(), COMPACTED),
        (&["compaction", "3"], COMPACTED),
        (&["compaction", "6"], FUTURE),
    ] {
        let said = etcdctl.fails(refused).await;
        assert!(said.contains(reason), "{refused:?}: {said}");
    }
    // Of what is left, everything.
    let physical = etcdctl.says(["compaction", "5", "--physical"]).await;
    assert_eq!(physical, "compacted revision 5\n");
    assert_eq!(etcdctl.says(["get", "a", "--rev=5"]).await, "");
}

pub(crate) async fn what_is_deleted_is_told(etcdctl: Etcdctl) {
    for (key, value) in [("a", "1"), ("b1", "2"), ("b2", "3"), ("c", "4"), ("d", "5")] {
        etcdctl.says(["put", key, value]).await;
    }
    assert_eq!(etcdctl.says(["del", "nothing"]).await, "0\n");
    assert_eq!(etcdctl.says(["del", "a"]).await, "1\n");
    assert_eq!(etcdctl.says(["del", "a"]).await, "0\n");
    let deleted = etcdctl.says(["del", "b", "--prefix", "--prev-kv"]).await;
    assert_eq!(deleted, "2\nb1\n2\nb2\n3\n");
    assert_eq!(etcdctl.says(["del", "c", "d"]).await, "1\n");
    assert_eq!(etcdctl.says(["get", "", "--prefix"]).await, "d\n5\n");
    assert_eq!(etcdctl.says(["del", "", "--from-key"]).await, "1\n");
    assert_eq!(etcdctl.says(["get", "", "--prefix"]).await, "");
}

pub(crate) async fn a_transaction_goes_one_way_or_the_other(etcdctl: Etcdctl) {
    etcdctl.says(["put", "a", "1"]).await;
    let txn = "value(\"a\") = \"1\"\nversion(\"b\") = \"0\"\n\n\
        put a 2\nput b 3\nget a\n\n\
        del a\nget b\n\n";
    let said = etcdctl.answers(["txn"], txn).await;
    assert_eq!(said, "SUCCESS\n\nOK\n\nOK\n\na\n2\n");
    let said = etcdctl.answers(["txn"], txn).await;
    assert_eq!(said, "FAILURE\n\n1\n\nb\n3\n");

    for (compare, expected) in [
        ("mod(\"b\") = \"3\"", "SUCCESS"),
        ("create(\"b\") < \"3\"", "FAILURE"),
        ("version(\"b\") > \"0\"", "SUCCESS"),
        ("value(\"b\") < \"4\"", "SUCCESS"),
        // What is not there has no value, not even another one.
        ("value(\"a\") < \"4\"", "FAILURE"),
        ("create(\"a\") = \"0\"", "SUCCESS"),
    ] {
        let txn = format!("{compare}\n\nget b\n\nget b\n\n");
        let said = etcdctl.answers(["txn"], &txn).await;
        assert_eq!(said, format!("{expected}\n\nb\n3\n"), "{compare}");
    }
    let said = etcdctl.answers(["txn"], "\n\n\n").await;
    assert_eq!(said, "SUCCESS\n");
}
