//! The JSON of etcd's Go package (etcd, `client/v3/naming/endpoints/internal/update.go`).
//!
//! Its metadata may be anything. Written, it is `null` or an object of strings. Read, the entries
//! of an object become metadata, strings as they are and others as their JSON; what is no object
//! becomes one entry, `Metadata`. The version is not written: readers know of none.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{LayoutError, RecordError, address, record, value::Parts};
use crate::Instance;

/// The fields in the order that Go writes them.
#[derive(Serialize)]
struct Written<'a> {
    // Writers store 0 always, and readers ignore it: what is gone has no key.
    #[serde(rename = "Op")]
    op: u8,
    #[serde(rename = "Addr")]
    addr: String,
    #[serde(rename = "Metadata")]
    metadata: Option<&'a BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Read {
    #[serde(rename = "Addr")]
    addr: String,
    #[serde(rename = "Metadata", default)]
    metadata: serde_json::Value,
}

pub(super) fn encode(instance: &Instance) -> Result<Vec<u8>, LayoutError> {
    let written = Written {
        op: 0,
        addr: address::of(instance)?.to_string(),
        metadata: Some(instance.metadata()).filter(|metadata| !metadata.is_empty()),
    };
    Ok(serde_json::to_vec(&written).expect("strings and maps of strings are always JSON"))
}

pub(super) fn read(value: &[u8]) -> Result<Parts<'_>, RecordError> {
    let read: Read = serde_json::from_slice(value).map_err(RecordError::json)?;
    Ok(Parts {
        metadata: entries(read.metadata),
        ..address::at(record::address(&read.addr)?)
    })
}

fn entries(metadata: serde_json::Value) -> BTreeMap<String, String> {
    use serde_json::Value;
    let text = |value| match value {
        Value::String(text) => text,
        value => value.to_string(),
    };
    match metadata {
        Value::Null => BTreeMap::new(),
        Value::Object(entries) => entries
            .into_iter()
            .map(|(key, value)| (key, text(value)))
            .collect(),
        value => BTreeMap::from([("Metadata".to_owned(), text(value))]),
    }
}
