#![allow(clippy::unwrap_used, reason = "a test's own helpers")]

use std::{
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use http::Uri;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep},
};

use super::{wire::CAPACITY, *};
use crate::paused::{HOUR, hangs, in_time, started};

async fn dial(network: &Network, from: &str, to: &str) -> Result<Io> {
    network.connector(from)(to.parse::<Uri>().unwrap()).await
}

/// A network with a listener at `server:1`, and a connection of `client`'s to it.
async fn connected() -> (Network, Listener, Io, Io) {
    let network = Network::new();
    let mut listener = network.listen("server:1").unwrap();
    let client = dial(&network, "client", "server:1").await.unwrap();
    let server = listener.next().await.unwrap().unwrap();
    (network, listener, client, server)
}

async fn read<const N: usize>(io: &mut (impl AsyncRead + Unpin)) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    in_time(io.read_exact(&mut bytes)).await?;
    Ok(bytes)
}

async fn byte(io: &mut Io) -> Result<u8> {
    in_time(io.read_u8()).await
}

#[track_caller]
fn assert_kind<T: std::fmt::Debug>(result: Result<T>, kind: ErrorKind) {
    assert_eq!(result.unwrap_err().kind(), kind);
}

#[tokio::test(start_paused = true)]
async fn both_ends_read_what_the_other_wrote() {
    let (_network, _listener, mut client, mut server) = connected().await;
    client.write_all(b"ping").await.unwrap();
    client.write_all(b"pong").await.unwrap();
    assert_eq!(&read::<8>(&mut server).await.unwrap(), b"pingpong");
    server.write_all(b"ok").await.unwrap();
    assert_eq!(&read::<2>(&mut client).await.unwrap(), b"ok");
}

