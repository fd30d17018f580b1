//! What follows the `?` of a target.

use super::{TargetError, escape};
use crate::{Layout, Namespace, ServiceName};

/// What the parameters say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    pub(super) layout: Option<Layout>,
    pub(super) namespace: Option<Namespace>,
    /// The service, in go-zero's spelling.
    pub(super) key: Option<ServiceName>,
}

impl Parameters {
    /// Reads `name=value&name=value`. Errors never show the value of a parameter that is not
    /// known: who mistakes a target for a place for secrets shall not find them in a log.
    pub(super) fn parse(query: Option<&str>) -> Result<Self, TargetError> {
        let mut parameters = Self::default();
        for pair in query.into_iter().flat_map(|query| query.split('&')) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // A `+` is a space in a query, also for Go's `url.QueryEscape`, which go-zero uses.
            let spaced = value.replace('+', " ");
            let value = || escape::decode(&spaced);
            match name {
                "layout" => once(name, &mut parameters.layout, value()?.parse()?)?,
                "namespace" => once(name, &mut parameters.namespace, value()?.parse()?)?,
                "key" => once(name, &mut parameters.key, value()?.parse()?)?,
                "policy" => return Err(TargetError::NotSupported("policy")),
                _ => return Err(TargetError::Parameter(name.to_owned())),
            }
        }
        Ok(parameters)
    }

    /// Refuses parameters where a target has none.
    pub(super) fn none(self, expected: &'static str) -> Result<(), TargetError> {
        if self == Self::default() {
            Ok(())
        } else {
            Err(TargetError::Form(expected))
        }
    }
}

fn once<T>(name: &str, place: &mut Option<T>, value: T) -> Result<(), TargetError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(TargetError::Repeated(name.to_owned())),
    }
}
