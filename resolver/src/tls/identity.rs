//! Who we say we are, to servers that ask.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio_rustls::rustls::{
    self, SignatureScheme, client::ResolvesClientCert, crypto::CryptoProvider, sign::CertifiedKey,
};

use super::{
    TlsError,
    pem::{self, Pem},
};

/// Where a certificate and its key are.
#[derive(Debug, Clone)]
pub(super) struct IdentitySource {
    pub(super) certificate: Pem,
    pub(super) key: Pem,
}

/// What one connection shows to a server that asks for a certificate; remembers whether it asked.
///
/// In TLS 1.3 a server refuses a certificate, or the lack of one, when the handshake is over for
/// us, and what it says then may be lost with the connection. That it had asked is the best hint
/// there is.
pub(super) struct Identity {
    certified: Option<Arc<CertifiedKey>>,
    /// In words.
    shown: String,
    asked: AtomicBool,
}

impl Identity {
    pub(super) fn load(
        source: Option<&IdentitySource>,
        provider: &CryptoProvider,
    ) -> Result<Self, TlsError> {
        Ok(Self {
            certified: source
                .map(|it| it.load(provider).map(Arc::new))
                .transpose()?,
            shown: match source {
                Some(source) => format!("the one shown: {}", source.certificate),
                None => "none is set".to_owned(),
            },
            asked: AtomicBool::new(false),
        })
    }

    /// Returns whether the server has asked for a certificate.
    pub(super) fn was_asked_for(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Returns what was shown, in words.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }
}

impl IdentitySource {
    fn load(&self, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        const WHAT: &str = "client certificate";
        let certificates = self.certificate.certificates(WHAT)?;
        let key = self.key.private_key()?;
        let certified = CertifiedKey::from_der(certificates, key, provider);
        certified.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::OtherKey {
                key: self.key.to_string(),
                certificate: self.certificate.to_string(),
            },
            rustls::Error::InvalidCertificate(_) => {
                self.certificate.invalid(WHAT, pem::CERTIFICATES)
            }
            _ => self.key.invalid(pem::KEY, pem::PRIVATE_KEY),
        })
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.certified.clone()
    }

    fn has_certs(&self) -> bool {
        self.certified.is_some()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("shown", &self.shown)
            .finish_non_exhaustive()
    }
}
