//! Calls are made again only while few enough of a channel's calls fail (gRPC's A6).

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

mod support;

use support::{retrying::*, scripted::scripted, wire::*, *};
use tonic::Code;

#[tokio::test(start_paused = true)]
async fn c38_while_tokens_are_low_nothing_is_retried() {
    let config = config(retry(5)).with_retry_throttling(4, 0.5).unwrap();
    let (_network, script, channel) = scripted(&["a:1"], |it| it.service_config(config)).await;
    script.then(unavailable(2));
    // 3 are left after the first failure, and after the second 2, which is half.
    assert_eq!(code(&channel).await, Code::Unavailable);
    assert_eq!(script.seen().len(), 2);
    script.then(unavailable(1));
    assert_eq!(code(&channel).await, Code::Unavailable);
    assert_eq!(script.seen().len(), 1);
    // 1 is left: two successes make it 2, and the third more than that, even less the next failure.
    for _ in 0..5 {
        assert_eq!(code(&channel).await, Code::Ok);
    }
    script.seen();
    script.then(unavailable(1));
    assert_eq!(code(&channel).await, Code::Ok, "2.5 are left");
    assert_eq!(script.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn c38_failures_of_all_kinds_take_tokens_and_no_success_is_lost() {
    // A response that has begun, and breaks off with a code that is retried.
    let config = config(retry(5)).with_retry_throttling(3, 1.0).unwrap();
    let (channel, _listener, mut wire) = wired(&[], |it| it.service_config(config)).await;
    let server = async {
        let stream = wire.request().await.unwrap();
        wire.headers(stream).await;
        wire.send_raw(&trailers(stream, &[("grpc-status", "14")]))
            .await;
        // 2 are left, and 1 after the next one, which is less than half: it is not made again.
        let stream = wire.request().await.unwrap();
        wire.status(stream, "14").await;
        // Both bring one.
        for _ in 0..2 {
            let stream = wire.request().await.unwrap();
            wire.answer(stream, "a:1").await;
        }
        // 2 are left after the first one, which is made again, and 1 after that.
        for _ in 0..2 {
            let stream = wire.request().await.unwrap();
            wire.status(stream, "14").await;
        }
        wire
    };
    let calls = async {
        let codes = [
            code(&channel).await,
            code(&channel).await,
            code(&channel).await,
            code(&channel).await,
        ];
        let unavailable = Code::Unavailable;
        assert_eq!(codes, [unavailable, unavailable, Code::Ok, Code::Ok]);
        assert_eq!(code(&channel).await, unavailable);
    };
    tokio::join!(within(SOON, server), within(SOON, calls));
}

#[tokio::test(start_paused = true)]
async fn c38_tokens_outlast_a_configuration_that_leaves_them_as_they_are() {
    let (configs, told) = configs();
    let (_network, script, channel) = scripted(&["a:1"], |it| it.service_configs(told)).await;
    let tell = async |most: u32, attempts: u32| {
        let logged = Logged::start();
        configs.say(format!(
            r#"{{ "methodConfig": [{{ "name": [{{}}], "retryPolicy": {{ "maxAttempts": {attempts},
            "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"] }} }}],
            "retryThrottling": {{ "maxTokens": {most}, "tokenRatio": 0.1 }} }}"#
        ));
        while logged.names() != ["INFO service_config_adopted"] {
            tokio::task::yield_now().await;
        }
    };
    tell(4, 2).await;
    script.then(unavailable(2));
    assert_eq!(code(&channel).await, Code::Unavailable, "2 are left");
    tell(4, 3).await;
    script.then(unavailable(1));
    assert_eq!(code(&channel).await, Code::Unavailable, "1 is left");
    tell(10, 3).await;
    script.then(unavailable(1));
    assert_eq!(code(&channel).await, Code::Ok);
}
