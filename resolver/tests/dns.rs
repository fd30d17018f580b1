//! What a channel promises that finds its servers by DNS, and of when it asks a source again.

mod support;

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures::FutureExt;
use support::{
    zone::{Answer, Zone, parsed},
    *,
};
use switchboard_proto::{Polite, greeter_server::GreeterServer};
use switchboard_resolver::{Address, Channel, Condition, Dns, Fixed, Source, Update};
use tokio::{task::JoinSet, time::Instant};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

const ONE: &str = "10.0.0.1:80";
const TWO: &str = "10.0.0.2:80";

#[tokio::test(start_paused = true)]
async fn c70_servers_that_come_and_go_in_dns_are_found_by_the_next_lookup() {
    let network = Network::serving(&[ONE, TWO]);
    let zone = Zone::with(&[ONE]);
    let channel = builder(&network, zone.dns()).connect_lazy().unwrap();
    until_ready(&channel, &[ONE]).await;
    assert_eq!(served_by(&channel).await, ONE);

    zone.set(&[TWO, ONE]);
    let start = Instant::now();
    until_ready(&channel, &[ONE, TWO]).await;
    assert!(
        start.elapsed() <= Duration::from_secs(34),
        "30 s and a tenth"
    );
    zone.set(&[TWO]);
    until_ready(&channel, &[TWO]).await;
    assert_eq!(shares(&channel, 4).await, [(TWO.to_owned(), 4)].into());

    // Hours later it is still looked up, and no more often than that.
    let before = zone.lookups().len();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let lookups = zone.lookups().len() - before;
    assert!((109..=134).contains(&lookups), "{lookups} in an hour");
}

