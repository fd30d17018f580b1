//! The main job, as its users see it: greeters and a caller, each a process, on a real etcd.

use std::{collections::BTreeMap, time::Duration};

use etcd_client::{Client, EventType, GetOptions, KeyValue, WatchOptions};
use switchboard::Registry;
use switchboard_proto::{HellosRequest, greeter_client::GreeterClient};
use switchboard_test_support::{Etcd, Example, Greeter, Process, Signal, eventually};

const SOON: Duration = Duration::from_secs(10);
const TTL: Duration = Duration::from_secs(3);

async fn start(etcd: &Etcd, listen: &str) -> Greeter {
    start_with(etcd, &["--listen", listen]).await
}

async fn start_with(etcd: &Etcd, arguments: &[&str]) -> Greeter {
    let ttl = TTL.as_secs().to_string();
    let arguments = [&["--ttl", &ttl], arguments].concat();
    Greeter::start(etcd.endpoint(), &arguments).await
}

async fn start_three(etcd: &Etcd) -> [Greeter; 3] {
    let listen = "127.0.0.1:0";
    [
        start(etcd, listen).await,
        start(etcd, listen).await,
        start(etcd, listen).await,
    ]
}

/// A steady caller.
struct Caller(Process);

/// What it saw.
#[derive(Debug, Default)]
struct Seen {
    answered: u64,
    failures: Vec<String>,
    servers: BTreeMap<String, u64>,
}

impl Caller {
    /// Starts 100 calls a second, the first of which has been answered.
    async fn start(etcd: &Etcd, seconds: u64) -> Self {
        let seconds = seconds.to_string();
        let arguments = [
            "--etcd",
            etcd.endpoint(),
            "--rate",
            "100",
            "--duration",
            &seconds,
        ];
        let mut process = Example::build("greeter_client").await.spawn(arguments);
        process
            .wait_for_line(SOON, |line| line.starts_with("Hello"))
            .await;
        Self(process)
    }

    /// Waits for its end.
    async fn end(self) -> Seen {
        let exit = self.0.wait(Duration::from_secs(60)).await;
        let mut seen = Seen::default();
        for line in &exit.lines {
            if let Some((_, server)) = line.split_once("! from ") {
                seen.answered += 1;
                *seen.servers.entry(server.to_owned()).or_default() += 1;
            } else if line.starts_with("failed") {
                seen.failures.push(line.clone());
            }
        }
        assert_eq!(exit.status.success(), seen.failures.is_empty(), "{exit:?}");
        seen
    }
}

/// The keys of the greeters, with their leases.
async fn keys(etcd: &mut Client) -> BTreeMap<String, i64> {
    let options = GetOptions::new().with_prefix();
    let found = etcd
        .get("/microservices/greeter/", Some(options))
        .await
        .expect("etcd answers");
    found
        .kvs()
        .iter()
        .map(|kv| (kv.key_str().expect("UTF-8").to_owned(), kv.lease()))
        .collect()
}

async fn wait_for_keys(etcd: &mut Client, number: usize, limit: Duration) -> BTreeMap<String, i64> {
    eventually(
        limit,
        &format!("there are {number} keys"),
        async || match keys(etcd).await {
            keys if keys.len() == number => Ok(keys),
            keys => Err(format!("{keys:?}")),
        },
    )
    .await
}

#[tokio::test]
async fn calls_spread_evenly_over_three_servers_that_each_have_a_key_under_a_lease() {
    let etcd = Etcd::start().await;
    let servers = start_three(&etcd).await;
    let keys = keys(&mut etcd.client().await).await;
    assert_eq!(keys.len(), 3);
    assert!(keys.values().all(|lease| *lease != 0), "{keys:?}");

    let arguments = [
        "--etcd",
        etcd.endpoint(),
        "--rate",
        "100",
        "--duration",
        "3",
        "--json",
    ];
    let exit = Example::build("greeter_client")
        .await
        .spawn(arguments)
        .wait(SOON)
        .await;
    assert!(exit.status.success() && exit.lines.len() == 1, "{exit:?}");
    let summary: serde_json::Value = serde_json::from_str(&exit.lines[0]).expect("it is JSON");
    assert_eq!(summary["failed"], 0, "{summary}");
    let calls = summary["calls"].as_f64().expect("a number");
    assert!(
        calls > 250.0 && summary["p50_us"].is_u64() && summary["p99_us"].is_u64(),
        "{summary}"
    );
    for server in &servers {
        // They are not all connected at the very first call.
        let share = summary["servers"][&server.address]
            .as_f64()
            .expect("a number")
            / calls;
        assert!((0.28..0.39).contains(&share), "{summary}");
    }
}

