//! kratos' layout (its `contrib/registry/etcd` and `registry/registry.go`).
//!
//! kratos clients fail a service's whole list on one value they cannot read, so what is written
//! here keeps to their types to the letter: every metadata value is a string, and every endpoint is
//! a URL.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Record, RecordError};
use crate::{Instance, InstanceId, Namespace, ServiceName};

#[derive(Serialize, Deserialize)]
struct Value {
    #[serde(default)]
    id: String,
    name: String,
    #[serde(default)]
    version: String,
    // Go writes a nil map or slice as `null`.
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
    #[serde(default)]
    endpoints: Option<Vec<String>>,
}

pub(super) fn prefix(namespace: &Namespace, service: &ServiceName) -> String {
    format!("{}{service}/", namespace.prefix())
}

pub(super) fn encode(namespace: &Namespace, instance: &Instance) -> Record {
    let key = format!("{}{}", prefix(namespace, instance.service()), instance.id());
    let value = Value {
        id: instance.id().to_string(),
        name: instance.service().to_string(),
        version: instance.version().to_owned(),
        metadata: Some(instance.metadata().clone()),
        endpoints: Some(instance.origins().iter().map(ToString::to_string).collect()),
    };
    let value = serde_json::to_vec(&value).expect("strings and maps of strings are always JSON");
    Record { key, value }
}

pub(super) fn decode(service: &ServiceName, value: &[u8]) -> Result<Instance, RecordError> {
    let value: Value = serde_json::from_slice(value)?;
    if value.name != service.as_str() {
        return Err(RecordError::OtherService(value.name, service.clone()));
    }
    let id = InstanceId::try_from(value.id)?;
    // An endpoint of a kind that is not known here is for others; it is no reason to lose those
    // that are.
    let endpoints = value
        .endpoints
        .unwrap_or_default()
        .iter()
        .filter_map(|url| url.parse().ok())
        .collect();
    Ok(Instance::found(
        service.clone(),
        id,
        value.version,
        value.metadata.unwrap_or_default(),
        endpoints,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeter() -> ServiceName {
        "greeter".parse().unwrap()
    }

    #[test]
    fn what_is_written_is_what_kratos_writes() {
        let instance = Instance::new("greeter", "10.0.0.1:9000")
            .unwrap()
            .with_version("v1");
        let instance = instance
            .with_metadata("weight", "10")
            .with_origin("http://10.0.0.1:8000".parse().unwrap());
        let record = encode(
            &Namespace::default(),
            &instance.with_id("4d75".parse().unwrap()),
        );
        assert_eq!(record.key, "/microservices/greeter/4d75");
        assert_eq!(
            String::from_utf8(record.value).unwrap(),
            r#"{"id":"4d75","name":"greeter","version":"v1","metadata":{"weight":"10"},"endpoints":["grpc://10.0.0.1:9000","http://10.0.0.1:8000"]}"#,
        );
    }

    #[test]
    fn an_instance_is_read_as_it_was_written() {
        let instance = Instance::new("greeter", "[::1]:9000")
            .unwrap()
            .with_metadata("zone", "b")
            .with_version("2");
        let record = encode(&Namespace::default(), &instance);
        assert_eq!(decode(&greeter(), &record.value).unwrap(), instance);
    }

    #[test]
    fn nulls_missing_fields_and_unknown_ones_are_read() {
        let value = br#"{"id":"a","name":"greeter","metadata":null,"endpoints":null,"nodes":[1]}"#;
        let instance = decode(&greeter(), value).unwrap();
        assert!(instance.origins().is_empty() && instance.metadata().is_empty());
        let value = br#"{"id":"a","name":"greeter","endpoints":["tcp://h:1","grpc://h:2"]}"#;
        assert_eq!(decode(&greeter(), value).unwrap().origins().len(), 1);
    }

    #[test]
    fn what_is_no_record_of_the_service_is_refused() {
        for value in [
            &b"10.0.0.1:9000"[..],
            b"",
            b"\xff\xfe",
            b"{\"id\":\"a\",\"name\":\"gre",
            b"[]",
            br#"{"id":"a","name":"other"}"#,
            br#"{"id":"a/b","name":"greeter"}"#,
            br#"{"id":"","name":"greeter"}"#,
            br#"{"id":"a","name":"greeter","metadata":{"weight":10}}"#,
            br#"{"id":7,"name":"greeter"}"#,
        ] {
            assert!(
                decode(&greeter(), value).is_err(),
                "{}",
                String::from_utf8_lossy(value)
            );
        }
    }
}
