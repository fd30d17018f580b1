//! The address alone, `host:port`, as go-zero has it (its `core/discov/publisher.go`).

use switchboard_resolver::Address;

use super::{LayoutError, RecordError, record, value::Parts};
use crate::{Instance, Origin, Scheme};

/// Returns the address that gRPC is spoken at, which is all that such a value can hold.
pub(super) fn of(instance: &Instance) -> Result<&Address, LayoutError> {
    let is_grpc = |origin: &&Origin| matches!(origin.scheme(), Scheme::Grpc | Scheme::Grpcs);
    let origin = instance.origins().iter().find(is_grpc);
    origin
        .map(Origin::address)
        .ok_or_else(|| LayoutError::NoGrpc(instance.service().clone()))
}

pub(super) fn encode(instance: &Instance) -> Result<Vec<u8>, LayoutError> {
    Ok(of(instance)?.to_string().into_bytes())
}

pub(super) fn read(value: &[u8]) -> Result<Parts<'_>, RecordError> {
    let text = std::str::from_utf8(value).map_err(|_| RecordError::NotText(value.len()))?;
    Ok(at(record::address(text)?))
}

/// Returns what is known of a server of which there is but an address.
pub(super) fn at(address: Address) -> Parts<'static> {
    Parts {
        origins: vec![Origin::new(Scheme::Grpc, address)],
        ..Parts::default()
    }
}
