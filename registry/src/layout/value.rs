//! The rule for a record's value, and what is read from one.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, de::IgnoredAny};

use super::{LayoutError, RecordError, address, etcd_naming, host_port, kratos};
use crate::{Instance, InstanceId, Origin, ServiceName};

/// What a record's value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ValueRule {
    /// kratos' JSON, with all there is to tell:
    /// `{"id":...,"name":...,"version":...,"metadata":{...},"endpoints":["grpc://host:port"]}`.
    Kratos,
    /// The address alone, as `host:port`.
    Address,
    /// The JSON of etcd's Go package: `{"Op":0,"Addr":"host:port","Metadata":...}`. The metadata is
    /// `null` or an object of strings; there is no version.
    EtcdNaming,
    /// `{"name":...,"host":...,"port":...}`, the port as a number. Read, it may be a string too.
    HostPort,
}

/// The rules as text.
pub(super) const NAMES: [(&str, ValueRule); 4] = [
    ("kratos", ValueRule::Kratos),
    ("address", ValueRule::Address),
    ("etcd-naming", ValueRule::EtcdNaming),
    ("host-port", ValueRule::HostPort),
];

impl ValueRule {
    pub(super) fn encode(
        self,
        instance: &Instance,
        id: &InstanceId,
    ) -> Result<Vec<u8>, LayoutError> {
        match self {
            Self::Kratos => Ok(kratos::encode(instance, id)),
            Self::Address => address::encode(instance),
            Self::EtcdNaming => etcd_naming::encode(instance),
            Self::HostPort => host_port::encode(instance),
        }
    }

    /// Returns whether values tell their service.
    pub(super) fn names_service(self) -> bool {
        matches!(self, Self::Kratos | Self::HostPort)
    }
}

/// What a value tells of an instance.
#[derive(Debug, Default)]
pub(super) struct Parts<'a> {
    pub(super) name: Option<Cow<'a, str>>,
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) version: String,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) origins: Vec<Origin>,
}

/// By which fields a JSON value is recognised.
#[derive(Deserialize)]
struct Shape {
    endpoints: Option<IgnoredAny>,
    #[serde(rename = "Addr")]
    addr: Option<IgnoredAny>,
    host: Option<IgnoredAny>,
}

impl<'a> Parts<'a> {
    /// Reads a value by its shape.
    pub(super) fn read(value: &'a [u8]) -> Result<Self, RecordError> {
        if value.trim_ascii_start().first() != Some(&b'{') {
            return address::read(value);
        }
        // Most are kratos', and are read in one pass.
        let kratos = kratos::read(value);
        if matches!(&kratos, Ok(parts) if !parts.origins.is_empty()) {
            return kratos;
        }
        match serde_json::from_slice(value) {
            Ok(Shape {
                addr: Some(_),
                endpoints: None,
                ..
            }) => etcd_naming::read(value),
            Ok(Shape {
                host: Some(_),
                endpoints: None,
                ..
            }) => host_port::read(value),
            Ok(Shape { .. }) | Err(_) => kratos,
        }
    }

    pub(super) fn into_instance(self, service: ServiceName, id: InstanceId) -> Instance {
        Instance::found(service, id, self.version, self.metadata, self.origins)
    }
}
