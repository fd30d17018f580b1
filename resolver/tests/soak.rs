//! A soak: calls of all kinds, dropped now and then, over servers that come, go, crash and drain.
//! Each ends in one of the ways that are promised, and nothing is left of any. A binary of its own:
//! it looks at what the whole process has.
//!
//! For ten seconds, or as long as `SWITCHBOARD_SOAK_SECONDS` says.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

mod support;

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use support::*;
use switchboard_proto::{HelloRequest, HellosRequest, greeter_client::GreeterClient};
use switchboard_resolver::{Backoff, Channel};
use switchboard_test_support::resident;
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status};

const ADDRESSES: [&str; 6] = ["a:1", "b:1", "c:1", "d:1", "e:1", "f:1"];

const CALLERS: u64 = 32;

/// No call takes longer, whatever happens to its server.
const DEADLINE: Duration = Duration::from_secs(2);

/// What may come on top of the memory that there is in the middle.
const GROWTH: usize = 16 << 20;

/// What became of all calls.
#[derive(Debug, Default)]
struct Tally {
    answered: AtomicU64,
    /// With UNAVAILABLE, which names a cause, or at the deadline.
    failed: AtomicU64,
    dropped: AtomicU64,
}

fn soak_time() -> Duration {
    let seconds = env::var("SWITCHBOARD_SOAK_SECONDS");
    let seconds = seconds.map_or(10, |it| it.parse().expect("a number of seconds"));
    Duration::from_secs(seconds)
}

#[test]
fn nothing_is_left_of_calls_over_servers_that_come_and_go() {
    let servers = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let clients = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let tally = Arc::new(Tally::default());
    clients.block_on(soak(&clients, &servers, tally.clone()));
    println!("{tally:?}");
    let [answered, failed, dropped] =
        [&tally.answered, &tally.failed, &tally.dropped].map(|it| it.load(Relaxed));
    for (count, what) in [
        (answered, "answered"),
        (failed, "failed"),
        (dropped, "dropped"),
    ] {
        assert!(count > 100, "{count} {what}: not much of a soak");
    }
    assert!(answered > failed + dropped, "few were answered: {tally:?}");
}

async fn soak(clients: &Runtime, servers: &Runtime, tally: Arc<Tally>) {
    let network = Network::on(servers.handle().clone());
    for address in ADDRESSES {
        network.serve(address);
    }
    let (said, source) = source();
    said.snapshot(&ADDRESSES);
    let channel = builder(&network, source)
        // Who was down is up again soon.
        .backoff(Backoff {
            base: Duration::from_millis(20),
            factor: 1.5,
            cap: Duration::from_millis(200),
            jitter: 0.2,
        })
        .connect_lazy()
        .unwrap();

    let over = CancellationToken::new();
    let mut callers = JoinSet::new();
    for seed in 0..CALLERS {
        callers.spawn(keep_calling(
            channel.clone(),
            seed,
            tally.clone(),
            over.clone(),
        ));
    }
    let mut chaos = JoinSet::new();
    chaos.spawn(churn(network.clone(), said.clone(), over.clone()));
    sleep(soak_time() / 2).await;
    let half = resident();
    sleep(soak_time() / 2).await;
    let all = resident();
    over.cancel();
    chaos.join_all().await;
    callers.join_all().await;
    println!("{} MiB in the middle, {} in the end", half >> 20, all >> 20);
    assert!(all <= half + GROWTH, "{half} bytes became {all}");

    for endpoint in &channel.state().endpoints {
        assert_eq!(endpoint.calls_in_flight(), 0, "{endpoint:?}");
    }
    // Whatever was done to it, it goes on.
    said.snapshot(&ADDRESSES);
    client(&channel).say_hello(request(ada())).await.unwrap();
    timeout(10 * DEADLINE, channel.close())
        .await
        .expect("it closes");
    // One that has ended counts for a moment after whoever joins it has been told.
    let none_is_left = async {
        while clients.metrics().num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    };
    let left = timeout(DEADLINE, none_is_left).await;
    assert!(
        left.is_ok(),
        "{} tasks",
        clients.metrics().num_alive_tasks()
    );
}

