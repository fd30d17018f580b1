//! Writes that fail half way, below TLS: above it, nobody sees how far they got.

#![cfg(feature = "tls")]

mod support;

#[allow(
    dead_code,
    unreachable_pub,
    reason = "it is written as `support` is, and used in part"
)]
#[path = "support/secured.rs"]
mod secured;

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use secured::{Settings, Site};
use support::*;
use switchboard_proto::HelloReply;
use switchboard_resolver::{CallErrorKind, Channel, Tls};
use switchboard_test_support::Authority;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tonic::{Code, Status};

/// How many bytes a byte stream still takes before all writes fail; without end if `None`.
type Room = Arc<Mutex<Option<usize>>>;

struct Torn {
    io: DuplexStream,
    room: Room,
}

impl AsyncRead for Torn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Torn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let room = self.room.lock().expect("no panic in between").to_owned();
        let Some(room) = room else {
            return Pin::new(&mut self.io).poll_write(cx, bytes);
        };
        if room == 0 {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let some = &bytes[..room.min(bytes.len())];
        let count = ready!(Pin::new(&mut self.io).poll_write(cx, some))?;
        *self.room.lock().expect("no panic in between") = Some(room - count);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Makes a call over a connection that takes as many bytes of it, while the next one is whole.
async fn call_torn_after(bytes: usize) -> Result<HelloReply, Status> {
    let authority = Authority::new("CA");
    let settings = Settings::new(authority.certify(&["greeter.test"]));
    let site = Site::new(settings.serve());
    let (dial, rooms) = (site.connector(), Arc::new(Mutex::new(Vec::new())));
    let dialed = rooms.clone();
    let channel = Channel::balance(["greeter.test:443"])
        .expect("an address")
        .name("greeter")
        .connector(move |uri| {
            let room = Room::default();
            dialed.lock().expect("no panic").push(room.clone());
            let dialing = dial(uri);
            async move { dialing.await.map(|io| Torn { io, room }) }
        })
        .tls(Tls::new().ca_pem(authority.pem()))
        .connect()
        .await
        .expect("a channel");
    call(&channel).await.expect("an answer");
    *rooms.lock().expect("no panic")[0].lock().expect("no panic") = Some(bytes);
    // Of several records of TLS, so that some may be whole.
    let large = hello(&"x".repeat(64 * 1024));
    let reply = within(SOON, client(&channel).say_hello(large)).await?;
    Ok(reply.into_inner())
}

#[tokio::test(start_paused = true)]
async fn c37_what_left_in_part_inside_tls_is_never_sent_twice() {
    for bytes in [1, 100, 17_000, 40_000] {
        let status = call_torn_after(bytes).await.expect_err("it broke");
        assert_eq!(status.code(), Code::Unavailable, "{bytes}: {status:?}");
        assert_eq!(kind(&status), CallErrorKind::Interrupted, "{bytes}");
    }
}

#[tokio::test(start_paused = true)]
async fn c21_what_did_not_leave_tls_goes_elsewhere_unseen() {
    let reply = call_torn_after(0).await.expect("the next connection");
    assert_eq!(reply.served_by, "greeter.test:443");
}
