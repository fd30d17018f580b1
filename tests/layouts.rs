//! Records in every layout, written and read next to those of others.

use std::{collections::BTreeMap, time::Duration};

use etcd_client::{Client, DeleteOptions, GetOptions, Txn, TxnOp};
use switchboard::{
    Channel, Instance, Instances, KeyRule, Layout, LayoutError, Namespace, PublishError, Publisher,
    Registry, ServicesError, Snapshot, ValueRule,
};
use switchboard_test_support::{Etcd, eventually};
use tokio::{net::TcpListener, task::JoinSet};
use tonic::transport::{Server, server::TcpIncoming};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const SOON: Duration = Duration::from_secs(5);

async fn registry(etcd: &Etcd) -> Registry {
    let builder = Registry::builder(etcd.endpoint()).expect("a target");
    builder
        .namespace(namespace("/shop"))
        .ttl(Duration::from_secs(2))
        .connect()
        .await
        .expect("etcd is there")
}

fn namespace(text: &str) -> Namespace {
    text.parse().expect("a namespace")
}

fn greeter() -> Instance {
    Instance::new("greeter", "10.0.0.1:50051").expect("an instance")
}

async fn publish(registry: &Registry, instance: Instance) -> Publisher {
    let publisher = registry.publish(instance).expect("it can be published");
    publisher.published().await.expect("etcd takes it");
    publisher
}

async fn put(etcd: &mut Client, key: &str, value: impl Into<Vec<u8>>) {
    etcd.put(key, value, None).await.expect("etcd takes it");
}

/// All keys of etcd, with their values.
async fn all(etcd: &mut Client) -> BTreeMap<String, String> {
    let options = GetOptions::new().with_all_keys();
    let found = etcd.get("", Some(options)).await.expect("etcd answers");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let records = found
        .kvs()
        .iter()
        .map(|kv| (text(kv.key()), text(kv.value())));
    records.collect()
}

fn addresses(snapshot: &Snapshot) -> Vec<String> {
    let addresses = snapshot
        .instances()
        .map(|instance| instance.origins()[0].address().to_string());
    let mut addresses: Vec<_> = addresses.collect();
    addresses.sort();
    addresses
}

async fn wait_for(instances: &mut Instances, expected: &[&str]) {
    let reached = async {
        while addresses(&instances.snapshot()) != expected {
            instances.changed().await.expect("it goes on");
        }
    };
    let reached = tokio::time::timeout(SOON, reached).await;
    reached.unwrap_or_else(|_| panic!("not {expected:?}: {instances:?}"));
}

#[tokio::test]
async fn each_layout_is_one_key_as_its_readers_expect_it() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let registry = registry(&etcd).await;
    let greeter = greeter().with_metadata("zone", "b");
    let address = "10.0.0.1:50051";
    let host_port = r#"{"name":"greeter","host":"10.0.0.1","port":50051}"#;
    for (layout, key, value) in [
        (
            Layout::kratos(),
            format!("/shop/greeter/{}", greeter.id()),
            format!(
                r#"{{"id":"{}","name":"greeter","version":"","metadata":{{"zone":"b"}},"endpoints":["grpc://{address}"]}}"#,
                greeter.id()
            ),
        ),
        (
            Layout::go_zero(),
            "greeter/6302314543878951822".to_owned(),
            address.to_owned(),
        ),
        (
            Layout::etcd_naming(),
            format!("greeter/{address}"),
            format!(r#"{{"Op":0,"Addr":"{address}","Metadata":{{"zone":"b"}}}}"#),
        ),
        (
            Layout::host_port(),
            "/shop/71fed90669f1e49460bbc5a3c183a172".to_owned(),
            host_port.to_owned(),
        ),
        (
            Layout::new(KeyRule::Address, ValueRule::Address),
            format!("/shop/greeter/{address}"),
            address.to_owned(),
        ),
    ] {
        let publisher = publish(&registry.with_layout(layout), greeter.clone()).await;
        let expected = BTreeMap::from([(key, value)]);
        assert_eq!(all(&mut client).await, expected, "{layout}");
        publisher.stop().await.unwrap();
        assert!(all(&mut client).await.is_empty(), "{layout}");
    }
}

