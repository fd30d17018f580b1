//! What stands between a server and its connections: it can hold them all, and break them all.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
};
use tokio_stream::{Stream, wrappers::WatchStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// A gate; clones are handles on the same one.
#[derive(Debug, Clone)]
pub(crate) struct Gate(watch::Sender<State>);

#[derive(Debug, Clone)]
struct State {
    frozen: bool,
    /// Cancelled to break the connections that stand.
    connections: CancellationToken,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(State {
            frozen: false,
            connections: CancellationToken::new(),
        }))
    }

    /// Lets nothing through until [`thaw`](Self::thaw), as if the server had been stopped by
    /// SIGSTOP.
    pub(crate) fn freeze(&self) {
        self.0.send_modify(|state| state.frozen = true);
    }

    pub(crate) fn thaw(&self) {
        self.0.send_modify(|state| state.frozen = false);
    }

    /// Waits until it is frozen.
    pub(crate) async fn frozen(&self) {
        let _ = self.0.subscribe().wait_for(|state| state.frozen).await;
    }

    /// Waits until it is not frozen.
    pub(crate) async fn thawed(&self) {
        let _ = self.0.subscribe().wait_for(|state| !state.frozen).await;
    }

    /// Breaks the connections that stand.
    pub(crate) fn drop_connections(&self) {
        self.0.send_modify(|state| {
            std::mem::take(&mut state.connections).cancel();
        });
    }

    pub(crate) fn wrap<IO>(&self, io: IO) -> Gated<IO> {
        Gated {
            io,
            broken: Box::pin(self.0.borrow().connections.clone().cancelled_owned()),
            changes: WatchStream::new(self.0.subscribe()),
            frozen: false,
        }
    }
}

/// A connection behind a gate. It is read and written by one task, as a server does.
pub(crate) struct Gated<IO> {
    io: IO,
    broken: Pin<Box<WaitForCancellationFutureOwned>>,
    changes: WatchStream<State>,
    frozen: bool,
}

impl<IO: Unpin> Gated<IO> {
    /// Ready once bytes may pass.
    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<io::Result<&mut IO>> {
        if self.broken.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        while let Poll::Ready(Some(state)) = Pin::new(&mut self.changes).poll_next(context) {
            self.frozen = state.frozen;
        }
        match self.frozen {
            true => Poll::Pending,
            false => Poll::Ready(Ok(&mut self.io)),
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Gated<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let io = ready!(self.poll_open(context))?;
        Pin::new(io).poll_read(context, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Gated<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let io = ready!(self.poll_open(context))?;
        Pin::new(io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let io = ready!(self.poll_open(context))?;
        Pin::new(io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let io = ready!(self.poll_open(context))?;
        Pin::new(io).poll_shutdown(context)
    }
}

impl<IO: Connected> Connected for Gated<IO> {
    type ConnectInfo = IO::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.io.connect_info()
    }
}
