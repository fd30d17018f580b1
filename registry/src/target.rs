//! What to dial, and in which registry, as one text.
//!
//! A target never holds a secret, and errors about one never repeat it as a whole.

mod addresses;
mod choice;
mod error;
mod escape;
mod parameters;
mod parse;
#[cfg(test)]
mod tests;

use std::{fmt, path::Path};

use switchboard_resolver::{Address, Security};

pub use self::error::TargetError;
use self::parameters::Parameter;
pub(crate) use self::{addresses::Addresses, choice::Choice};
use crate::{Layout, Namespace, ServiceName};

/// What to dial, and in which registry, as one text.
///
/// | target | dials |
/// |---|---|
/// | `etcd://h1:2379,h2:2379/greeter` | a service of the etcd at those endpoints |
/// | `etcds://h1:2379,h2:2379/greeter` | the same; etcd is spoken to inside TLS |
/// | `etcd:///greeter` | a service of the default registry |
/// | `discovery:///greeter` | the same, kratos' spelling: as kratos lays it out |
/// | `etcd:///h1:2379,h2:2379?key=user.rpc` | a service as go-zero lays it out, go-zero's spelling |
/// | `direct:///h1:50051,h2:50051` | these servers, with no etcd at all |
/// | `dns:///greeter.example:50051` | the servers behind a DNS name, which is looked up again and again |
/// | `unix:/run/greeter.sock` | a server on this machine, by its Unix socket; also `unix:///run/greeter.sock` |
/// | `h1:2379,h2:2379` or `etcd://h1:2379,h2:2379` | nothing: an etcd, for [`Registry::builder`](crate::Registry::builder) |
/// | `http://h1:2379,http://h2:2379` | the same, as etcd's tools have it; `https://` is `etcds://` |
///
/// The `etcd` ones take the parameters `layout` and `namespace`, as in
/// `etcd:///greeter?layout=kratos&namespace=/shop`. What names servers says who of them is called, too:
///
/// | parameter | of those that are listed |
/// |---|---|
/// | `policy=least_request` | how one is chosen for a call: a policy by its name |
/// | `version=v2` | those of this version alone are called |
/// | `zone=a` | those of this zone are preferred |
/// | `subset=10` | as many are called at most, others by each client |
/// | `config=/switchboard/greeter` | all of this and more, from a key of etcd that may change ([`Registry::service_configs`](crate::Registry::service_configs)) |
///
/// Names and values are percent-encoded as in URLs. The default registry is that of
/// [`RegistryConfig::from_env`](crate::RegistryConfig::from_env).
///
/// ```
/// use switchboard_registry::Target;
///
/// let target: Target = "etcd://10.0.0.1:2379,10.0.0.2:2379/greeter".parse()?;
/// assert_eq!(target.service().unwrap().as_str(), "greeter");
/// let Target::Etcd(etcd) = &target else { unreachable!() };
/// assert_eq!(etcd.endpoints().len(), 2);
///
/// let kratos: Target = "discovery:///greeter".parse()?;
/// assert_eq!(kratos.to_string(), "etcd:///greeter?layout=kratos");
/// # Ok::<(), switchboard_registry::TargetError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// An etcd by its endpoints, and perhaps a service in it.
    Etcd(EtcdTarget),
    /// A service of the default registry.
    Service(ServiceTarget),
    /// Servers by their addresses.
    Direct(DirectTarget),
    /// Servers behind a DNS name.
    Dns(DnsTarget),
    /// A server on this machine.
    Unix(UnixTarget),
}

/// An etcd by its endpoints, and perhaps a service in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdTarget {
    pub(crate) addresses: Addresses,
    pub(crate) security: Security,
    pub(crate) service: Option<ServiceName>,
    pub(crate) place: PartialPlace,
    /// Nothing without a service.
    pub(crate) choice: Choice,
}

