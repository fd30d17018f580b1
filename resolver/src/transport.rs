//! The seam to HTTP/2: how requests travel over one connection.
//!
//! Everything that knows hyper is here, and in the response's body. [`handshake`] makes the two
//! halves of a connection: any number of [`Transport`]s to send requests with, and one
//! [`Connection`] that does the work and tells when it is over.
//!
//! A server's first frame is its SETTINGS, and a connection is good for calls only once it came:
//! the HTTP/2 handshake itself also "succeeds" against a server that never says a word.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{
    Request, Response,
    uri::{Authority, Scheme},
};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};
use tokio_util::task::TaskTracker;

use crate::{Cause, body::RequestBody, connector::Io};

/// Sends requests over one connection.
#[derive(Clone)]
pub(crate) struct Transport {
    sender: http2::SendRequest<RequestBody>,
    shared: Arc<Shared>,
}

/// Does the work of one connection.
pub(crate) struct Connection {
    work: http2::Connection<TokioIo<Heard<Io>>, RequestBody, OnTracker>,
}

/// What all senders over one connection share.
struct Shared {
    scheme: Scheme,
    authority: Authority,
    answered: AtomicBool,
}

/// Why a request has no response.
pub(crate) enum SendError {
    /// It did not leave, and this connection takes no more of them.
    Unsent(Box<Request<RequestBody>>),
    /// It left, or may have.
    Interrupted(Cause),
}

/// HTTP/2 pings that find out whether a connection still lives. Off unless set.
///
/// Servers in Go close connections that ping more often than they allow, by default once in five
/// minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    /// How long a connection may be silent before it is pinged.
    pub interval: Duration,
    /// How long the answer may take before the connection is closed and its calls fail with
    /// UNAVAILABLE.
    pub timeout: Duration,
    /// Whether connections without a call in flight are pinged too.
    pub while_idle: bool,
}

/// How a connection is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) keep_alive: Option<KeepAlive>,
    /// The window of one stream: what a server may send ahead of a reader.
    pub(crate) stream_window: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keep_alive: None,
            // Larger ones let a few unread streams hold much memory; smaller ones make a fast
            // stream over a long distance wait.
            stream_window: 256 * 1024,
        }
    }
}

/// The largest window that HTTP/2 allows (RFC 9113, 6.9.1).
pub(crate) const LARGEST_WINDOW: u32 = (1 << 31) - 1;

/// The window of a connection: under a smaller one, streams that nobody reads would starve all other
/// calls on the connection.
const CONNECTION_WINDOW: u32 = LARGEST_WINDOW;

/// As grpc-go: a smaller limit refuses the large metadata that it lets pass.
const MAX_HEADER_LIST: u32 = 16 * 1024 * 1024;

/// Begins HTTP/2 on `io` and waits until the server has spoken. The connection's own tasks run on
/// `tasks`.
pub(crate) async fn handshake(
    io: Io,
    scheme: Scheme,
    authority: Authority,
    settings: Settings,
    tasks: &TaskTracker,
) -> Result<(Transport, Connection), Cause> {
    let mut builder = http2::Builder::new(OnTracker(tasks.clone()));
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(settings.stream_window)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER_LIST);
    if let Some(keep_alive) = settings.keep_alive {
        builder
            .keep_alive_interval(keep_alive.interval)
            .keep_alive_timeout(keep_alive.timeout)
            .keep_alive_while_idle(keep_alive.while_idle);
    }
    let (heard, server_spoke) = oneshot::channel();
    let io = TokioIo::new(Heard {
        io,
        first_frame: [0; HEAD],
        read: 0,
        heard: Some(heard),
    });
    let cause = |error: hyper::Error| -> Cause { Arc::new(error) };
    let (sender, work) = builder.handshake(io).await.map_err(cause)?;
    let transport = Transport {
        sender,
        shared: Arc::new(Shared {
            scheme,
            authority,
            answered: AtomicBool::new(false),
        }),
    };
    let mut connection = Connection { work };
    tokio::select! {
        spoke = server_spoke => match spoke {
            Ok(()) => Ok((transport, connection)),
            Err(_io_dropped) => Err(connection.lost().await),
        },
        cause = connection.lost() => Err(cause),
    }
}

impl Transport {
    /// Returns whether the connection takes no more requests. Once it does not, it never will.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Returns what `:scheme` is on this connection.
    pub(crate) fn scheme(&self) -> &Scheme {
        &self.shared.scheme
    }

    /// Returns what `:authority` is on this connection.
    pub(crate) fn authority(&self) -> &Authority {
        &self.shared.authority
    }

    /// Returns whether a call was ever answered.
    pub(crate) fn has_answered(&self) -> bool {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Returns whether both are the same connection.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Sends a request and waits for the headers of its response. Dropping the future resets the
    /// stream.
    pub(crate) async fn send(
        &self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, SendError> {
        let sending = self.sender.clone().try_send_request(request);
        match sending.await {
            Ok(response) => {
                // Read before written, so that calls on many cores do not fight for the line.
                if !self.shared.answered.load(Ordering::Relaxed) {
                    self.shared.answered.store(true, Ordering::Relaxed);
                }
                Ok(response)
            }
            Err(mut error) => Err(match error.take_message() {
                Some(request) => SendError::Unsent(Box::new(request)),
                None => SendError::Interrupted(Arc::new(error.into_error())),
            }),
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("authority", &self.shared.authority)
            .field("closed", &self.is_closed())
            .finish()
    }
}

impl Connection {
    /// Works until the connection takes no more requests, and says why. Streams in flight may go
    /// on: tasks of the tracker serve them. To be dropped then, which hands back the requests
    /// that were queued and not sent.
    pub(crate) async fn lost(&mut self) -> Cause {
        match (&mut self.work).await {
            Ok(()) => Arc::new(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the server closed the connection",
            )),
            Err(error) => Arc::new(error),
        }
    }
}

/// Runs hyper's tasks where their owner can wait for them.
#[derive(Clone)]
pub(crate) struct OnTracker(TaskTracker);

impl<F> hyper::rt::Executor<F> for OnTracker
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

/// A byte stream that tells when its first frame was read, if that is the SETTINGS that HTTP/2
/// begins with. Whatever else comes first is not HTTP/2, and h2's to refuse.
pub(crate) struct Heard<T> {
    io: T,
    /// The head of the first frame, as much as was `read`.
    first_frame: [u8; HEAD],
    read: usize,
    heard: Option<oneshot::Sender<()>>,
}

/// The size of the head of a frame: three bytes of length, one each of type and flags, four of
/// stream id.
const HEAD: usize = 9;

impl<T> Heard<T> {
    fn hear(&mut self, bytes: &[u8]) {
        const SETTINGS: [u8; 2] = [4, 0];
        let begin = self.read.min(HEAD);
        let count = bytes.len().min(HEAD - begin);
        self.first_frame[begin..begin + count].copy_from_slice(&bytes[..count]);
        self.read = self.read.saturating_add(bytes.len());
        let [high, middle, low, kind_and_flags @ .., _, _, _, _] = self.first_frame;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        if self.read >= HEAD + length
            && kind_and_flags == SETTINGS
            && let Some(heard) = self.heard.take()
        {
            // Nobody listens any more when the dial was given up.
            let _ = heard.send(());
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Heard<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        if self.heard.is_some() {
            self.hear(&buffer.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Heard<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
