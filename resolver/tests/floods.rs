//! Servers that send without end: what that costs in memory is bounded. A binary of its own: it
//! looks at what the whole process has.

#![allow(clippy::unwrap_used, reason = "a test panics where it cannot go on")]

mod support;

use std::time::Duration;

use support::{wire::*, *};
use switchboard_embedded::Listener;
use switchboard_proto::HellosRequest;
use switchboard_resolver::Channel;
use switchboard_test_support::resident;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::timeout,
};
use tonic::{Code, Status};

/// One after the other, or they would be taken for each other.
static ALONE: Mutex<()> = Mutex::const_new(());

const MIB: usize = 1 << 20;

/// A channel to one server, which is READY, and the server's side of it.
struct Stage {
    channel: Channel,
    wire: Wire,
    before: usize,
    _listener: Listener,
    _alone: MutexGuard<'static, ()>,
}

impl Stage {
    async fn set() -> Self {
        let alone = ALONE.lock().await;
        let (channel, listener, wire) = wired(&[], |it| it).await;
        Self {
            channel,
            wire,
            before: resident(),
            _listener: listener,
            _alone: alone,
        }
    }

    /// Makes a call, and has it answered with `first`, and then with `more` so many times. Returns how
    /// it ended.
    async fn flood(
        &mut self,
        first: impl FnOnce(u32) -> Vec<u8>,
        more: impl FnOnce(u32) -> Vec<u8>,
        times: usize,
    ) -> Status {
        let server = async {
            let stream = self.wire.request().await.unwrap();
            let more = more(stream);
            self.wire.send_raw(&first(stream)).await;
            for said in 0..times {
                self.wire.send_raw(&more).await;
                if said % 64 == 0 {
                    // What is written is read, and the clock goes on.
                    let _ = timeout(Duration::from_millis(1), self.wire.drain()).await;
                }
            }
            self.wire.drain().await;
        };
        let mut client = client(&self.channel);
        let call = client.say_hello(with_timeout(hello("Ada"), SOON / 2));
        let status = tokio::select! {
            called = within(SOON, call) => called.unwrap_err(),
            () = server => panic!("the client has hung up before it said what became of the call"),
        };
        let expected = "service greeter: endpoint a:1: ";
        assert!(status.message().starts_with(expected), "{status:?}");
        status
    }

    #[track_caller]
    fn costs_at_most(&self, most: usize) {
        let more = resident().saturating_sub(self.before);
        assert!(more < most, "{more} more bytes (expected: at most {most})");
    }
}

fn nothing(_: u32) -> Vec<u8> {
    Vec::new()
}

fn interim(stream: u32) -> Vec<u8> {
    let link = "x".repeat(8000);
    let block = block(&[(":status", "103"), ("link", &link)]);
    frame(HEADERS, END_HEADERS, stream, &block)
}

fn large_field(stream: u32) -> Vec<u8> {
    let field = block(&[("x-large", &"x".repeat(16_000))]);
    frame(CONTINUATION, 0, stream, &field)
}

#[tokio::test(start_paused = true)]
async fn interim_responses_are_not_kept() {
    let mut stage = Stage::set().await;
    // 160 MB.
    let status = stage.flood(nothing, interim, 20_000).await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    stage.costs_at_most(16 * MIB);
}

#[tokio::test(start_paused = true)]
async fn headers_without_end_are_not_kept_beyond_the_limit() {
    let mut stage = Stage::set().await;
    let first = |stream| frame(HEADERS, 0, stream, &block(&[(":status", "200")]));
    // 160 MB.
    let status = stage.flood(first, large_field, 10_000).await;
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    stage.costs_at_most(64 * MIB);
}

#[tokio::test(start_paused = true)]
async fn trailers_without_end_are_not_kept_beyond_the_limit() {
    let mut stage = Stage::set().await;
    let first = |stream| {
        let trailers = frame(HEADERS, END_STREAM, stream, &[]);
        [headers(stream, &[]), data(stream, &message(b"")), trailers].concat()
    };
    let status = stage.flood(first, large_field, 10_000).await;
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    stage.costs_at_most(64 * MIB);
}

#[tokio::test(start_paused = true)]
async fn one_entry_of_the_table_told_a_million_times_is_not_kept_beyond_the_limit() {
    let mut stage = Stage::set().await;
    let says = |stream| {
        // Remembered by HPACK, and then told by one byte each time.
        let mut block = block(&[(":status", "200")]);
        block.extend([0x40, 1, b'x', 127, 128 + 33, 30]);
        block.extend([b'y'; 127 + 33 + 30 * 128]);
        block.extend([0x80 | 62; 10_000]);
        frame(HEADERS, 0, stream, &block)
    };
    let more = |stream| frame(CONTINUATION, 0, stream, &[0x80 | 62; 16_000]);
    let status = stage.flood(says, more, 1000).await;
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    stage.costs_at_most(64 * MIB);
}

#[tokio::test(start_paused = true)]
async fn data_of_nothing_is_not_kept() {
    let mut stage = Stage::set().await;
    let first = |stream| headers(stream, &[]);
    let status = stage
        .flood(first, |stream| data(stream, b"").repeat(1000), 1000)
        .await;
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    stage.costs_at_most(16 * MIB);
}

#[tokio::test(start_paused = true)]
async fn pings_that_are_answered_to_nobody_who_reads_are_not_kept() {
    let mut stage = Stage::set().await;
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(1000);
    let settings = frame(SETTINGS, 0, 0, &[]).repeat(1000);
    let says = |_| [pings, settings].concat();
    // The answers are 26 MB. Who takes none of them is given up.
    let status = stage.flood(nothing, says, 1000).await;
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("takes nothing"), "{status:?}");
    stage.costs_at_most(16 * MIB);
}

#[tokio::test(start_paused = true)]
async fn data_that_nobody_reads_is_held_back_by_the_window() {
    // A byte in a frame of its own costs 250.
    for (size, most) in [(1, 128 * MIB), (100, 8 * MIB), (16_000, 8 * MIB)] {
        let mut stage = Stage::set().await;
        let request = HellosRequest {
            name: "Ada".into(),
            ..Default::default()
        };
        let mut client = client(&stage.channel);
        let server = async {
            let stream = stage.wire.request().await.unwrap();
            stage.wire.headers(stream).await;
            let frames = (256 << 10) / size;
            for _ in 0..frames {
                stage.wire.send_raw(&data(stream, &vec![0; size])).await;
            }
            // Taken in by now. What is more than the window ends the stream.
            tokio::time::sleep(Duration::from_secs(1)).await;
            stage.wire.send_raw(&data(stream, &vec![0; size])).await;
            stage.wire.send_raw(&data(stream, &vec![0; 16_000])).await;
            let reset = stage.wire.next().await.unwrap();
            assert_eq!((reset.kind, reset.stream), (RST_STREAM, stream));
        };
        let unread = async { client.say_hellos(request).await.unwrap() };
        let (unread, ()) = within(SOON, async { tokio::join!(unread, server) }).await;
        stage.costs_at_most(most);
        drop(unread);
    }
}
