//! Values of records.

use switchboard_registry::{
    Instance, KeyRule, Layout, Namespace, Origin, Scheme, ServiceName, ValueRule,
};

use crate::is_helpful;

/// Reads a record's value in every layout: what is an instance is the same one when it has been
/// written and read again, in kratos' JSON all of it, in the others its address; what is none is
/// refused with a reason.
pub fn values(value: &[u8]) {
    let service: ServiceName = "greeter".parse().expect("a name");
    for layout in [Layout::kratos(), Layout::host_port()] {
        match layout.decode(&service, b"/shop/greeter/id", value) {
            Ok(Some(found)) => {
                assert_eq!(found.service(), &service);
                again(&found);
            }
            // Only where all services share a prefix may a record be another's.
            Ok(None) => assert_eq!(layout, Layout::host_port()),
            Err(error) => {
                is_helpful(&error);
                is_short(&error);
            }
        }
    }
}

/// A value can be megabytes, and its error ends in the log.
fn is_short(error: &dyn std::error::Error) {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let message = error.to_string();
        assert!(message.len() < 2000, "{} bytes", message.len());
        cause = error.source();
    }
}

fn again(found: &Instance) {
    assert_eq!(&written_and_read(Layout::kratos(), found), found);

    let is_grpc = |origin: &&Origin| matches!(origin.scheme(), Scheme::Grpc | Scheme::Grpcs);
    let Some(first) = found.origins().iter().find(is_grpc) else {
        return;
    };
    // Such a value cannot be read, since nobody could dial it; publishing refuses it as well.
    if first.address().is_unspecified() || first.address().to_string().len() > 260 {
        return;
    }
    for value in [
        ValueRule::Address,
        ValueRule::EtcdNaming,
        ValueRule::HostPort,
    ] {
        let layout = Layout::new(KeyRule::Identity, value);
        let read = written_and_read(layout, found);
        let addresses: Vec<_> = read.origins().iter().map(Origin::address).collect();
        assert_eq!(addresses, [first.address()]);
        assert_eq!(read.id(), found.id());
        if value == ValueRule::EtcdNaming {
            assert_eq!(read.metadata(), found.metadata());
        }
    }
}

fn written_and_read(layout: Layout, instance: &Instance) -> Instance {
    let namespace: Namespace = "/shop".parse().expect("a namespace");
    let record = layout.encode(&namespace, instance, 1);
    let record = record.unwrap_or_else(|error| panic!("{layout}: {error}: {instance:?}"));
    let read = layout.decode(instance.service(), record.key.as_bytes(), &record.value);
    let read = read.unwrap_or_else(|error| panic!("{layout}: {error}: {record:?}"));
    read.unwrap_or_else(|| panic!("{layout}: of another service: {record:?}"))
}
