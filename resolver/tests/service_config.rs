//! Configurations that are followed: which are refused, and what holds then.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

mod support;

use std::time::Duration;

use proptest::prelude::*;
use support::*;
use switchboard_resolver::{Channel, ServiceConfig};
use tokio::time::Instant;
use tonic::Code;

const GOOD: &str = r#"{ "loadBalancingConfig": [{ "round_robin": {} }],
    "methodConfig": [{ "name": [{}], "timeout": "3s" }] }"#;

#[tokio::test(start_paused = true)]
async fn c08_a_bad_configuration_after_a_good_one_leaves_the_good_one_and_is_told() {
    let network = Network::new();
    let (_said, source) = source();
    let (configs, told) = configs();
    let logged = Logged::start();
    let channel = builder(&network, source)
        .service_configs(told)
        .connect_lazy()
        .unwrap();
    let times_out = async || {
        let start = Instant::now();
        let status = call(&channel).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_took(start, Duration::from_secs(3));
    };
    configs.say(GOOD);
    while logged.names().is_empty() {
        tokio::task::yield_now().await;
    }
    times_out().await;
    for bad in [
        r#"{ "loadBalancingConfig": [{ "fastest": {} }] }"#,
        r#"{ "methodConfig": [{ "name": [{}], "timeout": "soon" }] }"#,
        "not JSON",
    ] {
        configs.say(bad);
        let expected = ServiceConfig::from_json(bad).unwrap_err().to_string();
        until(&channel, |state| {
            state.config.rejected.as_deref() == Some(&expected)
        })
        .await;
        assert_eq!(channel.state().config.policy, "round_robin");
        times_out().await;
    }
    configs.say("{}");
    until(&channel, |state| state.config.rejected.is_none()).await;
    let (adopted, rejected) = (
        "INFO service_config_adopted",
        "WARN service_config_rejected",
    );
    assert_eq!(
        logged.names(),
        [adopted, rejected, rejected, rejected, adopted]
    );
    // The one before is gone: without a timeout a call waits for 20 s.
    let start = Instant::now();
    assert_eq!(call(&channel).await.unwrap_err().code(), Code::Unavailable);
    assert_took(start, Duration::from_secs(20));
}

fn method(fields: &str) -> String {
    format!(r#"{{ "methodConfig": [{{ "name": [{{}}] {fields} }}] }}"#)
}

fn policy(replaced: &str, by: &str) -> String {
    let policy = r#", "retryPolicy": { "maxAttempts": 3, "initialBackoff": "0.1s", "maxBackoff": "1s",
        "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"] }"#;
    assert!(policy.contains(replaced), "{replaced}");
    method(&policy.replace(replaced, by))
}

