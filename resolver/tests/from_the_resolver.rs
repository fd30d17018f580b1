//! What a channel promises about what its source says.

mod support;

use std::{task::Poll, time::Duration};

use support::*;
use switchboard_resolver::{Condition, ConnectError, SourceState, Update};
use tokio::{task::JoinSet, time::Instant};
use tonic::Code;

#[tokio::test(start_paused = true)]
async fn c01_before_the_first_snapshot_a_call_waits_to_its_deadline_or_for_20_s() {
    let (_said, source) = source();
    let channel = builder(&Network::new(), source).connect_lazy().unwrap();

    let start = Instant::now();
    let timeout = Duration::from_millis(300);
    let status = client(&channel)
        .say_hello(with_timeout(hello("Ada"), timeout))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_took(start, timeout);

    let start = Instant::now();
    let status = call(&channel).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_took(start, Duration::from_secs(20));
    assert_eq!(
        status.message(),
        "service greeter: no endpoint became ready within 20s: the endpoints are not known yet"
    );
}

#[tokio::test(start_paused = true)]
async fn c01_a_call_that_waits_for_the_first_snapshot_is_sent_when_it_comes() {
    let network = Network::serving(&["a:1"]);
    let (said, source) = source();
    let channel = builder(&network, source).connect_lazy().unwrap();
    let mut calls = JoinSet::new();
    calls.spawn({
        let channel = channel.clone();
        async move { call(&channel).await }
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    said.snapshot(&["a:1"]);
    let reply = within(SOON, calls.join_next()).await.unwrap().unwrap();
    assert_eq!(reply.unwrap().served_by, "a:1");
}

#[tokio::test(start_paused = true)]
async fn c02_a_source_that_ends_at_once_fails_calls_with_that() {
    let channel = builder(&Network::new(), tokio_stream::empty())
        .connect_lazy()
        .unwrap();
    let start = Instant::now();
    let status = call(&channel).await.unwrap_err();
    assert_took(start, Duration::ZERO);
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(
        status.message(),
        "service greeter: the endpoints cannot be found: the source has ended"
    );
    assert!(matches!(channel.state().source, SourceState::Failed { .. }));
}

#[tokio::test(start_paused = true)]
async fn c02_connecting_to_a_source_that_cannot_start_is_an_error_naming_the_cause() {
    let (said, source) = source();
    said.failed("no such registry");
    let error = builder(&Network::new(), source)
        .connect()
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Unavailable(_)));
    assert!(error.to_string().contains("no such registry"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn c03_a_first_answer_that_is_an_error_fails_calls_and_waits_with_wait_for_ready() {
    let network = Network::serving(&["a:1"]);
    let (said, source) = source();
    let channel = builder(&network, source).connect_lazy().unwrap();
    said.failed("etcd is away");
    let start = Instant::now();
    let status = call(&channel).await.unwrap_err();
    assert_took(start, Duration::ZERO);
    assert_eq!(status.code(), Code::Unavailable);
    assert!(
        status.message().ends_with("cannot be found: etcd is away"),
        "{status}"
    );

    let mut calls = JoinSet::new();
    let mut client = client(&channel);
    calls.spawn(async move { client.say_hello(waiting_for_ready(hello("Ada"))).await });
    tokio::time::sleep(Duration::from_secs(100)).await;
    said.snapshot(&["a:1"]);
    let reply = within(SOON, calls.join_next()).await.unwrap().unwrap();
    assert_eq!(reply.unwrap().into_inner().served_by, "a:1");
}

#[tokio::test(start_paused = true)]
async fn c04_calls_go_on_when_the_source_fails_after_a_snapshot() {
    let network = Network::serving(&["a:1"]);
    let (said, source) = source();
    let channel = builder(&network, source).connect_lazy().unwrap();
    said.snapshot(&["a:1"]);
    until_ready(&channel, &["a:1"]).await;
    let since = Instant::now().into_std();
    for update in [
        Update::Failed {
            cause: cause("etcd is away"),
        },
        Update::Stale {
            since,
            cause: cause("no leader"),
        },
    ] {
        said.say(update);
        until(&channel, |state| state.source != SourceState::Fresh).await;
        assert_eq!(shares(&channel, 3).await["a:1"], 3);
        said.say(Update::Fresh);
        until(&channel, |state| state.source == SourceState::Fresh).await;
    }
    drop(said);
    assert_eq!(shares(&channel, 3).await["a:1"], 3);
}

#[tokio::test(start_paused = true)]
async fn c05_while_all_fail_the_newer_of_the_connect_error_and_the_source_s_is_reported() {
    let network = Network::new();
    let (said, source) = source();
    let channel = builder(&network, source).connect_lazy().unwrap();
    said.snapshot(&["a:1"]);
    until_it_is(&channel, "a:1", Condition::Failing).await;
    let message = call(&channel).await.unwrap_err().message().to_owned();
    assert!(
        message.contains("endpoint a:1: cannot connect: connection refused"),
        "{message}"
    );

    said.failed("etcd is away");
    until(&channel, |state| {
        matches!(state.source, SourceState::Failed { .. })
    })
    .await;
    let message = call(&channel).await.unwrap_err().message().to_owned();
    assert!(message.contains("etcd is away"), "{message}");

    let dials = network.dials("a:1").len();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(network.dials("a:1").len() > dials, "redialed meanwhile");
    let message = call(&channel).await.unwrap_err().message().to_owned();
    assert!(message.contains("connection refused"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn c06_an_empty_first_snapshot_fails_calls_naming_the_service_and_wait_for_ready_waits() {
    let network = Network::new();
    let (said, source) = source();
    let channel = builder(&network, source).connect_lazy().unwrap();
    said.snapshot(&[]);
    let start = Instant::now();
    let status = call(&channel).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.message(), "service greeter: no endpoints");
    assert_took(start, Duration::ZERO);

    let timeout = Duration::from_secs(90);
    let mut request = with_timeout(hello("Ada"), timeout);
    request
        .extensions_mut()
        .insert(switchboard_resolver::WaitForReady);
    let status = client(&channel).say_hello(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_took(start, timeout);
    assert_eq!(
        status.message(),
        "service greeter: no endpoint became ready within 90s: no endpoints"
    );
}

#[tokio::test(start_paused = true)]
async fn c07_emptied_and_filled_again_serves_the_calls_that_wait_for_ready() {
    let network = Network::serving(&["a:1", "b:1"]);
    let (said, source) = source();
    let channel = builder(&network, source).reserve(accepting_empty());
    let channel = channel.connect_lazy().unwrap();
    said.snapshot(&["a:1"]);
    until_ready(&channel, &["a:1"]).await;
    said.snapshot(&[]);
    until_ready(&channel, &[]).await;
    assert_eq!(
        call(&channel).await.unwrap_err().message(),
        "service greeter: no endpoints"
    );

    let mut calls = JoinSet::new();
    for _ in 0..10 {
        let mut client = client(&channel);
        calls.spawn(async move { client.say_hello(waiting_for_ready(hello("Ada"))).await });
    }
    // Longer than a call without wait-for-ready would wait.
    tokio::time::sleep(Duration::from_secs(60)).await;
    said.snapshot(&["b:1"]);
    for reply in within(SOON, calls.join_all()).await {
        assert_eq!(reply.unwrap().into_inner().served_by, "b:1");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c09_snapshots_that_arrive_while_the_channel_closes_do_no_harm() {
    let network = Network::serving(&["a:1", "b:1"]);
    for round in 0..50 {
        let (said, source) = source();
        let channel = builder(&network, source).connect_lazy().unwrap();
        let mut telling = JoinSet::new();
        telling.spawn_blocking(move || {
            for turn in 0..200 {
                let addresses: &[&str] = [&["a:1"][..], &["b:1"], &["a:1", "b:1"], &[]][turn % 4];
                let endpoints = addresses.iter().map(|it| endpoint(&[it])).collect();
                if said.try_say(Update::Snapshot(endpoints)).is_err() {
                    return;
                }
            }
        });
        if round % 2 == 0 {
            // Either result will do: what is told meanwhile may well be nothing.
            let _ = call(&channel).await;
        }
        within(SOON, channel.close()).await;
        within(SOON, telling.join_all()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_has_ended_is_not_shown_as_fresh_and_a_fixed_list_is() {
    let network = Network::serving(&["a:1"]);
    let (said, source) = source();
    let channel = builder(&network, source).connect_lazy().unwrap();
    said.snapshot(&["a:1"]);
    until_ready(&channel, &["a:1"]).await;
    assert_eq!(channel.state().source, SourceState::Fresh);
    drop(said);
    until(&channel, |state| state.source == SourceState::Ended).await;
    assert_eq!(served_by(&channel).await, "a:1");

    let fixed = connected(&network, &["a:1"]).await;
    tokio::time::sleep(SOON).await;
    assert_eq!(fixed.state().source, SourceState::Fresh);
    let states = fixed.watch_state();
    fixed.close().await;
    assert_eq!(states.borrow().source, SourceState::Ended);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_ends_while_it_is_stale_stays_so_with_its_cause() {
    let (said, source) = source();
    let channel = builder(&Network::new(), source).connect_lazy().unwrap();
    said.snapshot(&["a:1"]);
    let since = Instant::now().into_std();
    said.say(Update::Stale {
        since,
        cause: cause("no leader"),
    });
    drop(said);
    until_it_is(&channel, "a:1", Condition::Failing).await;
    let cause = "no leader".to_owned();
    assert_eq!(channel.state().source, SourceState::Stale { since, cause });
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_leaves_its_last_snapshot_in_use_and_the_panic_to_who_closes() {
    let network = Network::serving(&["a:1"]);
    let mut polls = 0;
    let source = futures::stream::poll_fn(move |_| {
        polls += 1;
        if polls > 1 {
            panic!("a bug in the source");
        }
        Some(Update::Snapshot(vec![endpoint(&["a:1"])])).into()
    });
    let channel = builder(&network, source).connect().await.unwrap();
    assert_eq!(served_by(&channel).await, "a:1");
    let source = channel.state().source.clone();
    assert!(matches!(source, SourceState::Failed { .. }), "{source:?}");
    let mut closing = JoinSet::new();
    closing.spawn(channel.close());
    let panic = closing.join_next().await.unwrap().unwrap_err().into_panic();
    assert_eq!(*panic.downcast::<&str>().unwrap(), "a bug in the source");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_always_has_more_leaves_their_turn_to_others() {
    const MANY: usize = 100_000;
    let (polls, polled) = tokio::sync::watch::channel(0);
    let source = futures::stream::poll_fn(move |_| {
        polls.send_modify(|polls| *polls += 1);
        Poll::Ready((*polls.borrow() < MANY).then_some(Update::Fresh))
    });
    let channel = builder(&Network::new(), source).connect_lazy().unwrap();
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
    let polls = *polled.borrow();
    assert!(polls > 0 && polls < MANY, "{polls} polls");
    channel.close().await;
}
