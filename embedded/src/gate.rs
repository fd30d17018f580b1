//! A gate around a server's connections, whatever carries them: it can be frozen, and it can drop
//! them.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io::{ErrorKind, IoSlice, Result},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use crate::wakers::Wakers;

/// What connections of one server pass through. Clones are handles of the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    passage: Passage,
    /// Those that were not dropped, by their number.
    connections: BTreeMap<u64, Arc<Wakers>>,
    /// The next connection's number.
    next: u64,
    /// Connections that come now are dropped as well.
    is_closed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Passage {
    #[default]
    Open,
    Frozen,
}

impl Gate {
    /// Makes an open gate.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Puts a connection behind the gate, even while that is frozen.
    pub(crate) fn wrap<C>(&self, io: C) -> Gated<C> {
        let wakers = Arc::<Wakers>::default();
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        if !state.is_closed {
            state.connections.insert(id, wakers.clone());
        }
        Gated {
            io,
            gate: self.clone(),
            id,
            wakers,
        }
    }

    /// Lets every read and write wait, as in a process that was stopped.
    ///
    /// A connection that its owner drops meanwhile does end.
    pub(crate) fn freeze(&self) {
        self.state().passage = Passage::Frozen;
    }

    /// Lets reads and writes go on.
    pub(crate) fn thaw(&self) {
        let connections = {
            let mut state = self.state();
            state.passage = Passage::Open;
            state.connections.clone()
        };
        connections.values().for_each(|it| it.wake());
    }

    /// Breaks every connection behind the gate, even a frozen one, and none that comes later.
    pub(crate) fn drop_connections(&self) {
        let dropped = std::mem::take(&mut self.state().connections);
        dropped.values().for_each(|it| it.wake());
    }

    /// Breaks every connection behind the gate, and those that come later.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
        self.drop_connections();
    }

    /// Whether this connection may go on now; if it waits, it has registered its waker before.
    fn poll(&self, id: u64) -> Poll<Result<()>> {
        let state = self.state();
        if !state.connections.contains_key(&id) {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        match state.passage {
            Passage::Open => Poll::Ready(Ok(())),
            Passage::Frozen => Poll::Pending,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection behind a [`Gate`].
#[derive(Debug)]
pub(crate) struct Gated<C> {
    io: C,
    gate: Gate,
    id: u64,
    wakers: Arc<Wakers>,
}

impl<C> Gated<C> {
    /// The waker stays registered while the connection itself is waited for, which may be dropped
    /// then.
    fn poll_to_read(&self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.wakers.reader.register(cx.waker());
        self.gate.poll(self.id)
    }

    fn poll_to_write(&self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.wakers.writer.register(cx.waker());
        self.gate.poll(self.id)
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Gated<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        ready!(self.poll_to_read(cx))?;
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Gated<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        ready!(self.poll_to_write(cx))?;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        ready!(self.poll_to_write(cx))?;
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.poll_to_write(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.poll_to_write(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<C> Drop for Gated<C> {
    fn drop(&mut self) {
        self.gate.state().connections.remove(&self.id);
    }
}

impl<C: Connected> Connected for Gated<C> {
    type ConnectInfo = C::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.io.connect_info()
    }
}
