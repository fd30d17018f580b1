//! A list of addresses that is never empty.

use std::fmt;

use switchboard_resolver::Address;

use super::{TargetError, escape};

/// One address or more.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Addresses(Box<[Address]>);

impl Addresses {
    /// Reads `h1:2379,h2:2379`, of which single characters may be percent-encoded.
    ///
    /// A user before the host is refused without being repeated, also one whose `@` is encoded.
    pub(super) fn parse(encoded: &str) -> Result<Self, TargetError> {
        let text = escape::decode(encoded)?;
        if text.contains('@') {
            return Err(TargetError::UserInfo);
        }
        let addresses = text.split(',').map(|address| address.trim().parse());
        Ok(Self(addresses.collect::<Result<_, _>>()?))
    }

    pub(crate) fn as_slice(&self) -> &[Address] {
        &self.0
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(f, "{separator}{address}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
