//! What befalls a process that publishes.

use std::time::Duration;

use etcd_client::GetOptions;
use switchboard_test_support::{Greeter, Signal, eventually};
use tokio::time::{Instant, sleep_until};

use crate::{
    discoverer::PROBE,
    scene::{LONG, Scene, Seen, TTL},
};

/// How long a record may outlive its lease: etcd looks for those that are over every half second; and what a
/// busy machine and a watch take.
const EXPIRED: Duration = Duration::from_secs(3);

/// A process stands still for longer than its lease lives, and goes on. Returns what was seen of that.
pub(crate) async fn frozen(scene: &mut Scene) -> Seen {
    let mut greeter = publish_at(scene, "127.0.0.1:0").await;
    let began = Instant::now();
    greeter.process.signal(Signal::STOP);
    scene.sees(TTL + EXPIRED, &greeter.address, false).await;
    sleep_until(began + LONG).await;
    greeter.process.signal(Signal::CONT);
    back(scene, &greeter.address).await
}

/// A process is killed, and another one starts at its address while its record still stands.
pub(crate) async fn restarted(scene: &mut Scene) -> Seen {
    let mut killed = publish_at(scene, "127.0.0.1:0").await;
    killed.process.kill();
    let began = Instant::now();
    let another = publish_at(scene, &killed.address).await;
    assert_eq!(another.address, killed.address);
    let seen = back(scene, &another.address).await;
    // Its record is its own, and stays when the former lease ends.
    sleep_until(began + TTL + EXPIRED).await;
    seen.or_worse(back(scene, &another.address).await)
}

/// Waits until its record is there, and seen.
async fn back(scene: &mut Scene, address: &str) -> Seen {
    let since = Instant::now();
    let mut operator = scene.operator.clone();
    let limit = Duration::from_secs(60);
    eventually(limit, "its record is there", async || {
        let prefix = format!("/microservices/{PROBE}/");
        let options = Some(GetOptions::new().with_prefix());
        let found = operator.get(prefix, options).await;
        let found = found.map_err(|error| error.to_string())?;
        let is_its = |value: &[u8]| String::from_utf8_lossy(value).contains(address);
        match found.kvs() {
            [kv] if is_its(kv.value()) && kv.lease() != 0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let publishers = since.elapsed();
    scene.sees(limit, address, true).await;
    Seen {
        publishers,
        discoverers: since.elapsed(),
    }
}

/// Starts a process that serves there, and is seen.
async fn publish_at(scene: &mut Scene, listen: &str) -> Greeter {
    let ttl = TTL.as_secs().to_string();
    let arguments = ["--name", PROBE, "--listen", listen, "--ttl", &ttl];
    let greeter = Greeter::start(&scene.cluster.endpoints(), &arguments).await;
    let limit = Duration::from_secs(30);
    scene.sees(limit, &greeter.address, true).await;
    greeter
}
