//! A small JSON with the name, the host and the port. The name tells the service, so that all
//! services can lie under one prefix.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{LayoutError, RecordError, address, record, value::Parts};
use crate::Instance;

#[derive(Serialize)]
struct Written<'a> {
    name: &'a str,
    host: &'a str,
    port: Option<u16>,
}

#[derive(Deserialize)]
struct Read {
    name: Option<String>,
    host: String,
    port: Port,
}

/// Some write it as a number, and some as a string.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a port is a number or a string")]
enum Port {
    Number(u64),
    Text(String),
}

pub(super) fn encode(instance: &Instance) -> Result<Vec<u8>, LayoutError> {
    let address = address::of(instance)?;
    let written = Written {
        name: instance.service().as_str(),
        host: address.host(),
        port: address.port(),
    };
    Ok(serde_json::to_vec(&written).expect("strings and numbers are always JSON"))
}

pub(super) fn read(value: &[u8]) -> Result<Parts<'_>, RecordError> {
    let Read { name, host, port } = serde_json::from_slice(value).map_err(RecordError::json)?;
    let port = match port {
        Port::Number(port) => port.to_string(),
        Port::Text(port) => port,
    };
    // An IPv6 address stands there with brackets or without.
    let text = if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    Ok(Parts {
        name: name.map(Cow::Owned),
        ..address::at(record::address(&text)?)
    })
}