#[tokio::test(start_paused = true)]
async fn c70_an_answer_in_another_order_changes_nothing() {
    let network = Network::serving(&[ONE, TWO]);
    let zone = Zone::with(&[ONE, TWO]);
    let channel = builder(&network, zone.dns()).connect_lazy().unwrap();
    until_ready(&channel, &[ONE, TWO]).await;
    let mut states = channel.watch_state();
    states.mark_unchanged();
    zone.set(&[TWO, "[::ffff:10.0.0.1]:80", TWO]);
    let before = zone.lookups().len();
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(zone.lookups().len() > before + 2);
    assert!(!states.has_changed().unwrap(), "{:?}", channel.state());
    assert_eq!(network.dials(ONE).len() + network.dials(TWO).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn c70_an_answer_of_no_use_says_so_and_leaves_the_last_good_one_in_use() {
    let network = Network::serving(&[ONE]);
    let zone = Zone::with(&[ONE]);
    let channel = builder(&network, zone.dns()).connect_lazy().unwrap();
    until_ready(&channel, &[ONE]).await;
    let many: Vec<_> = (0..3_000)
        .map(|it| format!("10.1.{}.{}:80", it / 250, it % 250))
        .collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    for (answer, expected) in [
        (
            Answer::Refused,
            "cannot look up greeter.example:80: no such host",
        ),
        (
            Answer::Hangs,
            "cannot look up greeter.example:80: no answer within 20s",
        ),
        (
            Answer::Addresses(parsed(&[])),
            "addresses of greeter.example:80: none (expected: at least one)",
        ),
        (
            Answer::Addresses(parsed(&many)),
            "addresses of greeter.example:80: 3000 (expected: 1000 at most)",
        ),
        (
            Answer::Addresses(parsed(&[TWO, "0.0.0.0:80"])),
            "address of greeter.example:80: 0.0.0.0:80 (expected: a server's address and port)",
        ),
        (
            Answer::Addresses(parsed(&["[::]:80"])),
            "address of greeter.example:80: [::]:80 (expected: a server's address and port)",
        ),
        (
            Answer::Addresses(parsed(&["10.0.0.2:0"])),
            "address of greeter.example:80: 10.0.0.2:0 (expected: a server's address and port)",
        ),
    ] {
        zone.answer(answer);
        assert_eq!(trouble(&channel).await, format!("stale: {expected}"));
        assert_eq!(channel.state().endpoints.len(), 1);
        assert_eq!(shares(&channel, 3).await, [(ONE.to_owned(), 3)].into());
        zone.set(&[ONE]);
        until_fresh(&channel).await;
    }
    assert_eq!(network.dials(ONE).len(), 1, "the connection was kept");
}

#[tokio::test(start_paused = true)]
async fn c70_before_a_good_answer_calls_fail_with_what_is_wrong_and_it_is_tried_again_soon() {
    let network = Network::serving(&[ONE]);
    let zone = Zone::default();
    let channel = builder(&network, zone.dns()).connect_lazy().unwrap();
    let expected = "cannot look up greeter.example:80: no such host";
    assert_eq!(trouble(&channel).await, format!("failed: {expected}"));
    let status = call(&channel).await.unwrap_err();
    let expected = format!("service greeter: the endpoints cannot be found: {expected}");
    assert_eq!(status.message(), expected);
    zone.set(&[ONE]);
    let start = Instant::now();
    until_ready(&channel, &[ONE]).await;
    assert!(start.elapsed() <= Duration::from_secs(7), "5 s and a fifth");
}

#[tokio::test(start_paused = true)]
async fn c70_a_lookup_ends_with_its_channel() {
    let zone = Zone::default();
    zone.answer(Answer::Hangs);
    let channel = builder(&Network::new(), zone.dns()).connect_lazy().unwrap();
    until(&channel, |_| zone.lookups().len() == 1).await;
    within(SOON, channel.close()).await;
    assert_eq!(zone.lookups_under_way(), 0);
}

#[tokio::test]
async fn c70_a_name_is_looked_up_by_the_system() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let polite = Polite {
        address: address.to_string(),
    };
    let server = Server::builder().add_service(GreeterServer::new(polite));
    let mut tasks = JoinSet::new();
    tasks.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let dns = Dns::new(format!("localhost:{}", address.port())).unwrap();
    let channel = Channel::builder(dns).connect().await.unwrap();
    assert_eq!(served_by(&channel).await, address.to_string());
}

#[test]
fn what_is_no_name_is_refused() {
    for (name, expected) in [
        ("greeter", "(expected: host:port)"),
        ("0.0.0.0:80", "(expected: a DNS name and a port)"),
    ] {
        let error = Dns::new(name).unwrap_err().to_string();
        assert!(error.ends_with(expected), "{error}");
    }
    let socket = Address::unix("/run/x").unwrap();
    let error = Dns::new(socket).unwrap_err().to_string();
    assert_eq!(
        error,
        "invalid address: \"unix:/run/x\" (expected: a DNS name and a port)"
    );
}

#[tokio::test(start_paused = true)]
async fn c71_a_name_is_looked_up_at_once_when_an_endpoint_is_lost() {
    let network = Network::serving(&[ONE, TWO]);
    let zone = Zone::with(&[ONE]);
    let channel = builder(&network, zone.dns()).connect_lazy().unwrap();
    until_ready(&channel, &[ONE]).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    zone.set(&[TWO]);
    let start = Instant::now();
    network.crash(ONE);
    until_ready(&channel, &[TWO]).await;
    assert_took(start, Duration::ZERO);

    // What is asked so soon afterwards is not forgotten, and waits.
    zone.set(&[ONE]);
    network.serve(ONE);
    network.crash(TWO);
    until_ready(&channel, &[ONE]).await;
    assert_took(start, Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn c71_servers_that_are_down_or_hang_up_make_no_storm_of_lookups() {
    let network = Network::serving(&[ONE]);
    let addresses: Vec<_> = (1..=20).map(|it| format!("10.0.0.{it}:80")).collect();
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    let zone = Zone::with(&addresses);
    network.hang_up(TWO);
    let channel = builder(&network, zone.dns()).connect_lazy().unwrap();
    until_it_is(&channel, "10.0.0.20:80", Condition::Failing).await;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_secs(3)).await;
        channel.reset_backoff();
    }
    let lookups = zone.lookups();
    for (one, next) in lookups.iter().zip(&lookups[1..]) {
        assert!(*next - *one >= Duration::from_secs(5), "{lookups:?}");
    }
    assert!(lookups.len() >= 50, "{} in 300 s", lookups.len());
    // Endpoints that only go on to fail are no news.
    network.crash(TWO);
    network.crash(ONE);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let before = zone.lookups().len();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let lookups = zone.lookups().len() - before;
    assert!((18..=23).contains(&lookups), "{lookups} in 600 s");
}

#[tokio::test(start_paused = true)]
async fn c71_what_is_asked_during_a_lookup_is_looked_up_once_more() {
    let network = Network::serving(&[ONE, TWO]);
    let zone = Zone::with(&[ONE]);
    let channel = builder(&network, zone.dns()).connect_lazy().unwrap();
    until_ready(&channel, &[ONE]).await;
    let late = Duration::from_secs(15);
    zone.answer(Answer::Late(late, parsed(&[ONE])));
    tokio::time::sleep(Duration::from_secs(34)).await;
    assert_eq!(zone.lookups_under_way(), 1);
    network.crash(ONE);
    zone.set(&[TWO]);
    until_ready(&channel, &[TWO]).await;
    let lookups = zone.lookups();
    assert_eq!(lookups.len(), 3);
    assert_eq!(lookups[2] - lookups[1], late + Duration::from_secs(5));
}

/// A source that counts how often it is asked.
struct Asked<S>(S, Arc<Mutex<usize>>);

impl<S: Source + Unpin> Source for Asked<S> {
    fn poll_update(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        Pin::new(&mut self.0).poll_update(cx)
    }

    fn resolve_now(self: Pin<&mut Self>) {
        *self.1.lock().expect("no panic in between") += 1;
    }
}

#[tokio::test(start_paused = true)]
async fn c71_a_source_is_asked_once_when_an_endpoint_begins_to_fail_and_not_at_each_redial() {
    let network = Network::serving(&[ONE]);
    let count = Arc::new(Mutex::new(0));
    let fixed = |addresses: &[&str]| Fixed::new(addresses.iter().copied()).unwrap();
    let asked = Asked(fixed(&[ONE]), count.clone());
    // Through two more that hand it on.
    let boxed: Pin<Box<dyn Source>> = Box::pin(asked);
    let source = boxed.or_else(fixed(&[TWO]));
    let channel = builder(&network, source).connect_lazy().unwrap();
    until_ready(&channel, &[ONE]).await;
    assert_eq!(*count.lock().unwrap(), 0);
    network.crash(ONE);
    until_it_is(&channel, ONE, Condition::Failing).await;
    let lost_and_failing = 2;
    assert_eq!(*count.lock().unwrap(), lost_and_failing);
    let dials = network.dials(ONE).len();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(network.dials(ONE).len() > dials + 4, "it is redialed");
    assert_eq!(*count.lock().unwrap(), lost_and_failing);
    channel.reset_backoff();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(*count.lock().unwrap(), lost_and_failing + 1);
}

/// A source that panics when it is asked.
struct Panics<S>(S);

impl<S: Source + Unpin> Source for Panics<S> {
    fn poll_update(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        Pin::new(&mut self.0).poll_update(cx)
    }

    fn resolve_now(self: Pin<&mut Self>) {
        panic!("asked");
    }
}

#[tokio::test(start_paused = true)]
async fn c71_a_source_that_panics_when_asked_leaves_its_endpoints_in_use() {
    let network = Network::serving(&[ONE, TWO]);
    let source = Panics(Fixed::new([ONE, TWO]).unwrap());
    let channel = builder(&network, source).connect_lazy().unwrap();
    until_ready(&channel, &[ONE, TWO]).await;
    network.crash(ONE);
    assert_eq!(trouble(&channel).await, "failed: the source has panicked");
    assert_eq!(served_by(&channel).await, TWO);
    let closed = std::panic::AssertUnwindSafe(channel.close()).catch_unwind();
    let panic = within(SOON, closed).await.unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"asked"));
}
