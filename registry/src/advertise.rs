//! Decides at which address others dial this process, where it listens on whatever there is.
//!
//! ```text
//! given                                   -> that one
//! bound to a specific address             -> that one
//! bound to 0.0.0.0 or [::]   $POD_IP      -> that one
//!                            otherwise    -> the address that routes to etcd,
//!                                            else the first of the network interfaces
//! ```
//!
//! A loopback that nobody has given is refused, or passed over, unless all of etcd is on loopback
//! too: then all who can see the record are on this machine. A server that listens on `0.0.0.0` is
//! not found at an IPv6 address.
//!
//! It opens no socket and reads no variable: [`Machine::look`] does what has to be looked for.

mod given;
mod machine;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use switchboard_resolver::{Address, AddressError};

pub use self::given::{Advertise, InvalidAdvertise};
pub(crate) use self::machine::Machine;
use crate::target::Addresses;

/// What settings say of the address to advertise.
#[derive(Debug)]
pub(crate) struct Advertised {
    given: Option<Advertise>,
    /// `$POD_IP`, as it is there.
    pod_ip: Option<String>,
    etcd: Addresses,
}

/// Why there is no address to advertise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdvertiseError {
    /// Only processes on this machine can dial it, and etcd is elsewhere.
    #[error(
        "invalid address to advertise: {address} with etcd at {etcd} (expected: one that others can dial: listen on another, or set `advertise`)"
    )]
    Loopback {
        /// The address.
        address: SocketAddr,
        /// etcd's endpoints.
        etcd: String,
    },
    /// It means something else on each machine.
    #[error(
        "invalid address to advertise: {0} is link-local (expected: one that others can dial: listen on another, or set `advertise`)"
    )]
    LinkLocal(SocketAddr),
    /// No network interface that is up has an address that will do.
    #[error(
        "no address to advertise for {0}: no network but loopback (expected: one that others can dial: set `advertise`)"
    )]
    NoAddress(SocketAddr),
    /// `$POD_IP` is not the address of a pod.
    #[error("invalid POD_IP: {0:?} (expected: an IP address that others can dial, or none)")]
    PodIp(String),
    /// What is bound has no port yet.
    #[error(transparent)]
    Address(#[from] AddressError),
}

impl Advertised {
    pub(crate) fn new(given: Option<Advertise>, pod_ip: Option<String>, etcd: Addresses) -> Self {
        Self {
            given,
            pod_ip: pod_ip.filter(|text| !text.is_empty()),
            etcd,
        }
    }

    pub(crate) fn etcd(&self) -> &[Address] {
        self.etcd.as_slice()
    }

    /// Decides without a look at the machine; `None` if that is needed.
    pub(crate) fn by_setting(&self, bound: SocketAddr) -> Result<Option<Address>, AdvertiseError> {
        let bound = canonical(bound);
        if let Some(given) = &self.given {
            return Ok(Some(given.at_port(bound.port())?));
        }
        let specific = if bound.ip().is_unspecified() {
            self.pod_address(bound)?
        } else if is_link_local(bound.ip()) && bound.is_ipv6() {
            return Err(AdvertiseError::LinkLocal(bound));
        } else {
            Some(bound)
        };
        match specific {
            Some(address) if !self.is_visible(address.ip()) => Err(AdvertiseError::Loopback {
                address,
                etcd: self.etcd.to_string(),
            }),
            Some(address) => Ok(Some(address.try_into()?)),
            None => Ok(None),
        }
    }

    /// Decides by what there is on the machine.
    pub(crate) fn by_machine(
        &self,
        bound: SocketAddr,
        machine: &Machine,
    ) -> Result<Address, AdvertiseError> {
        let bound = canonical(bound);
        let mut all = machine.routes.iter().chain(&machine.interfaces);
        let found = all.find(|ip| {
            !ip.is_unspecified()
                && !is_link_local(**ip)
                && reaches(bound, **ip)
                && self.is_visible(**ip)
        });
        let ip = found.ok_or(AdvertiseError::NoAddress(bound))?;
        Ok(SocketAddr::new(*ip, bound.port()).try_into()?)
    }

    fn pod_address(&self, bound: SocketAddr) -> Result<Option<SocketAddr>, AdvertiseError> {
        let Some(text) = &self.pod_ip else {
            return Ok(None);
        };
        match text.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
            Ok(ip) if !ip.is_unspecified() => {
                Ok(reaches(bound, ip).then(|| SocketAddr::new(ip, bound.port())))
            }
            _ => Err(AdvertiseError::PodIp(text.clone())),
        }
    }

    /// Returns whether all who see etcd can see the address too.
    fn is_visible(&self, ip: IpAddr) -> bool {
        !ip.is_loopback() || self.etcd().iter().all(Address::is_loopback)
    }
}

/// An IPv4 address that is written as an IPv6 one is still an IPv4 address.
fn canonical(bound: SocketAddr) -> SocketAddr {
    match bound.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), bound.port()),
        // With its scope.
        IpAddr::V6(_) => bound,
    }
}

/// Returns whether one who listens on `bound`, an unspecified address, hears what is sent to `ip`.
fn reaches(bound: SocketAddr, ip: IpAddr) -> bool {
    bound.is_ipv6() || ip.is_ipv4()
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}
