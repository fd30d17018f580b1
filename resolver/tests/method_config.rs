//! What a configuration says of methods: how long calls may take, and whether they wait for an endpoint.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

mod support;

use std::time::Duration;

use support::{scripted::*, *};
use switchboard_proto::{HelloRequest, HellosRequest};
use switchboard_resolver::{Channel, Condition, MethodConfig, ServiceConfig};
use tokio::{task::JoinSet, time::Instant};
use tokio_stream::StreamExt;
use tonic::{Code, Request, Status};

const SECOND: Duration = Duration::from_secs(1);
const GREETER: &str = "greeter.v1.Greeter";
const SAY_HELLO: &str = "greeter.v1.Greeter/SayHello";

fn timeout(seconds: u64) -> MethodConfig {
    MethodConfig::default().with_timeout(Duration::from_secs(seconds))
}

fn config<const N: usize>(methods: [(&str, MethodConfig); N]) -> ServiceConfig {
    let none = ServiceConfig::default();
    methods.into_iter().fold(none, |config, (name, method)| {
        config.with_method(name, method).unwrap()
    })
}

/// Makes a call that nobody answers, and sees it end after so many seconds.
async fn ends_after(
    channel: &Channel,
    script: &Script,
    call: impl Into<Request<HelloRequest>>,
    seconds: u64,
) {
    script.then([Answer::Silence]);
    let start = Instant::now();
    let status = client(channel).say_hello(call.into()).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_took(start, Duration::from_secs(seconds));
}

#[tokio::test(start_paused = true)]
async fn c24_the_method_s_timeout_counts_as_the_caller_s_and_the_shorter_one_holds() {
    let (_network, script, channel) = scripted(&["a:1"], |it| {
        it.service_config(config([(SAY_HELLO, timeout(5))]))
    })
    .await;
    ends_after(&channel, &script, Request::new(hello("Ada")), 5).await;
    ends_after(&channel, &script, with_timeout(hello("Ada"), 2 * SECOND), 2).await;
    ends_after(&channel, &script, with_timeout(hello("Ada"), 9 * SECOND), 5).await;
    // The server is told what holds.
    let told: Vec<_> = script
        .seen()
        .into_iter()
        .map(|it| it.timeout.unwrap())
        .collect();
    assert_eq!(told, ["5000000u", "2000000u", "5000000u"]);
}

#[tokio::test(start_paused = true)]
async fn c24_the_method_s_timeout_covers_waiting_and_the_response_to_its_end() {
    let network = Network::serving(&["a:1"]);
    let (said, source) = source();
    let channel = builder(&network, source)
        .service_config(config([("", timeout(5))]))
        .connect_lazy()
        .unwrap();
    // Nobody says yet whom to call.
    let start = Instant::now();
    let status = call(&channel).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_took(start, 5 * SECOND);

    said.snapshot(&["a:1"]);
    until_ready(&channel, &["a:1"]).await;
    let start = Instant::now();
    let endless = HellosRequest {
        count: u32::MAX,
        interval_ms: 300,
        ..HellosRequest::default()
    };
    let mut replies = client(&channel)
        .say_hellos(endless)
        .await
        .unwrap()
        .into_inner();
    let mut last = Ok(None);
    while let Ok(Some(_)) | Ok(None) = last {
        last = match replies.next().await {
            Some(reply) => reply.map(Some),
            None => panic!("it has no end"),
        };
    }
    let status: Status = last.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_took(start, 5 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn c24_of_several_method_configs_the_most_specific_one_counts_alone() {
    let specific = MethodConfig::default().with_wait_for_ready(true);
    let methods = [
        (SAY_HELLO, specific),
        (GREETER, timeout(3)),
        ("", timeout(1)),
    ];
    let (_network, script, channel) =
        scripted(&["a:1"], |it| it.service_config(config(methods))).await;
    call(&channel).await.unwrap();
    let names = || tokio_stream::iter([hello("Ada")]);
    client(&channel).greet_all(names()).await.unwrap();
    let told: Vec<_> = script.seen().into_iter().map(|it| it.timeout).collect();
    assert_eq!(told, [None, Some("3000000u".to_owned())]);

    let methods = [("greeter.v1.Other", timeout(3)), ("", timeout(1))];
    let (_network, script, channel) =
        scripted(&["a:1"], |it| it.service_config(config(methods))).await;
    call(&channel).await.unwrap();
    assert_eq!(script.seen()[0].timeout.as_deref(), Some("1000000u"));
}

#[tokio::test(start_paused = true)]
async fn c22_calls_of_a_method_that_waits_for_ready_do_so_without_asking() {
    for waits in [true, false] {
        let method = MethodConfig::default().with_wait_for_ready(waits);
        let (network, script, channel) = scripted(&["a:1"], |it| {
            it.service_config(config([(SAY_HELLO, method)]))
        })
        .await;
        network.crash("a:1");
        until_it_is(&channel, "a:1", Condition::Failing).await;
        let mut calls = JoinSet::new();
        let caller = channel.clone();
        calls.spawn(async move { call(&caller).await });
        tokio::time::sleep(SECOND).await;
        script.serve(&network, "a:1");
        channel.reset_backoff();
        let reply = calls.join_next().await.unwrap().unwrap();
        assert_eq!(reply.is_ok(), waits, "{reply:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn c24_calls_that_begin_after_a_change_are_what_it_says() {
    let (configs, followed) = configs();
    let built = config([(SAY_HELLO, timeout(9))]);
    let (_network, script, channel) = scripted(&["a:1"], |it| {
        it.service_config(built).service_configs(followed)
    })
    .await;
    let told = async |text: Option<&str>| {
        let logged = Logged::start();
        configs.tell(text.map(str::to_owned));
        while logged.names() != ["INFO service_config_adopted"] {
            tokio::task::yield_now().await;
        }
    };
    ends_after(&channel, &script, Request::new(hello("Ada")), 9).await;

    script.then([Answer::Silence]);
    let mut before = JoinSet::new();
    let caller = channel.clone();
    let start = Instant::now();
    before.spawn(async move { call(&caller).await });
    tokio::time::sleep(SECOND).await;
    told(Some(r#"{ "methodConfig": [{ "name": [{ "service": "greeter.v1.Greeter" }], "timeout": "2.5s" }] }"#)).await;
    script.then([Answer::Silence]);
    let later = Instant::now();
    assert_eq!(
        call(&channel).await.unwrap_err().code(),
        Code::DeadlineExceeded
    );
    assert_took(later, Duration::from_millis(2500));
    assert!(before.join_next().await.unwrap().unwrap().is_err());
    assert_took(start, 9 * SECOND);

    // What it does not mention is as it was built, and without one all is.
    told(Some("{}")).await;
    ends_after(&channel, &script, Request::new(hello("Ada")), 9).await;
    told(Some(r#"{ "methodConfig": [] }"#)).await;
    call(&channel).await.unwrap();
    assert_eq!(script.seen().pop().unwrap().timeout, None);
    told(None).await;
    ends_after(&channel, &script, Request::new(hello("Ada")), 9).await;
}
