//! Where a server listens: a host and a port, or a Unix socket.

use std::{fmt, net::IpAddr, path::Path, str::FromStr};

use serde::{Deserialize, Serialize};

/// What can be dialed: a host and a port, as `host:port`, or a Unix socket.
///
/// The host is a DNS name, an IPv4 address, or an IPv6 address in brackets. Two addresses are equal
/// when they are written alike: names are not resolved, and an IPv6 address is kept in its
/// canonical form. A Unix socket is not read from a text, which may be somebody else's: it is made
/// with [`Address::unix`].
///
/// ```
/// use switchboard_resolver::Address;
///
/// let address: Address = "10.0.0.1:50051".parse()?;
/// assert_eq!((address.host(), address.port()), ("10.0.0.1", Some(50051)));
/// assert_eq!("[0::1]:80".parse::<Address>()?.to_string(), "[::1]:80");
/// assert!("10.0.0.1".parse::<Address>().is_err());
/// # Ok::<(), switchboard_resolver::AddressError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Address(Kind);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    Tcp { host: Box<str>, port: u16 },
    Unix(Box<str>),
}

/// As long as Linux allows (`sun_path`).
const LONGEST_PATH: usize = 107;

impl Address {
    /// Makes the address of a Unix socket, which is written as `unix:` and its path. As gRPC has it,
    /// its server is called `localhost`.
    ///
    /// ```
    /// use switchboard_resolver::Address;
    ///
    /// let address = Address::unix("/run/greeter.sock")?;
    /// assert_eq!(address.to_string(), "unix:/run/greeter.sock");
    /// assert_eq!((address.host(), address.port()), ("localhost", None));
    /// # Ok::<(), switchboard_resolver::AddressError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The path is empty, longer than 107 bytes, or has control characters in it.
    pub fn unix(path: impl Into<String>) -> Result<Self, AddressError> {
        let path = path.into();
        if path.is_empty() || path.len() > LONGEST_PATH || path.contains(char::is_control) {
            return Err(AddressError {
                text: path,
                expected: "a path of 1 to 107 bytes without control characters",
            });
        }
        Ok(Self(Kind::Unix(path.into())))
    }

    /// Returns the host, without the brackets of an IPv6 address; `localhost` for a Unix socket.
    pub fn host(&self) -> &str {
        match &self.0 {
            Kind::Tcp { host, .. } => host,
            Kind::Unix(_) => "localhost",
        }
    }

    /// Returns the port, which is never 0; `None` for a Unix socket.
    pub fn port(&self) -> Option<u16> {
        match &self.0 {
            Kind::Tcp { port, .. } => Some(*port),
            Kind::Unix(_) => None,
        }
    }

    /// Returns the path of a Unix socket; `None` for anything else.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Kind::Tcp { .. } => None,
            Kind::Unix(path) => Some(Path::new(&**path)),
        }
    }

    /// Returns whether the host is `0.0.0.0` or `::`: an address to listen on, of no use to who
    /// wants to dial it.
    pub fn is_unspecified(&self) -> bool {
        self.ip().is_some_and(|ip| ip.is_unspecified())
    }

    /// Returns whether the host is this machine's own loopback, by number or as `localhost`.
    pub fn is_loopback(&self) -> bool {
        self.host().eq_ignore_ascii_case("localhost")
            || self.ip().is_some_and(|ip| ip.is_loopback())
    }

    fn ip(&self) -> Option<IpAddr> {
        self.host().parse().ok()
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let refuse = |expected| AddressError {
            text: text.to_owned(),
            expected,
        };
        if text.starts_with("unix:") {
            return Err(refuse(
                "host:port; the address of a Unix socket is made with `Address::unix`",
            ));
        }
        if text.contains("://") {
            return Err(refuse("host:port, without a scheme"));
        }
        let (host, port) = text.rsplit_once(':').ok_or(refuse("host:port"))?;
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = match port.parse::<u16>() {
            Ok(port) if port > 0 && digits => port,
            _ => return Err(refuse("a port from 1 to 65535")),
        };
        let host = match host.strip_prefix('[') {
            Some(rest) => match rest.strip_suffix(']').map(str::parse::<std::net::Ipv6Addr>) {
                Some(Ok(ip)) => ip.to_string(),
                _ => return Err(refuse("an IPv6 address between the brackets")),
            },
            None if host.contains(':') => return Err(refuse("brackets around an IPv6 address")),
            None => host.to_owned(),
        };
        let in_a_host_name =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || !host.chars().all(in_a_host_name) {
            return Err(refuse("a host name or an IP address before the port"));
        }
        let host = host.into_boxed_str();
        Ok(Self(Kind::Tcp { host, port }))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Kind::Tcp { host, port } => write!(f, "{host}:{port}"),
            Kind::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<&str> for Address {
    type Error = AddressError;

    fn try_from(text: &str) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<&String> for Address {
    type Error = AddressError;

    fn try_from(text: &String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<std::net::SocketAddr> for Address {
    type Error = AddressError;

    fn try_from(address: std::net::SocketAddr) -> Result<Self, AddressError> {
        address.to_string().parse()
    }
}

/// A text that is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid address: {text:?} (expected: {expected})")]
pub struct AddressError {
    text: String,
    expected: &'static str,
}

impl AddressError {
    /// Says that an address is one, and cannot be used here.
    pub(crate) fn unfit(address: &Address, expected: &'static str) -> Self {
        Self {
            text: address.to_string(),
            expected,
        }
    }
}

impl From<std::convert::Infallible> for AddressError {
    /// An [`Address`] is one already.
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_an_ipv4_and_a_bracketed_ipv6_are_addresses() {
        for text in [
            "greeter.svc:80",
            "127.0.0.1:1",
            "[fe80::1]:65535",
            "a_b-c:7",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_cannot_be_dialed_is_refused_with_what_was_expected() {
        for (text, expected) in [
            ("", "host:port"),
            ("host", "host:port"),
            ("http://host:80", "without a scheme"),
            ("unix:/run/x.sock", "`Address::unix`"),
            ("unix:///run/x.sock", "`Address::unix`"),
            ("host:", "port"),
            ("host:0", "port"),
            ("host:65536", "port"),
            ("host:+80", "port"),
            (":80", "host name"),
            ("::1:80", "brackets"),
            ("[::1:80", "brackets"),
            ("[host]:80", "brackets"),
            ("a b:80", "host name"),
            ("a/b:80", "host name"),
            ("user@host:80", "host name"),
            ("h\u{0}:80", "host name"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_path_makes_a_unix_socket_and_a_text_never_does() {
        let address = Address::unix("/run/greeter.sock").unwrap();
        assert!(address.is_loopback() && !address.is_unspecified());
        assert_eq!(address.path(), Some(Path::new("/run/greeter.sock")));
        assert!(address.to_string().parse::<Address>().is_err());
        for path in [String::new(), "a\0b".into(), "a".repeat(108)] {
            let error = Address::unix(path).unwrap_err().to_string();
            assert!(
                error.contains("(expected: a path of 1 to 107 bytes"),
                "{error}"
            );
        }
    }

    #[test]
    fn unspecified_and_loopback_are_told_apart() {
        let address = |text: &str| text.parse::<Address>().unwrap();
        assert!(address("0.0.0.0:1").is_unspecified() && address("[::]:1").is_unspecified());
        assert!(address("127.0.0.9:1").is_loopback() && address("localhost:1").is_loopback());
        assert!(!address("10.0.0.1:1").is_loopback() && !address("10.0.0.1:1").is_unspecified());
    }
}
