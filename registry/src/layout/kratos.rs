//! kratos' JSON (its `contrib/registry/etcd` and `registry/registry.go`).
//!
//! kratos clients fail a service's whole list on one value they cannot read, so what is written
//! here keeps to their types to the letter: every metadata value is a string, and every endpoint is
//! a URL. What they cannot read is not read here either: a fleet would see a server that part of it
//! cannot.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use super::{RecordError, value::Parts};
use crate::{Instance, InstanceId};

#[derive(Serialize)]
struct Written<'a> {
    id: &'a str,
    name: &'a str,
    version: &'a str,
    metadata: &'a BTreeMap<String, String>,
    endpoints: Vec<String>,
}

// Borrowed where it can be: a list has thousands of them.
#[derive(Deserialize)]
struct Read<'a> {
    #[serde(borrow, default)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default)]
    version: String,
    // Go writes a nil map or slice as `null`.
    metadata: Option<BTreeMap<String, String>>,
    #[serde(borrow)]
    endpoints: Option<Vec<Text<'a>>>,
}

/// Within a `Vec`, serde borrows no bare `Cow`.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

pub(super) fn encode(instance: &Instance, id: &InstanceId) -> Vec<u8> {
    let written = Written {
        id: id.as_str(),
        name: instance.service().as_str(),
        version: instance.version(),
        metadata: instance.metadata(),
        endpoints: instance.origins().iter().map(ToString::to_string).collect(),
    };
    serde_json::to_vec(&written).expect("strings and maps of strings are always JSON")
}

pub(super) fn read(value: &[u8]) -> Result<Parts<'_>, RecordError> {
    let read: Read = serde_json::from_slice(value).map_err(RecordError::json)?;
    // An endpoint of a kind that is not known here is for others; it is no reason to lose those
    // that are.
    let endpoints = read.endpoints.unwrap_or_default();
    // No larger than it must be: there may be thousands.
    let mut origins = Vec::with_capacity(endpoints.len());
    origins.extend(endpoints.iter().filter_map(|Text(url)| url.parse().ok()));
    Ok(Parts {
        name: Some(read.name),
        id: Some(read.id).filter(|id| !id.is_empty()),
        version: read.version,
        metadata: read.metadata.unwrap_or_default(),
        origins,
    })
}
