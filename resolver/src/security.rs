//! Whether a server is spoken to inside TLS.

use std::fmt;

/// Whether a server is spoken to inside TLS; see
/// [`Endpoint::with_security`](crate::Endpoint::with_security).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(clippy::exhaustive_enums, reason = "there is no third")]
pub enum Security {
    /// In plain text.
    Plaintext,
    /// Inside TLS.
    Tls,
}

impl fmt::Display for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plaintext => "in plaintext",
            Self::Tls => "inside TLS",
        })
    }
}