#[tokio::test]
async fn a_server_that_is_asked_to_stop_leaves_etcd_first_and_no_call_fails() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let [mut stopped, _second, _third] = start_three(&etcd).await;
    let caller = Caller::start(&etcd, 9).await;

    stopped.process.signal(Signal::TERM);
    wait_for_keys(&mut client, 2, Duration::from_secs(2)).await;
    let exit = stopped.process.wait(Duration::from_secs(10)).await;
    assert!(exit.status.success(), "{exit:?}");

    let seen = caller.end().await;
    assert!(seen.failures.is_empty() && seen.answered > 850, "{seen:?}");
}

#[tokio::test]
async fn a_key_is_gone_before_its_process_is() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let mut server = start(&etcd, "127.0.0.1:0").await;
    server.process.signal(Signal::TERM);
    let exit = server.process.wait(Duration::from_secs(10)).await;
    assert!(exit.status.success(), "{exit:?}");
    assert_eq!(keys(&mut client).await.len(), 0);
    assert_eq!(
        client.leases().await.expect("etcd answers").leases().len(),
        0,
        "the lease is revoked too"
    );
}

#[tokio::test]
async fn every_signal_that_asks_for_an_end_drains() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let mut servers = start_three(&etcd).await;
    for (server, signal) in servers
        .iter_mut()
        .zip([Signal::INT, Signal::QUIT, Signal::HUP])
    {
        server.process.signal(signal);
    }
    wait_for_keys(&mut client, 0, Duration::from_secs(2)).await;
    for server in servers {
        let exit = server.process.wait(Duration::from_secs(10)).await;
        assert!(exit.status.success(), "{exit:?}");
    }
}

#[tokio::test]
async fn a_call_in_flight_finishes_though_the_server_is_asked_to_stop() {
    let etcd = Etcd::start().await;
    let mut server = start(&etcd, "127.0.0.1:0").await;
    let registry = Registry::connect(etcd.endpoint())
        .await
        .expect("etcd is there");
    let channel = registry
        .dial("greeter")
        .connect()
        .await
        .expect("the server is there");
    // Longer than the 5 s that a server goes on serving.
    let request = HellosRequest {
        name: "you".to_owned(),
        count: 14,
        interval_ms: 500,
    };
    let mut replies = GreeterClient::new(channel)
        .say_hellos(request)
        .await
        .expect("an answer")
        .into_inner();
    replies
        .message()
        .await
        .expect("a reply")
        .expect("the first");
    server.process.signal(Signal::TERM);
    for _ in 1..14 {
        replies
            .message()
            .await
            .expect("a reply")
            .expect("all of them");
    }
    assert!(replies.message().await.expect("an end").is_none());
    let exit = server.process.wait(Duration::from_secs(5)).await;
    assert!(exit.status.success(), "{exit:?}");
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    let etcd = Etcd::start().await;
    let mut server = start(&etcd, "127.0.0.1:0").await;
    server.process.signal(Signal::TERM);
    wait_for_keys(&mut etcd.client().await, 0, Duration::from_secs(2)).await;
    server.process.signal(Signal::INT);
    let exit = server.process.wait(Duration::from_secs(2)).await;
    assert_eq!(exit.status.code(), Some(130), "{exit:?}");
}

#[tokio::test]
async fn a_killed_server_costs_the_calls_on_it_and_is_called_again_under_the_same_key() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let [mut killed, _second, _third] = start_three(&etcd).await;
    let before = keys(&mut client).await;
    let caller = Caller::start(&etcd, 8).await;
    killed.process.kill();
    let again = start(&etcd, &killed.address).await;
    assert_eq!(again.address, killed.address);

    // The same keys, the one now under a lease of its own: never a fourth.
    let after = wait_for_keys(&mut client, 3, SOON).await;
    assert_eq!(Vec::from_iter(before.keys()), Vec::from_iter(after.keys()));
    let seen = caller.end().await;
    // At 100 calls a second of which each takes less than a millisecond, one may have been on it.
    assert!(seen.failures.len() <= 2, "{seen:?}");
    let share = seen.servers[&again.address] as f64 / seen.answered as f64;
    assert!(share > 0.2, "it is called again: {seen:?}");
    // The first lease has expired by now, and has taken nothing with it.
    assert_eq!(keys(&mut client).await, after);
}

