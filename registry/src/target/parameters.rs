//! What follows the `?` of a target.

use std::fmt;

use super::{Choice, TargetError, escape};
use crate::{Layout, Namespace, ServiceName};

/// What the parameters say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    pub(super) layout: Option<Layout>,
    pub(super) namespace: Option<Namespace>,
    /// The service, in go-zero's spelling.
    pub(super) key: Option<ServiceName>,
    pub(super) choice: Choice,
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
            let value = escape::decode(&spaced)?;
            match name {
                "layout" => once(name, &mut parameters.layout, value.parse()?)?,
                "namespace" => once(name, &mut parameters.namespace, value.parse()?)?,
                "key" => once(name, &mut parameters.key, value.parse()?)?,
                name if parameters.choice.take(name, &value)? => {}
                _ => return Err(TargetError::Parameter(name.to_owned())),
            }
        }
        Ok(parameters)
    }

    /// Returns who is called, and refuses whatever says where they are found.
    pub(super) fn choice_alone(self, expected: &'static str) -> Result<Choice, TargetError> {
        match (self.layout, self.namespace, self.key) {
            (None, None, None) => Ok(self.choice),
            _ => Err(TargetError::Form(expected)),
        }
    }

    /// As [`choice_alone`](Self::choice_alone), where there is no etcd.
    pub(super) fn choice_without_etcd(self, expected: &'static str) -> Result<Choice, TargetError> {
        let choice = self.choice_alone(expected)?;
        match choice.config {
            None => Ok(choice),
            Some(_) => Err(TargetError::Form(expected)),
        }
    }
}

/// Its name, and what it says; `None` if it is not there.
pub(super) type Parameter = (&'static str, Option<String>);

/// Writes those that are there, after a target.
pub(super) fn write(
    f: &mut fmt::Formatter<'_>,
    parameters: impl IntoIterator<Item = Parameter>,
) -> fmt::Result {
    let parameters = parameters.into_iter();
    let there = parameters.filter_map(|(name, value)| Some((name, value?)));
    for (index, (name, value)) in there.enumerate() {
        let separator = if index == 0 { '?' } else { '&' };
        write!(f, "{separator}{name}={}", escape::encode(&value))?;
    }
    Ok(())
}

pub(super) fn once<T>(name: &str, place: &mut Option<T>, value: T) -> Result<(), TargetError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(TargetError::Repeated(name.to_owned())),
    }
}