/// A service of the default registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceTarget {
    pub(crate) service: ServiceName,
    pub(crate) place: PartialPlace,
    pub(crate) choice: Choice,
}

/// Servers by their addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectTarget {
    pub(crate) addresses: Addresses,
    pub(crate) choice: Choice,
}

/// Servers behind a DNS name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsTarget {
    /// Of a host, which may be an IP address, and a port.
    pub(crate) name: Address,
    pub(crate) choice: Choice,
}

/// A server on this machine, by its Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixTarget {
    /// Its path begins with one `/`.
    pub(crate) address: Address,
    pub(crate) choice: Choice,
}

/// Where records lie, as far as a target says so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PartialPlace {
    pub(crate) namespace: Option<Namespace>,
    pub(crate) layout: Option<Layout>,
}

impl Target {
    /// Returns the service, if one is named.
    pub fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Etcd(target) => target.service.as_ref(),
            Self::Service(target) => Some(&target.service),
            Self::Direct(_) | Self::Dns(_) | Self::Unix(_) => None,
        }
    }
}

impl EtcdTarget {
    /// Returns etcd's endpoints, at least one.
    pub fn endpoints(&self) -> &[Address] {
        self.addresses.as_slice()
    }

    /// Returns whether etcd is spoken to inside TLS.
    pub fn is_tls(&self) -> bool {
        self.security == Security::Tls
    }
}

impl DirectTarget {
    /// Returns the servers' addresses, at least one.
    pub fn addresses(&self) -> &[Address] {
        self.addresses.as_slice()
    }
}

impl DnsTarget {
    /// Returns the name and the port at which its servers listen.
    pub fn name(&self) -> &Address {
        &self.name
    }
}

impl UnixTarget {
    /// Returns the socket's address.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

/// Returns the scheme of targets whose etcd is spoken to in this way.
pub(crate) fn scheme(security: Security) -> &'static str {
    match security {
        Security::Plaintext => "etcd",
        Security::Tls => "etcds",
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Etcd(target) => target.fmt(f),
            Self::Service(target) => {
                write!(f, "etcd:///{}", escape::encode(target.service.as_str()))?;
                let place = target.place.parameters();
                parameters::write(f, place.into_iter().chain(target.choice.parameters()))
            }
            Self::Direct(target) => {
                write!(f, "direct:///{}", target.addresses)?;
                parameters::write(f, target.choice.parameters())
            }
            Self::Dns(target) => {
                write!(f, "dns:///{}", target.name)?;
                parameters::write(f, target.choice.parameters())
            }
            Self::Unix(target) => {
                let path = target.address.path().unwrap_or(Path::new(""));
                write!(f, "unix:{}", escape::encode(&path.to_string_lossy()))?;
                parameters::write(f, target.choice.parameters())
            }
        }
    }
}

impl fmt::Display for EtcdTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", scheme(self.security), self.addresses)?;
        if let Some(service) = &self.service {
            write!(f, "/{}", escape::encode(service.as_str()))?;
        }
        let place = self.place.parameters();
        parameters::write(f, place.into_iter().chain(self.choice.parameters()))
    }
}

impl PartialPlace {
    /// Returns all parameters there are of these.
    fn parameters(&self) -> [Parameter; 2] {
        let layout = self.layout.as_ref().map(ToString::to_string);
        let namespace = self.namespace.as_ref().map(ToString::to_string);
        [("layout", layout), ("namespace", namespace)]
    }
}

impl TryFrom<&str> for Target {
    type Error = TargetError;

    fn try_from(text: &str) -> Result<Self, TargetError> {
        text.parse()
    }
}

impl TryFrom<&String> for Target {
    type Error = TargetError;

    fn try_from(text: &String) -> Result<Self, TargetError> {
        text.parse()
    }
}

impl TryFrom<String> for Target {
    type Error = TargetError;

    fn try_from(text: String) -> Result<Self, TargetError> {
        text.parse()
    }
}
