//! Several who ask for one service share one watch, as etcd counts it.

use std::time::Duration;

use switchboard::{DiscoverError, Instance, Instances, Layout, Registry, SourceState};
use switchboard_test_support::{Etcd, eventually};
use tokio::{sync::mpsc, time::timeout};

const SOON: Duration = Duration::from_secs(5);

async fn put(etcd: &Etcd, service: &str, host: u8) {
    let value =
        format!(r#"{{"id":"{host}","name":"{service}","endpoints":["grpc://10.0.0.{host}:1"]}}"#);
    let key = format!("/microservices/{service}/{host}");
    let put = etcd.client().await.put(key, value, None).await;
    put.expect("etcd takes it");
}

/// What etcd has counted: the watches that are open, those that were ever opened, and the lists
/// that were read.
async fn counts(etcd: &Etcd) -> [f64; 3] {
    let started = "grpc_server_started_total";
    let watch = [r#"grpc_method="Watch""#, "etcdserverpb"];
    let range = [r#"grpc_method="Range""#, "etcdserverpb"];
    [
        etcd.metric("etcd_debugging_mvcc_watcher_total", &[]).await,
        etcd.metric(started, &watch).await,
        etcd.metric(started, &range).await,
    ]
}

async fn wait_for_counts(etcd: &Etcd, expected: [f64; 3]) {
    eventually(
        SOON,
        &format!("etcd counts {expected:?}"),
        async || match counts(etcd).await {
            counts if counts == expected => Ok(()),
            counts => Err(format!("{counts:?}")),
        },
    )
    .await;
}

async fn wait_for_number(instances: &mut Instances, number: usize) {
    let reached = async {
        while instances.snapshot().instances().len() != number {
            instances.changed().await.expect("it goes on");
        }
    };
    timeout(SOON, reached).await.expect("in time");
}

#[tokio::test]
async fn all_who_follow_a_service_share_one_watch_until_the_last_one_leaves() {
    let etcd = Etcd::start().await;
    put(&etcd, "greeter", 1).await;
    let registry = Registry::connect(etcd.endpoint()).await.unwrap();
    let (mut first, mut second) = (
        registry.discover("greeter").await.unwrap(),
        registry.discover("greeter").await.unwrap(),
    );
    let channel = registry.dial("greeter").connect_lazy().unwrap();
    let (sender, mut changes) = mpsc::channel(8);
    let fed = registry.clone().discover("greeter").await.unwrap();
    let feeder = fed.feed(sender, |change| change);
    assert!(changes.recv().await.is_some());
    let mut state = channel.watch_state();
    let known = state.wait_for(|state| state.endpoints.len() == 1);
    timeout(SOON, known).await.expect("in time").unwrap();
    wait_for_counts(&etcd, [1.0, 1.0, 1.0]).await;

    put(&etcd, "greeter", 2).await;
    wait_for_number(&mut first, 2).await;
    wait_for_number(&mut second, 2).await;
    assert!(changes.recv().await.is_some());
    let known = state.wait_for(|state| state.endpoints.len() == 2);
    timeout(SOON, known).await.expect("in time").unwrap();

    drop(first);
    feeder.close().await;
    channel.close().await;
    put(&etcd, "greeter", 3).await;
    wait_for_number(&mut second, 3).await;
    wait_for_counts(&etcd, [1.0, 1.0, 1.0]).await;
    drop(second);
    wait_for_counts(&etcd, [0.0, 1.0, 1.0]).await;

    let again = registry.discover("greeter").await.unwrap();
    assert_eq!(again.snapshot().instances().len(), 3);
    wait_for_counts(&etcd, [1.0, 2.0, 2.0]).await;
}

#[tokio::test]
async fn other_services_and_other_registries_have_watches_of_their_own() {
    let etcd = Etcd::start().await;
    let registry = Registry::connect(etcd.endpoint()).await.unwrap();
    let other = Registry::connect(etcd.endpoint()).await.unwrap();
    let _greeter = registry.discover("greeter").await.unwrap();
    let _billing = registry.discover("billing").await.unwrap();
    let _other = other.discover("greeter").await.unwrap();
    wait_for_counts(&etcd, [3.0, 3.0, 3.0]).await;
}

#[tokio::test]
async fn layouts_that_read_one_prefix_differently_have_watches_of_their_own() {
    let etcd = Etcd::start().await;
    let registry = Registry::connect(etcd.endpoint()).await.unwrap();
    let shop = registry.with_namespace("/shop".parse().unwrap());
    let all_in_one = registry.with_namespace("/shop/greeter".parse().unwrap());
    let all_in_one = all_in_one.with_layout(Layout::host_port());
    let put = async |key: &str, value: &str| {
        let put = etcd.client().await.put(key, value, None).await;
        put.expect("etcd takes it");
    };
    put("/shop/greeter/1", "10.0.0.1:1").await;
    let named = r#"{"name":"greeter","host":"10.0.0.2","port":1}"#;
    put("/shop/greeter/2", named).await;

    let by_key = shop.discover("greeter").await.unwrap();
    let by_value = all_in_one.discover("greeter").await.unwrap();
    assert_eq!(by_key.snapshot().instances().len(), 2);
    assert_eq!(
        by_value.snapshot().instances().len(),
        1,
        "a value without a name is nobody's"
    );
}

#[tokio::test]
async fn who_comes_later_gets_the_snapshot_at_hand_though_etcd_does_not_answer() {
    let mut etcd = Etcd::start().await;
    put(&etcd, "greeter", 1).await;
    let registry = Registry::connect(etcd.endpoint()).await.unwrap();
    let mut first = registry.discover("greeter").await.unwrap();
    etcd.freeze();
    let later = timeout(Duration::from_secs(1), registry.discover("greeter")).await;
    let mut later = later.expect("at once").unwrap();
    assert_eq!(later.snapshot().revision(), first.snapshot().revision());
    let news = timeout(Duration::from_millis(100), later.changed()).await;
    assert!(news.is_err(), "what it was given is no news: {news:?}");
    etcd.thaw();
    put(&etcd, "greeter", 2).await;
    wait_for_number(&mut first, 2).await;
    wait_for_number(&mut later, 2).await;
}

#[tokio::test]
async fn a_closed_registry_ends_all_who_follow_and_whoever_asks_then() {
    let etcd = Etcd::start().await;
    put(&etcd, "greeter", 1).await;
    let registry = Registry::connect(etcd.endpoint()).await.unwrap();
    let mut first = registry.discover("greeter").await.unwrap();
    let mut second = registry.discover("greeter").await.unwrap();
    let channel = registry.dial("greeter").connect_lazy().unwrap();
    registry.clone().close().await;
    for instances in [&mut first, &mut second] {
        let changed = timeout(SOON, instances.changed()).await.expect("in time");
        assert!(matches!(changed, Err(DiscoverError::Closed)), "{changed:?}");
        assert_eq!(instances.snapshot().instances().len(), 1, "it stays");
    }
    let mut state = channel.watch_state();
    let ended = state.wait_for(|state| state.source == SourceState::Ended);
    timeout(SOON, ended).await.expect("in time").unwrap();
    let late = timeout(SOON, registry.discover("greeter")).await;
    let late = late.expect("in time");
    assert!(matches!(late, Err(DiscoverError::Closed)), "{late:?}");
    wait_for_counts(&etcd, [0.0, 1.0, 1.0]).await;
}

#[tokio::test]
async fn whoever_follows_keeps_the_registry_and_a_server_that_stops_leaves_it_to_them() {
    let etcd = Etcd::start().await;
    let registry = Registry::connect(etcd.endpoint()).await.unwrap();
    let mut instances = registry.discover("greeter").await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let instance = Instance::new("greeter", address).unwrap();
    let (reporter, health) = tonic_health::server::health_reporter();
    let router = tonic::transport::Server::builder().add_service(health);
    let serve = registry.serve(instance, router, listener);
    let serve = serve.health_reporter(reporter);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let drain = switchboard::Drain {
        linger: Duration::ZERO,
        ..switchboard::Drain::default()
    };
    let serve = serve.drain(drain).with_graceful_shutdown(async {
        stopped.await.ok();
    });
    let used = async {
        wait_for_number(&mut instances, 1).await;
        stop.send(()).expect("it serves");
    };
    let (served, ()) = tokio::join!(serve.into_future(), used);
    served.unwrap();
    wait_for_number(&mut instances, 0).await;
    put(&etcd, "greeter", 1).await;
    wait_for_number(&mut instances, 1).await;
}
