//! One attempt to put TLS around a byte stream, and what the other side may have against it.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{self, AlertDescription, CertificateError, InvalidMessage, pki_types::ServerName},
};

use super::identity::Identity;
use crate::connector::Io;

/// HTTP/2 in ALPN (RFC 9113, section 3.2).
pub(super) const HTTP2: &[u8] = b"h2";

/// The client's side of one TLS handshake, with all files read.
pub(crate) struct Handshake {
    pub(super) connector: TlsConnector,
    pub(super) expected: ServerName<'static>,
    /// Whose certificates are trusted, in words.
    pub(super) trusted: String,
    pub(super) identity: Arc<Identity>,
}

impl Handshake {
    /// Puts TLS around `io`. The server has proved who it is when this returns; whether it takes
    /// our certificate shows with the first bytes it sends.
    pub(crate) async fn run(self, io: Io) -> Result<Io, Refusal> {
        let connecting = self.connector.connect(self.expected.clone(), io);
        let io = connecting.await.map_err(|error| self.refusal(error))?;
        // As grpc-go has it since 1.67: without ALPN a server of another protocol could be made to
        // take our bytes for its own (the ALPACA attack).
        if io.get_ref().1.alpn_protocol() != Some(HTTP2) {
            return Err(Refusal::NoHttp2);
        }
        Ok(Box::pin(Secured {
            io,
            unheard: Some(self.identity),
        }))
    }

    fn refusal(&self, error: io::Error) -> Refusal {
        let Some(tls) = tls_error(&error) else {
            return Refusal::Broken(error);
        };
        match tls {
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Refusal::NotTls,
            rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
                Refusal::NoHttp2
            }
            rustls::Error::AlertReceived(alert) => match refusal_of_ours(&self.identity, *alert) {
                Some(refusal) => refusal,
                None => Refusal::Broken(error),
            },
            rustls::Error::InvalidCertificate(reason) => self.refusal_of_theirs(reason),
            _ => Refusal::Broken(error),
        }
    }

    fn refusal_of_theirs(&self, reason: &CertificateError) -> Refusal {
        match reason {
            CertificateError::NotValidForName => Refusal::OtherName {
                presented: "others".to_owned(),
                expected: self.expected.to_str().into_owned(),
            },
            CertificateError::NotValidForNameContext { presented, .. } => Refusal::OtherName {
                presented: presented.join(", "),
                expected: self.expected.to_str().into_owned(),
            },
            // A CA whose key was replaced under the same name is another one, and all that is seen
            // of that is a signature that does not fit.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Refusal::UnknownIssuer {
                    trusted: self.trusted.clone(),
                }
            }
            other => Refusal::Certificate(other.clone()),
        }
    }
}

/// Why there is no TLS with a server. No `source` where the sentence says it all: what reads and
/// writes may hand on a text only.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the server's answer is not TLS (expected: TLS 1.2 or 1.3; it may speak plaintext)")]
    NotTls,
    #[error("the server does not agree on HTTP/2 (expected: the protocol h2 by ALPN)")]
    NoHttp2,
    #[error("the server's certificate is for {presented} (expected: one for {expected})")]
    OtherName { presented: String, expected: String },
    #[error("the server's certificate is of an unknown CA (expected: one of {trusted})")]
    UnknownIssuer { trusted: String },
    #[error("the server's certificate is refused: {0}")]
    Certificate(CertificateError),
    #[error("the server refuses our certificate: {shown} (it says: {alert:?})")]
    Ours {
        shown: String,
        alert: AlertDescription,
    },
    #[error("the server asked for a certificate, and then ended the connection: {shown} ({cause})")]
    Asked { shown: String, cause: String },
    #[error("the TLS handshake failed")]
    Broken(#[source] io::Error),
}

/// What an alert says of our certificate, if it is about that.
fn refusal_of_ours(identity: &Identity, alert: AlertDescription) -> Option<Refusal> {
    let is_about_it = matches!(
        alert,
        AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired
    );
    // In TLS 1.2 the lack of a certificate has no alert of its own, and one of a CA whose key was
    // replaced may pass for one that is broken.
    let may_be = identity.was_asked_for()
        && matches!(
            alert,
            AlertDescription::HandshakeFailure | AlertDescription::DecryptError
        );
    (is_about_it || may_be).then(|| Refusal::Ours {
        shown: identity.shown().to_owned(),
        alert,
    })
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// A byte stream inside TLS. Until the server has sent something over it, what breaks it may be its
/// refusal of our certificate, and is told as that.
struct Secured {
    io: TlsStream<Io>,
    /// `None` once it has.
    unheard: Option<Arc<Identity>>,
}

impl Secured {
    /// Returns what came of a write, if a failure may be told. Until the server has sent something
    /// it counts as done: why the server hung up is found by reading, and h2 would not read any
    /// more.
    fn once_heard<T>(&self, written: Poll<io::Result<T>>, done: T) -> Poll<io::Result<T>> {
        match written {
            Poll::Ready(Err(_)) if self.unheard.is_some() => Poll::Ready(Ok(done)),
            written => written,
        }
    }

    fn explain(&self, error: io::Error) -> io::Error {
        let Some(identity) = &self.unheard else {
            return error;
        };
        let refusal = match tls_error(&error) {
            Some(rustls::Error::AlertReceived(alert)) => refusal_of_ours(identity, *alert),
            Some(_) => None,
            None => identity.was_asked_for().then(|| Refusal::Asked {
                shown: identity.shown().to_owned(),
                cause: error.to_string(),
            }),
        };
        match refusal {
            Some(refusal) => io::Error::new(error.kind(), refusal),
            None => error,
        }
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let mut read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if self.unheard.is_some() {
            let has_ended = matches!(read, Poll::Ready(Ok(()))) && buffer.filled().len() == before;
            if has_ended {
                read = Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            read = read.map_err(|error| self.explain(error));
            if matches!(read, Poll::Ready(Ok(()))) {
                self.unheard = None;
            }
        }
        read
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.once_heard(written, bytes.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.once_heard(flushed, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.once_heard(written, slices.iter().map(|slice| slice.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