#[tokio::test]
async fn several_layouts_of_one_registry_share_its_lease() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let registry = registry(&etcd).await;
    let mut publishers = Vec::new();
    for layout in [Layout::kratos(), Layout::go_zero(), Layout::etcd_naming()] {
        publishers.push(publish(&registry.with_layout(layout), greeter()).await);
    }
    let elsewhere = registry.with_namespace(namespace("/elsewhere"));
    publishers.push(publish(&elsewhere, greeter()).await);
    assert_eq!(all(&mut client).await.len(), 4);
    assert_eq!(client.leases().await.unwrap().leases().len(), 1);

    registry.close().await;
    assert!(all(&mut client).await.is_empty());
    assert!(client.leases().await.unwrap().leases().is_empty());
}

#[tokio::test]
async fn nothing_but_kratos_values_is_put_where_kratos_reads() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let registry = Registry::connect(etcd.endpoint()).await.unwrap();
    for layout in [Layout::host_port(), Layout::etcd_naming().in_namespace()] {
        let refused = registry.with_layout(layout).publish(greeter());
        let error = refused.expect_err("kratos reads there");
        assert!(matches!(
            &error,
            PublishError::Layout(LayoutError::OfKratos { .. })
        ));
        let error = error.to_string();
        assert!(
            error.contains("/microservices (expected: one that is not under /microservices"),
            "{error}"
        );
    }
    let number = greeter().with_id("seven".parse().unwrap());
    let refused = registry.with_layout(Layout::go_zero()).publish(number);
    assert!(matches!(
        refused,
        Err(PublishError::Layout(LayoutError::Id(_)))
    ));
    assert!(all(&mut client).await.is_empty());
    // Nobody asked for a lease either.
    assert!(client.leases().await.unwrap().leases().is_empty());
}

#[tokio::test]
async fn an_update_to_an_id_that_does_not_fit_changes_nothing() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let registry = registry(&etcd).await.with_layout(Layout::go_zero());
    let publisher = publish(&registry, greeter()).await;
    let before = all(&mut client).await;
    let bad = greeter().with_id("seven".parse().unwrap());
    let refused = publisher.update(bad).await;
    assert!(matches!(
        refused,
        Err(PublishError::Layout(LayoutError::Id(_)))
    ));
    let good = Instance::new("greeter", "10.0.0.2:50051").unwrap();
    publisher.update(good).await.unwrap();
    let after = all(&mut client).await;
    assert_eq!(after.len(), 1);
    assert!(after.keys().ne(before.keys()));
    assert!(after.values().eq(["10.0.0.2:50051"]));
}

#[tokio::test]
async fn a_key_of_the_leases_id_moves_when_there_is_another_lease() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let registry = registry(&etcd).await.with_layout(Layout::go_zero());
    let publisher = publish(&registry, greeter().with_lease_id()).await;
    let lease = client.leases().await.unwrap().leases()[0].id();
    let expected = |lease: i64| {
        let record = (format!("greeter/{lease}"), "10.0.0.1:50051".to_owned());
        BTreeMap::from([record])
    };
    assert_eq!(all(&mut client).await, expected(lease));
    let mut instances = registry.discover("greeter").await.unwrap();
    wait_for(&mut instances, &["10.0.0.1:50051"]).await;

    client.lease_revoke(lease).await.unwrap();
    let moved = eventually(SOON, "the key is there under a new lease", async || {
        let leases = client.leases().await.unwrap();
        match leases.leases().first().map(|lease| lease.id()) {
            Some(new) if new != lease && all(&mut client).await == expected(new) => Ok(new),
            _ => Err(format!("{:?}", all(&mut client).await)),
        }
    })
    .await;
    assert_ne!(moved, lease);
    publisher.published().await.unwrap();
    wait_for(&mut instances, &["10.0.0.1:50051"]).await;
    // Updated, it keeps the id of the lease.
    publisher
        .update(greeter().with_lease_id().with_metadata("zone", "b"))
        .await
        .unwrap();
    assert_eq!(all(&mut client).await, expected(moved));
    publisher.stop().await.unwrap();
    assert!(all(&mut client).await.is_empty());
}

