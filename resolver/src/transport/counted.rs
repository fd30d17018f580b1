//! A byte stream that tells what has passed, and that says so if the server speaks HTTP/1.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many bytes have passed over a connection.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    read: AtomicU64,
    written: AtomicU64,
}

impl Traffic {
    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Returns how many bytes the byte stream has accepted: what was queued later has not left.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

/// A byte stream whose traffic is counted.
pub(super) struct Counted<T> {
    io: T,
    traffic: Arc<Traffic>,
    /// The first bytes that were read, as many as `known`.
    first: [u8; HTTP1.len()],
    known: usize,
}

/// What a server of HTTP/1 answers to a client of HTTP/2 begins with.
const HTTP1: [u8; 7] = *b"HTTP/1.";

impl<T> Counted<T> {
    pub(super) fn new(io: T, traffic: Arc<Traffic>) -> Self {
        Self {
            io,
            traffic,
            first: [0; HTTP1.len()],
            known: 0,
        }
    }

    fn heard(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.traffic
            .read
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if self.known == HTTP1.len() {
            return Ok(());
        }
        let room = &mut self.first[self.known..];
        let count = bytes.len().min(room.len());
        room[..count].copy_from_slice(&bytes[..count]);
        self.known += count;
        if self.first == HTTP1 {
            // Taken for a frame, it would be called one of a wrong size.
            let text = "the server speaks HTTP/1 (expected: HTTP/2)";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(())
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        Poll::Ready(self.heard(&buffer.filled()[before..]))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
        self.traffic
            .written
            .fetch_add(count as u64, Ordering::Relaxed);
        Poll::Ready(Ok(count))
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
        let count = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, slices))?;
        self.traffic
            .written
            .fetch_add(count as u64, Ordering::Relaxed);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
