//! Where an instance's record lies in etcd, and what it looks like.
//!
//! ```text
//!   Layout = KeyRule x ValueRule, in the namespace or at the root
//!
//!   Instance ── encode ──> Record   as the layout has it
//!   Instance <── decode ── Record   whatever its value looks like
//! ```
//!
//! What is written follows the layout to the letter, since others read it. What is read is
//! recognised by its shape, one value at a time, since a fleet may be mixed: the layout says only
//! where to look, and whether the key tells the service or the value does.

mod address;
mod error;
mod etcd_naming;
mod host_port;
mod key;
mod kratos;
mod place;
mod record;
mod value;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

pub(crate) use self::place::Place;
use self::value::Parts;
pub use self::{
    error::LayoutError,
    key::KeyRule,
    record::{Record, RecordError},
    value::ValueRule,
};
use crate::{Instance, InstanceId, Namespace, ServiceName, instance::Id, publication::IdKind};

/// A rule for the key of an instance's record and one for its value: kratos' own unless set.
///
/// | layout | key | value |
/// |---|---|---|
/// | [`kratos`](Self::kratos) | `<namespace>/<service>/<id>` | JSON of all there is to tell |
/// | [`go_zero`](Self::go_zero) | `<service>/<integer>` | `host:port` |
/// | [`etcd_naming`](Self::etcd_naming) | `<service>/<host:port>` | `{"Op","Addr","Metadata"}` |
/// | [`host_port`](Self::host_port) | `<namespace>/<MD5 of the value>` | `{"name","host","port"}` |
///
/// These are presets; [`new`](Self::new) makes others. It is for writing, and tells where to read:
/// values are read by their shape, so that all four may lie side by side. Only kratos' values may
/// be published under `/microservices`: a kratos client fails a service's whole list on one value
/// that it cannot read.
///
/// As text, and in configurations, presets are `kratos`, `go-zero`, `etcd-naming` and `host-port`,
/// and others are their three parts, such as `address,address,namespace`.
///
/// ```
/// use switchboard_registry::{Instance, KeyRule, Layout, ValueRule};
///
/// // A common gRPC recipe: /etcd3_naming/<service>/<host:port> holds the address.
/// let layout = Layout::new(KeyRule::Address, ValueRule::Address);
/// let instance = Instance::new("greeter", "10.0.0.1:50051")?;
/// let record = layout.encode(&"/etcd3_naming".parse()?, &instance, 0)?;
/// assert_eq!(record.key, "/etcd3_naming/greeter/10.0.0.1:50051");
/// assert_eq!(record.value, b"10.0.0.1:50051");
/// assert_eq!("go-zero".parse(), Ok(Layout::go_zero()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Layout {
    key: KeyRule,
    value: ValueRule,
    base: Base,
}

/// What the keys of a layout begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Base {
    Namespace,
    Root,
}

impl Layout {
    /// Joins a rule for the key and one for the value, in the registry's namespace.
    pub const fn new(key: KeyRule, value: ValueRule) -> Self {
        Self {
            key,
            value,
            base: Base::Namespace,
        }
    }

    /// Returns kratos' layout, the default (its `contrib/registry/etcd`).
    pub const fn kratos() -> Self {
        Self::new(KeyRule::Identity, ValueRule::Kratos)
    }

    /// Returns go-zero's layout, at the root (its `core/discov`).
    pub const fn go_zero() -> Self {
        Self::new(KeyRule::Integer, ValueRule::Address).at_root()
    }

    /// Returns the layout of etcd's own Go package, at the root (etcd, `client/v3/naming`).
    pub const fn etcd_naming() -> Self {
        Self::new(KeyRule::Address, ValueRule::EtcdNaming).at_root()
    }

    /// Returns the layout in which all services lie under one prefix, the namespace, and the value
    /// tells whose it is.
    pub const fn host_port() -> Self {
        Self::new(KeyRule::Digest, ValueRule::HostPort)
    }

    /// Puts the keys into the registry's namespace.
    pub const fn in_namespace(self) -> Self {
        Self {
            base: Base::Namespace,
            ..self
        }
    }

    /// Puts the keys where no namespace goes before the service. Those of [`KeyRule::Digest`],
    /// which have no service in them either, stay in the namespace.
    pub const fn at_root(self) -> Self {
        Self {
            base: Base::Root,
            ..self
        }
    }

    /// Returns the prefix under which the records of `service` lie: no other service's, unless all
    /// share one.
    pub fn prefix(&self, namespace: &Namespace, service: &ServiceName) -> String {
        match (self.shared_prefix(namespace), self.has_shared_prefix()) {
            (Some(prefix), true) => prefix,
            (Some(prefix), false) => format!("{prefix}{service}/"),
            (None, _) => format!("{service}/"),
        }
    }

    /// Returns the record to write for `instance`. `lease` counts only where the instance
    /// [takes its id from it](Instance::with_lease_id).
    ///
    /// # Errors
    ///
    /// The layout has no place for the instance: see [`LayoutError`].
    pub fn encode(
        &self,
        namespace: &Namespace,
        instance: &Instance,
        lease: i64,
    ) -> Result<Record, LayoutError> {
        self.compose(namespace, instance, lease)
            .map(|(record, _)| record)
    }

