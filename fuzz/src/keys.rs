//! What keys are made of.

use std::fmt::{Debug, Display};

use switchboard_registry::{
    Instance, InstanceId, KeyRule, Layout, LayoutError, Namespace, ServiceName, ValueRule,
};

use crate::is_helpful;

const KEYS: [KeyRule; 4] = [
    KeyRule::Identity,
    KeyRule::Integer,
    KeyRule::Address,
    KeyRule::Digest,
];
const VALUES: [ValueRule; 4] = [
    ValueRule::Kratos,
    ValueRule::Address,
    ValueRule::EtcdNaming,
    ValueRule::HostPort,
];

/// Reads a namespace, a service, an id and a layout, a line each: what is one is the same when it
/// has been written and read again, and a record's key is under its own service's prefix and under
/// no other one's; what is none is refused with what was expected.
pub fn keys(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.splitn(4, '\n').map(|line| line.trim_end_matches('\r'));
    let mut line = || lines.next().unwrap_or_default();
    let namespace: Option<Namespace> = parsed(line());
    let service: Option<ServiceName> = parsed(line());
    let id: Option<InstanceId> = parsed(line());
    parsed::<Layout>(line());
    if let (Some(namespace), Some(service), Some(id)) = (namespace, service, id) {
        records(&namespace, &service, id);
    }
}

fn parsed<T>(text: &str) -> Option<T>
where
    T: std::str::FromStr<Err: std::error::Error> + Display + Debug + PartialEq,
{
    match text.parse::<T>() {
        Ok(it) => {
            assert_eq!(it.to_string().parse::<T>().ok().as_ref(), Some(&it));
            Some(it)
        }
        Err(error) => {
            is_helpful(&error);
            None
        }
    }
}

fn records(namespace: &Namespace, service: &ServiceName, id: InstanceId) {
    let derived = Instance::new(service, "10.0.0.1:1").expect("an instance");
    let longer: ServiceName = format!("{service}x").parse().expect("a name");
    let rules = KEYS
        .into_iter()
        .flat_map(|key| VALUES.map(|value| Layout::new(key, value)));
    for layout in rules.flat_map(|layout| [layout, layout.at_root()]) {
        for instance in [derived.clone(), derived.clone().with_id(id.clone())] {
            let record = match layout.encode(namespace, &instance, 1) {
                Ok(record) => record,
                Err(error) => {
                    is_helpful(&error);
                    let by_id = matches!(error, LayoutError::Id(_));
                    assert!(!by_id || instance.id() == &id);
                    continue;
                }
            };
            let prefix = layout.prefix(namespace, service);
            let of_another = layout.prefix(namespace, &longer);
            assert!(prefix.ends_with('/') && record.key.starts_with(&prefix));
            assert!(prefix == of_another || !record.key.starts_with(&of_another));
            let key = record.key.as_bytes();
            let read = layout.decode(service, key, &record.value);
            let read = read.unwrap_or_else(|error| panic!("{layout}: {error}: {record:?}"));
            let read = read.unwrap_or_else(|| panic!("{layout}: of another: {record:?}"));
            assert_eq!(read.origins(), instance.origins());
            // What was found is published at the key that it was found at.
            let again = layout.encode(namespace, &read, 1);
            assert_eq!(again.map(|again| again.key), Ok(record.key), "{layout}");
        }
    }
}
