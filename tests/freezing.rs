//! A server whose process is frozen, as by a debugger, a full disk or a machine that swaps.

use std::time::Duration;

use switchboard::{Channel, Condition, Registry};
use switchboard_proto::{HelloRequest, greeter_client::GreeterClient};
use switchboard_test_support::{Etcd, Greeter, Signal};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use tonic::{Code, Request};

const SOON: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);
/// How long callers wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A call that was made.
struct Call {
    started: Instant,
    code: Code,
    served_by: String,
}

/// Makes 200 calls a second for so long, whatever becomes of those before.
async fn load(channel: &Channel, time: Duration) -> Vec<Call> {
    let mut calls = JoinSet::new();
    let mut ticks = interval(Duration::from_millis(5));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let end = Instant::now() + time;
    while ticks.tick().await < end {
        let mut client = GreeterClient::new(channel.clone());
        calls.spawn(async move {
            let mut request = Request::new(HelloRequest { name: "Ada".into() });
            request.set_timeout(PATIENCE);
            let started = Instant::now();
            match client.say_hello(request).await {
                Ok(reply) => Call {
                    started,
                    code: Code::Ok,
                    served_by: reply.into_inner().served_by,
                },
                Err(status) => Call {
                    started,
                    code: status.code(),
                    served_by: String::new(),
                },
            }
        });
    }
    calls.join_all().await
}

async fn until_it_is(channel: &Channel, address: &str, condition: Condition) {
    let mut states = channel.watch_state();
    let is_there = states.wait_for(|state| {
        let mut endpoints = state.endpoints.iter();
        let endpoint = endpoints.find(|it| it.addresses.iter().any(|it| it.to_string() == address));
        endpoint.is_some_and(|it| it.condition == condition)
    });
    let reached = tokio::time::timeout(SOON, is_there).await;
    reached.expect("in time").expect("an open channel");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_process_gets_no_new_calls_and_is_called_again_when_it_goes_on() {
    let etcd = Etcd::start().await;
    let mut servers = Vec::new();
    for _ in 0..4 {
        // Its lease outlasts the test.
        let arguments = ["--listen", "127.0.0.1:0", "--ttl", "60"];
        servers.push(Greeter::start(etcd.endpoint(), &arguments).await);
    }
    let registry = Registry::connect(etcd.endpoint()).await.expect("etcd");
    let dialed = registry.dial("greeter").connect().await;
    let channel = dialed.expect("a server");
    for server in &servers {
        until_it_is(&channel, &server.address, Condition::Ready).await;
    }

    let frozen = &mut servers[0];
    frozen.process.signal(Signal::STOP);
    let frozen_at = Instant::now();
    let calls = load(&channel, 4 * SECOND).await;
    let late: Vec<_> = calls
        .iter()
        .filter(|it| it.started >= frozen_at + SECOND)
        .collect();
    assert!(late.len() > 100, "{} calls", late.len());
    assert!(late.iter().all(|it| it.served_by != frozen.address));
    // Those that it held are all that failed.
    for call in calls.iter().filter(|it| it.code != Code::Ok) {
        let after = call.started - frozen_at;
        assert!(
            after < SECOND,
            "a call failed that began {after:?} after: {}",
            call.code
        );
        assert!(matches!(
            call.code,
            Code::Unavailable | Code::DeadlineExceeded
        ));
    }

    frozen.process.signal(Signal::CONT);
    until_it_is(&channel, &frozen.address, Condition::Ready).await;
    let calls = load(&channel, SECOND).await;
    assert!(calls.iter().all(|it| it.code == Code::Ok));
    assert!(calls.iter().any(|it| it.served_by == frozen.address));
    channel.close().await;
    registry.close().await;
}
