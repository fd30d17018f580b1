//! One running server's record.

use std::collections::BTreeMap;

use switchboard_resolver::{Address, AddressError, Endpoint};

use crate::{InstanceId, NameError, Origin, Scheme, ServiceName};

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
    id: InstanceId,
    version: String,
    metadata: BTreeMap<String, String>,
    origins: Vec<Origin>,
}

impl Instance {
    /// Makes the record of a server that speaks gRPC in plain text at `address`, the one that
    /// others can dial.
    ///
    /// Its id is derived from the service and the address ([`InstanceId::derived`]), so that a
    /// server that comes back takes its old place.
    ///
    /// # Errors
    ///
    /// The name or the address is invalid, or the address is unspecified (`0.0.0.0`, `[::]`): one
    /// can listen there, but nobody can dial it.
    pub fn new<N, A>(service: N, address: A) -> Result<Self, InstanceError>
    where
        N: TryInto<ServiceName, Error: Into<NameError>>,
        A: TryInto<Address, Error: Into<AddressError>>,
    {
        let service = service.try_into().map_err(Into::into)?;
        let address = address.try_into().map_err(Into::into)?;
        if address.is_unspecified() {
            return Err(InstanceError::Unspecified(address));
        }
        let id = InstanceId::derived(&service, &address);
        let origins = vec![Origin::new(Scheme::Grpc, address)];
        Ok(Self {
            service,
            id,
            version: String::new(),
            metadata: BTreeMap::new(),
            origins,
        })
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
            id,
            version,
            metadata,
            origins,
        }
    }

    /// Sets an id of the caller's choice. Publishing it fails with `IdTaken` while it names another
    /// identity.
    pub fn with_id(mut self, id: InstanceId) -> Self {
        self.id = id;
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

    /// Returns the id, unique in the service.
    pub fn id(&self) -> &InstanceId {
        &self.id
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
        let address = |instance: &Self| {
            instance
                .origins
                .first()
                .map(|origin| origin.address().clone())
        };
        self.service == other.service && address(self) == address(other)
    }

    /// Returns what a channel in plain text can dial, if there is anything.
    pub(crate) fn to_endpoint(&self) -> Option<Endpoint> {
        let dialable = |origin: &&Origin| {
            origin.scheme() == Scheme::Grpc && !origin.address().is_unspecified()
        };
        let mut plain = self.origins.iter().filter(dialable);
        let first = Endpoint::new(plain.next()?.address().clone());
        let all = plain.fold(first, |endpoint, origin| {
            endpoint.with_address(origin.address().clone())
        });
        Some(all.with_all_metadata(self.metadata.clone()))
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
    #[error("invalid address to publish: {0} (expected: one that others can dial)")]
    Unspecified(Address),
    /// There is nothing to dial.
    #[error("no endpoint: {0} (expected: at least one)")]
    NoEndpoint(ServiceName),
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
            Instance::new("a", "0.0.0.0:1"),
            Err(InstanceError::Unspecified(_))
        ));
        assert!(matches!(
            Instance::new("a", "[::]:1"),
            Err(InstanceError::Unspecified(_))
        ));
    }

    #[test]
    fn a_channel_in_plain_text_dials_plain_grpc_only() {
        let instance = Instance::new("greeter", "h:1").unwrap();
        let instance = instance.with_origin("grpcs://h:2".parse().unwrap());
        let instance = instance.with_origin("http://h:3".parse().unwrap());
        let instance = instance.with_origin("grpc://h:4".parse().unwrap());
        let addresses: Vec<_> = instance
            .to_endpoint()
            .unwrap()
            .addresses()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(addresses, ["h:1", "h:4"]);
        let secure = Instance {
            origins: vec!["grpcs://h:2".parse().unwrap()],
            ..instance
        };
        assert!(secure.to_endpoint().is_none());
    }
}
