#![allow(clippy::unwrap_used, reason = "a test's own helpers")]

use std::io::Error;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};
use tonic::transport::server::TcpConnectInfo;

use super::*;
use crate::{
    Io,
    paused::{HOUR, hangs, in_time, started},
};

fn behind(gate: &Gate) -> (Io, Gated<Io>) {
    let (client, server) = Io::pair();
    (client, gate.wrap(server))
}

#[track_caller]
fn assert_reset<T: std::fmt::Debug>(result: std::result::Result<T, Error>) {
    assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn an_open_gate_changes_nothing() {
    let (mut client, mut server) = behind(&Gate::new());
    client.write_u8(1).await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), 1);
    server.write_u8(2).await.unwrap();
    server.shutdown().await.unwrap();
    let mut heard = Vec::new();
    in_time(client.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, [2]);
}

#[tokio::test(start_paused = true)]
async fn a_frozen_gate_lets_everything_wait_until_it_is_thawed() {
    let gate = Gate::new();
    let (mut client, mut server) = behind(&gate);
    gate.freeze();
    let (_other_client, mut other) = behind(&gate);
    client.write_u8(1).await.unwrap();
    assert!(hangs(server.read_u8()).await);
    assert!(hangs(server.write_u8(2)).await);
    assert!(hangs(server.flush()).await);
    assert!(hangs(server.shutdown()).await);
    assert!(hangs(other.write_u8(3)).await, "one that came later");
    assert!(hangs(client.read_u8()).await);

    let (mut reads, mut writes) = tokio::io::split(server);
    let read = started(async move { reads.read_u8().await });
    let written = started(async move { writes.write_u8(2).await });
    sleep(HOUR).await;
    gate.thaw();
    assert_eq!(read.await.unwrap(), 1);
    written.await.unwrap();
    assert_eq!(in_time(client.read_u8()).await.unwrap(), 2);
    other.write_u8(3).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_freezes_stops_those_who_wait_already() {
    let gate = Gate::new();
    let (mut client, mut server) = behind(&gate);
    let read = started(async move { (server.read_u8().await, Instant::now()) });
    sleep(HOUR).await;
    gate.freeze();
    client.write_u8(1).await.unwrap();
    sleep(HOUR).await;
    gate.thaw();
    let thawed = Instant::now();
    let (read, when) = read.await;
    assert_eq!((read.unwrap(), when), (1, thawed));
}

#[tokio::test(start_paused = true)]
async fn dropped_connections_break_at_once_and_later_ones_do_not() {
    for frozen in [false, true] {
        let gate = Gate::new();
        if frozen {
            gate.freeze();
        }
        let (mut client, server) = behind(&gate);
        let (mut reads, mut writes) = tokio::io::split(server);
        let read = started(async move { (reads.read_u8().await, reads) });
        let written = started(async move { (writes.write_all(&[0; 1 << 20]).await, writes) });
        sleep(HOUR).await;
        gate.drop_connections();
        let (written, mut writes) = written.await;
        assert_reset(written);
        assert_reset(in_time(writes.flush()).await);
        assert_reset(in_time(writes.shutdown()).await);
        let (read, mut reads) = read.await;
        assert_reset(read);
        gate.thaw();
        assert_reset(reads.read_u8().await);

        drop(reads.unsplit(writes));
        let mut heard = Vec::new();
        in_time(client.read_to_end(&mut heard)).await.unwrap();

        let (mut client, mut server) = behind(&gate);
        client.write_u8(1).await.unwrap();
        assert_eq!(in_time(server.read_u8()).await.unwrap(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_gate_forgets_connections_that_ended() {
    let gate = Gate::new();
    let (client, server) = behind(&gate);
    drop(server);
    assert!(gate.state().connections.is_empty());
    drop(client);
}

#[tokio::test]
async fn a_socket_behind_a_gate_still_tells_who_connected() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (client, server) = tokio::join!(client, listener.accept());
    let info: TcpConnectInfo = Gate::new().wrap(server.unwrap().0).connect_info();
    assert_eq!(info.remote_addr(), client.unwrap().local_addr().ok());
}
