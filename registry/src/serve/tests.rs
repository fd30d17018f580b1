//! What a server tells those who run it.

use std::{cell::RefCell, io, sync::Once, time::Duration};

use switchboard_embedded::{EmbeddedEtcd, Network};
use tokio::{io::DuplexStream, sync::oneshot, task::JoinSet};
use tonic::transport::Server;

use super::*;
use crate::{Layout, RegistryBuilder};

thread_local! {
    /// All tasks of a test run on its thread, so this is the log of one test.
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct Log;

impl Log {
    /// There is one subscriber for the process, since one per thread misses what another thread has
    /// logged before it.
    fn begin() {
        static SUBSCRIBED: Once = Once::new();
        SUBSCRIBED.call_once(|| {
            let subscriber = tracing_subscriber::fmt().with_ansi(false);
            subscriber.with_writer(|| Self).init();
        });
        LOG.take();
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.with_borrow_mut(|log| log.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn nowhere() -> RegistryBuilder {
    let refused = || Err::<DuplexStream, _>(io::ErrorKind::ConnectionRefused.into());
    let registry = Registry::builder("etcd:2379").unwrap();
    registry.connector(move |_| std::future::ready(refused()))
}

fn serve(registry: RegistryBuilder, router: Router) -> Serve {
    let listener = Network::new().listen("greeter:1").unwrap();
    let instance = Instance::new("greeter", "greeter:1").unwrap();
    let registry = registry.connect_lazy().unwrap();
    registry.serve(instance, router, Incoming::new(listener))
}

fn health_service() -> HealthServer<HealthService> {
    HealthServer::new(HealthService::from_health_reporter(HealthReporter::new()))
}

async fn leases(etcd: &EmbeddedEtcd) -> usize {
    let channel = etcd_client::Channel::Tonic(etcd.channel());
    let mut client = etcd_client::Client::from_channel(channel, None)
        .await
        .unwrap();
    client.leases().await.unwrap().leases().len()
}

/// Serves for a minute, and returns what is logged of that.
async fn log_of_a_minute(registry: RegistryBuilder) -> String {
    Log::begin();
    let router = Server::builder().add_routes(Routes::default());
    let minute = tokio::time::sleep(Duration::from_secs(60));
    let serve = serve(registry, router).with_graceful_shutdown(minute);
    serve.await.unwrap();
    String::from_utf8(LOG.take()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_was_in_etcd_does_not_say_that_it_left() {
    let log = log_of_a_minute(nowhere()).await;
    for untrue in ["not in etcd any more", "TTL does the rest"] {
        assert!(!log.contains(untrue), "{log}");
    }
    assert!(log.contains("it was not in etcd"), "{log}");
    let last = log.lines().last().unwrap();
    assert!(last.contains("stopped serving"), "{log}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_in_etcd_says_that_it_left() {
    let etcd = EmbeddedEtcd::start();
    let registry = Registry::builder("etcd:2379").unwrap();
    let log = log_of_a_minute(registry.connector(etcd.connector())).await;
    assert!(log.contains("not in etcd any more"), "{log}");
    assert!(!log.contains("WARN"), "{log}");
    let last = log.lines().last().unwrap();
    assert!(last.contains("stopped serving"), "{log}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_cannot_be_revoked_is_told_of() {
    let etcd = EmbeddedEtcd::start();
    let registry = Registry::builder("etcd:2379").unwrap();
    let registry = registry.connector(etcd.connector());
    let freezing = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        etcd.freeze();
        std::future::pending::<()>().await
    };
    let log = tokio::select! {
        log = log_of_a_minute(registry) => log,
        () = freezing => unreachable!(),
    };
    assert!(log.contains("TTL does the rest"), "{log}");
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "`Serve::health_reporter`")]
async fn a_second_health_service_is_refused_with_the_way_out() {
    let router = Server::builder().add_service(health_service());
    let _ = serve(nowhere(), router).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_stands_in_all_its_places_from_the_beginning_until_it_is_told_to_stop() {
    let (etcd, another) = (EmbeddedEtcd::start(), EmbeddedEtcd::start());
    let registry = |etcd: &EmbeddedEtcd| {
        let registry = Registry::builder("etcd:2379").unwrap();
        registry.connector(etcd.connector())
    };
    let router = Server::builder().add_routes(Routes::default());
    let server = serve(registry(&etcd), router);
    let go_zero = server.registry.with_layout(Layout::go_zero());
    let elsewhere = registry(&another).connect_lazy().unwrap();
    let called = |name| Instance::new(name, "greeter:1").unwrap();
    let (published, is_published) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = server
        .also_published(go_zero, called("greeter.rpc"))
        .also_published(elsewhere, called("greeter"))
        .on_published(|| published.send(()).unwrap())
        .with_graceful_shutdown(async { stopped.await.unwrap() });
    let mut serving = JoinSet::new();
    serving.spawn(server.into_future());

    is_published.await.unwrap();
    let keys = etcd.keys();
    let (ours, of_go_zero) = (&keys[0], &keys[1]);
    assert!(ours.key.starts_with(b"/microservices/greeter/"), "{keys:?}");
    assert!(of_go_zero.key.starts_with(b"greeter.rpc/"), "{keys:?}");
    assert_eq!(of_go_zero.value, b"greeter:1");
    assert_eq!(ours.lease, of_go_zero.lease);
    assert_eq!((keys.len(), another.keys().len()), (2, 1));

    stop.send(()).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((etcd.keys(), another.keys()), (vec![], vec![]));
    assert!(serving.try_join_next().is_none(), "it lingers");
    serving.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!((leases(&etcd).await, leases(&another).await), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_must_be_published_must_be_in_all_its_places() {
    let etcd = EmbeddedEtcd::start();
    let registry = Registry::builder("etcd:2379").unwrap();
    let router = Server::builder().add_routes(Routes::default());
    let server = serve(registry.connector(etcd.connector()), router);
    let instance = server.instance.clone();
    let limit = Duration::from_secs(5);
    let server = server
        .also_published(nowhere().connect_lazy().unwrap(), instance)
        .require_published(limit);
    // One that is content serves without end.
    let served = tokio::time::timeout(2 * limit, server.into_future()).await;
    let error = served.expect("it gives up").unwrap_err();
    assert!(matches!(error, ServeError::NotPublished(it) if it == limit));
    assert_eq!(etcd.keys(), []);
}