#[track_caller]
fn refused(text: &str) -> String {
    match ServiceConfig::from_json(text) {
        Ok(config) => panic!("{text} is taken for {config:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn c08_a_value_that_makes_no_sense_is_refused_with_what_is_expected() {
    let codes = "methodConfig[0].retryPolicy.retryableStatusCodes";
    let names = "(expected: names or numbers of gRPC's codes)";
    let attempts = "(expected: an integer, 2 or more)";
    let seconds = "(expected: seconds such as 1.5s, more than zero)";
    let number = "(expected: a number, more than zero)";
    for (text, expected) in [
        (
            method(r#", "timeout": "1.5""#),
            format!(r#"methodConfig[0].timeout: "1.5" {seconds}"#),
        ),
        (
            method(r#", "timeout": "-1s""#),
            format!(r#"methodConfig[0].timeout: "-1s" {seconds}"#),
        ),
        (
            method(r#", "timeout": "0s""#),
            format!(r#"methodConfig[0].timeout: "0s" {seconds}"#),
        ),
        (
            method(r#", "timeout": 1.5"#),
            format!("methodConfig[0].timeout: 1.5 {seconds}"),
        ),
        (
            policy("3", "1"),
            format!("methodConfig[0].retryPolicy.maxAttempts: 1 {attempts}"),
        ),
        (
            policy("3", "2.5"),
            format!("methodConfig[0].retryPolicy.maxAttempts: 2.5 {attempts}"),
        ),
        (
            policy("3", "-3"),
            format!("methodConfig[0].retryPolicy.maxAttempts: -3 {attempts}"),
        ),
        (
            policy("3", "null"),
            format!("methodConfig[0].retryPolicy.maxAttempts: nothing {attempts}"),
        ),
        (
            policy("0.1s", "0s"),
            format!(r#"methodConfig[0].retryPolicy.initialBackoff: "0s" {seconds}"#),
        ),
        (
            policy("\"1s\"", "{}"),
            format!("methodConfig[0].retryPolicy.maxBackoff: {{}} {seconds}"),
        ),
        (
            policy(": 2", ": 0"),
            format!("methodConfig[0].retryPolicy.backoffMultiplier: 0 {number}"),
        ),
        (
            policy(": 2", ": \"2\""),
            format!("methodConfig[0].retryPolicy.backoffMultiplier: \"2\" {number}"),
        ),
        (
            policy("UNAVAILABLE", "GONE"),
            format!("{codes}: \"GONE\" {names}"),
        ),
        (
            policy("\"UNAVAILABLE\"", "1.5"),
            format!("{codes}: 1.5 {names}"),
        ),
        (
            policy("\"UNAVAILABLE\"", "99"),
            format!("{codes}: 99 (expected: numbers of gRPC's codes, from 1 to 16)"),
        ),
        (
            policy("UNAVAILABLE", "OK"),
            format!("{codes}: 0 (expected: numbers of gRPC's codes, from 1 to 16)"),
        ),
        (
            policy("\"UNAVAILABLE\"", ""),
            format!("{codes}: [] (expected: one or more codes)"),
        ),
        (
            policy("[\"UNAVAILABLE\"]", "14"),
            format!("{codes}: 14 {names}"),
        ),
        (
            r#"{ "retryThrottling": { "maxTokens": 0, "tokenRatio": 1 } }"#.to_owned(),
            "retryThrottling.maxTokens: 0 (expected: an integer from 1 to 1000)".to_owned(),
        ),
        (
            r#"{ "retryThrottling": { "maxTokens": 1001, "tokenRatio": 1 } }"#.to_owned(),
            "retryThrottling.maxTokens: 1001 (expected: an integer from 1 to 1000)".to_owned(),
        ),
        (
            r#"{ "retryThrottling": { "maxTokens": 10 } }"#.to_owned(),
            "retryThrottling.tokenRatio: nothing (expected: a number, 0.001 or more)".to_owned(),
        ),
        (
            r#"{ "retryThrottling": { "maxTokens": 10, "tokenRatio": 0 } }"#.to_owned(),
            "retryThrottling.tokenRatio: 0 (expected: a number, 0.001 or more)".to_owned(),
        ),
    ] {
        assert_eq!(refused(&text), expected, "{text}");
    }
}

#[test]
fn c08_a_name_twice_or_none_is_refused() {
    let named = |names: &str| format!(r#"{{ "methodConfig": [{{ "name": [{names}] }}] }}"#);
    let once = "(expected: each name once)";
    for (names, expected) in [
        (
            "",
            "methodConfig.name: [] (expected: at least one name, or {} for all methods)".to_owned(),
        ),
        (r#"{}, {}"#, format!(r#"methodConfig.name: "" {once}"#)),
        (
            r#"{ "service": "a.B" }, { "service": "a.B", "method": "" }"#,
            format!(r#"methodConfig.name: "a.B" {once}"#),
        ),
        (
            r#"{ "method": "C" }"#,
            r#"methodConfig.name.service: "" (expected: the service of the method)"#.to_owned(),
        ),
        (
            r#"{ "service": "a/B" }"#,
            r#"methodConfig.name.service: "a/B" (expected: a name such as greeter.Greeter)"#
                .to_owned(),
        ),
        (
            r#"{ "service": "a.B", "method": "C/D" }"#,
            r#"methodConfig.name.method: "C/D" (expected: a name such as SayHello)"#.to_owned(),
        ),
    ] {
        assert_eq!(refused(&named(names)), expected, "{names}");
    }
    let twice = r#"{ "methodConfig": [{ "name": [{ "service": "a.B", "method": "C" }] },
        { "name": [{ "service": "a.B", "method": "C" }], "timeout": "1s" }] }"#;
    assert_eq!(
        refused(twice),
        format!(r#"methodConfig.name: "a.B/C" {once}"#)
    );
}

#[test]
fn c08_a_field_that_would_be_in_force_nowhere_is_refused() {
    let nothing = "(expected: nothing: it is not supported)";
    let hedging = r#", "hedgingPolicy": { "maxAttempts": 3 }"#;
    let received = r#""maxAttempts": 3, "perAttemptRecvTimeout": "1s""#;
    for (text, expected) in [
        (
            method(hedging),
            format!(r#"methodConfig[0].hedgingPolicy: {{"maxAttempts":3}} {nothing}"#),
        ),
        (
            method(r#", "maxRequestMessageBytes": 1"#),
            format!("methodConfig[0].maxRequestMessageBytes: 1 {nothing}"),
        ),
        (
            method(r#", "maxResponseMessageBytes": 1"#),
            format!("methodConfig[0].maxResponseMessageBytes: 1 {nothing}"),
        ),
        (
            policy(r#""maxAttempts": 3"#, received),
            format!(r#"methodConfig[0].retryPolicy.perAttemptRecvTimeout: "1s" {nothing}"#),
        ),
        (
            r#"{ "healthCheckConfig": { "serviceName": "a" } }"#.to_owned(),
            format!(r#"healthCheckConfig: {{"serviceName":"a"}} {nothing}"#),
        ),
    ] {
        assert_eq!(refused(&text), expected);
    }
    for text in [
        method(r#", "timeOut": "1s""#),
        policy("maxAttempts", "maxattempts"),
        r#"{ "methodConfig": [{ "name": [{ "services": "a" }] }] }"#.to_owned(),
        r#"{ "retryThrottling": { "maxTokens": 1, "tokenRatio": 1, "more": 1 } }"#.to_owned(),
        r#"{ "methodConfigs": [] }"#.to_owned(),
    ] {
        let error = refused(&text);
        assert!(
            error.starts_with("service config: unknown field `"),
            "{error}"
        );
        assert!(error.contains("expected "), "{error}");
    }
}

#[test]
fn c08_what_grpc_has_for_an_example_is_accepted() {
    let text = r#"{
        "loadBalancingConfig": [{ "round_robin": {} }],
        "methodConfig": [
            {
                "name": [{ "service": "a.B", "method": "C" }, { "service": "a.D" }],
                "waitForReady": true,
                "timeout": "10.000000001s",
                "retryPolicy": {
                    "maxAttempts": 40, "initialBackoff": ".01s", "maxBackoff": "0.01s",
                    "backoffMultiplier": 0.5, "retryableStatusCodes": ["unavailable", 13]
                }
            },
            { "name": [{}], "timeout": null, "hedgingPolicy": null }
        ],
        "retryThrottling": { "maxTokens": 1000, "tokenRatio": 0.5466 }
    }"#;
    ServiceConfig::from_json(text).unwrap();
}

/// JSON of any shape, with the words of configurations.
fn json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    const WORDS: [&str; 24] = [
        "loadBalancingConfig",
        "round_robin",
        "methodConfig",
        "name",
        "service",
        "method",
        "timeout",
        "waitForReady",
        "retryPolicy",
        "maxAttempts",
        "initialBackoff",
        "maxBackoff",
        "backoffMultiplier",
        "retryableStatusCodes",
        "retryThrottling",
        "maxTokens",
        "tokenRatio",
        "UNAVAILABLE",
        "1s",
        "0.1s",
        "315576000001s",
        "-1s",
        "a.B",
        "",
    ];
    let word = || prop_oneof![9 => prop::sample::select(&WORDS[..]).prop_map(str::to_owned), 1 => ".{0,4}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        (0..20).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::String),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((word(), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_is_written_is_refused_with_a_reason_or_can_be_used(text in prop_oneof![
        "\\PC*",
        json().prop_map(|it| it.to_string()),
    ]) {
        match ServiceConfig::from_json(&text) {
            Err(error) => {
                let error = error.to_string();
                prop_assert!(error.starts_with("service config: ") || error.contains("(expected: "), "{error}");
            }
            Ok(config) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let nowhere: [&str; 0] = [];
                    let channel = Channel::balance(nowhere).unwrap().service_config(config);
                    let channel = channel.connect_lazy().unwrap();
                    let call = with_timeout(hello("Ada"), Duration::from_millis(1));
                    assert!(client(&channel).say_hello(call).await.is_err());
                });
            }
        }
    }
}
