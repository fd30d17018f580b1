//! What is counted, as Prometheus reads it, while services are published, followed, served and called.
//! What a channel counts has tests of its own (`resolver/tests/metrics.rs`).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use switchboard::{Incoming, Instance, Publisher, Registry, WaitForReady};
use switchboard_embedded::{EmbeddedEtcd, Network};
use switchboard_proto::{
    HelloRequest, HellosRequest, Polite, greeter_client::GreeterClient,
    greeter_server::GreeterServer,
};
use tokio::{sync::oneshot, task::JoinSet, time::sleep};
use tokio_stream::StreamExt;
use tonic::{Request, transport::Server};

const TTL: Duration = Duration::from_secs(10);

/// What is counted on this thread, which is all that a test runs on.
struct Counted {
    handle: PrometheusHandle,
    _recording: metrics::LocalRecorderGuard<'static>,
    /// Moments of all registries of a process that are of the same are shown as one.
    _alone: MutexGuard<'static, ()>,
}

impl Counted {
    fn begin() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = Matcher::Suffix("_wait_seconds".to_owned());
        let builder = PrometheusBuilder::new().set_buckets_for_metric(seconds, &[0.1, 1.0, 10.0]);
        let recorder = builder.unwrap().build_recorder();
        let handle = recorder.handle();
        // Each test has one, and a guard may not borrow from its neighbour.
        let recorder = Box::leak(Box::new(recorder));
        Self {
            handle,
            _recording: metrics::set_default_local_recorder(recorder),
            _alone: alone,
        }
    }

    /// The series of a metric that are not 0, by their last label.
    fn of(&self, metric: &str) -> BTreeMap<String, f64> {
        let text = self.handle.render();
        let series = text
            .lines()
            .filter_map(series)
            .filter(|it| it.name == metric);
        let not_zero = series.filter(|it| it.value != 0.0);
        let by_label = not_zero.map(|it| {
            let last = it.labels.into_iter().next_back();
            (last.unwrap_or_default().1, it.value)
        });
        by_label.collect()
    }

    /// The one series of a metric, or the one of this service.
    fn value(&self, metric: &str) -> f64 {
        let text = self.handle.render();
        let mut series = text.lines().filter_map(series);
        let found = series
            .find(|it| it.name == metric && it.labels.iter().all(|(_, value)| value == "greeter"));
        found.expect(&text).value
    }

    fn publications(&self) -> BTreeMap<String, f64> {
        self.of("switchboard_publications")
    }

    fn servers(&self) -> BTreeMap<String, f64> {
        self.of("switchboard_servers")
    }

    fn lease_seconds_left(&self) -> f64 {
        self.value("switchboard_lease_expiry_timestamp_seconds") - unix_time()
    }

    fn stale_since(&self) -> f64 {
        self.value("switchboard_watch_stale_since_timestamp_seconds")
    }
}

/// A line of Prometheus' text format that is no comment.
struct Series {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

fn series(line: &str) -> Option<Series> {
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (series, value) = line.rsplit_once(' ').expect(line);
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels = labels.strip_suffix('}').expect(line).split(',');
    let labels = labels.filter(|it| !it.is_empty()).map(|label| {
        let (key, value) = label.split_once('=').expect(line);
        (key.to_owned(), value.trim_matches('"').to_owned())
    });
    Some(Series {
        name: name.to_owned(),
        labels: labels.collect(),
        value: value.parse().expect(line),
    })
}

fn these<const N: usize>(series: [(&str, f64); N]) -> BTreeMap<String, f64> {
    series
        .map(|(label, value)| (label.to_owned(), value))
        .into()
}

fn unix_time() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap().as_secs_f64()
}

async fn connect(etcd: &EmbeddedEtcd) -> Registry {
    let registry = Registry::builder("etcd:2379")
        .unwrap()
        .connector(etcd.connector());
    registry.ttl(TTL).connect().await.unwrap()
}

