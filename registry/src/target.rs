//! Where etcd is, and which service is meant, as one text.

use std::str::FromStr;

use switchboard_resolver::{Address, AddressError};

use crate::{NameError, ServiceName};

/// etcd's endpoints, and perhaps a service: `etcd://h1:2379,h2:2379/greeter`.
///
/// The endpoints alone, `h1:2379,h2:2379`, are a target too.
///
/// ```
/// use switchboard_registry::Target;
///
/// let target: Target = "etcd://10.0.0.1:2379,10.0.0.2:2379/greeter".parse()?;
/// assert_eq!(target.etcd().len(), 2);
/// assert_eq!(target.service().unwrap().as_str(), "greeter");
/// # Ok::<(), switchboard_registry::TargetError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    etcd: Vec<Address>,
    service: Option<ServiceName>,
}

impl Target {
    /// Returns etcd's endpoints, at least one.
    pub fn etcd(&self) -> &[Address] {
        &self.etcd
    }

    /// Returns etcd's endpoints as text.
    pub(crate) fn hosts(&self) -> String {
        let hosts: Vec<_> = self.etcd.iter().map(ToString::to_string).collect();
        hosts.join(",")
    }

    /// Returns the service, if one is named.
    pub fn service(&self) -> Option<&ServiceName> {
        self.service.as_ref()
    }
}

/// A text that is not a [`Target`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// It has another scheme.
    #[error("invalid target: {0:?} (expected: host:port,... or etcd://host:port,...)")]
    Scheme(String),
    /// It names no endpoint of etcd.
    #[error("invalid target: {0:?} (expected: at least one endpoint of etcd)")]
    NoEndpoint(String),
    /// It names a service, where etcd alone is meant.
    #[error("invalid target: {0} after the endpoints (expected: no service; dial it by name)")]
    Service(ServiceName),
    /// It names no service, where one is needed.
    #[error("invalid target: {0:?} (expected: a service after the endpoints)")]
    NoService(String),
    /// One of the endpoints is not an address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The service's name is invalid.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let rest = match text.split_once("://") {
            Some(("etcd", rest)) => rest,
            Some(_) => return Err(TargetError::Scheme(text.to_owned())),
            None => text,
        };
        let (hosts, service) = match rest.split_once('/') {
            Some((hosts, service)) => (hosts, Some(service).filter(|service| !service.is_empty())),
            None => (rest, None),
        };
        if hosts.is_empty() {
            return Err(TargetError::NoEndpoint(text.to_owned()));
        }
        let etcd = hosts
            .split(',')
            .map(|host| host.trim().parse())
            .collect::<Result<_, _>>()?;
        let service = service.map(str::parse).transpose()?;
        Ok(Self { etcd, service })
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

impl From<std::convert::Infallible> for TargetError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_and_a_target_name_the_same_endpoints() {
        let target: Target = "etcd://h1:2379,h2:2379/greeter".parse().unwrap();
        assert_eq!(
            target.etcd(),
            "h1:2379,h2:2379".parse::<Target>().unwrap().etcd()
        );
        assert_eq!(target.service().map(ServiceName::as_str), Some("greeter"));
        for text in ["h1:2379", "etcd://h1:2379", "etcd://h1:2379/"] {
            assert_eq!(text.parse::<Target>().unwrap().service(), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_target_is_refused_with_what_was_expected() {
        for (text, expected) in [
            ("", "at least one endpoint"),
            ("etcd:///greeter", "at least one endpoint"),
            ("http://h1:2379", "etcd://"),
            ("h1", "host:port"),
            ("h1:2379,,h2:2379", "host:port"),
            ("h1:2379/a/b", "no '/'"),
        ] {
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
