//! Something that can be dialed.

use std::{collections::BTreeMap, fmt};

use crate::{Address, Security};

/// Something that can be dialed: one server, under one address or several.
///
/// An endpoint is known by the *unordered set* of its addresses (gRPC's rule, A61): the same
/// addresses in another order are the same endpoint and keep its connection, and a change of
/// metadata alone never reconnects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    addresses: Vec<Address>,
    metadata: BTreeMap<String, String>,
    /// `None` if it is not known.
    security: Option<Security>,
}

impl Endpoint {
    /// Makes an endpoint of one address.
    pub fn new(address: Address) -> Self {
        Self {
            addresses: vec![address],
            metadata: BTreeMap::new(),
            security: None,
        }
    }

    /// Adds a further address of the same server; they are tried in the order given.
    pub fn with_address(mut self, address: Address) -> Self {
        if !self.addresses.contains(&address) {
            self.addresses.push(address);
        }
        self
    }

    /// Adds something known of the server beside its addresses, such as its version or zone. The
    /// same key again replaces its value.
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Replaces all metadata.
    pub fn with_all_metadata(mut self, metadata: BTreeMap<String, String>) -> Self {
        self.metadata = metadata;
        self
    }

    /// Says whether the server speaks inside TLS. A channel dials only endpoints of its own kind,
    /// with TLS set or without; those of which this is not known count as that.
    pub fn with_security(mut self, security: Security) -> Self {
        self.security = Some(security);
        self
    }

    /// Returns the addresses, at least one, in the order they are tried.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Returns what is known of the server beside its addresses.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Returns whether the server speaks inside TLS, if that is known.
    pub fn security(&self) -> Option<Security> {
        self.security
    }
}

impl fmt::Display for Endpoint {
    /// Writes the addresses, with commas between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_addresses(&self.addresses, f)
    }
}

pub(crate) fn write_addresses(addresses: &[Address], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, address) in addresses.iter().enumerate() {
        let separator = if index == 0 { "" } else { "," };
        write!(f, "{separator}{address}")?;
    }
    Ok(())
}
