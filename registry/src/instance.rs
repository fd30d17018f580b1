//! One running server's record.

use std::collections::BTreeMap;

use switchboard_resolver::{Address, AddressError, Endpoint, Security};

use crate::{InstanceId, NameError, Origin, Scheme, ServiceName, name};

/// The entry of metadata that tells the zone, where channels look for it: under another one, those who prefer
/// servers of their own zone would not find them.
const ZONE: &str = "zone";

/// That of the version, likewise.
const VERSION: &str = "version";

/// One running server's record in the registry: what is published, and what discovery finds.
///
/// ```
/// use switchboard_registry::Instance;
///
/// let instance = Instance::new("greeter", "10.0.0.1:50051")?.with_version("v2").with_metadata("zone", "b");
/// assert_eq!(instance.origins()[0].to_string(), "grpc://10.0.0.1:50051");
/// # Ok::<(), switchboard_registry::InstanceError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    service: ServiceName,
    id: Id,
    version: String,
    metadata: BTreeMap<String, String>,
    origins: Vec<Origin>,
}

/// What becomes the id in the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Id {
    /// This one; or, where it is the one that stands for the identity, the layout's own way to have
    /// such an id.
    Fixed(InstanceId),
    /// The lease's, once there is one; this one stands for the identity meanwhile.
    OfLease(InstanceId),
}

impl Instance {
    /// Makes the record of a server that speaks gRPC in plain text at `address`, the one that
    /// others can dial.
    ///
    /// Its id is derived from the service and the address ([`InstanceId::derived`], or as the
    /// layout's [`KeyRule`](crate::KeyRule) has it), so that a server that comes back takes its old
    /// place.
    ///
    /// # Errors
    ///
    /// The name or the address is invalid, or nobody else can dial it: it is a Unix socket, or
    /// unspecified (`0.0.0.0`, `[::]`), where one can only listen.
    /// [`Registry::advertised`](crate::Registry::advertised) finds the one to dial then.
    pub fn new<N, A>(service: N, address: A) -> Result<Self, InstanceError>
    where
        N: TryInto<ServiceName, Error: Into<NameError>>,
        A: TryInto<Address, Error: Into<AddressError>>,
    {
        let service = service.try_into().map_err(Into::into)?;
        let address = address.try_into().map_err(Into::into)?;
        check_is_for_others(&address)?;
        let id = InstanceId::derived(&service, &address);
        let origins = vec![Origin::new(Scheme::Grpc, address)];
        Ok(Self {
            service,
            id: Id::Fixed(id),
            version: String::new(),
            metadata: BTreeMap::new(),
            origins,
        })
    }

    /// Makes the record of somebody who is not dialed, told apart by the id alone: a member of a
    /// group. It is not published where clients of kratos look for servers.
    pub fn member(group: ServiceName, id: InstanceId) -> Self {
        Self::found(group, id, String::new(), BTreeMap::new(), Vec::new())
    }

    /// Puts together what was read from a registry.
    pub(crate) fn found(
        service: ServiceName,
        id: InstanceId,
        version: String,
        metadata: BTreeMap<String, String>,
        origins: Vec<Origin>,
    ) -> Self {
        Self {
            service,
            id: Id::Fixed(id),
            version,
            metadata,
            origins,
        }
    }

    /// Sets an id of the caller's choice. Publishing it fails with `IdTaken` while it names another
    /// identity, and at once if the layout has no such ids.
    pub fn with_id(mut self, id: InstanceId) -> Self {
        self.id = Id::Fixed(id);
        self
    }

    /// Takes the id of the lease that it is published under, in decimal: go-zero's own way. When
    /// the registry gets another lease, the key moves.
    ///
    /// A registry has one lease, so one instance of a service can be published in this way.
    pub fn with_lease_id(mut self) -> Self {
        self.id = Id::OfLease(InstanceId::digest(self.identity()));
        self
    }

    /// Sets the version that the server runs.
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Sets one entry of metadata.
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Sets the zone, unless there is one or none to set.
    pub(crate) fn in_zone(mut self, zone: Option<&str>) -> Self {
        if let Some(zone) = zone
            && !self.metadata.contains_key(ZONE)
        {
            self.metadata.insert(ZONE.to_owned(), zone.to_owned());
        }
        self
    }

    /// Says that the server speaks gRPC inside TLS and not in plain text: what was `grpc://` is
    /// `grpcs://`, which only channels with TLS dial. The id stays.
    pub fn with_tls(mut self) -> Self {
        let inside_tls = |origin: Origin| match origin.scheme() {
            Scheme::Grpc => Origin::new(Scheme::Grpcs, origin.address().clone()),
            _ => origin,
        };
        let origins = std::mem::take(&mut self.origins);
        origins
            .into_iter()
            .map(inside_tls)
            .fold(self, Self::with_origin)
    }

    /// Adds a further way to reach the server, such as its HTTP port.
    pub fn with_origin(mut self, origin: Origin) -> Self {
        if !self.origins.contains(&origin) {
            self.origins.push(origin);
        }
        self
    }

    /// Returns the service that the server provides.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Returns the id, unique in the service: the one in the registry if the instance was found
    /// there, else the one that was chosen, else the one that kratos' layout derives.
    pub fn id(&self) -> &InstanceId {
        match &self.id {
            Id::Fixed(id) | Id::OfLease(id) => id,
        }
    }

