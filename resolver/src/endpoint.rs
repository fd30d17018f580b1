//! Something that can be dialed.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
};

use crate::{Address, EndpointKey, Security};

/// Something that can be dialed: one server, under one address or several.
///
/// An endpoint is known by the *unordered set* of its addresses (gRPC's rule, A61): the same
/// addresses in another order are the same endpoint and keep its connection, and a change of
/// metadata alone never reconnects. Cheap to clone.
#[derive(Clone)]
pub struct Endpoint(Arc<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    addresses: Vec<Address>,
    metadata: BTreeMap<String, String>,
    /// `None` if it is not known.
    security: Option<Security>,
    /// Made when it is asked for first; sources that send an endpoint again send it with its key.
    key: OnceLock<EndpointKey>,
}

impl Endpoint {
    /// Makes an endpoint of one address.
    pub fn new(address: Address) -> Self {
        Self(Arc::new(Inner {
            addresses: vec![address],
            metadata: BTreeMap::new(),
            security: None,
            key: OnceLock::new(),
        }))
    }

    /// Adds a further address of the same server; they are tried in the order given.
    pub fn with_address(mut self, address: Address) -> Self {
        if !self.0.addresses.contains(&address) {
            let inner = Arc::make_mut(&mut self.0);
            inner.addresses.push(address);
            inner.key = OnceLock::new();
        }
        self
    }

    /// Adds something known of the server beside its addresses, such as its version or zone. The
    /// same key again replaces its value.
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let inner = Arc::make_mut(&mut self.0);
        inner.metadata.insert(key.into(), value.into());
        self
    }

    /// Replaces all metadata.
    pub fn with_all_metadata(mut self, metadata: BTreeMap<String, String>) -> Self {
        Arc::make_mut(&mut self.0).metadata = metadata;
        self
    }

    /// Says whether the server speaks inside TLS. A channel dials only endpoints of its own kind,
    /// with TLS set or without; those of which this is not known count as that.
    pub fn with_security(mut self, security: Security) -> Self {
        Arc::make_mut(&mut self.0).security = Some(security);
        self
    }

    /// Returns the addresses, at least one, in the order they are tried.
    pub fn addresses(&self) -> &[Address] {
        &self.0.addresses
    }

    /// Returns what is known of the server beside its addresses.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.0.metadata
    }

    /// Returns whether the server speaks inside TLS, if that is known.
    pub fn security(&self) -> Option<Security> {
        self.0.security
    }

    pub(crate) fn key(&self) -> &EndpointKey {
        self.0
            .key
            .get_or_init(|| EndpointKey::new(self.addresses()))
    }
}

impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || self.addresses() == other.addresses()
                && self.metadata() == other.metadata()
                && self.security() == other.security()
    }
}

impl Eq for Endpoint {}

impl fmt::Display for Endpoint {
    /// Writes the addresses, with commas between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_addresses(self.addresses(), f)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("addresses", &self.0.addresses)
            .field("metadata", self.metadata())
            .field("security", &self.security())
            .finish()
    }
}

pub(crate) fn write_addresses(addresses: &[Address], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, address) in addresses.iter().enumerate() {
        let separator = if index == 0 { "" } else { "," };
        write!(f, "{separator}{address}")?;
    }
    Ok(())
}
