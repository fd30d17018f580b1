//! A value that all replicas share.

use std::time::Duration;

use futures::StreamExt;
use serde::{Deserialize, Serialize};
use switchboard::{
    Registry,
    coordination::{Config, ConfigError, ConfigState, InvalidConfig},
};
use switchboard_embedded::{EmbeddedEtcd, Network};
use tokio::time::timeout;

use crate::{
    on_both,
    server::{Server, delete, is_closed, put, put_all, soon},
};

on_both! {
    an_update_reaches_all_replicas_in_order,
    a_bad_update_is_reported_once_and_the_last_good_value_stays_until_the_next_good_one,
    a_configuration_that_is_bad_from_the_start_is_not_loaded,
    without_a_key_the_default_counts_and_comes_back_when_the_key_goes,
    without_a_default_the_key_must_be_there_and_the_last_value_stays_when_it_goes,
    keys_below_one_are_fields_and_change_together,
    a_key_of_a_great_many_segments_is_rejected,
    nothing_that_a_value_says_is_told,
    a_value_stays_while_etcd_is_away_and_the_next_one_comes,
    what_is_stored_is_read,
    what_cannot_be_stored_is_refused_and_nothing_is_written,
    what_is_no_key_for_a_configuration_is_refused,
    it_ends_with_its_last_clone_or_with_the_registry,
}

const KEY: &str = "/shop/limits.json";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Limits {
    calls: u64,
    #[serde(default)]
    burst: u64,
}

fn limits(calls: u64) -> Limits {
    Limits { calls, burst: 0 }
}

async fn load(registry: &Registry) -> Config<Limits> {
    let config = Config::at(registry, KEY).unwrap();
    soon(config.load()).await.unwrap()
}

/// Waits until what is in etcd has been rejected.
async fn rejected<T>(config: &Config<T>) -> InvalidConfig {
    let mut state = config.state();
    let state = soon(state.wait_for(|state| state.rejected.is_some())).await;
    InvalidConfig::clone(state.unwrap().rejected.as_ref().unwrap())
}

