//! The host that others dial, as it is set.

use std::{fmt, net::IpAddr, str::FromStr};

use switchboard_resolver::{Address, AddressError};

/// The host, and perhaps the port, that others dial: `10.0.0.7`, `greeter.example:443`, `[::1]:80`.
///
/// Without a port it is that on which the server listens.
///
/// ```
/// use switchboard_registry::{Advertise, Registry};
///
/// let builder = Registry::builder("10.0.0.1:2379")?.advertise("10.0.0.7".parse()?);
/// assert!("0.0.0.0".parse::<Advertise>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertise {
    /// In brackets where it is an IPv6 address.
    host: Box<str>,
    port: Option<u16>,
}

/// A text that is not an [`Advertise`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid address to advertise: {0:?} (expected: a host or host:port that others can dial)")]
pub struct InvalidAdvertise(String);

/// Stands for the port that is not known yet, where a host is checked.
const ANY_PORT: u16 = 1;

impl Advertise {
    /// Returns the address, with `port` where none was set.
    pub(super) fn at_port(&self, port: u16) -> Result<Address, AddressError> {
        let port = self.port.unwrap_or(port);
        format!("{}:{port}", self.host).parse()
    }
}

impl FromStr for Advertise {
    type Err = InvalidAdvertise;

    fn from_str(text: &str) -> Result<Self, InvalidAdvertise> {
        let refuse = || InvalidAdvertise(text.to_owned());
        let (address, port) = match (text.parse::<IpAddr>(), text.parse::<Address>()) {
            (Ok(IpAddr::V6(ip)), _) => (format!("[{ip}]:{ANY_PORT}").parse(), None),
            (_, Ok(address)) => {
                let port = address.port();
                (Ok(address), port)
            }
            _ => (format!("{text}:{ANY_PORT}").parse::<Address>(), None),
        };
        let address = address.map_err(|_| refuse())?;
        if address.is_unspecified() {
            return Err(refuse());
        }
        let host = match address.host() {
            host if host.contains(':') => format!("[{host}]"),
            host => host.to_owned(),
        };
        Ok(Self {
            host: host.into(),
            port,
        })
    }
}

impl fmt::Display for Advertise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}
