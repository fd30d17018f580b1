//! Servers that say what no good server says: each call ends, with a status that says whose fault it
//! was; the channel's other endpoint serves on; no task stays behind.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

mod lies;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use lies::{Lie, breaches, greetings, nonsense, refusals, silences, stops};
use support::{wire::*, *};
use switchboard_embedded::{Listener, Network};
use switchboard_proto::HelloRequest;
use switchboard_resolver::{CallErrorKind, Channel, Condition};
use tokio::{runtime::Handle, task::JoinSet, time::Instant};
use tonic::{Code, Request, Status};

const HOSTILE: &str = "hostile:1";
const GOOD: &str = "good:1";

/// Room for all that is sent here.
const LARGE: u32 = 1 << 30;

/// How long a call waits for a server that may go on for ever.
const PATIENCE: Duration = Duration::from_secs(3);

/// A channel to a hostile endpoint and to a good one, and their servers.
struct Stage {
    channel: Channel,
    servers: JoinSet<()>,
    /// How many tasks there were before.
    tasks: usize,
}

impl Stage {
    /// Has `conduct` do with each connection to the hostile endpoint what it likes.
    async fn set<C>(conduct: impl Fn(Wire) -> C + Send + 'static) -> Self
    where
        C: Future<Output = ()> + Send + 'static,
    {
        let tasks = tasks();
        let network = Network::new();
        let mut servers = JoinSet::new();
        let mut hostile = network.listen(HOSTILE).unwrap();
        servers.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let wire = Wire::accept_only(&mut hostile).await;
                connections.spawn(conduct(wire));
            }
        });
        servers.spawn(serve(network.listen(GOOD).unwrap()));
        let channel = Channel::balance([HOSTILE, GOOD])
            .unwrap()
            .name("greeter")
            .connector(network.connector("channel"))
            .connect_lazy()
            .unwrap();
        until_it_is(&channel, GOOD, Condition::Ready).await;
        Self {
            channel,
            servers,
            tasks,
        }
    }

    /// Makes as many calls as it takes for one of them to meet the hostile endpoint, and returns what
    /// became of that one. No other fails.
    async fn meet(&self) -> Status {
        self.meet_with(|| Request::new(hello("Ada"))).await
    }

    async fn meet_with(&self, request: impl Fn() -> Request<HelloRequest>) -> Status {
        for _ in 0..20 {
            let start = Instant::now();
            let mut client = client(&self.channel);
            let called = within(SOON, client.say_hello(request())).await;
            let took = start.elapsed();
            match called {
                // Silence takes 10 s to be taken for death.
                Err(status) => {
                    assert!(took <= Duration::from_secs(12), "{took:?}");
                    return status;
                }
                Ok(reply) => assert_eq!(reply.into_inner().served_by, GOOD),
            }
            // Time to connect.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no call failed: {:?}", self.channel.state());
    }

    /// Sees the good endpoint serve, and that nothing stays behind when the channel is closed.
    async fn end(self) {
        let mut served = 0;
        for _ in 0..10 {
            let mut client = client(&self.channel);
            let called = client.say_hello(with_timeout(hello("Ada"), PATIENCE));
            match within(SOON, called).await {
                Ok(_) => served += 1,
                Err(status) => assert!(!status.message().contains(GOOD), "{status:?}"),
            }
        }
        assert!(served > 0, "none of 10 calls was served");
        let state = self.channel.state();
        let in_flight: usize = state.endpoints.iter().map(|it| it.calls_in_flight()).sum();
        assert_eq!(in_flight, 0);
        self.close_within(SOON).await;
    }

    /// Closes the channel, though the servers do nothing for it, and sees that nothing stays behind.
    async fn close_within(mut self, limit: Duration) {
        within(limit, self.channel.close()).await;
        self.servers.shutdown().await;
        assert_eq!(tasks(), self.tasks);
    }
}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Answers all unary calls, over all connections.
async fn serve(mut listener: Listener) {
    let mut connections = JoinSet::new();
    loop {
        let mut wire = Wire::accept(&mut listener, &[(WINDOW, LARGE)]).await;
        wire.send(WINDOW_UPDATE, 0, 0, &LARGE.to_be_bytes()).await;
        connections.spawn(async move {
            while let Some(stream) = wire.request().await {
                wire.answer(stream, GOOD).await;
            }
        });
    }
}

/// Says to each request what `says` makes of its stream.
async fn answer(mut wire: Wire, says: impl Fn(u32) -> Vec<u8>) {
    wire.preface().await;
    wire.settings(&[]).await;
    while let Some(stream) = wire.request().await {
        wire.send_raw(&says(stream)).await;
    }
}

