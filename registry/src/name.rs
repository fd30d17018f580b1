//! Names that make up keys, parsed once: what holds one need not check it again.

use std::fmt;

use md5::{Digest, Md5};
use switchboard_resolver::Address;

/// The name of a service, such as `greeter` or `helloworld.v1`.
///
/// Not empty, without `/` and without control characters: it is one segment of a key.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(Box<str>);

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

impl InstanceId {
    /// Derives the id that stands for an identity, the service and the address it is dialed at: the
    /// MD5, in hex, of `<service>/<address>`.
    ///
    /// A server that comes back at its address has the same id, so it writes the same key again.
    pub fn derived(service: &ServiceName, address: &Address) -> Self {
        let digest = Md5::digest(format!("{service}/{address}"));
        Self(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl Namespace {
    /// Returns the prefix that the keys of all services share: it ends in `/`.
    pub(crate) fn prefix(&self) -> String {
        format!("{}/", self.0)
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self("/microservices".into())
    }
}

/// A text that is not a [`ServiceName`], [`InstanceId`] or [`Namespace`].
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
        text: text.to_owned(),
        expected,
    })
}

fn segments(what: &'static str, text: &str) -> Result<Box<str>, NameError> {
    let trimmed = text.strip_suffix('/').unwrap_or(text);
    for part in trimmed.strip_prefix('/').unwrap_or(trimmed).split('/') {
        if let Err(error) = segment(what, part) {
            return Err(NameError {
                text: text.to_owned(),
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
                $parse($what, text).map(Self)
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