    /// Returns what becomes the id in the key.
    pub(crate) fn id_rule(&self) -> &Id {
        &self.id
    }

    /// Returns whether the id is the one that stands for the identity.
    pub(crate) fn has_derived_id(&self) -> bool {
        *self.id() == InstanceId::digest(self.identity())
    }

    /// Returns what tells this server from others: its address, or, where it has none, its id.
    pub(crate) fn identity(&self) -> String {
        match self.origins.first() {
            Some(origin) => name::identity(&self.service, origin.address()),
            None => format!("{}/#{}", self.service, self.id()),
        }
    }

    /// Returns the version that the server runs; empty where none was set.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the metadata.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Returns the ways to reach the server.
    pub fn origins(&self) -> &[Origin] {
        &self.origins
    }

    /// Returns whether both records are of one identity: the same service at the same first
    /// address.
    pub(crate) fn is_same_server(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }

    /// Returns what channels can dial: an endpoint of what speaks gRPC in plain text, and one of
    /// what speaks it inside TLS. Each channel takes the one of its kind.
    pub(crate) fn to_endpoints(&self) -> impl Iterator<Item = Endpoint> {
        let kinds = [
            (Scheme::Grpc, Security::Plaintext),
            (Scheme::Grpcs, Security::Tls),
        ];
        kinds
            .into_iter()
            .filter_map(|(scheme, security)| self.to_endpoint(scheme, security))
    }

    fn to_endpoint(&self, scheme: Scheme, security: Security) -> Option<Endpoint> {
        let dialable =
            |origin: &&Origin| origin.scheme() == scheme && !origin.address().is_unspecified();
        let mut origins = self.origins.iter().filter(dialable);
        let first = Endpoint::new(origins.next()?.address().clone());
        let all = origins.fold(first, |endpoint, origin| {
            endpoint.with_address(origin.address().clone())
        });
        let all = all.with_all_metadata(self.metadata.clone());
        // Where clients look for it, whatever the layout: next to the zone and the weight.
        let all = match self.metadata.contains_key(VERSION) || self.version.is_empty() {
            true => all,
            false => all.with_metadata(VERSION, self.version.clone()),
        };
        Some(all.with_security(security))
    }
}

/// Why an [`Instance`] cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InstanceError {
    /// The service's name is invalid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The address is invalid.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// One can listen at the address, but nobody can dial it.
    #[error(
        "invalid address to publish: {0} (expected: one that others can dial; `Registry::advertised` finds it)"
    )]
    Unspecified(Address),
    /// A Unix socket, which nobody can dial on another machine.
    #[error(
        "invalid address to publish: {0} (expected: host:port, since others cannot dial a Unix socket; `Channel::balance` takes it here)"
    )]
    UnixSocket(Address),
    /// There is nothing to dial, where clients look for servers.
    #[error("no endpoint: {0} (expected: at least one)")]
    NoEndpoint(ServiceName),
}

/// Refuses an address that others cannot dial, on other machines too if there are any.
pub(crate) fn check_is_for_others(address: &Address) -> Result<(), InstanceError> {
    if address.is_unspecified() {
        Err(InstanceError::Unspecified(address.clone()))
    } else if address.port().is_none() {
        Err(InstanceError::UnixSocket(address.clone()))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_cannot_be_dialed_is_not_made() {
        assert!(matches!(
            Instance::new("a/b", "h:1"),
            Err(InstanceError::Name(_))
        ));
        assert!(matches!(
            Instance::new("a", "h:0"),
            Err(InstanceError::Address(_))
        ));
        assert!(matches!(
            Instance::new("a", Address::unix("/run/a").unwrap()),
            Err(InstanceError::UnixSocket(_))
        ));
        assert!(matches!(
            Instance::new("a", "0.0.0.0:1"),
            Err(InstanceError::Unspecified(_))
        ));
        assert!(matches!(
            Instance::new("a", "[::]:1"),
            Err(InstanceError::Unspecified(_))
        ));
    }

    #[test]
    fn what_speaks_grpc_is_one_endpoint_in_plain_text_and_one_inside_tls() {
        let instance = Instance::new("greeter", "h:1").unwrap();
        let instance = instance.with_origin("grpcs://h:2".parse().unwrap());
        let instance = instance.with_origin("http://h:3".parse().unwrap());
        let instance = instance.with_origin("grpc://h:4".parse().unwrap());
        let endpoints = |instance: &Instance| -> Vec<_> {
            let endpoints = instance.to_endpoints();
            endpoints
                .map(|it| (it.to_string(), it.security()))
                .collect()
        };
        let plain = ("h:1,h:4".to_owned(), Some(Security::Plaintext));
        let secure = ("h:2".to_owned(), Some(Security::Tls));
        assert_eq!(endpoints(&instance), [plain, secure]);
        let secure = ("h:1,h:2,h:4".to_owned(), Some(Security::Tls));
        assert_eq!(endpoints(&instance.with_tls()), [secure]);
    }

    #[test]
    fn a_server_inside_tls_is_the_same_one() {
        let plain = Instance::new("greeter", "h:1").unwrap();
        let secure = plain.clone().with_tls();
        assert_eq!(secure.origins()[0].to_string(), "grpcs://h:1");
        assert!(secure.is_same_server(&plain) && secure.id() == plain.id());
        let both = plain.with_origin("grpcs://h:1".parse().unwrap());
        assert_eq!(both.with_tls(), secure, "nothing twice");
    }
}
