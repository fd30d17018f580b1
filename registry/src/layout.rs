//! Where an instance's record lies in etcd, and what it looks like.

mod kratos;

use crate::{Instance, Namespace, ServiceName};

/// A rule for the key and the value of an instance's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Layout {
    /// kratos' own, and the default: `<namespace>/<service>/<id>` holds JSON with id, name,
    /// version, metadata and endpoints (kratos, `contrib/registry/etcd`).
    #[default]
    Kratos,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
}

impl Layout {
    /// Returns the prefix under which the records of `service` lie, and no other service's.
    pub(crate) fn prefix(self, namespace: &Namespace, service: &ServiceName) -> String {
        match self {
            Self::Kratos => kratos::prefix(namespace, service),
        }
    }

    /// Returns the record to write for `instance`.
    pub(crate) fn encode(self, namespace: &Namespace, instance: &Instance) -> Record {
        match self {
            Self::Kratos => kratos::encode(namespace, instance),
        }
    }

    /// Reads a value that was found under the prefix of `service`.
    pub(crate) fn decode(
        self,
        service: &ServiceName,
        value: &[u8],
    ) -> Result<Instance, RecordError> {
        match self {
            Self::Kratos => kratos::decode(service, value),
        }
    }
}

/// Why a record is left out of a service's list.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("not the JSON of an instance")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Name(#[from] crate::NameError),
    #[error("of another service: {0:?} (expected: {1})")]
    OtherService(String, ServiceName),
}
