//! Names that make up keys, parsed once: what holds one need not check it again.

use std::{fmt, sync::Arc};

use md5::{Digest, Md5};
use switchboard_resolver::Address;

use crate::{excerpt::excerpt, lease::LeaseId};

/// The name of a service, such as `greeter` or `helloworld.v1`.
///
/// Not empty, without `/` and without control characters: it is one segment of a key. Cheap to
/// clone: every instance of a service holds it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(Arc<str>);

/// The id of an instance, unique among those of its service.
///
/// Not empty, without `/` and without control characters: it is one segment of a key.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(Box<str>);

/// The part of etcd's key space that services are kept in: `/microservices` unless set, which is
/// also kratos' own.
///
/// One segment or several, separated by `/`; a trailing `/` makes no difference.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(Box<str>);

/// A name that is one segment of a key: not empty, without `/` and without control characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Segment(Box<str>);

/// A key, such as `/app/limits.json`: one segment or several, separated by `/`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyPath(Box<str>);

/// kratos' namespace unless set (its `contrib/registry/etcd`). With another one its clients would
/// not find our servers, nor we theirs, without a setting.
const KRATOS: &str = "/microservices";

impl InstanceId {
    /// Derives the id that stands for an identity, the service and the address it is dialed at: the
    /// MD5, in hex, of `<service>/<address>`.
    ///
    /// A server that comes back at its address has the same id, so it writes the same key again.
    pub fn derived(service: &ServiceName, address: &Address) -> Self {
        Self::digest(identity(service, address))
    }

    /// Returns the MD5, in hex, of whatever is to be told apart.
    pub(crate) fn digest(of: impl AsRef<[u8]>) -> Self {
        let digest = Md5::digest(of);
        Self(format!("{:032x}", u128::from_be_bytes(digest.into())).into())
    }

    /// Returns a positive integer of 63 bits that stands for an identity, for keys that take no
    /// other ids.
    pub(crate) fn integer(identity: impl AsRef<[u8]>) -> Self {
        let digest = Md5::digest(identity);
        let bits = digest
            .iter()
            .take(8)
            .fold(0, |bits, byte| bits << 8 | i64::from(*byte));
        Self((bits & i64::MAX).max(1).to_string().into())
    }

    /// Returns an address as an id, for keys that end in one.
    pub(crate) fn of_address(address: &Address) -> Self {
        Self(address.to_string().into())
    }

    /// Returns the id of a lease, in decimal, as go-zero has it.
    pub(crate) fn of_lease(lease: LeaseId) -> Self {
        Self(lease.to_string().into())
    }
}

/// Returns what tells one server from another: its service, and where it is dialed.
pub(crate) fn identity(service: &ServiceName, address: &Address) -> String {
    format!("{service}/{address}")
}

impl Namespace {
    /// Returns whether kratos clients read here: in their namespace, or below it, since the prefix
    /// that they read has no `/` at its end.
    pub(crate) fn is_of_kratos(&self) -> bool {
        is_of_kratos(&self.0)
    }

    /// Returns the prefix that the keys of all services share: it ends in `/`.
    pub(crate) fn prefix(&self) -> String {
        format!("{}/", self.0)
    }
}

impl KeyPath {
    /// Returns it if it may be written: not where clients of kratos look for servers, and fail on
    /// whatever else they find.
    ///
    /// # Errors
    ///
    /// It lies in `/microservices`.
    pub fn outside_kratos(self) -> Result<Self, NameError> {
        match is_of_kratos(&self.0) {
            false => Ok(self),
            true => Err(NameError {
                what: "key",
                text: excerpt(&self.0),
                expected: "one that is not in /microservices, where clients of kratos fail on what is not a server",
            }),
        }
    }
}

fn is_of_kratos(path: &str) -> bool {
    let below = path.strip_prefix(KRATOS);
    below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Default for Namespace {
    fn default() -> Self {
        Self(KRATOS.into())
    }
}

/// A text that is not a name of the kind that was asked for, such as a [`ServiceName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what}: {text:?} (expected: {expected})")]
pub struct NameError {
    what: &'static str,
    text: String,
    expected: &'static str,
}

fn segment(what: &'static str, text: &str) -> Result<Box<str>, NameError> {
    let expected = if text.is_empty() {
        "at least one character"
    } else if text.contains('/') {
        "no '/'"
    } else if text.chars().any(char::is_control) {
        "no control characters"
    } else {
        return Ok(text.into());
    };
    Err(NameError {
        what,
        text: excerpt(text),
        expected,
    })
}

fn segments(what: &'static str, text: &str) -> Result<Box<str>, NameError> {
    let trimmed = text.strip_suffix('/').unwrap_or(text);
    for part in trimmed.strip_prefix('/').unwrap_or(trimmed).split('/') {
        if let Err(error) = segment(what, part) {
            return Err(NameError {
                text: excerpt(text),
                ..error
            });
        }
    }
    Ok(trimmed.into())
}

macro_rules! name {
    ($name:ident, $what:literal, $parse:ident) => {
        impl $name {
            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                $parse($what, text).map(|text| Self(text.into()))
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;

            fn try_from(text: &str) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl TryFrom<&String> for $name {
            type Error = NameError;

            fn try_from(text: &String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<&$name> for $name {
            fn from(name: &$name) -> Self {
                name.clone()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name!(ServiceName, "service name", segment);
name!(InstanceId, "instance id", segment);
name!(Namespace, "namespace", segments);
name!(Segment, "name", segment);
name!(KeyPath, "key", segments);

impl From<std::convert::Infallible> for NameError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment_of_a_key() {
        assert_eq!(
            "helloworld.v1".parse::<ServiceName>().unwrap().as_str(),
            "helloworld.v1"
        );
        for (text, expected) in [
            ("", "at least one"),
            ("a/b", "no '/'"),
            ("/", "no '/'"),
            ("a\n", "no control"),
        ] {
            let error = text.parse::<ServiceName>().unwrap_err().to_string();
            assert!(
                error.starts_with("invalid service name: ") && error.contains(expected),
                "{error}"
            );
            assert!(text.parse::<InstanceId>().is_err());
        }
    }

    #[test]
    fn a_namespace_is_a_prefix_that_ends_in_one_slash() {
        for (text, prefix) in [
            ("/microservices", "/microservices/"),
            ("/a/b/", "/a/b/"),
            ("plain", "plain/"),
        ] {
            assert_eq!(text.parse::<Namespace>().unwrap().prefix(), prefix);
        }
        for text in ["", "/", "//", "/a//b", "/a\u{7f}"] {
            assert!(text.parse::<Namespace>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_identity_has_one_id_and_another_identity_another() {
        let id = |service: &str, address: &str| {
            InstanceId::derived(&service.parse().unwrap(), &address.parse().unwrap()).to_string()
        };
        assert_eq!(
            id("greeter", "10.0.0.1:50051"),
            id("greeter", "10.0.0.1:50051")
        );
        assert_ne!(
            id("greeter", "10.0.0.1:50051"),
            id("greeter", "10.0.0.1:50052")
        );
        assert_ne!(
            id("greeter", "10.0.0.1:50051"),
            id("greeter2", "10.0.0.1:50051")
        );
        assert_eq!(id("greeter", "10.0.0.1:50051").len(), 32);
    }
}