#[tokio::test]
async fn a_killed_server_is_out_of_etcd_a_second_after_its_ttl() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let [mut killed, _second, _third] = start_three(&etcd).await;
    killed.process.kill();
    wait_for_keys(&mut client, 2, TTL + Duration::from_secs(1)).await;
    let seen = Caller::start(&etcd, 2).await.end().await;
    assert_eq!(
        (seen.failures.len(), seen.servers.len()),
        (0, 2),
        "{seen:?}"
    );
}

#[tokio::test]
async fn etcd_killed_and_restarted_fails_no_call_and_loses_no_publication() {
    let mut etcd = Etcd::start().await;
    let servers = start_three(&etcd).await;
    let before = keys(&mut etcd.client().await).await;
    let caller = Caller::start(&etcd, 12).await;

    etcd.kill().await;
    etcd.restart().await;

    // Every publication stands 3 s later, under a lease that is kept alive for longer than its TTL.
    let mut client = etcd.client().await;
    let after = wait_for_keys(&mut client, 3, Duration::from_secs(3)).await;
    assert_eq!(Vec::from_iter(before.keys()), Vec::from_iter(after.keys()));
    let seen = caller.end().await;
    assert_eq!(keys(&mut client).await, after);
    for lease in after.values() {
        let left = client
            .lease_time_to_live(*lease, None)
            .await
            .expect("etcd answers")
            .ttl();
        assert!(left > 0, "{after:?}");
    }
    assert_eq!(
        (seen.failures.len(), seen.servers.len()),
        (0, servers.len()),
        "{seen:?}"
    );
}

#[tokio::test]
async fn a_server_serves_without_etcd_and_is_published_when_it_comes() {
    let mut etcd = Etcd::start().await;
    etcd.kill().await;
    let arguments = ["--etcd", etcd.endpoint(), "--ttl", "3"];
    let mut process = Example::build("greeter_server").await.spawn(arguments);
    etcd.restart().await;
    process
        .wait_for_line(Duration::from_secs(5), |line| line.starts_with("published"))
        .await;
    assert_eq!(keys(&mut etcd.client().await).await.len(), 1);
}

#[tokio::test]
async fn of_two_processes_with_one_identity_the_newer_has_the_key_and_the_older_is_back_when_it_leaves()
 {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let from = WatchOptions::new().with_prefix().with_start_revision(1);
    let mut watch = client
        .watch("/microservices/greeter/", Some(from))
        .await
        .expect("a watch");
    // Both say that others dial them at one address.
    let identity = ["--advertise", "127.0.0.1:50999"];
    let _older = start_with(&etcd, &identity).await;
    let first = wait_for_keys(&mut client, 1, SOON).await;
    let mut newer = start_with(&etcd, &identity).await;
    let second = wait_for_keys(&mut client, 1, SOON).await;
    assert!(first.keys().eq(second.keys()) && first != second);

    newer.process.signal(Signal::TERM);
    eventually(SOON, "the older one is back", async || {
        match keys(&mut client).await {
            keys if keys == first => Ok(()),
            keys => Err(format!("{keys:?}")),
        }
    })
    .await;
    // Each wrote once; the newer one went; the older one came back. Nobody fought.
    let mut events = Vec::new();
    while events.len() < 4 {
        let message = tokio::time::timeout(SOON, watch.message()).await;
        let message = message.expect("in time").expect("it goes on");
        let message = message.expect("it goes on");
        let kinds = message
            .events()
            .iter()
            .map(|event| (event.event_type(), event.kv().map_or(0, KeyValue::lease)));
        events.extend(kinds);
    }
    let leases = [&first, &second].map(|keys| *keys.values().next().expect("a lease"));
    let expected = [
        (EventType::Put, leases[0]),
        (EventType::Put, leases[1]),
        (EventType::Delete, 0),
        (EventType::Put, leases[0]),
    ];
    assert_eq!(events, expected);
}
