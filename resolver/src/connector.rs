//! How a byte stream to an address is opened.

use std::{fmt, future::Future, io, pin::Pin, sync::Arc};

use futures::future::BoxFuture;
use http::Uri;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::Address;

/// Opens byte streams, each to the host and port of a URI.
#[derive(Clone)]
pub(crate) struct Connector(Arc<dyn Fn(Uri) -> BoxFuture<'static, io::Result<Io>> + Send + Sync>);

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
        Self(Arc::new(move |uri| {
            let connecting = connect(uri);
            Box::pin(async move { Ok(Box::pin(connecting.await?) as Io) })
        }))
    }

    /// Opens TCP connections. A host name is resolved anew each time, and all its addresses are
    /// tried.
    pub(crate) fn tcp() -> Self {
        Self::new(|uri| async move {
            let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else {
                return Err(io::Error::other(format!("{uri} names no host and port")));
            };
            let host = host.trim_matches(['[', ']']);
            let stream = TcpStream::connect((host, port)).await?;
            // A call is a few small writes; with Nagle's algorithm each would wait for the last
            // one's acknowledgement.
            stream.set_nodelay(true)?;
            Ok(stream)
        })
    }

    pub(crate) async fn connect(&self, address: &Address) -> io::Result<Io> {
        let uri = Uri::builder()
            .scheme("http")
            .authority(address.to_string())
            .path_and_query("/")
            .build()
            .map_err(io::Error::other)?;
        (self.0)(uri).await
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}
