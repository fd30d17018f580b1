//! The rule for a record's key: which id ends it.

use super::{LayoutError, address};
use crate::{Instance, InstanceId};

/// What a record's key is made of, after the namespace if there is one.
///
/// The last part is the id. Each rule has a default, which is the same whenever a server comes back
/// at its address, so that it writes the same key; [`Instance::with_id`] and
/// [`Instance::with_lease_id`] choose another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyRule {
    /// `<service>/<id>`; unless chosen, the id is the MD5 of service and address.
    Identity,
    /// `<service>/<id>`, where the id is an integer from 1 to 2^63 - 1; unless chosen, it is made
    /// of the MD5 of service and address.
    Integer,
    /// `<service>/<id>`; unless chosen, the id is the address, as `host:port`.
    Address,
    /// `<id>`, all services under one prefix; unless chosen, the id is the MD5 of the value. The
    /// value must tell the service, as kratos' and host-port's do.
    Digest,
}

/// The rules as text.
pub(super) const NAMES: [(&str, KeyRule); 4] = [
    ("identity", KeyRule::Identity),
    ("integer", KeyRule::Integer),
    ("address", KeyRule::Address),
    ("digest", KeyRule::Digest),
];

impl KeyRule {
    /// Returns the id that a key has, or, where that is the value's digest, that a value with an id
    /// in it has.
    pub(super) fn default_id(self, instance: &Instance) -> Result<InstanceId, LayoutError> {
        match self {
            Self::Identity | Self::Digest => Ok(InstanceId::digest(instance.identity())),
            Self::Integer => Ok(InstanceId::integer(instance.identity())),
            Self::Address => Ok(InstanceId::of_address(address::of(instance)?)),
        }
    }

    /// Returns an id that was chosen, if it fits.
    pub(super) fn check(self, id: &InstanceId) -> Result<&InstanceId, LayoutError> {
        let fits = match self {
            // As Go writes an int64: neither a plus nor leading zeros.
            Self::Integer => id
                .as_str()
                .parse::<i64>()
                .is_ok_and(|number| number > 0 && number.to_string() == id.as_str()),
            Self::Identity | Self::Address | Self::Digest => true,
        };
        if fits {
            Ok(id)
        } else {
            Err(LayoutError::Id(id.clone()))
        }
    }
}
