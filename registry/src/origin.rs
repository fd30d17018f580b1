//! A scheme and an address: how a server is spoken to, and where.

use std::{fmt, str::FromStr};

use switchboard_resolver::{Address, AddressError};

/// What is spoken at an address, and whether inside TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Scheme {
    /// gRPC in plain text.
    Grpc,
    /// gRPC inside TLS.
    Grpcs,
    /// HTTP in plain text.
    Http,
    /// HTTP inside TLS.
    Https,
}

/// A scheme and an address, such as `grpc://10.0.0.1:50051`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    scheme: Scheme,
    address: Address,
}

impl Origin {
    /// Joins a scheme and an address.
    pub fn new(scheme: Scheme, address: Address) -> Self {
        Self { scheme, address }
    }

    /// Returns what is spoken there.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Returns where.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

/// A text that is not an [`Origin`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OriginError {
    /// There is no `scheme://`, or one that is not known.
    #[error("invalid origin: {0:?} (expected: grpc://, grpcs://, http:// or https://)")]
    Scheme(String),
    /// What follows the scheme is not an address.
    #[error(transparent)]
    Address(#[from] AddressError),
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let (scheme, rest) = match text.split_once("://") {
            Some(("grpc", rest)) => (Scheme::Grpc, rest),
            Some(("grpcs", rest)) => (Scheme::Grpcs, rest),
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            _ => return Err(OriginError::Scheme(text.to_owned())),
        };
        // kratos wrote `grpc://host:port?isSecure=true` before it had `grpcs://` (its version 2.3).
        let (address, secure) = match rest.split_once('?') {
            Some((address, query)) => (
                address,
                query.split('&').any(|pair| pair == "isSecure=true"),
            ),
            None => (rest, false),
        };
        let scheme = match scheme {
            Scheme::Grpc if secure => Scheme::Grpcs,
            Scheme::Http if secure => Scheme::Https,
            scheme => scheme,
        };
        let address = address.strip_suffix('/').unwrap_or(address).parse()?;
        Ok(Self { scheme, address })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Grpc => "grpc",
            Scheme::Grpcs => "grpcs",
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{}", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_read_as_it_is_written() {
        for text in [
            "grpc://10.0.0.1:9000",
            "grpcs://[::1]:1",
            "http://h:8000",
            "https://h:8443",
        ] {
            assert_eq!(text.parse::<Origin>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_spelling_of_old_kratos_is_read() {
        let origin = |text: &str| text.parse::<Origin>().unwrap().to_string();
        assert_eq!(origin("grpc://h:1?isSecure=true"), "grpcs://h:1");
        assert_eq!(origin("grpc://h:1?isSecure=false"), "grpc://h:1");
        assert_eq!(origin("http://h:1/?isSecure=true"), "https://h:1");
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in [
            "10.0.0.1:9000",
            "tcp://h:1",
            "grpc://",
            "grpc://h",
            "://h:1",
            "grpc://h:1/path",
        ] {
            assert!(text.parse::<Origin>().is_err(), "{text:?}");
        }
    }
}