fn greeter() -> Instance {
    Instance::new("greeter", "greeter-1:50051").unwrap()
}

async fn published(registry: &Registry) -> Publisher {
    let publisher = registry.publish(greeter()).unwrap();
    publisher.published().await.unwrap();
    publisher
}

/// Puts a record of the greeter's that nobody can read.
async fn put_nonsense(etcd: &EmbeddedEtcd) {
    let channel = etcd_client::Channel::Tonic(etcd.channel());
    let mut client = etcd_client::Client::from_channel(channel, None)
        .await
        .unwrap();
    let key = "/microservices/greeter/nonsense";
    client.put(key, "{", None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn publications_are_counted_by_their_state_until_they_are_gone() {
    let counted = Counted::begin();
    let etcd = EmbeddedEtcd::start();
    let registry = connect(&etcd).await;
    let older = registry.publish(greeter()).unwrap();
    assert_eq!(counted.publications(), these([("registering", 1.0)]));
    older.published().await.unwrap();
    assert_eq!(counted.publications(), these([("published", 1.0)]));

    let newer = published(&registry).await;
    sleep(Duration::from_secs(1)).await;
    let expected = these([("published", 1.0), ("superseded", 1.0)]);
    assert_eq!(counted.publications(), expected);
    older.stop().await.unwrap();
    newer.pause().await.unwrap();
    assert_eq!(counted.publications(), these([("paused", 1.0)]));
    newer.resume().await.unwrap();

    assert_eq!(counted.value("switchboard_publication_retries_total"), 0.0);
    etcd.freeze();
    let update = newer.update(greeter().with_version("v2"));
    assert!(
        tokio::time::timeout(Duration::from_secs(5), update)
            .await
            .is_err()
    );
    assert_eq!(counted.publications(), these([("retrying", 1.0)]));
    let retries = counted.value("switchboard_publication_retries_total");
    assert!((1.0..=10.0).contains(&retries), "{retries}");
    etcd.thaw();
    newer.published().await.unwrap();
    assert_eq!(counted.publications(), these([("published", 1.0)]));

    drop(newer);
    registry.close().await;
    assert_eq!(counted.publications(), these([]));
}

#[tokio::test(start_paused = true)]
async fn when_the_lease_ends_is_told_as_a_moment_and_not_when_there_is_none() {
    let counted = Counted::begin();
    let etcd = EmbeddedEtcd::start();
    let registry = connect(&etcd).await;
    let publisher = published(&registry).await;
    let whole = 9.0..=10.0;
    assert!(whole.contains(&counted.lease_seconds_left()));
    sleep(Duration::from_secs(60)).await;
    assert!(
        whole.contains(&counted.lease_seconds_left()),
        "it is renewed"
    );
    assert_eq!(counted.value("switchboard_lease_retries_total"), 0.0);

    // Another registry's, which is renewed, does not hide the one that is not.
    let other_etcd = EmbeddedEtcd::start();
    let other = connect(&other_etcd).await;
    let _elsewhere = published(&other).await;
    etcd.freeze();
    sleep(Duration::from_secs(5)).await;
    let left = counted.lease_seconds_left();
    assert!((0.0..9.0).contains(&left), "{left}");
    sleep(Duration::from_secs(60)).await;
    let left = counted.lease_seconds_left();
    assert!(left <= 0.0, "{left}");
    let retries = counted.value("switchboard_lease_retries_total");
    assert!(retries > 10.0, "{retries}");
    let requests = counted.of("switchboard_etcd_requests_total");
    assert!(requests["DEADLINE_EXCEEDED"] >= 1.0, "{requests:?}");
    assert!(requests["OK"] > 10.0, "{requests:?}");

    etcd.thaw();
    publisher.published().await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert!(whole.contains(&counted.lease_seconds_left()));

    // One that etcd drops before its time has ended.
    other.close().await;
    etcd.refuse(usize::MAX, tonic::Code::ResourceExhausted);
    for key in etcd.keys() {
        etcd.expire_lease(key.lease.unwrap());
    }
    sleep(Duration::from_secs(15)).await;
    let left = counted.lease_seconds_left();
    assert!(left <= 0.0, "{left}");
    let requests = counted.of("switchboard_etcd_requests_total");
    assert!(requests["RESOURCE_EXHAUSTED"] > 1.0, "{requests:?}");

    etcd.refuse(0, tonic::Code::Ok);
    publisher.stop().await.unwrap();
    registry.close().await;
    assert_eq!(
        counted.value("switchboard_lease_expiry_timestamp_seconds"),
        0.0
    );
}

#[tokio::test(start_paused = true)]
async fn since_when_a_list_may_be_out_of_date_is_told_until_it_is_not() {
    let counted = Counted::begin();
    let etcd = EmbeddedEtcd::start();
    let registry = connect(&etcd).await;
    let _greeters = registry.discover("greeter").await.unwrap();
    let other_etcd = EmbeddedEtcd::start();
    let others = connect(&other_etcd)
        .await
        .discover("greeter")
        .await
        .unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(counted.stale_since(), 0.0);

    // Another one that is fresh again does not hide the one that is not.
    etcd.freeze();
    other_etcd.freeze();
    sleep(Duration::from_secs(30)).await;
    other_etcd.thaw();
    for _ in 0..3000 {
        sleep(Duration::from_millis(10)).await;
        assert!(counted.stale_since() > 0.0);
    }
    let age = unix_time() - counted.stale_since();
    // It was heard last up to 3 s before.
    assert!((55.0..=64.0).contains(&age), "{age}");
    etcd.thaw();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(counted.stale_since(), 0.0);

    // It is not there any more, stale or not.
    other_etcd.freeze();
    sleep(Duration::from_secs(20)).await;
    assert!(counted.stale_since() > 0.0);
    drop(others);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(counted.stale_since(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_was_never_read_is_out_of_date_since_it_was_asked_for() {
    let counted = Counted::begin();
    let etcd = EmbeddedEtcd::start();
    let registry = connect(&etcd).await;
    etcd.freeze();
    registry.discover("greeter").await.unwrap_err();
    let channel = registry.dial("greeter").connect_lazy().unwrap();
    sleep(Duration::from_secs(60)).await;
    let age = unix_time() - counted.stale_since();
    assert!((40.0..=60.0).contains(&age), "{age}");
    drop(channel);
}

#[tokio::test(start_paused = true)]
async fn lists_read_anew_and_records_left_out_are_counted() {
    let counted = Counted::begin();
    let etcd = EmbeddedEtcd::start();
    put_nonsense(&etcd).await;
    let greeters = connect(&etcd).await.discover("greeter").await.unwrap();
    let relists = || counted.value("switchboard_watch_relists_total");
    let rejected = || counted.value("switchboard_records_rejected");
    assert_eq!((relists(), rejected()), (0.0, 1.0));
    etcd.wipe();
    sleep(Duration::from_secs(30)).await;
    assert_eq!((relists(), rejected()), (1.0, 0.0));
    put_nonsense(&etcd).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!((relists(), rejected()), (1.0, 1.0));
    drop(greeters);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(rejected(), 0.0);
}

/// A greeter in a network in memory, in etcd when this returns; it stops when it is told to.
async fn serve(
    etcd: &EmbeddedEtcd,
    network: &Network,
    servers: &mut JoinSet<()>,
) -> oneshot::Sender<()> {
    let address = "greeter-1:50051".to_owned();
    let listener = Incoming::new(network.listen(address.clone()).unwrap());
    let router = Server::builder().add_service(GreeterServer::new(Polite { address }));
    let (published, is_published) = oneshot::channel();
    let (stop, stopped) = oneshot::channel();
    let serve = connect(etcd).await.serve(greeter(), router, listener);
    let serve = serve.on_published(move || published.send(()).unwrap());
    let serve = serve.with_graceful_shutdown(async { stopped.await.unwrap() });
    servers.spawn(async { serve.await.unwrap() });
    is_published.await.unwrap();
    stop
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_tells_in_which_phase_it_is() {
    let counted = Counted::begin();
    let (etcd, network) = (EmbeddedEtcd::start(), Network::new());
    let mut servers = JoinSet::new();
    let stop = serve(&etcd, &network, &mut servers).await;
    assert_eq!(counted.servers(), these([("serving", 1.0)]));

    // A call that does not end, and an etcd that does not answer: each phase takes as long as it may.
    let clients = connect(&etcd).await.dial("greeter");
    let channel = clients
        .connector(network.connector("client"))
        .connect()
        .await
        .unwrap();
    let endless = HellosRequest {
        count: u32::MAX,
        ..HellosRequest::default()
    };
    let replies = GreeterClient::new(channel)
        .say_hellos(endless)
        .await
        .unwrap();
    let mut replies = replies.into_inner();
    replies.next().await.unwrap().unwrap();
    etcd.freeze();
    stop.send(()).unwrap();
    for (wait, phase) in [
        (1, "deregister"),
        (2, "linger"),
        (4, "finish"),
        (19, "force"),
    ] {
        sleep(Duration::from_secs(wait)).await;
        assert_eq!(counted.servers(), these([(phase, 1.0)]));
    }
    servers.join_next().await.unwrap().unwrap();
    assert_eq!(counted.servers(), these([]));
}

/// A row of the table of metrics.
struct Listed {
    kind: String,
    labels: BTreeSet<String>,
}

fn listed() -> BTreeMap<String, Listed> {
    let page = include_str!("../docs/observability.md");
    let rows = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `switchboard_"));
    let listed = rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let name = format!("switchboard_{}", cells[0].trim_matches('`'));
        let kind = cells[1].to_owned();
        let labels = cells[3]
            .split(", ")
            .map(|it| it.trim_matches('`').to_owned());
        let labels = labels.filter(|it| !it.is_empty()).collect();
        (name, Listed { kind, labels })
    });
    listed.collect()
}

#[tokio::test(start_paused = true)]
async fn every_metric_that_is_listed_is_there_with_its_type_and_labels_and_no_other() {
    let counted = Counted::begin();
    let (etcd, network) = (EmbeddedEtcd::start(), Network::new());
    let clients = connect(&etcd).await;
    let channel = clients
        .dial("greeter")
        .connector(network.connector("client"));
    let mut client = GreeterClient::new(channel.connect_lazy().unwrap());
    let mut request = Request::new(HelloRequest { name: "Ada".into() });
    request.extensions_mut().insert(WaitForReady);
    let mut servers = JoinSet::new();
    let (reply, _stop) = tokio::join!(
        client.say_hello(request),
        serve(&etcd, &network, &mut servers)
    );
    reply.unwrap();

    let (text, listed) = (counted.handle.render(), listed());
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let types: BTreeMap<_, _> = types.filter_map(|it| it.split_once(' ')).collect();
    let kinds = listed
        .iter()
        .map(|(name, it)| (name.as_str(), it.kind.as_str()));
    assert_eq!(kinds.collect::<BTreeMap<_, _>>(), types);
    for it in text.lines().filter_map(series) {
        let of_histogram = ["_count", "_sum", "_bucket"];
        let mut names = of_histogram
            .iter()
            .filter_map(|part| it.name.strip_suffix(part));
        let name = names
            .find(|name| listed.contains_key(*name))
            .unwrap_or(&it.name);
        let labels = it
            .labels
            .iter()
            .map(|(key, _)| key.clone())
            .filter(|key| key != "le");
        assert_eq!(
            labels.collect::<BTreeSet<_>>(),
            listed[name].labels,
            "{name}"
        );
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
    }
}
