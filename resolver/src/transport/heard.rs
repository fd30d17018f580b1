//! A byte stream that tells what was read, and that says so if the server speaks HTTP/1.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Traffic;

/// A byte stream, right below HTTP/2, of which what is read is counted: inside TLS that comes when
/// HTTP/2 sees it, and not when its record does.
pub(super) struct Heard<T> {
    io: T,
    traffic: Arc<Traffic>,
    /// The first bytes that were read, as many as `known`.
    first: [u8; HTTP1.len()],
    known: usize,
}

/// What a server of HTTP/1 answers to a client of HTTP/2 begins with.
const HTTP1: [u8; 7] = *b"HTTP/1.";

impl<T> Heard<T> {
    pub(super) fn new(io: T, traffic: Arc<Traffic>) -> Self {
        Self {
            io,
            traffic,
            first: [0; HTTP1.len()],
            known: 0,
        }
    }

    fn heard(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.traffic.count_read(bytes.len());
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

impl<T: AsyncRead + Unpin> AsyncRead for Heard<T> {
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
