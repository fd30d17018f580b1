//! PEM, in a file or as a text.

use std::{borrow::Cow, fmt, fs, path::PathBuf, sync::Arc};

use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::TlsError;

/// Where something in PEM is. Shown, it is the place and never the content.
#[derive(Clone)]
pub(super) enum Pem {
    File(PathBuf),
    Text(Arc<[u8]>),
}

/// What is expected of a file of certificates.
pub(super) const CERTIFICATES: &str = "one or more certificates in PEM";

/// What is expected of a file with a private key.
pub(super) const PRIVATE_KEY: &str =
    "a private key in PEM (PKCS#8, PKCS#1 or SEC1; RSA, ECDSA or Ed25519), not encrypted";

/// What errors say of a private key.
pub(super) const KEY: &str = "private key";

impl Pem {
    pub(super) fn text(text: impl AsRef<[u8]>) -> Self {
        Self::Text(text.as_ref().into())
    }

    /// Reads certificates, at least one; `what` is what errors call them.
    pub(super) fn certificates(
        &self,
        what: &'static str,
    ) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let pem = self.read(what, CERTIFICATES)?;
        match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            // What the parser says quotes lines, which may be those of a key.
            Ok(_) | Err(_) => Err(self.invalid(what, CERTIFICATES)),
        }
    }

    pub(super) fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let pem = self.read(KEY, PRIVATE_KEY)?;
        PrivateKeyDer::from_pem_slice(&pem).map_err(|_| self.invalid(KEY, PRIVATE_KEY))
    }

    pub(super) fn invalid(&self, what: &'static str, expected: &'static str) -> TlsError {
        TlsError::Invalid {
            what,
            given: self.to_string(),
            expected,
        }
    }

    fn read(&self, what: &'static str, expected: &'static str) -> Result<Cow<'_, [u8]>, TlsError> {
        match self {
            Self::Text(text) => Ok(Cow::Borrowed(text)),
            Self::File(file) => {
                let unreadable = |error| TlsError::Unreadable {
                    what,
                    file: file.clone(),
                    expected,
                    cause: Arc::new(error),
                };
                if !fs::metadata(file).map_err(unreadable)?.is_file() {
                    return Err(TlsError::NotRegular {
                        what,
                        file: file.clone(),
                        expected,
                    });
                }
                fs::read(file).map(Cow::Owned).map_err(unreadable)
            }
        }
    }
}

impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Text(_) => write!(f, "the text given"),
        }
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::{os::unix::fs::symlink, path::Path, process::Command};

    use super::*;

    #[test]
    fn what_is_not_a_regular_file_is_told_and_not_opened_and_a_link_counts_as_what_it_leads_to() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name| folder.path().join(name);
        let made = Command::new("mkfifo").arg(at("fifo")).status();
        assert!(made.unwrap().success());
        symlink(at("fifo"), at("to a fifo")).unwrap();
        fs::write(at("file"), "nothing in PEM").unwrap();
        symlink(at("file"), at("to a file")).unwrap();
        let told = |path: &Path, is: &str| {
            let pem = Pem::File(path.into());
            let (certificates, key) = (pem.certificates("CA certificates"), pem.private_key());
            let path = path.display();
            let told = format!("invalid CA certificates: {path}{is} (expected: {CERTIFICATES})");
            assert_eq!(certificates.unwrap_err().to_string(), told);
            let told = format!("invalid private key: {path}{is} (expected: {PRIVATE_KEY})");
            assert_eq!(key.unwrap_err().to_string(), told);
        };
        // The FIFO comes last, since a test that opens it never ends.
        let device = Path::new("/dev/null").to_owned();
        for path in [device, folder.path().into(), at("fifo"), at("to a fifo")] {
            told(&path, ": not a regular file");
        }
        told(&at("to a file"), "");
    }
}
