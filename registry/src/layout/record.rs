//! A key and its value, and why one is left out of a list.

use std::sync::Arc;

use switchboard_resolver::{Address, AddressError, Cause};

use crate::{InstanceId, NameError, ServiceName, excerpt::excerpt};

/// A key and its value, as they lie in etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
}

/// Why a record is left out of a service's list.
///
/// Its messages are short, whatever was found: values come from others, and can be megabytes.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It looks like JSON, and is not, or not of the right shape.
    #[error("not the JSON of an instance")]
    Json(#[source] Cause),
    /// It is neither JSON nor text.
    #[error("invalid value: {0} bytes that are not UTF-8 (expected: JSON or host:port)")]
    NotText(usize),
    /// What should be an address is too long to be one.
    #[error("invalid address: {0} bytes (expected: host:port, at most {LONGEST_ADDRESS})")]
    LongAddress(usize),
    /// Its address is invalid.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// One can listen at its address, but nobody can dial it.
    #[error("invalid address: {0} (expected: one that others can dial)")]
    Unspecified(Address),
    /// Its id, or the last part of its key, is invalid.
    #[error(transparent)]
    Id(#[from] NameError),
    /// It names no service, where all services share one prefix.
    #[error("no service name in the value (expected: one, where all services share one prefix)")]
    NoName,
    /// It names another service, where the key is one of this one.
    #[error("of another service: {given:?} (expected: {expected})")]
    OtherService {
        /// The service that it names, shortened.
        given: String,
        /// The service that the key is of.
        expected: ServiceName,
    },
}

/// The longest `host:port` there is: a DNS name has 253 characters at most.
const LONGEST_ADDRESS: usize = 260;

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotJson(String);

impl RecordError {
    pub(super) fn json(error: serde_json::Error) -> Self {
        // It quotes the string that is in the wrong place.
        Self::Json(Arc::new(NotJson(excerpt(&error.to_string()))))
    }

    pub(super) fn other_service(given: &str, expected: &ServiceName) -> Self {
        Self::OtherService {
            given: excerpt(given),
            expected: expected.clone(),
        }
    }
}

/// Reads an address that others can dial.
pub(super) fn address(text: &str) -> Result<Address, RecordError> {
    if text.len() > LONGEST_ADDRESS {
        return Err(RecordError::LongAddress(text.len()));
    }
    let address: Address = text.parse()?;
    if address.is_unspecified() {
        return Err(RecordError::Unspecified(address));
    }
    Ok(address)
}

/// Reads the id that a key ends in.
pub(super) fn id_of_key(key: &[u8]) -> Result<InstanceId, RecordError> {
    let last = key.rsplit(|byte| *byte == b'/').next().unwrap_or(key);
    Ok(String::from_utf8_lossy(last).parse()?)
}
