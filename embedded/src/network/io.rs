//! Performs what a connection's wire decides, and wakes who waits for it.

use std::{
    io::Result,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::coop::poll_proceed,
    time::{Instant, Sleep, sleep_until},
};
use tonic::transport::server::Connected;

use super::wire::{Attempt, Side, Wire};
use crate::wakers::Wakers;

/// One end of a connection.
///
/// Each direction holds 64 KiB; then writing waits until the other end has read. After a shutdown
/// the other end reads what was written, and then the end. Dropped, the other end reads that too,
/// and its writes fail with [`BrokenPipe`](std::io::ErrorKind::BrokenPipe).
#[derive(Debug)]
pub struct Io {
    connection: Arc<Connection>,
    side: Side,
    reading: Waiting,
    writing: Waiting,
}

impl Io {
    /// Makes two connected ends with no link between them: the one that dials, and the other.
    pub(crate) fn pair() -> (Self, Self) {
        let connection = Arc::<Connection>::default();
        let end = |side| Self {
            connection: connection.clone(),
            side,
            reading: Waiting::default(),
            writing: Waiting::default(),
        };
        (end(Side::Dialing), end(Side::Listening))
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

/// What two ends share.
#[derive(Debug, Default)]
pub(super) struct Connection {
    wire: Mutex<Wire>,
    dialing: Wakers,
    listening: Wakers,
}

impl Connection {
    /// Sets what the link does to it. Whoever waits has to be woken afterwards.
    pub(super) fn set_link(&self, held: bool, delay: Duration) {
        self.wire().set_link(held, delay);
    }

    pub(super) fn reset(&self) {
        self.wire().reset();
        self.wake_all();
    }

    pub(super) fn wake_all(&self) {
        self.dialing.wake();
        self.listening.wake();
    }

    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wakers(&self, side: Side) -> &Wakers {
        match side {
            Side::Dialing => &self.dialing,
            Side::Listening => &self.listening,
        }
    }
}

/// One that waits until it can read, or write.
#[derive(Debug, Default)]
struct Waiting {
    /// There while something is under way to it.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Waiting {
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        waker: &AtomicWaker,
        mut attempt: impl FnMut(Instant) -> Attempt<T>,
    ) -> Poll<T> {
        let mut now = Instant::now();
        let mut registered = false;
        loop {
            match attempt(now) {
                Attempt::Done(done) => {
                    self.timer = None;
                    return Poll::Ready(done);
                }
                // Tried once more: what happened before this woke nobody.
                _ if !registered => {
                    waker.register(cx.waker());
                    registered = true;
                }
                Attempt::Until(due) => {
                    debug_assert!(due > now, "a hot loop");
                    let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
                    if timer.deadline() != due {
                        timer.as_mut().reset(due);
                    }
                    ready!(timer.as_mut().poll(cx));
                    // However the clock rounds: it would be waited for in a hot loop.
                    now = now.max(due);
                }
                Attempt::Blocked => {
                    self.timer = None;
                    return Poll::Pending;
                }
            }
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let coop = ready!(poll_proceed(cx));
        let this = &mut *self;
        let (connection, side) = (&this.connection, this.side);
        let done = ready!(
            this.reading
                .poll(cx, &connection.wakers(side).reader, |now| {
                    connection.wire().read(side, now, buf)
                })
        );
        connection.wakers(side.other()).writer.wake();
        coop.made_progress();
        Poll::Ready(done)
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        let coop = ready!(poll_proceed(cx));
        let this = &mut *self;
        let (connection, side) = (&this.connection, this.side);
        let done = ready!(
            this.writing
                .poll(cx, &connection.wakers(side).writer, |now| {
                    connection.wire().write(side, now, bytes)
                })
        );
        connection.wakers(side.other()).reader.wake();
        coop.made_progress();
        Poll::Ready(done)
    }

    /// What is written is under way already.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        let (connection, side) = (&self.connection, self.side);
        let done = connection.wire().shut_down(side, Instant::now());
        connection.wakers(side.other()).reader.wake();
        Poll::Ready(done)
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        let (connection, side) = (&self.connection, self.side);
        connection.wire().leave(side, Instant::now());
        connection.wakers(side.other()).wake();
    }
}

/// There is nothing to tell of who dialed.
impl Connected for Io {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn what_happens_while_a_waker_is_registered_is_seen() {
        let mut attempts = [Attempt::Blocked, Attempt::Done(7)].into_iter();
        let mut cx = Context::from_waker(Waker::noop());
        let waker = AtomicWaker::new();
        let done = Waiting::default().poll(&mut cx, &waker, |_| attempts.next().expect("two"));
        assert_eq!(done, Poll::Ready(7));
    }
}