#[tokio::test(start_paused = true)]
async fn an_address_where_nobody_listens_refuses() {
    let network = Network::new();
    let refused = dial(&network, "client", "server:1").await;
    assert_kind(refused, ErrorKind::ConnectionRefused);
    let pathless = network.connector("client")(Uri::from_static("/only/a/path")).await;
    assert_kind(pathless, ErrorKind::InvalidInput);
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_is_dropped_refuses_and_leaves_its_connections_standing() {
    let (network, listener, mut client, mut server) = connected().await;
    drop(listener);
    let refused = dial(&network, "client", "server:1").await;
    assert_kind(refused, ErrorKind::ConnectionRefused);
    client.write_all(b"ping").await.unwrap();
    assert_eq!(&read::<4>(&mut server).await.unwrap(), b"ping");
}

#[tokio::test(start_paused = true)]
async fn an_address_has_one_listener_at_a_time() {
    let network = Network::new();
    let first = network.listen("server:1").unwrap();
    assert_kind(network.listen("server:1"), ErrorKind::AddrInUse);
    assert!(network.listen("server:2").is_ok());
    drop(first);
    let mut second = network.listen("server:1").unwrap();
    dial(&network, "client", "server:1").await.unwrap();
    assert!(second.next().now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_nobody_accepted_ends_with_the_listener() {
    let network = Network::new();
    let listener = network.listen("server:1").unwrap();
    let mut client = dial(&network, "client", "server:1").await.unwrap();
    drop(listener);
    assert_eq!(in_time(client.read(&mut [0])).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cut_link_holds_both_directions_and_loses_nothing() {
    let (network, _listener, mut client, mut server) = connected().await;
    client.write_all(b"a").await.unwrap();
    network.link("client", "server:1").cut();
    client.write_all(b"b").await.unwrap();
    server.write_all(b"c").await.unwrap();
    assert!(hangs(server.read_u8()).await);
    assert!(hangs(client.read_u8()).await);

    let at_server = started(async move { read::<2>(&mut server).await });
    let at_client = started(async move { read::<1>(&mut client).await });
    sleep(HOUR).await;
    let healed = Instant::now();
    network.link("client", "server:1").heal();
    assert_eq!(&at_server.await.unwrap(), b"ab");
    assert_eq!(&at_client.await.unwrap(), b"c");
    assert_eq!(healed.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn connecting_over_a_cut_link_takes_until_it_is_healed() {
    let network = Network::new();
    let link = network.link("client", "server:1");
    link.cut();
    assert!(hangs(dial(&network, "client", "server:1")).await);

    let _listener = network.listen("server:1").unwrap();
    let dialing = network.clone();
    let connecting = started(async move { dial(&dialing, "client", "server:1").await });
    sleep(HOUR).await;
    let healed = Instant::now();
    link.heal();
    assert!(connecting.await.is_ok());
    assert_eq!(healed.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_link_is_of_one_party_and_one_address() {
    let (network, mut listener, mut client, mut server) = connected().await;
    let _other_listener = network.listen("server:2").unwrap();
    let mut other = dial(&network, "other", "server:1").await.unwrap();
    let mut others = listener.next().await.unwrap().unwrap();

    network.link("client", "server:1").cut();
    network.link("server:1", "client").reset();
    network.link("client", "server:3").reset();
    others.write_all(b"hello").await.unwrap();
    assert_eq!(&read::<5>(&mut other).await.unwrap(), b"hello");
    assert!(dial(&network, "client", "server:2").await.is_ok());
    assert!(dial(&network, "other", "server:1").await.is_ok());
    server.write_all(b"hello").await.unwrap();
    assert!(hangs(client.read_u8()).await);
}

#[tokio::test(start_paused = true)]
async fn delayed_bytes_arrive_that_much_later_and_in_order() {
    let (network, _listener, mut client, mut server) = connected().await;
    let link = network.link("client", "server:1");
    link.delay(Duration::from_secs(10));
    let start = Instant::now();
    client.write_all(b"a").await.unwrap();
    server.write_all(b"c").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    client.write_all(b"b").await.unwrap();
    link.delay(Duration::ZERO);
    client.write_all(b"!").await.unwrap();
    client.shutdown().await.unwrap();

    assert_eq!(byte(&mut server).await.unwrap(), b'a');
    assert_eq!(start.elapsed(), Duration::from_secs(10));
    assert_eq!(byte(&mut client).await.unwrap(), b'c');
    assert_eq!(start.elapsed(), Duration::from_secs(10));
    assert_eq!(&read::<2>(&mut server).await.unwrap(), b"b!");
    assert_eq!(in_time(server.read(&mut [0])).await.unwrap(), 0);
    assert_eq!(start.elapsed(), Duration::from_secs(11));
}

#[tokio::test(start_paused = true)]
async fn a_delay_set_before_a_connection_is_made_holds_for_it_and_outlives_a_cut() {
    let network = Network::new();
    let link = network.link("client", "server:1");
    link.delay(Duration::from_secs(10));
    link.cut();
    link.heal();
    let mut listener = network.listen("server:1").unwrap();
    let start = Instant::now();
    let mut client = dial(&network, "client", "server:1").await.unwrap();
    let mut server = listener.next().await.unwrap().unwrap();
    client.write_all(b"a").await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    byte(&mut server).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn an_end_dropped_over_a_delayed_link_is_heard_of_that_much_later() {
    let (network, _listener, client, mut server) = connected().await;
    network
        .link("client", "server:1")
        .delay(Duration::from_secs(10));
    server.write_all(&[0; CAPACITY]).await.unwrap();
    let start = Instant::now();
    drop(client);
    // There is no room, so this one waits for the news alone.
    let written = in_time(server.write_all(b"a")).await;
    assert_kind(written, ErrorKind::BrokenPipe);
    assert_eq!(start.elapsed(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_reset_breaks_both_ends_at_once_even_over_a_cut_link() {
    for cut in [false, true] {
        let (network, _listener, mut client, mut server) = connected().await;
        let link = network.link("client", "server:1");
        if cut {
            link.cut();
        }
        server.write_all(&[0; CAPACITY]).await.unwrap();
        client.write_all(b"under way").await.unwrap();
        let (mut reads, mut writes) = tokio::io::split(server);
        let written = started(async move { (writes.write_all(b"no room").await, writes) });
        let read = started(async move { (read::<10>(&mut reads).await, reads) });
        sleep(HOUR).await;
        let start = Instant::now();
        link.reset();
        let (written, writes) = written.await;
        assert_kind(written, ErrorKind::ConnectionReset);
        let (read, reads) = read.await;
        assert_kind(read, ErrorKind::ConnectionReset);
        assert_eq!(start.elapsed(), Duration::ZERO);
        let mut server = reads.unsplit(writes);
        for io in [&mut client, &mut server] {
            assert_kind(byte(io).await, ErrorKind::ConnectionReset);
            assert_kind(io.write_u8(0).await, ErrorKind::ConnectionReset);
            assert_kind(io.shutdown().await, ErrorKind::ConnectionReset);
        }
        link.heal();
        assert_kind(byte(&mut client).await, ErrorKind::ConnectionReset);
        assert!(dial(&network, "client", "server:1").await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_that_refuses_refuses_new_connections_until_it_is_healed() {
    let (network, _listener, mut client, mut server) = connected().await;
    let link = network.link("client", "server:1");
    link.refuse();
    let refused = dial(&network, "client", "server:1").await;
    assert_kind(refused, ErrorKind::ConnectionRefused);
    client.write_all(b"a").await.unwrap();
    assert_eq!(byte(&mut server).await.unwrap(), b'a', "it stands");
    link.heal();
    assert!(dial(&network, "client", "server:1").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_connects_over_a_cut_link_is_refused_when_it_refuses() {
    let (network, _listener, mut client, mut server) = connected().await;
    let link = network.link("client", "server:1");
    link.cut();
    client.write_all(b"a").await.unwrap();
    let dialing = network.clone();
    let connecting = started(async move { dial(&dialing, "client", "server:1").await });
    let at_server = started(async move { server.read_u8().await });
    sleep(HOUR).await;
    link.refuse();
    assert_kind(connecting.await, ErrorKind::ConnectionRefused);
    assert_eq!(at_server.await.unwrap(), b'a');
}

#[tokio::test(start_paused = true)]
async fn writing_waits_for_room_also_while_cut() {
    for cut in [false, true] {
        let (network, _listener, mut client, mut server) = connected().await;
        let link = network.link("client", "server:1");
        if cut {
            link.cut();
        }
        client.write_all(&[1; CAPACITY]).await.unwrap();
        assert!(hangs(client.write_u8(2)).await);
        let written = started(async move { client.write_u8(2).await });
        sleep(HOUR).await;
        link.heal();
        assert_eq!(read(&mut server).await.unwrap(), [1; CAPACITY]);
        written.await.unwrap();
        assert_eq!(read(&mut server).await.unwrap(), [2]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_direction_that_was_shut_down_ends_and_the_other_goes_on() {
    let (_network, _listener, mut client, mut server) = connected().await;
    client.write_all(b"last words").await.unwrap();
    client.shutdown().await.unwrap();
    client.shutdown().await.unwrap();
    assert_kind(client.write_u8(0).await, ErrorKind::BrokenPipe);
    let mut heard = Vec::new();
    in_time(server.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, b"last words");
    server.write_all(b"answer").await.unwrap();
    assert_eq!(&read::<6>(&mut client).await.unwrap(), b"answer");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_end_is_read_after_what_it_wrote_and_breaks_writes() {
    let (_network, _listener, mut client, mut server) = connected().await;
    client.write_all(b"last words").await.unwrap();
    drop(client);
    let mut heard = Vec::new();
    in_time(server.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, b"last words");
    assert_kind(server.write_u8(0).await, ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_dropped_wakes_who_reads_and_who_writes() {
    let (_network, _listener, client, mut server) = connected().await;
    server.write_all(&[0; CAPACITY]).await.unwrap();
    let (mut reads, mut writes) = tokio::io::split(server);
    let read = started(async move { reads.read_u8().await });
    let written = started(async move { writes.write_all(&[0]).await });
    sleep(HOUR).await;
    drop(client);
    assert_kind(read.await, ErrorKind::UnexpectedEof);
    assert_kind(written.await, ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn nobody_hears_over_a_cut_link_that_an_end_was_dropped() {
    let (network, _listener, client, mut server) = connected().await;
    let link = network.link("client", "server:1");
    link.cut();
    drop(client);
    server.write_u8(0).await.unwrap();
    assert!(hangs(server.read_u8()).await);
    link.heal();
    assert_kind(byte(&mut server).await, ErrorKind::UnexpectedEof);
    assert_kind(server.write_u8(0).await, ErrorKind::BrokenPipe);
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_woken_only_when_there_is_a_reason() {
    let (network, _listener, mut client, mut server) = connected().await;
    let link = network.link("client", "server:1");
    let woken = Arc::<Woken>::default();
    let waker = Waker::from(woken.clone());
    let mut cx = Context::from_waker(&waker);
    let mut reading = Box::pin(server.read_u8());
    link.cut();
    assert!(reading.poll_unpin(&mut cx).is_pending());
    sleep(HOUR).await;
    assert_eq!(woken.0.load(Ordering::Relaxed), 0, "idle while cut");

    link.delay(Duration::from_secs(10));
    link.heal();
    assert!(woken.0.swap(0, Ordering::Relaxed) > 0, "woken by the heal");
    assert!(reading.poll_unpin(&mut cx).is_pending());
    client.write_u8(7).await.unwrap();
    assert_eq!(woken.0.swap(0, Ordering::Relaxed), 1, "woken by the write");
    assert!(reading.poll_unpin(&mut cx).is_pending());
    sleep(Duration::from_secs(9)).await;
    assert_eq!(
        woken.0.load(Ordering::Relaxed),
        0,
        "idle while it is under way"
    );
    sleep(HOUR).await;
    assert_eq!(woken.0.load(Ordering::Relaxed), 1, "woken when it arrives");
    assert!(matches!(reading.poll_unpin(&mut cx), Poll::Ready(Ok(7))));
}

#[tokio::test(start_paused = true)]
async fn a_connection_carries_more_than_it_holds() {
    let (mut client, mut server) = Io::pair();
    let sent: Vec<u8> = (0..1_000_000_u32).map(|it| (it % 251) as u8).collect();
    let sending = sent.clone();
    let written = started(async move { client.write_all(&sending).await });
    let mut heard = Vec::new();
    in_time(server.read_to_end(&mut heard)).await.unwrap();
    written.await.unwrap();
    assert!(heard == sent);
}