async fn an_update_reaches_all_replicas_in_order(etcd: &mut Server) {
    let writer = etcd.registry().await;
    put(&writer, KEY, r#"{"calls": 1}"#).await;
    let mut replicas = Vec::new();
    for _ in 0..8 {
        replicas.push(load(&etcd.registry().await).await);
    }
    for calls in 2..=20 {
        put(&writer, KEY, format!(r#"{{"calls": {calls}}}"#)).await;
    }
    for replica in &mut replicas {
        let mut last = 1;
        while last < 20 {
            let now = soon(replica.changed()).await.unwrap().calls;
            assert!(now > last, "{now} after {last}");
            last = now;
        }
        assert_eq!(*replica.current(), limits(20));
    }
}

async fn a_bad_update_is_reported_once_and_the_last_good_value_stays_until_the_next_good_one(
    etcd: &mut Server,
) {
    let writer = etcd.registry().await;
    put(&writer, KEY, r#"{"calls": 1}"#).await;
    let mut config = load(&etcd.registry().await).await;
    let mut state = config.state();
    // As large as etcd takes; of two mebibytes in two keys, see below.
    let large = format!(r#"{{"calls": 1, "x": "{}"}}"#, "x".repeat(1400 << 10));
    for (index, (bad, told)) in [
        ("{calls", "cannot be read"),
        (r#"{"calls": "many"}"#, "cannot be read"),
        (r#"{"burst": 1}"#, "cannot be read"),
        (&*large, "bytes (expected: at most 1048576)"),
    ]
    .into_iter()
    .enumerate()
    {
        let before = config.current();
        state.mark_unchanged();
        put(&writer, KEY, bad).await;
        let invalid = rejected(&config).await;
        assert!(invalid.to_string().contains(told), "{invalid}");
        assert_eq!(config.current(), before);
        // The same again is nothing new, and told no further time.
        soon(state.changed()).await.unwrap();
        put(&writer, KEY, bad).await;
        let again = timeout(Duration::from_millis(200), state.changed()).await;
        assert!(again.is_err(), "{bad:.20} was told of twice");

        let good = limits(100 + index as u64);
        put(&writer, KEY, serde_json::to_vec(&good).unwrap()).await;
        assert_eq!(*soon(config.changed()).await.unwrap(), good);
        assert!(state.borrow().rejected.is_none());
    }
}

async fn a_configuration_that_is_bad_from_the_start_is_not_loaded(etcd: &mut Server) {
    let registry = etcd.registry().await;
    put(&registry, KEY, r#"{"calls": "hunter2"}"#).await;
    let config = Config::at(&registry, KEY).unwrap().default(limits(1));
    let error = soon(config.load()).await.unwrap_err();
    let ConfigError::Invalid(invalid) = &error else {
        panic!("{error}");
    };
    assert!(matches!(&**invalid, InvalidConfig::Unreadable { key, .. } if key == KEY));
    let told = format!("{:#}", anyhow::Error::from(error));
    assert!(
        told.contains(KEY) && told.contains("expected u64"),
        "{told}"
    );
    assert!(!told.contains("hunter2"), "{told}");
}

async fn without_a_key_the_default_counts_and_comes_back_when_the_key_goes(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let config = Config::at(&registry, KEY).unwrap().default(limits(7));
    let mut config = soon(config.load()).await.unwrap();
    assert_eq!(*config.current(), limits(7));
    put(&registry, KEY, r#"{"calls": 8}"#).await;
    assert_eq!(*soon(config.changed()).await.unwrap(), limits(8));
    delete(&registry, KEY).await;
    assert_eq!(*soon(config.changed()).await.unwrap(), limits(7));
}

async fn without_a_default_the_key_must_be_there_and_the_last_value_stays_when_it_goes(
    etcd: &mut Server,
) {
    let registry = etcd.registry().await;
    let missing = soon(Config::<Limits>::at(&registry, KEY).unwrap().load()).await;
    let told = missing.unwrap_err().to_string();
    assert_eq!(
        told,
        format!("no configuration: {KEY} (expected: a key there, or a default)")
    );
    put(&registry, KEY, r#"{"calls": 8}"#).await;
    let mut config = load(&registry).await;
    delete(&registry, KEY).await;
    assert!(matches!(
        rejected(&config).await,
        InvalidConfig::Missing { .. }
    ));
    assert_eq!(*config.current(), limits(8));
    put(&registry, KEY, r#"{"calls": 9}"#).await;
    assert_eq!(*soon(config.changed()).await.unwrap(), limits(9));
}

#[derive(Debug, PartialEq, Deserialize)]
struct Shop {
    name: String,
    limits: Limits,
    #[serde(default)]
    open: bool,
}

async fn keys_below_one_are_fields_and_change_together(etcd: &mut Server) {
    let registry = etcd.registry().await;
    put_all(
        &registry,
        &[
            ("/shop/name", b"corner shop"),
            ("/shop/limits/calls", b"1"),
            ("/shop/limits/burst", b"1"),
            ("/shop/open", b"true"),
            // Of another one, though its name begins alike.
            ("/shop-admin/name", b"{"),
        ],
    )
    .await;
    let config = Config::<Shop>::below(&registry, "/shop").unwrap();
    let mut config = soon(config.load()).await.unwrap();
    let shop = |calls, open| Shop {
        name: "corner shop".to_owned(),
        limits: Limits {
            calls,
            burst: calls,
        },
        open,
    };
    assert_eq!(*config.current(), shop(1, true));
    for calls in 2..=20 {
        let number = calls.to_string();
        let fields = ["/shop/limits/calls", "/shop/limits/burst"];
        put_all(&registry, &fields.map(|key| (key, number.as_bytes()))).await;
    }
    let mut calls = 1;
    while calls < 20 {
        let limits = soon(config.changed()).await.unwrap().limits.clone();
        assert_eq!(
            limits.calls, limits.burst,
            "one of two that change together"
        );
        calls = limits.calls;
    }
    delete(&registry, "/shop/open").await;
    assert_eq!(*soon(config.changed()).await.unwrap(), shop(20, false));
    // Two of one field, and one that is too large together.
    put(&registry, "/shop/name.json", r#""corner""#).await;
    assert!(matches!(
        rejected(&config).await,
        InvalidConfig::Clash { .. }
    ));
    delete(&registry, "/shop/name.json").await;
    soon(config.changed()).await.unwrap();
    let half = vec![b'x'; 1 << 20];
    put(&registry, "/shop/a", &half).await;
    put(&registry, "/shop/b", &half).await;
    let mut state = config.state();
    let too_large = |it: &InvalidConfig| matches!(it, InvalidConfig::TooLarge { .. });
    let rejected = state.wait_for(|it| it.rejected.as_deref().is_some_and(too_large));
    drop(soon(rejected).await.unwrap());
    assert_eq!(*config.current(), shop(20, false));
}

async fn a_key_of_a_great_many_segments_is_rejected(etcd: &mut Server) {
    let registry = etcd.registry().await;
    put(&registry, "/shop/limits/calls", "1").await;
    let config = Config::<serde_json::Value>::below(&registry, "/shop").unwrap();
    let mut config = soon(config.load()).await.unwrap();
    let deep = format!("/shop{}", "/a".repeat(500_000));
    put(&registry, &deep, "1").await;
    let invalid = rejected(&config).await;
    assert!(
        matches!(invalid, InvalidConfig::Unreadable { .. }),
        "{invalid:.80}"
    );
    delete(&registry, &deep).await;
    put(&registry, "/shop/limits/calls", "2").await;
    // What it was before is another value than what was rejected, and may be seen in between.
    while soon(config.changed()).await.unwrap()["limits"]["calls"] != 2 {}
}

async fn nothing_that_a_value_says_is_told(etcd: &mut Server) {
    #[derive(Debug, Deserialize)]
    enum Mode {
        Fast,
    }
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Secrets {
        _password: Option<String>,
        _mode: Option<Mode>,
        _is_set: Option<bool>,
    }
    let registry = etcd.registry().await;
    put(&registry, KEY, "{}").await;
    let config = Config::<Secrets>::at(&registry, KEY).unwrap();
    let config = soon(config.load()).await.unwrap();
    for value in [
        r#"{"_password": 4711}"#,
        r#"{"_password": -4711}"#,
        r#"{"_password": 4711.5}"#,
        r#"{"_mode": "4711"}"#,
        r#"{"_mode": "`4711`, expected `4711"}"#,
        r#"{"_is_set": "\"4711\""}"#,
        r#"{"_is_set": "\\\"4711"}"#,
        r#"{"4711": "true"}"#,
    ] {
        put(&registry, KEY, value).await;
        let told = rejected(&config).await;
        let told = format!("{:#}", anyhow::Error::from(told));
        assert!(!told.contains("4711"), "{value}: {told}");
        put(&registry, KEY, "{}").await;
        let is_put_right = |it: &ConfigState<Secrets>| it.rejected.is_none();
        let mut state = config.state();
        drop(soon(state.wait_for(is_put_right)).await.unwrap());
    }
}

async fn a_value_stays_while_etcd_is_away_and_the_next_one_comes(etcd: &mut Server) {
    let writer = etcd.registry().await;
    put(&writer, KEY, r#"{"calls": 1}"#).await;
    let mut config = load(&etcd.registry().await).await;
    let mut state = config.state();
    etcd.freeze();
    drop(
        soon(state.wait_for(|state| state.stale.is_some()))
            .await
            .unwrap(),
    );
    assert_eq!(*config.current(), limits(1));
    etcd.thaw();
    drop(
        soon(state.wait_for(|state| state.stale.is_none()))
            .await
            .unwrap(),
    );
    etcd.restart().await;
    put(&writer, KEY, r#"{"calls": 2}"#).await;
    assert_eq!(*soon(config.changed()).await.unwrap(), limits(2));
}

async fn what_is_stored_is_read(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let at = || Config::<Limits>::at(&registry, KEY).unwrap();
    let revision = soon(at().store(&limits(5))).await.unwrap();
    let mut config = soon(at().load()).await.unwrap();
    assert_eq!(*config.current(), limits(5));
    assert!(config.state().borrow().revision >= revision);
    soon(at().store(&limits(6))).await.unwrap();
    assert_eq!(*soon(config.changed()).await.unwrap(), limits(6));
}

async fn what_cannot_be_stored_is_refused_and_nothing_is_written(etcd: &mut Server) {
    let registry = etcd.registry().await;
    let before = etcd.revision().await;
    let large = "x".repeat(2 << 20);
    let at = Config::<String>::at(&registry, "/shop/text").unwrap();
    let error = at.store(&large).await.unwrap_err();
    assert!(
        error.to_string().contains("expected: at most 1048576"),
        "{error}"
    );
    let below = Config::<String>::below(&registry, "/shop").unwrap();
    let error = below.store(&large).await.unwrap_err();
    assert!(matches!(error, ConfigError::SeveralKeys { .. }));
    let map = std::collections::BTreeMap::from([(vec![1_u8], 1)]);
    let at = Config::<std::collections::BTreeMap<Vec<u8>, i32>>::at(&registry, "/shop/map");
    let error = at.unwrap().store(&map).await.unwrap_err();
    assert!(matches!(error, ConfigError::Unwritable { .. }), "{error}");
    assert_eq!(etcd.revision().await, before);
}

async fn what_is_no_key_for_a_configuration_is_refused(etcd: &mut Server) {
    let registry = etcd.registry().await;
    for (key, told) in [
        ("", "invalid key"),
        ("/", "invalid key"),
        ("/a//b", "invalid key"),
        ("/a\n", "invalid key"),
        ("/shop/limits.ini", "expected: the extension .json"),
        ("/microservices/limits.json", "/microservices"),
        ("/microservices", "/microservices"),
    ] {
        let error = Config::<Limits>::at(&registry, key)
            .unwrap_err()
            .to_string();
        assert!(error.contains(told), "{key:?}: {error}");
    }
    assert!(Config::<Limits>::at(&registry, "/microservices-config").is_ok());
    assert!(Config::<Limits>::below(&registry, "/microservices/shop").is_err());
}

async fn it_ends_with_its_last_clone_or_with_the_registry(etcd: &mut Server) {
    let registry = etcd.registry().await;
    put(&registry, KEY, r#"{"calls": 1}"#).await;
    let first = load(&registry).await;
    let mut second = first.clone();
    drop(first);
    put(&registry, KEY, r#"{"calls": 2}"#).await;
    assert_eq!(*soon(second.changed()).await.unwrap(), limits(2));
    let mut stream = Box::pin(second.clone().into_stream());
    soon(registry.close()).await;
    let error = soon(second.changed()).await.unwrap_err();
    assert!(
        matches!(&error, ConfigError::Etcd { cause, .. } if is_closed(cause)),
        "{error}"
    );
    assert!(soon(stream.next()).await.is_none());
    assert_eq!(*second.current(), limits(2), "the last value stays");
}

fn registry_on(network: &Network, name: &str) -> Registry {
    let builder = Registry::builder("etcd:2379").unwrap();
    let builder = builder.connector(network.connector(name));
    builder.connect_lazy().unwrap()
}

/// On a clock that nobody waits for, since it is decided by who comes first.
#[tokio::test(start_paused = true)]
async fn what_a_wiped_etcd_holds_at_the_same_key_and_revision_is_shown() {
    let (etcd, network) = (EmbeddedEtcd::start(), Network::new());
    etcd.serve(network.listen("etcd:2379").unwrap());
    let writer = registry_on(&network, "writer");
    let replica = registry_on(&network, "replica");
    let before = put(&writer, KEY, r#"{"calls": 1}"#).await;
    let mut config = load(&replica).await;

    let link = network.link("replica", "etcd:2379");
    link.refuse();
    link.reset();
    etcd.wipe();
    let after = put(&writer, KEY, r#"{"calls": 2}"#).await;
    assert_eq!(before, after, "the other history is as long as ours");
    link.heal();
    assert_eq!(*soon(config.changed()).await.unwrap(), limits(2));
    let mut state = config.state();
    let is_fresh = |state: &ConfigState<Limits>| state.stale.is_none();
    drop(soon(state.wait_for(is_fresh)).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_configuration_is_never_made_of_what_was_before_a_wipe_and_what_came_after() {
    let (etcd, network) = (EmbeddedEtcd::start(), Network::new());
    etcd.serve(network.listen("etcd:2379").unwrap());
    let writer = registry_on(&network, "writer");
    let replica = registry_on(&network, "replica");
    put(&writer, "/shop/a.json", "1").await;
    put(&writer, "/shop/b.json", "1").await;
    let config = Config::<serde_json::Value>::below(&replica, "/shop").unwrap();
    let mut config = soon(config.load()).await.unwrap();
    let before = config.current();

    let link = network.link("replica", "etcd:2379");
    link.refuse();
    link.reset();
    etcd.wipe();
    put(&writer, "/shop/a.json", "2").await;
    link.heal();
    let mut state = config.state();
    drop(soon(state.wait_for(|it| it.stale.is_some())).await.unwrap());
    assert_eq!(config.current(), before);
    // Ten seconds later what has not come again is taken for gone.
    let after = timeout(Duration::from_secs(60), config.changed());
    let after = after.await.unwrap().unwrap();
    assert_eq!(*after, serde_json::json!({"a": 2}));
}
