//! A fleet whose servers are restarted one after another, as every deployment does it, while calls go on.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use etcd_client::{Client, GetOptions};
use switchboard::{Channel, Registry};
use switchboard_proto::{HelloRequest, greeter_client::GreeterClient};
use switchboard_test_support::{Etcd, Greeter, Signal, eventually};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

const SERVERS: usize = 8;

/// How many calls there are at least.
const CALLS: u64 = 100_000;

/// How many calls are in flight at a time, over each channel.
const CALLERS: usize = 16;

/// What no state takes that is waited for, on a machine that is busy.
const SOON: Duration = Duration::from_secs(20);

/// How long a server that is asked to end may take: 25 s for its calls, and 2 s for its lease.
const LONGEST_DRAIN: Duration = Duration::from_secs(30);

/// How long the calls may take, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(300);

/// Starts a greeter with all as it is unless set.
async fn start(etcd: &Etcd, listen: &str) -> Greeter {
    Greeter::start(etcd.endpoint(), &["--listen", listen]).await
}

/// Makes one call over a connection of its own, as of somebody who has not heard that the server leaves.
async fn greet(server: &Greeter) -> Result<(), Status> {
    let channel = Channel::balance([server.address.as_str()]).expect("an address");
    let channel = channel.connect_lazy().expect("settings that fit");
    hello(&mut GreeterClient::new(channel)).await.map(drop)
}

/// Those who call all the time, each over one of the channels.
struct Callers {
    calling: JoinSet<()>,
    stop: CancellationToken,
    seen: Arc<Mutex<Seen>>,
}

/// What came of their calls.
#[derive(Debug, Clone, Default)]
struct Seen {
    answered: u64,
    failures: Vec<String>,
    /// How many calls each server has answered.
    servers: BTreeMap<String, u64>,
}

impl Seen {
    fn calls_to(&self, server: &Greeter) -> u64 {
        self.servers.get(&server.address).copied().unwrap_or(0)
    }
}

impl Callers {
    fn start(channels: &[Channel]) -> Self {
        let mut callers = Self {
            calling: JoinSet::new(),
            stop: CancellationToken::new(),
            seen: Arc::default(),
        };
        for channel in channels.iter().cycle().take(CALLERS * channels.len()) {
            let client = GreeterClient::new(channel.clone());
            let (stop, seen) = (callers.stop.clone(), callers.seen.clone());
            callers.calling.spawn(call(client, stop, seen));
        }
        callers
    }

    fn seen(&self) -> Seen {
        self.seen.lock().expect("no caller panics").clone()
    }

    async fn stop(self) -> Seen {
        self.stop.cancel();
        self.calling.join_all().await;
        self.seen.lock().expect("no caller panics").clone()
    }
}

/// Calls, one call after another, until it is told to stop.
async fn call(mut client: GreeterClient<Channel>, stop: CancellationToken, seen: Arc<Mutex<Seen>>) {
    while !stop.is_cancelled() {
        let answer = hello(&mut client).await;
        let mut seen = seen.lock().expect("no caller panics");
        match answer {
            Ok(server) => {
                seen.answered += 1;
                *seen.servers.entry(server).or_default() += 1;
            }
            Err(status) => seen
                .failures
                .push(format!("{:?}: {}", status.code(), status.message())),
        }
    }
}

/// Makes a call, and returns who answered it.
async fn hello(client: &mut GreeterClient<Channel>) -> Result<String, Status> {
    let mut request = Request::new(HelloRequest { name: "Ada".into() });
    request.set_timeout(SOON);
    Ok(client.say_hello(request).await?.into_inner().served_by)
}

/// How many servers are published.
async fn published(etcd: &mut Client) -> usize {
    let options = GetOptions::new().with_prefix().with_count_only();
    let found = etcd.get("/microservices/greeter/", Some(options)).await;
    found.expect("etcd answers").count() as usize
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_every_server_under_load_fails_no_call() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let mut servers = Vec::new();
    for _ in 0..SERVERS {
        servers.push(start(&etcd, "127.0.0.1:0").await);
    }
    let mut channels = Vec::new();
    for _ in 0..2 {
        let registry = Registry::connect(etcd.endpoint()).await;
        let channel = registry.expect("etcd is there").dial("greeter");
        channels.push(channel.connect().await.expect("the servers are there"));
    }
    let callers = Callers::start(&channels);

    let mut restarted = Vec::new();
    for mut server in servers {
        assert_eq!(published(&mut client).await, SERVERS);
        server.process.signal(Signal::TERM);
        eventually(SOON, "its key is gone", async || {
            match published(&mut client).await {
                SERVERS => Err("all are there"),
                _ => Ok(()),
            }
        })
        .await;
        let greeted = greet(&server).await;
        greeted.expect("who has not heard that it leaves is served");
        let exit = server.process.wait(LONGEST_DRAIN).await;
        assert!(exit.status.success(), "{exit:?}");
        let again = start(&etcd, &server.address).await;
        restarted.push((again, callers.seen()));
    }
    eventually(SOON, "all are called again", async || {
        let now = callers.seen();
        let is_called =
            |(server, then): &&(Greeter, Seen)| now.calls_to(server) > then.calls_to(server);
        match restarted.iter().filter(is_called).count() {
            SERVERS => Ok(()),
            called => Err(called),
        }
    })
    .await;
    eventually(PATIENCE, "the calls are made", async || {
        match callers.seen().answered {
            CALLS.. => Ok(()),
            answered => Err(answered),
        }
    })
    .await;
    let seen = callers.stop().await;
    println!(
        "Rolling restart of {SERVERS} servers under {} calls: {} failed.",
        seen.answered,
        seen.failures.len()
    );
    assert!(seen.failures.is_empty(), "{seen:#?}");
}
