//! TLS between a channel and its servers: rustls with ring, TLS 1.2 and 1.3, HTTP/2 agreed on by
//! ALPN.
//!
//! ```text
//!   Tls ── check, once, by the builder
//!    └─── prepare, at each attempt: read files ──> Handshake ── run, on one byte stream
//! ```
//!
//! Nothing is kept from one connection to the next: no file's content, no session to resume, so
//! what was renewed on disk counts from the next connection on. Only the system's own roots are
//! read once.
//!
//! Never shows a key, neither in errors nor in `Debug`; never installs a process-wide provider.

mod error;
mod handshake;
mod identity;
mod pem;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use tokio::task;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, client::Resumption, crypto, pki_types::ServerName, version,
    },
};

pub use self::error::TlsError;
pub(crate) use self::handshake::Handshake;
use self::{
    identity::{Identity, IdentitySource},
    pem::Pem,
};
use crate::Address;

/// What TLS trusts, and who it says we are: the setting of
/// [`ChannelBuilder::tls`](crate::ChannelBuilder::tls).
///
/// A server must prove, with a certificate of a trusted CA, that it is the host it was dialed at:
/// the host of its [`Address`], be it a name or an IP address. That is what certificates of etcd
/// are made for. Where they name the service instead, as for servers of kratos, say so with
/// [`server_name`](Self::server_name).
///
/// Files are read anew at every attempt to connect, off the runtime's own threads: a certificate
/// that was renewed counts from the next connection on, and nothing has to watch for it. They are
/// regular files, or links to such: a FIFO or a device is never opened. One that cannot be read or
/// is not what it should be fails that attempt, and is the endpoint's last error; the next attempt
/// reads it again. Between a key and its certificate there is a moment when only one of them is
/// new: an attempt that meets it fails likewise, and is repeated.
///
/// ```
/// use switchboard_resolver::{Channel, ConnectError, Tls};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tls = Tls::new()
///     .ca_file("/etc/greeter/ca.pem")
///     .identity_files("/etc/greeter/client.pem", "/etc/greeter/client.key")
///     .server_name("greeter");
/// let error = Channel::balance(["10.0.0.1:50051"])?.tls(tls).connect().await.unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "unreadable CA certificates: /etc/greeter/ca.pem (expected: one or more certificates in PEM)",
/// );
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
#[must_use = "it does nothing until a channel is built with it"]
pub struct Tls {
    /// The system's roots are trusted if there are none.
    authorities: Vec<Pem>,
    identity: Option<IdentitySource>,
    server_name: Option<String>,
    system_roots: Arc<OnceLock<Arc<RootCertStore>>>,
}

impl Tls {
    /// Trusts the system's CAs, shows no certificate of its own, and expects servers to be the
    /// hosts they are dialed at.
    ///
    /// The system's CAs are read once, when they are first needed, from where OpenSSL looks for
    /// them; `SSL_CERT_FILE` and `SSL_CERT_DIR` name other places.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the CAs in a PEM file, and the system's no more. Given again, both are trusted.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.authorities.push(Pem::File(path.into()));
        self
    }

    /// Trusts the CAs in a PEM text, and the system's no more. Given again, both are trusted.
    pub fn ca_pem(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.authorities.push(Pem::text(pem));
        self
    }

    /// Shows the certificate in a PEM file to servers that ask for one, with what lies between it
    /// and its CA after it; its key, not encrypted, is in a PEM file too.
    pub fn identity_files(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.identity = Some(IdentitySource {
            certificate: Pem::File(certificate.into()),
            key: Pem::File(key.into()),
        });
        self
    }

    /// Shows the certificate in a PEM text to servers that ask for one; see
    /// [`identity_files`](Self::identity_files).
    pub fn identity_pem(mut self, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        self.identity = Some(IdentitySource {
            certificate: Pem::text(certificate),
            key: Pem::text(key),
        });
        self
    }

    /// Expects every server's certificate to be for this DNS name or IP address, whatever host it
    /// is dialed at.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Reads every file once, blocking, and says what is wrong with it.
    pub(crate) fn check(&self) -> Result<(), TlsError> {
        if let Some(name) = &self.server_name {
            parse(name)?;
        }
        self.load().map(drop)
    }

    /// Reads what one attempt to connect to `address` needs.
    pub(crate) async fn prepare(&self, address: &Address) -> Result<Handshake, TlsError> {
        let expected = parse(self.server_name.as_deref().unwrap_or(address.host()))?;
        let tls = self.clone();
        // It ends by itself, as soon as the files are read, also when nobody waits any more.
        let loaded = task::spawn_blocking(move || tls.load()).await;
        let (config, identity) = loaded.map_err(|error| match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_cancelled) => TlsError::Interrupted,
        })??;
        Ok(Handshake {
            connector: TlsConnector::from(Arc::new(config)),
            expected,
            trusted: self.trusted(),
            identity,
        })
    }

    fn load(&self) -> Result<(ClientConfig, Arc<Identity>), TlsError> {
        let provider = Arc::new(crypto::ring::default_provider());
        let roots = self.roots()?;
        let identity = Arc::new(Identity::load(self.identity.as_ref(), &provider)?);
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .expect("ring has cipher suites for both")
            .with_root_certificates(roots)
            .with_client_cert_resolver(identity.clone());
        config.alpn_protocols = vec![handshake::HTTP2.to_vec()];
        // A resumed session is not verified again, and this configuration has but one connection.
        config.resumption = Resumption::disabled();
        Ok((config, identity))
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, TlsError> {
        if self.authorities.is_empty() {
            return self.system_roots();
        }
        let mut roots = RootCertStore::empty();
        for authority in &self.authorities {
            const WHAT: &str = "CA certificates";
            for certificate in authority.certificates(WHAT)? {
                roots
                    .add(certificate)
                    .map_err(|_| authority.invalid(WHAT, pem::CERTIFICATES))?;
            }
        }
        Ok(Arc::new(roots))
    }

    fn system_roots(&self) -> Result<Arc<RootCertStore>, TlsError> {
        if let Some(roots) = self.system_roots.get() {
            return Ok(roots.clone());
        }
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // Systems have some that are too old or too odd to be read; the others count.
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let cause = found.errors.into_iter().next();
            let cause = cause.map(|error| Arc::new(error) as crate::Cause);
            return Err(TlsError::NoSystemRoots { cause });
        }
        Ok(self.system_roots.get_or_init(|| Arc::new(roots)).clone())
    }

    /// Whose certificates are trusted, in words.
    fn trusted(&self) -> String {
        if self.authorities.is_empty() {
            return "the system's".to_owned();
        }
        let all: Vec<_> = self.authorities.iter().map(Pem::to_string).collect();
        all.join(" or ")
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("authorities", &self.authorities)
            .field("identity", &self.identity)
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

fn parse(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::ServerName(name.to_owned()))
}