#[tokio::test]
async fn a_mixed_fleet_is_one_list_whatever_lies_among_it() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let registry = registry(&etcd).await;
    let _ours = publish(&registry, greeter()).await;
    for (id, value) in [
        (
            "k",
            r#"{"id":"k","name":"greeter","endpoints":["grpc://10.0.0.2:1"]}"#,
        ),
        ("7587", "10.0.0.3:1"),
        (
            "n",
            r#"{"Op":0,"Addr":"10.0.0.4:1","Metadata":{"zone":"b"}}"#,
        ),
        ("h", r#"{"name":"greeter","host":"10.0.0.5","port":"1"}"#),
    ] {
        put(&mut client, &format!("/shop/greeter/{id}"), value).await;
    }
    put(&mut client, "/shop/greeter/bad1", &b"\xff\xfe"[..]).await;
    put(&mut client, "/shop/greeter/bad2", r#"{"name":"greet"#).await;
    put(&mut client, "/shop/greeter/bad3", "0.0.0.0:1").await;
    put(&mut client, "/shop/greeter/bad4", "x".repeat(1 << 20)).await;
    let fleet = [
        "10.0.0.1:50051",
        "10.0.0.2:1",
        "10.0.0.3:1",
        "10.0.0.4:1",
        "10.0.0.5:1",
    ];

    let mut instances = registry.discover("greeter").await.unwrap();
    let snapshot = instances.snapshot();
    assert_eq!(addresses(&snapshot), fleet);
    assert_eq!(snapshot.rejected(), 4);
    let ids: Vec<_> = snapshot.instances().map(|it| it.id().as_str()).collect();
    assert_eq!(ids, [greeter().id().as_str(), "7587", "h", "k", "n"]);

    // What goes bad keeps what it was; what is bad and goes is not counted any more.
    put(&mut client, "/shop/greeter/n", "garbage").await;
    let counted = async |instances: &mut Instances, count| {
        while instances.snapshot().rejected() != count {
            instances.changed().await.expect("it goes on");
        }
    };
    let counting = counted(&mut instances, 5);
    tokio::time::timeout(SOON, counting).await.expect("five");
    assert_eq!(addresses(&instances.snapshot()), fleet);
    client.delete("/shop/greeter/bad4", None).await.unwrap();
    put(&mut client, "/shop/greeter/bad3", "10.0.0.6:1").await;
    put(&mut client, "/shop/greeter/n", "10.0.0.7:1").await;
    let counting = counted(&mut instances, 2);
    tokio::time::timeout(SOON, counting).await.expect("two");
    let fleet = [
        "10.0.0.1:50051",
        "10.0.0.2:1",
        "10.0.0.3:1",
        "10.0.0.5:1",
        "10.0.0.6:1",
        "10.0.0.7:1",
    ];
    assert_eq!(addresses(&instances.snapshot()), fleet);
}

#[tokio::test]
async fn under_one_prefix_for_all_services_a_key_may_change_hands() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let registry = registry(&etcd).await.with_layout(Layout::host_port());
    let _ours = publish(&registry, greeter()).await;
    let _others = publish(&registry, Instance::new("other", "10.0.0.9:1").unwrap()).await;
    let value = |name: &str| format!(r#"{{"name":"{name}","host":"10.0.0.2","port":1}}"#);
    put(&mut client, "/shop/a", value("greeter")).await;
    put(&mut client, "/shop/b", "10.0.0.8:1").await;

    let mut greeters = registry.discover("greeter").await.unwrap();
    let mut others = registry.discover("other").await.unwrap();
    let both = ["10.0.0.1:50051", "10.0.0.2:1"];
    assert_eq!(addresses(&greeters.snapshot()), both);
    assert_eq!(addresses(&others.snapshot()), ["10.0.0.9:1"]);
    // Nobody can tell whose the bare address is.
    assert_eq!(greeters.snapshot().rejected(), 1);

    put(&mut client, "/shop/a", value("other")).await;
    wait_for(&mut greeters, &["10.0.0.1:50051"]).await;
    wait_for(&mut others, &["10.0.0.2:1", "10.0.0.9:1"]).await;
    put(&mut client, "/shop/a", value("greeter")).await;
    wait_for(&mut greeters, &both).await;
    wait_for(&mut others, &["10.0.0.9:1"]).await;
}

#[tokio::test]
async fn a_prefix_full_of_other_services_is_read_to_its_end() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    fill(&mut client, 10_050, |i| {
        let value = format!(r#"{{"name":"other{}","host":"h","port":1}}"#, i % 3);
        (format!("/shop/{i:05}"), value)
    })
    .await;
    let registry = registry(&etcd).await.with_layout(Layout::host_port());
    put(
        &mut client,
        "/shop/zzz",
        r#"{"name":"greeter","host":"10.0.0.1","port":50051}"#,
    )
    .await;
    let instances = registry.discover("greeter").await.unwrap();
    assert_eq!(addresses(&instances.snapshot()), ["10.0.0.1:50051"]);
    let services = registry.services().await.unwrap();
    let services: Vec<_> = services.iter().map(|service| service.as_str()).collect();
    assert_eq!(services, ["greeter", "other0", "other1", "other2"]);
}

/// Puts many keys, as many at a time as etcd takes.
async fn fill(etcd: &mut Client, count: usize, record: impl Fn(usize) -> (String, String)) {
    let all: Vec<_> = (0..count).collect();
    for some in all.chunks(100) {
        let puts = some.iter().map(|i| {
            let (key, value) = record(*i);
            TxnOp::put(key, value, None)
        });
        let txn = Txn::new().and_then(puts.collect::<Vec<_>>());
        etcd.txn(txn).await.expect("etcd takes it");
    }
}

#[tokio::test]
async fn every_service_is_listed_once() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let registry = registry(&etcd).await;
    assert!(registry.services().await.unwrap().is_empty());
    let _greeter = publish(&registry, greeter()).await;
    let _other = publish(&registry, Instance::new("other", "10.0.0.9:1").unwrap()).await;
    fill(&mut client, 10_050, |i| {
        (format!("/shop/many-{:02}/{i}", i % 50), String::new())
    })
    .await;
    put(&mut client, "/shop/no-service", "").await;
    put(&mut client, "/shop2/greeter/a", "").await;
    put(&mut client, "/microservices/elsewhere/a", "").await;

    let services = registry.services().await.unwrap();
    let services: Vec<_> = services.iter().map(ToString::to_string).collect();
    let many = (0..50).map(|i| format!("many-{i:02}"));
    let expected: Vec<_> = ["greeter".to_owned()]
        .into_iter()
        .chain(many)
        .chain(["other".to_owned()])
        .collect();
    assert_eq!(services, expected);

    let options = DeleteOptions::new().with_prefix();
    client.delete("/shop/many", Some(options)).await.unwrap();
    let elsewhere = registry.with_namespace(Namespace::default());
    let services = elsewhere.services().await.unwrap();
    assert_eq!(services, ["elsewhere".parse().unwrap()]);

    let error = registry
        .with_layout(Layout::go_zero())
        .services()
        .await
        .unwrap_err();
    assert!(matches!(error, ServicesError::NoNamespace(_)));
    assert_eq!(
        error.to_string(),
        "cannot list services in layout go-zero (expected: one in a namespace; see Layout::in_namespace)"
    );
}