    /// Reads what was found at `key` by those who look for `service`; `None` if it is another
    /// service's, where all share one prefix.
    ///
    /// # Errors
    ///
    /// It is no record of the service: see [`RecordError`].
    pub fn decode(
        &self,
        service: &ServiceName,
        key: &[u8],
        value: &[u8],
    ) -> Result<Option<Instance>, RecordError> {
        let parts = Parts::read(value)?;
        match &parts.name {
            Some(name) if name == service.as_str() => {}
            Some(_) if self.has_shared_prefix() => return Ok(None),
            Some(name) => return Err(RecordError::other_service(name, service)),
            None if self.has_shared_prefix() => return Err(RecordError::NoName),
            None => {}
        }
        let id = match &parts.id {
            Some(id) => id.parse()?,
            None => record::id_of_key(key)?,
        };
        Ok(Some(parts.into_instance(service.clone(), id)))
    }

    /// Returns whether all services lie under one prefix, so that the value tells whose it is.
    pub(crate) fn has_shared_prefix(&self) -> bool {
        self.key == KeyRule::Digest
    }

    /// Returns the prefix that the records of all services have in common, if there is one.
    pub(crate) fn shared_prefix(&self, namespace: &Namespace) -> Option<String> {
        match self.base {
            Base::Root if !self.has_shared_prefix() => None,
            Base::Root | Base::Namespace => Some(namespace.prefix()),
        }
    }

    /// Returns the service that a record under the shared prefix is of; `after` is its key behind
    /// that prefix.
    pub(crate) fn service_of(&self, after: &[u8], value: &[u8]) -> Option<ServiceName> {
        if self.has_shared_prefix() {
            return Parts::read(value).ok()?.name?.parse().ok();
        }
        let after = std::str::from_utf8(after).ok()?;
        let (service, _) = after.split_once('/')?;
        service.parse().ok()
    }

    /// Returns the record to write for `instance`, and where the id in its key comes from.
    pub(crate) fn compose(
        &self,
        namespace: &Namespace,
        instance: &Instance,
        lease: i64,
    ) -> Result<(Record, IdKind), LayoutError> {
        self.check(namespace)?;
        let default = self.key.default_id(instance);
        let (id, kind) = match instance.id_rule() {
            Id::Fixed(id) if default.as_ref() == Ok(id) || instance.has_derived_id() => {
                (default?, IdKind::Derived)
            }
            Id::Fixed(id) => (self.key.check(id)?.clone(), IdKind::Given),
            Id::OfLease(_) => (InstanceId::of_lease(lease), IdKind::Given),
        };
        let value = self.value.encode(instance, &id)?;
        let prefix = self.prefix(namespace, instance.service());
        let key = match (self.key, kind) {
            (KeyRule::Digest, IdKind::Derived) => {
                format!("{prefix}{}", InstanceId::digest(&value))
            }
            _ => format!("{prefix}{id}"),
        };
        Ok((Record { key, value }, kind))
    }

    /// Refuses what would make kratos clients fail, and what nobody could tell the service of.
    fn check(&self, namespace: &Namespace) -> Result<(), LayoutError> {
        let is_foreign = self.value != ValueRule::Kratos && namespace.is_of_kratos();
        if is_foreign && self.shared_prefix(namespace).is_some() {
            return Err(LayoutError::OfKratos {
                layout: *self,
                namespace: namespace.clone(),
            });
        }
        if self.has_shared_prefix() && !self.value.names_service() {
            return Err(LayoutError::NoName(*self));
        }
        Ok(())
    }
}

impl Default for Layout {
    fn default() -> Self {
        Self::kratos()
    }
}

const PRESETS: [(&str, Layout); 4] = [
    ("kratos", Layout::kratos()),
    ("go-zero", Layout::go_zero()),
    ("etcd-naming", Layout::etcd_naming()),
    ("host-port", Layout::host_port()),
];

const BASES: [(&str, Base); 2] = [("namespace", Base::Namespace), ("root", Base::Root)];

/// A text that is not a [`Layout`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid layout: {0:?} (expected: kratos, go-zero, etcd-naming, host-port, or a key, a value and a place, such as address,address,namespace)"
)]
pub struct LayoutNameError(String);

impl FromStr for Layout {
    type Err = LayoutNameError;

    fn from_str(text: &str) -> Result<Self, LayoutNameError> {
        let custom = || {
            let mut parts = text.split(',');
            let layout = Self {
                key: named(&key::NAMES, parts.next()?)?,
                value: named(&value::NAMES, parts.next()?)?,
                base: named(&BASES, parts.next()?)?,
            };
            parts.next().is_none().then_some(layout)
        };
        named(&PRESETS, text)
            .or_else(custom)
            .ok_or_else(|| LayoutNameError(text.to_owned()))
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match name_of(&PRESETS, self) {
            Some(name) => f.write_str(name),
            None => {
                let key = name_of(&key::NAMES, &self.key).unwrap_or_default();
                let value = name_of(&value::NAMES, &self.value).unwrap_or_default();
                let base = name_of(&BASES, &self.base).unwrap_or_default();
                write!(f, "{key},{value},{base}")
            }
        }
    }
}

fn named<T: Copy>(names: &[(&str, T)], text: &str) -> Option<T> {
    let (_, it) = names.iter().find(|(name, _)| *name == text)?;
    Some(*it)
}

fn name_of<'a, T: PartialEq>(names: &[(&'a str, T)], it: &T) -> Option<&'a str> {
    let (name, _) = names.iter().find(|(_, named)| named == it)?;
    Some(name)
}

impl From<Layout> for String {
    fn from(layout: Layout) -> Self {
        layout.to_string()
    }
}

impl TryFrom<String> for Layout {
    type Error = LayoutNameError;

    fn try_from(text: String) -> Result<Self, LayoutNameError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests;
