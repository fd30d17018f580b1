#![allow(clippy::unwrap_used, reason = "a test's own helpers")]

use std::{future::Future, io::Error, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tonic::transport::server::TcpConnectInfo;

use super::*;
use crate::Io;

const HOUR: Duration = Duration::from_secs(3600);

fn behind(gate: &Gate) -> (Io, Gated<Io>) {
    let (client, server) = Io::pair();
    (client, gate.wrap(server))
}

async fn hangs(future: impl Future) -> bool {
    timeout(HOUR, future).await.is_err()
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
    client.read_to_end(&mut heard).await.unwrap();
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

    let thaw = async {
        sleep(HOUR).await;
        gate.thaw();
    };
    let (mut reads, mut writes) = tokio::io::split(server);
    let (read, written, _) = tokio::join!(reads.read_u8(), writes.write_u8(2), thaw);
    assert_eq!(read.unwrap(), 1);
    written.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), 2);
    other.write_u8(3).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_freezes_stops_those_who_wait_already() {
    let gate = Gate::new();
    let (mut client, mut server) = behind(&gate);
    let freeze = async {
        gate.freeze();
        client.write_u8(1).await.unwrap();
        sleep(HOUR).await;
        gate.thaw();
    };
    let start = tokio::time::Instant::now();
    let (read, _) = tokio::join!(server.read_u8(), freeze);
    assert_eq!((read.unwrap(), start.elapsed()), (1, HOUR));
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
        let filling = async {
            loop {
                if let Err(error) = writes.write_all(&[0; 1024]).await {
                    return Err::<(), Error>(error);
                }
            }
        };
        let dropping = async {
            sleep(HOUR).await;
            gate.drop_connections();
        };
        let (read, written, _) = tokio::join!(reads.read_u8(), filling, dropping);
        assert_reset(read);
        assert_reset(written);
        assert_reset(writes.flush().await);
        assert_reset(writes.shutdown().await);
        gate.thaw();
        assert_reset(reads.read_u8().await);

        drop(reads.unsplit(writes));
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();

        let (mut client, mut server) = behind(&gate);
        client.write_u8(1).await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), 1);
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
