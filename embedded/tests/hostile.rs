//! Clients that mean harm, or might as well: they are refused or slowed down, everybody else is
//! served, and memory stays bounded.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

use std::time::Duration;

use etcd_client::proto::{
    PbDeleteRequest, PbLeaseGrantResponse, PbPutRequest, PbRangeRequest, PbTxnOpRequest,
    PbTxnRequest, PbTxnRequestOp,
};
use switchboard_embedded::EmbeddedEtcd;
use switchboard_test_support::{RawEtcd, WatchOf, resident};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::Code;

/// Within which others are served, whatever somebody does.
const LIMIT: Duration = Duration::from_secs(30);

/// An etcd, its address, and a client.
async fn etcd() -> (EmbeddedEtcd, String, RawEtcd) {
    let etcd = EmbeddedEtcd::start();
    let address = etcd.listen("127.0.0.1:0").await.unwrap().to_string();
    let client = RawEtcd::connect(&address);
    (etcd, address, client)
}

/// Asserts that somebody else is served.
async fn is_well(address: &str) {
    let other = RawEtcd::connect(address);
    let served = async {
        other.put(put("well", "1")).await.unwrap();
        let read = other.range(get("well", "")).await.unwrap();
        assert_eq!(read.kvs.len(), 1);
    };
    timeout(LIMIT, served).await.expect("others are served");
}

fn put(key: &str, value: &str) -> PbPutRequest {
    PbPutRequest {
        key: key.into(),
        value: value.into(),
        ..Default::default()
    }
}

fn get(key: &str, end: &str) -> PbRangeRequest {
    PbRangeRequest {
        key: key.into(),
        range_end: end.into(),
        ..Default::default()
    }
}

fn of(request: PbTxnOpRequest) -> PbTxnRequestOp {
    PbTxnRequestOp {
        request: Some(request),
    }
}

#[tokio::test]
async fn a_transaction_deeper_than_any_sensible_one_is_refused() {
    let (_etcd, address, client) = etcd().await;
    let mut request = PbTxnRequest::default();
    for _ in 0..500 {
        request = PbTxnRequest {
            success: vec![of(PbTxnOpRequest::RequestTxn(request))],
            ..Default::default()
        };
    }
    client.txn(request).await.unwrap_err();
    is_well(&address).await;
}

#[tokio::test]
async fn a_transaction_of_very_many_operations_is_refused() {
    let (_etcd, address, client) = etcd().await;
    let operation = || of(PbTxnOpRequest::RequestPut(put("a", "1")));
    let request = PbTxnRequest {
        success: (0..100_000).map(|_| operation()).collect(),
        ..Default::default()
    };
    let refused = client.txn(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    is_well(&address).await;
}

#[tokio::test]
async fn a_range_of_everything_is_answered_beside_others() {
    let (etcd, address, client) = etcd().await;
    let value = "x".repeat(1 << 20);
    for key in 0..32 {
        client.put(put(&format!("{key}"), &value)).await.unwrap();
    }
    let (read, ()) = tokio::join!(client.range(get("\0", "\0")), is_well(&address));
    assert!(read.unwrap().kvs.len() >= 32);
    let everything = PbDeleteRequest {
        key: vec![0],
        range_end: vec![0],
        prev_kv: true,
    };
    client.delete(everything).await.unwrap();
    assert_eq!(etcd.keys(), []);
}

#[tokio::test]
async fn renewing_very_many_unknown_leases_is_answered() {
    let (_etcd, address, client) = etcd().await;
    let answers = client.keep_alive(1..=20_000).await.unwrap();
    assert_eq!(answers.len(), 20_000);
    assert!(answers.iter().all(|answer| answer.ttl == 0));
    is_well(&address).await;
}

#[tokio::test]
async fn watches_that_nobody_reads_hold_up_nobody_and_little_memory() {
    const WATCHES: usize = 10_000;
    const PUTS: usize = 500;
    // Unbounded, it would be what is put times the watches: 5 million events, of half a GiB at least.
    const MOST: usize = 256 << 20;

    let (_etcd, address, client) = etcd().await;
    let all = || WatchOf {
        key: vec![0],
        range_end: vec![0],
        prev_kv: true,
        ..Default::default()
    };
    let mut deaf = client.watch(all().create()).await.unwrap();
    assert!(deaf.next().await.unwrap().created);
    for _ in 1..WATCHES {
        deaf.send(all().create());
    }
    for _ in 1..WATCHES {
        assert!(deaf.next().await.unwrap().created);
    }
    let before = resident();
    let value = "x".repeat(1000);
    let other = RawEtcd::connect(&address);
    for _ in 0..PUTS {
        let written = timeout(LIMIT, other.put(put("a", &value))).await;
        written.expect("others are served").unwrap();
    }
    let more = resident().saturating_sub(before);
    assert!(more < MOST, "{more} more bytes (expected: at most {MOST})");

    // Read at last, each has missed nothing.
    let mut seen = 0;
    while seen < PUTS {
        let answer = deaf.next().await.unwrap();
        if answer.watch_id == 0 {
            seen += answer.events.len();
        }
    }
    assert_eq!(seen, PUTS);
}

#[tokio::test]
async fn what_is_no_http2_is_hung_up_on() {
    let (_etcd, address, _client) = etcd().await;
    for garbage in [
        &b"GET / HTTP/1.1\r\nHost: etcd\r\n\r\n"[..],
        &[0xff; 4096],
        // The preface of HTTP/2, and then a frame of a size that nobody may send.
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        // Told why or not, it ends.
        let mut told = Vec::new();
        let ended = timeout(LIMIT, stream.read_to_end(&mut told)).await;
        assert!(ended.is_ok(), "{garbage:?}");
        is_well(&address).await;
    }
}

#[tokio::test]
async fn connections_that_say_nothing_hold_up_nobody() {
    let (_etcd, address, _client) = etcd().await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    is_well(&address).await;
}

#[tokio::test]
async fn a_message_of_another_kind_is_refused() {
    let (_etcd, address, client) = etcd().await;
    // A key where a number is expected.
    let path = "/etcdserverpb.Lease/LeaseGrant";
    let answer = client
        .unary::<_, PbLeaseGrantResponse>(path, put("a", "1"))
        .await;
    let refused = answer.unwrap_err();
    assert_eq!(refused.code(), Code::Internal, "{refused:?}");
    let path = "/etcdserverpb.KV/NoSuchMethod";
    let answer = client
        .unary::<_, PbLeaseGrantResponse>(path, put("a", "1"))
        .await;
    assert_eq!(answer.unwrap_err().code(), Code::Unimplemented);
    is_well(&address).await;
}

#[tokio::test]
async fn a_giant_message_is_refused_and_another_one_is_taken() {
    let (etcd, address, client) = etcd().await;
    let refused = client
        .put(put("a", &"x".repeat(16 << 20)))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert_eq!(etcd.keys(), []);
    client.put(put("a", "1")).await.unwrap();
    is_well(&address).await;
}