/// Does something to one of the servers again and again. In the end all are there.
async fn churn(network: Network, said: Said, over: CancellationToken) {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut is_up = [true; ADDRESSES.len()];
    while !over.is_cancelled() {
        sleep(Duration::from_millis(rng.u64(1..30))).await;
        let one = rng.usize(..ADDRESSES.len());
        let address = ADDRESSES[one];
        match rng.u8(..8) {
            // Some of them, in any order.
            0..=1 => {
                let mut some = ADDRESSES;
                rng.shuffle(&mut some);
                said.snapshot(&some[..rng.usize(1..=some.len())]);
            }
            2 => {
                network.cut(address);
                sleep(Duration::from_millis(rng.u64(1..400))).await;
                network.heal(address);
            }
            3..=4 if is_up[one] => {
                network.crash(address);
                is_up[one] = false;
            }
            5 if is_up[one] => {
                network.shut_down(address);
                is_up[one] = false;
            }
            // One at a time comes back, and more often than they go.
            _ => {
                for (address, is_up) in ADDRESSES.iter().zip(&mut is_up) {
                    if !std::mem::replace(is_up, true) {
                        network.serve(address);
                        break;
                    }
                }
            }
        }
    }
    for (address, is_up) in ADDRESSES.iter().zip(is_up) {
        if !is_up {
            network.serve(address);
        }
    }
}

async fn keep_calling(channel: Channel, seed: u64, tally: Arc<Tally>, over: CancellationToken) {
    let mut rng = fastrand::Rng::with_seed(seed);
    while !over.is_cancelled() {
        let client = client(&channel);
        let patience = match rng.u8(..4) {
            0 => Duration::from_micros(rng.u64(..5_000)),
            _ => 4 * DEADLINE,
        };
        let called = match rng.u8(..4) {
            0 => dropped_after(patience, unary(client)).await,
            1 => dropped_after(patience, server_streaming(client)).await,
            2 => dropped_after(patience, client_streaming(client)).await,
            _ => dropped_after(patience, bidirectional(client)).await,
        };
        let counter = match called {
            None if patience < DEADLINE => &tally.dropped,
            None => panic!("a call outlived its deadline"),
            Some(Ok(())) => &tally.answered,
            Some(Err(status)) => {
                let is_known = matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded);
                let is_told = status.message().starts_with("service greeter: ");
                // A server may find the deadline over before the client does.
                let is_the_servers = status.message() == "Timeout expired";
                assert!(is_known && is_told || is_the_servers, "{status:?}");
                // Those who fail fast leave the others their turn.
                sleep(Duration::from_millis(1)).await;
                &tally.failed
            }
        };
        counter.fetch_add(1, Relaxed);
    }
}

async fn dropped_after<T>(patience: Duration, call: impl Future<Output = T>) -> Option<T> {
    timeout(patience, call).await.ok()
}

fn ada() -> HelloRequest {
    hello("Ada")
}

fn hellos() -> HellosRequest {
    HellosRequest {
        name: "x".repeat(1000),
        count: 20,
        interval_ms: 0,
    }
}

fn request<T>(message: T) -> Request<T> {
    with_timeout(message, DEADLINE)
}

/// Some of them, one after the other, so that the body is not whole when it is first looked at.
fn names() -> Request<impl tokio_stream::Stream<Item = HelloRequest> + Send> {
    request(tokio_stream::iter(0..5).then(async |_| {
        tokio::task::yield_now().await;
        ada()
    }))
}

async fn unary(mut client: GreeterClient<Channel>) -> Result<(), Status> {
    client.say_hello(request(ada())).await.map(drop)
}

async fn server_streaming(mut client: GreeterClient<Channel>) -> Result<(), Status> {
    let mut replies = client.say_hellos(request(hellos())).await?.into_inner();
    let mut count = 0;
    while let Some(reply) = replies.next().await {
        reply?;
        count += 1;
    }
    assert_eq!(count, 20);
    Ok(())
}

async fn client_streaming(mut client: GreeterClient<Channel>) -> Result<(), Status> {
    let reply = client.greet_all(names()).await?.into_inner();
    assert_eq!(reply.message, "Hello, Ada, Ada, Ada, Ada, Ada!");
    Ok(())
}

async fn bidirectional(mut client: GreeterClient<Channel>) -> Result<(), Status> {
    let mut replies = client.chat(names()).await?.into_inner();
    let mut count = 0;
    while let Some(reply) = replies.next().await {
        reply?;
        count += 1;
    }
    assert_eq!(count, 5);
    Ok(())
}
