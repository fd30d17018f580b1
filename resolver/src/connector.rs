//! How a byte stream to an address is opened.

use std::{fmt, io, pin::Pin, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use http::Uri;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream, lookup_host},
};

use crate::{
    Address,
    staggered::first_of,
    transport::{Counted, Traffic},
};

/// Opens byte streams, each to the host and port of a URI.
#[derive(Clone)]
pub(crate) struct Connector(Arc<Connect>);

type Connect = dyn Fn(Uri, Arc<Traffic>) -> BoxFuture<'static, io::Result<Io>> + Send + Sync;

/// How long what was sent may stay without acknowledgement: as long as a server may be suspect.
const USER_TIMEOUT: Duration = Duration::from_secs(10);

/// A byte stream of whatever kind.
pub(crate) type Io = Pin<Box<dyn ReadWrite>>;

/// What a byte stream can do.
pub(crate) trait ReadWrite: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> ReadWrite for T {}

impl Connector {
    pub(crate) fn new<F, Connecting, T>(connect: F) -> Self
    where
        F: Fn(Uri) -> Connecting + Send + Sync + 'static,
        Connecting: Future<Output = io::Result<T>> + Send + 'static,
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        Self(Arc::new(move |uri, traffic| {
            let connecting = connect(uri);
            Box::pin(async move { Ok(counted(Box::pin(connecting.await?), traffic)) })
        }))
    }

    /// Opens TCP connections. A host name is resolved anew each time, and all its addresses are
    /// tried, staggered.
    pub(crate) fn tcp() -> Self {
        Self::new(|uri| async move {
            let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else {
                return Err(io::Error::other(format!("{uri} names no host and port")));
            };
            let host = host.trim_matches(['[', ']']);
            let found: Vec<_> = lookup_host((host, port)).await?.collect();
            let connected = first_of(found.into_iter().map(TcpStream::connect)).await;
            prepared(connected.map_err(|mut errors| {
                let none = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                errors.pop().unwrap_or_else(none)
            })?)
        })
    }

    /// Opens a byte stream, which notes its `traffic`. A Unix socket is opened as such, whatever the
    /// connector does.
    pub(crate) async fn connect(
        &self,
        address: &Address,
        traffic: &Arc<Traffic>,
    ) -> io::Result<Io> {
        if let Some(path) = address.path() {
            return Ok(counted(UnixStream::connect(path).await?, traffic.clone()));
        }
        let uri = Uri::builder()
            .scheme("http")
            .authority(address.to_string())
            .path_and_query("/")
            .build()
            .map_err(io::Error::other)?;
        (self.0)(uri, traffic.clone()).await
    }
}

/// Sets what every connection has set.
fn prepared(stream: TcpStream) -> io::Result<TcpStream> {
    // A call is a few small writes; with Nagle's algorithm each would wait for the last one's
    // acknowledgement.
    stream.set_nodelay(true)?;
    give_up_on_vanished_hosts(&stream);
    Ok(stream)
}

/// Ends a connection on which nothing that was sent is acknowledged any more: its calls must not
/// wait for the kernel, which tries for a quarter of an hour.
fn give_up_on_vanished_hosts(stream: &TcpStream) {
    // A kernel that cannot is no reason not to connect: pings find most of such hosts.
    let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(USER_TIMEOUT));
}

fn counted<T: ReadWrite + Unpin + 'static>(io: T, traffic: Arc<Traffic>) -> Io {
    Box::pin(Counted::new(io, traffic))
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_send_at_once_and_give_up_on_vanished_hosts() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await;
        let stream = prepared(stream.unwrap()).unwrap();
        assert!(stream.nodelay().unwrap());
        let timeout = socket2::SockRef::from(&stream).tcp_user_timeout().unwrap();
        assert_eq!(timeout, Some(USER_TIMEOUT));
    }
}
