//! What can be wrong with what TLS is set up with.

use std::{io, path::PathBuf, sync::Arc};

use crate::Cause;

/// Why a [`Tls`](super::Tls) cannot be used as it is set. Never tells what a key's file holds.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("unreadable {what}: {} (expected: {expected})", file.display())]
    Unreadable {
        /// What the file should hold.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// What it looks like when it is right.
        expected: &'static str,
        /// Why it cannot be read.
        #[source]
        cause: Arc<io::Error>,
    },
    /// A path leads to what is no file to read, but a directory, a FIFO or a device. It was not
    /// opened, which could block for ever.
    #[error("invalid {what}: {}: not a regular file (expected: {expected})", file.display())]
    NotRegular {
        /// What the file should hold.
        what: &'static str,
        /// The path.
        file: PathBuf,
        /// What it looks like when it is right.
        expected: &'static str,
    },
    /// A file or a text is not what it should be.
    #[error("invalid {what}: {given} (expected: {expected})")]
    Invalid {
        /// What it should be.
        what: &'static str,
        /// The name of the file, or that it is a text given.
        given: String,
        /// What it looks like when it is right.
        expected: &'static str,
    },
    /// A private key is not the one of its certificate.
    #[error("invalid private key: {key} (expected: the one of the certificate: {certificate})")]
    OtherKey {
        /// The key's file, or that it is a text given.
        key: String,
        /// The certificate's.
        certificate: String,
    },
    /// It is neither a DNS name nor an IP address, so no certificate can be for it.
    #[error("invalid server name: {0:?} (expected: a DNS name or an IP address)")]
    ServerName(String),
    /// The system has no CAs, and no others are set.
    #[error("no CA certificates: the system's (expected: some there, or a file or text of yours)")]
    NoSystemRoots {
        /// What went wrong where they were looked for, if anything did.
        #[source]
        cause: Option<Cause>,
    },
    /// The runtime was shut down while files were read.
    #[error("reading the files of TLS was interrupted: the runtime is shutting down")]
    Interrupted,
}