/// A server that says which one it is: its health service knows it by its number.
async fn serve(number: usize, servers: &mut JoinSet<()>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let (reporter, health) = tonic_health::server::health_reporter();
    let status = tonic_health::ServingStatus::Serving;
    reporter
        .set_service_status(number.to_string(), status)
        .await;
    let router = Server::builder().add_service(health);
    let serving = router.serve_with_incoming(TcpIncoming::from(listener));
    servers.spawn(async { serving.await.expect("it serves") });
    address
}

/// Waits until a call has been answered by that server.
async fn reach(channel: &Channel, number: usize) {
    eventually(SOON, "every server is called", async || {
        let request = HealthCheckRequest {
            service: number.to_string(),
        };
        let answer = HealthClient::new(channel.clone()).check(request).await;
        answer.map_err(|status| format!("{number}: {status}"))
    })
    .await;
}

#[tokio::test]
async fn a_channel_reaches_servers_in_every_shape() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let registry = registry(&etcd).await;
    let mut servers = JoinSet::new();
    let mut addresses = Vec::new();
    for number in 0..4 {
        addresses.push(serve(number, &mut servers).await);
    }
    let port = addresses[3].rsplit(':').next().unwrap();
    for (id, value) in [
        (
            "k",
            format!(
                r#"{{"id":"k","name":"greeter","endpoints":["grpc://{}"]}}"#,
                addresses[0]
            ),
        ),
        ("7587", addresses[1].clone()),
        ("n", format!(r#"{{"Op":0,"Addr":"{}"}}"#, addresses[2])),
        ("h", format!(r#"{{"host":"127.0.0.1","port":{port}}}"#)),
        ("bad", "garbage".to_owned()),
    ] {
        put(&mut client, &format!("greeter/{id}"), value).await;
    }
    for layout in [Layout::go_zero(), Layout::etcd_naming()] {
        let channel = registry.with_layout(layout).dial("greeter");
        let channel = channel.connect().await.unwrap();
        for number in 0..4 {
            reach(&channel, number).await;
        }
    }
}
