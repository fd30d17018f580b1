//! What a registry does with an etcd that has users.

mod log;
mod refusals;
mod secrets;
mod tokens;

use std::{path::PathBuf, time::Duration};

use switchboard::{Credentials, Instance, Instances, PublicationStatus, Publisher, Registry};
use switchboard_test_support::{Etcd, Root, eventually};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinSet, time::timeout};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic_health::server::health_reporter;

const PREFIX: &str = "/microservices/";
const USER: &str = "shop";
const PASSWORD: &str = "s3cret, and not to be seen";

const SOON: Duration = Duration::from_secs(5);
/// A refusal is tried again every 10 s, that of a login may answer for another second, and it takes
/// a request or two.
const MENDED: Duration = Duration::from_secs(15);

/// An etcd that demands users, and has one who may read and write all services.
async fn guarded(flags: &[&str]) -> (Etcd, Root) {
    let (etcd, mut root) = unguarded(flags).await;
    root.demand_users().await;
    (etcd, root)
}

/// One that has that user, and demands none yet.
async fn unguarded(flags: &[&str]) -> (Etcd, Root) {
    let etcd = Etcd::start_with(flags.iter().copied()).await;
    let mut root = etcd.root().await;
    root.add_user(USER, PASSWORD).await;
    root.allow(USER, PREFIX).await;
    (etcd, root)
}

async fn registry(etcd: &Etcd, credentials: Option<Credentials>) -> Registry {
    registry_with(Duration::from_secs(2), etcd, credentials).await
}

async fn registry_with(ttl: Duration, etcd: &Etcd, credentials: Option<Credentials>) -> Registry {
    let builder = Registry::builder(etcd.endpoint()).expect("a target");
    let builder = builder.ttl(ttl);
    let builder = match credentials {
        Some(credentials) => builder.credentials(credentials),
        None => builder,
    };
    builder.connect().await.expect("etcd is there")
}

fn right() -> Option<Credentials> {
    Some(Credentials::new(USER, PASSWORD).expect("credentials"))
}

/// A file with a password, which can be another one.
struct PasswordFile(TempDir);

impl PasswordFile {
    fn new(password: &str) -> Self {
        let file = Self(tempfile::tempdir().expect("a folder"));
        file.write(password);
        file
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("password")
    }

    fn write(&self, password: &str) {
        std::fs::write(self.path(), format!("{password}\n")).expect("it can be written");
    }

    fn credentials(&self) -> Option<Credentials> {
        Some(Credentials::with_password_file(USER, self.path()).expect("credentials"))
    }
}

/// A server that says how it is, and its address.
async fn health() -> (String, JoinSet<Result<(), tonic::transport::Error>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let router = Server::builder().add_service(health_reporter().1);
    let mut serving = JoinSet::new();
    serving.spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
    (address, serving)
}

/// How often somebody has logged in since etcd was started.
async fn logins(etcd: &Etcd) -> u64 {
    let calls = [r#"grpc_method="Authenticate""#];
    etcd.metric("grpc_server_started_total", &calls).await as u64
}

fn greeter(host: u8) -> Instance {
    Instance::new("greeter", format!("10.0.0.{host}:50051").as_str()).expect("an instance")
}

async fn publish(registry: &Registry, instance: Instance) -> Publisher {
    let publisher = registry.publish(instance).expect("it can be published");
    let published = timeout(SOON, publisher.published()).await;
    published.expect("in time").expect("etcd takes it");
    publisher
}

async fn published_within(limit: Duration, publisher: &Publisher) {
    eventually(limit, "it is published", async || {
        match &*publisher.status().borrow() {
            PublicationStatus::Published { .. } => Ok(()),
            status => Err(format!("{status:?}")),
        }
    })
    .await;
}

fn lease(publisher: &Publisher) -> i64 {
    match &*publisher.status().borrow() {
        PublicationStatus::Published { lease, .. } => *lease,
        status => panic!("{status:?}"),
    }
}

async fn fresh_with(instances: &Instances, count: usize, limit: Duration) {
    eventually(limit, "the list is fresh and full", async || {
        let found = instances.snapshot().instances().len();
        match instances.staleness() {
            None if found == count => Ok(()),
            staleness => Err(format!("{found} instances, {staleness:?}")),
        }
    })
    .await;
}