/// Names whose fault it was.
#[track_caller]
fn blames(lie: &Lie, status: &Status) {
    let expected = format!("service greeter: endpoint {HOSTILE}: ");
    let message = status.message();
    assert!(message.starts_with(&expected), "{}: {status:?}", lie.name);
    assert!(message.len() > expected.len(), "{}: {message}", lie.name);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_speak_http2_is_not_ready_and_hinders_nobody() {
    for lie in greetings() {
        let says = lie.says.clone();
        let stage = Stage::set(move |mut wire| {
            let says = says.clone();
            async move {
                wire.send_raw(&says).await;
                wire.drain().await;
            }
        })
        .await;
        // Each is found out at once, or taken for silent after a while.
        let served = shares(&stage.channel, 10).await;
        assert_eq!(served[GOOD], 10, "{}", lie.name);
        stage.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_breach_of_http2_ends_the_call_and_names_the_endpoint() {
    for number in 0..breaches(1).len() {
        let lie = &breaches(1)[number];
        let stage = Stage::set(move |wire| {
            answer(wire, move |stream| {
                breaches(stream).swap_remove(number).says
            })
        })
        .await;
        let status = stage.meet().await;
        blames(lie, &status);
        // Of a stream, the codes that gRPC has for resets.
        let expected = [Code::Unavailable, Code::Internal, Code::Unknown];
        assert!(
            expected.contains(&status.code()),
            "{}: {status:?}",
            lie.name
        );
        stage.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_hangs_up_in_the_middle_of_a_frame_ends_the_call() {
    let response = |stream| [headers(stream, &[]), data(stream, &message(b""))].concat();
    for length in 0..=response(1).len() {
        let stage = Stage::set(move |mut wire| async move {
            wire.preface().await;
            wire.settings(&[]).await;
            let stream = wire.request().await.unwrap();
            wire.send_raw(&response(stream)[..length]).await;
        })
        .await;
        let status = stage.meet().await;
        assert_eq!(status.code(), Code::Unavailable, "{length}: {status:?}");
        let expected = format!("service greeter: endpoint {HOSTILE}: ");
        assert!(
            status.message().starts_with(&expected),
            "{length}: {status:?}"
        );
        stage.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_grpc_ends_the_call() {
    for number in 0..nonsense(1).len() {
        let lie = &nonsense(1)[number];
        let stage = Stage::set(move |wire| {
            answer(wire, move |stream| {
                nonsense(stream).swap_remove(number).says
            })
        })
        .await;
        let status = stage.meet().await;
        assert_ne!(status.code(), Code::Ok, "{}", lie.name);
        stage.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_could_go_on_for_ever_ends_at_the_deadline() {
    for number in 0..silences(1).len() {
        let lie = &silences(1)[number];
        let stage = Stage::set(move |mut wire| async move {
            wire.preface().await;
            wire.settings(&[]).await;
            let Some(stream) = wire.request().await else {
                return;
            };
            let says = silences(stream).swap_remove(number).says;
            loop {
                wire.send_raw(&says).await;
                // What it writes is read, and the clock can go on.
                let pause = Duration::from_millis(10);
                let _ = tokio::time::timeout(pause, wire.drain()).await;
            }
        })
        .await;
        let start = Instant::now();
        let status = stage
            .meet_with(|| with_timeout(hello("Ada"), PATIENCE))
            .await;
        let took = start.elapsed();
        blames(lie, &status);
        assert!(took < 2 * PATIENCE, "{}: {took:?}", lie.name);
        stage.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_gone_on_with_ends_at_the_deadline() {
    for number in 0..stops(1).len() {
        let lie = &stops(1)[number];
        let stage = Stage::set(move |wire| {
            answer(wire, move |stream| stops(stream).swap_remove(number).says)
        })
        .await;
        let start = Instant::now();
        let status = stage
            .meet_with(|| with_timeout(hello("Ada"), PATIENCE))
            .await;
        assert_eq!(
            status.code(),
            Code::DeadlineExceeded,
            "{}: {status:?}",
            lie.name
        );
        blames(lie, &status);
        assert!(start.elapsed() < PATIENCE + Duration::from_secs(1));
        stage.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_processed_is_sent_elsewhere() {
    for number in 0..refusals(1).len() {
        let lie = &refusals(1)[number];
        let stage = Stage::set(move |wire| {
            answer(wire, move |stream| {
                refusals(stream).swap_remove(number).says
            })
        })
        .await;
        until_it_is(&stage.channel, HOSTILE, Condition::Ready).await;
        let mut served = 0;
        for _ in 0..10 {
            match within(SOON, call(&stage.channel)).await {
                Ok(_) => served += 1,
                // Taken back twice.
                Err(status) => {
                    blames(lie, &status);
                    assert_eq!(kind(&status), CallErrorKind::Unsent, "{status:?}");
                }
            }
        }
        assert!(served >= 5, "{}: {served} of 10", lie.name);
        stage.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_answers_and_never_reads_does_not_keep_the_channel_from_closing() {
    // With or without a sign of life now and then.
    for speaks in [false, true] {
        let stage = Stage::set(move |mut wire| async move {
            wire.preface().await;
            wire.settings(&[(WINDOW, LARGE)]).await;
            wire.send(WINDOW_UPDATE, 0, 0, &LARGE.to_be_bytes()).await;
            // The first request is read up to its headers, and nothing after them.
            let Some(first) = wire.next().await else {
                return;
            };
            wire.headers(first.stream).await;
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                if speaks {
                    wire.send(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes()).await;
                }
            }
        })
        .await;
        let large = || with_timeout(hello(&"x".repeat(1 << 20)), PATIENCE);
        let status = stage.meet_with(large).await;
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        // Sooner than it is given up as silent or deaf, which would be 7 s from now.
        stage.close_within(Duration::from_secs(6)).await;
    }
}
