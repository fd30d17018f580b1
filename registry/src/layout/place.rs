//! A layout, and the namespace that it is used in.

use super::{Layout, LayoutError, Record, RecordError};
use crate::{Instance, Namespace, ServiceName, publication::IdKind};

/// Where a handle's records lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) layout: Layout,
    pub(crate) namespace: Namespace,
}

impl Place {
    /// Returns the prefix under which the records of `service` lie.
    pub(crate) fn prefix(&self, service: &ServiceName) -> String {
        self.layout.prefix(&self.namespace, service)
    }

    /// Returns the record of `instance` under that lease, and where its id comes from.
    pub(crate) fn record(
        &self,
        instance: &Instance,
        lease: i64,
    ) -> Result<(Record, IdKind), LayoutError> {
        self.layout.compose(&self.namespace, instance, lease)
    }

    /// Reads what was found under the prefix of `service`.
    pub(crate) fn decode(
        &self,
        service: &ServiceName,
        key: &[u8],
        value: &[u8],
    ) -> Result<Option<Instance>, RecordError> {
        self.layout.decode(service, key, value)
    }
}
