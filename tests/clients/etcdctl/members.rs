//! endpoint health, endpoint status, member list, alarm list.

use serde_json::Value;
use switchboard_test_support::Etcdctl;

pub(crate) async fn the_server_is_healthy(etcdctl: Etcdctl) {
    let said = etcdctl.says(["endpoint", "health", "-w", "json"]).await;
    let health = parse(&said);
    assert_eq!(health[0]["endpoint"], etcdctl.endpoint());
    assert_eq!(health[0]["health"], true, "{said}");
    assert_eq!(etcdctl.says(["alarm", "list"]).await, "");
}

pub(crate) async fn the_one_member_leads(etcdctl: Etcdctl) {
    etcdctl.says(["put", "a", "1"]).await;
    let said = etcdctl.says(["endpoint", "status", "-w", "json"]).await;
    let status = &parse(&said)[0]["Status"];
    assert_eq!(status["header"]["revision"], 2, "{said}");
    let version = status["version"].as_str().unwrap_or_default();
    let numbers: Vec<_> = version.split(['.', '-', '+']).take(3).collect();
    let is_number = |text: &&str| text.parse::<u32>().is_ok();
    assert!(
        numbers.len() == 3 && numbers.iter().all(is_number),
        "{said}"
    );
    let member = positive(&status["header"]["member_id"], &said);
    let cluster = positive(&status["header"]["cluster_id"], &said);
    assert_eq!(positive(&status["leader"], &said), member);
    for field in [
        "dbSize",
        "dbSizeInUse",
        "raftTerm",
        "raftIndex",
        "raftAppliedIndex",
    ] {
        positive(&status[field], field);
    }
    assert_eq!(status["errors"], Value::Null, "{said}");

    let said = etcdctl.says(["member", "list", "-w", "json"]).await;
    let list = parse(&said);
    assert_eq!(positive(&list["header"]["cluster_id"], &said), cluster);
    let members = list["members"].as_array().map(Vec::as_slice);
    let [only] = members.unwrap_or_default() else {
        panic!("{said} (expected: one member)");
    };
    assert_eq!(positive(&only["ID"], &said), member);
    let url = format!("http://{}", etcdctl.endpoint());
    assert_eq!(only["clientURLs"][0], url);
    // As people see it: id, status, name, its URLs, whether it learns.
    let line = etcdctl.says(["member", "list"]).await;
    let columns: Vec<_> = line.trim_end().split(", ").collect();
    assert_eq!(columns[..2], [&*format!("{member:x}"), "started"]);
    assert_eq!(columns[4..], [&*url, "false"]);
}

fn parse(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

fn positive(value: &Value, of: &str) -> u64 {
    let number = value.as_u64().filter(|number| *number > 0);
    number.unwrap_or_else(|| panic!("{value} (expected: more than 0) in {of}"))
}
