//! What each layout writes, byte for byte as its Go writers do, and what is read of what anybody
//! wrote.

use super::*;
use crate::Origin;

fn greeter() -> ServiceName {
    "greeter".parse().unwrap()
}

fn instance() -> Instance {
    Instance::new("greeter", "10.0.0.1:9000").unwrap()
}

fn namespace(text: &str) -> Namespace {
    text.parse().unwrap()
}

/// Encodes in `/shop`, under lease 7.
fn encode(layout: Layout, instance: &Instance) -> (String, String) {
    let record = layout.encode(&namespace("/shop"), instance, 7).unwrap();
    (record.key, String::from_utf8(record.value).unwrap())
}

fn read(value: impl AsRef<[u8]>) -> Result<Instance, RecordError> {
    let found = Layout::kratos().decode(&greeter(), b"/shop/greeter/last", value.as_ref());
    found.map(|found| found.expect("a prefix of its own holds no other services"))
}

/// Whether two records tell the same of a server; their ids come from different keys.
fn assert_same(found: &Instance, written: &Instance) {
    let id = found.id().clone();
    assert_eq!(found, &written.clone().with_id(id));
}

#[test]
fn kratos_writes_json_under_the_id() {
    let instance = instance().with_version("v1").with_metadata("weight", "10");
    let instance = instance.with_origin("http://10.0.0.1:8000".parse().unwrap());
    let instance = instance.with_id("4d75".parse().unwrap());
    let record = Layout::kratos().encode(&Namespace::default(), &instance, 7);
    let record = record.unwrap();
    assert_eq!(record.key, "/microservices/greeter/4d75");
    assert_eq!(
        String::from_utf8(record.value).unwrap(),
        r#"{"id":"4d75","name":"greeter","version":"v1","metadata":{"weight":"10"},"endpoints":["grpc://10.0.0.1:9000","http://10.0.0.1:8000"]}"#,
    );
}

#[test]
fn go_zero_writes_the_address_under_an_integer() {
    let (key, value) = encode(Layout::go_zero(), &instance());
    assert_eq!(value, "10.0.0.1:9000");
    let id: i64 = key.strip_prefix("greeter/").unwrap().parse().unwrap();
    assert!(id > 0);
    // A server that comes back writes the same key.
    assert_eq!(encode(Layout::go_zero(), &instance()).0, key);
    let other = Instance::new("greeter", "10.0.0.2:9000").unwrap();
    assert_ne!(encode(Layout::go_zero(), &other).0, key);

    let given = instance().with_id("42".parse().unwrap());
    assert_eq!(encode(Layout::go_zero(), &given).0, "greeter/42");
    let of_lease = instance().with_lease_id();
    assert_eq!(encode(Layout::go_zero(), &of_lease).0, "greeter/7");
}

#[test]
fn etcds_go_package_writes_json_under_the_address() {
    let (key, value) = encode(Layout::etcd_naming(), &instance());
    assert_eq!(key, "greeter/10.0.0.1:9000");
    assert_eq!(value, r#"{"Op":0,"Addr":"10.0.0.1:9000","Metadata":null}"#);
    let (_, value) = encode(
        Layout::etcd_naming(),
        &instance().with_metadata("zone", "b"),
    );
    assert_eq!(
        value,
        r#"{"Op":0,"Addr":"10.0.0.1:9000","Metadata":{"zone":"b"}}"#
    );
}

#[test]
fn host_port_is_json_under_its_own_md5() {
    let (key, value) = encode(Layout::host_port(), &instance());
    assert_eq!(value, r#"{"name":"greeter","host":"10.0.0.1","port":9000}"#);
    assert_eq!(key, format!("/shop/{}", InstanceId::digest(&value)));
    // As `md5sum` has it.
    assert_eq!(key, "/shop/8c419fee9ed0b0433e63b3bc110f6770");
}

#[test]
fn rules_combine() {
    let recipe = Layout::new(KeyRule::Address, ValueRule::Address);
    let expected = ("/shop/greeter/10.0.0.1:9000", "10.0.0.1:9000");
    let (key, value) = encode(recipe, &instance());
    assert_eq!((key.as_str(), value.as_str()), expected);
    let (key, _) = encode(recipe.at_root(), &instance());
    assert_eq!(key, "greeter/10.0.0.1:9000");
    assert_eq!(recipe.at_root().in_namespace(), recipe);

    // In kratos' value the id is the identity's, in the key it is the value's.
    let digest = Layout::new(KeyRule::Digest, ValueRule::Kratos);
    let (key, value) = encode(digest, &instance());
    assert!(value.contains(&format!(r#""id":"{}""#, instance().id())));
    assert_eq!(key, format!("/shop/{}", InstanceId::digest(&value)));
    let nameless = Layout::new(KeyRule::Digest, ValueRule::Address);
    let refused = nameless.encode(&namespace("/shop"), &instance(), 7);
    assert_eq!(refused, Err(LayoutError::NoName(nameless)));
}

#[test]
fn the_layouts_own_id_is_derived_and_another_one_given() {
    let kind = |layout: Layout, instance: &Instance| {
        let composed = layout.compose(&namespace("/shop"), instance, 7);
        composed.unwrap().1
    };
    for (_, layout) in PRESETS {
        assert_eq!(kind(layout, &instance()), IdKind::Derived, "{layout}");
        let given = instance().with_id("42".parse().unwrap());
        assert_eq!(kind(layout, &given), IdKind::Given, "{layout}");
        let of_lease = instance().with_lease_id();
        assert_eq!(kind(layout, &of_lease), IdKind::Given, "{layout}");
    }
    // What was found is published again as what it was.
    let record = Layout::go_zero()
        .encode(&namespace("/shop"), &instance(), 7)
        .unwrap();
    let found = Layout::go_zero().decode(&greeter(), record.key.as_bytes(), &record.value);
    let found = found.unwrap().unwrap();
    assert_eq!(kind(Layout::go_zero(), &found), IdKind::Derived);
}

#[test]
fn an_id_that_does_not_fit_is_refused() {
    for id in ["abc", "0", "-1", "+1", "007", "9223372036854775808", "1 "] {
        let instance = instance().with_id(id.parse().unwrap());
        let refused = Layout::go_zero().encode(&namespace("/shop"), &instance, 7);
        let error = refused.unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "invalid instance id: {id:?} (expected: an integer from 1 to 9223372036854775807)"
            )
        );
        assert_eq!(
            encode(Layout::etcd_naming(), &instance).0,
            format!("greeter/{id}")
        );
    }
    let largest = instance().with_id("9223372036854775807".parse().unwrap());
    assert_eq!(
        encode(Layout::go_zero(), &largest).0,
        "greeter/9223372036854775807"
    );
}

#[test]
fn nothing_but_kratos_values_goes_where_kratos_reads() {
    for layout in [
        Layout::host_port(),
        Layout::go_zero().in_namespace(),
        Layout::etcd_naming().in_namespace(),
        Layout::host_port().at_root(),
    ] {
        for text in ["/microservices", "/microservices/", "/microservices/sub"] {
            let refused = layout.encode(&namespace(text), &instance(), 7);
            let error = refused.unwrap_err().to_string();
            let expected = "expected: one that is not under /microservices";
            assert!(error.contains(expected), "{error}");
        }
        assert!(
            layout
                .encode(&namespace("/microservices2"), &instance(), 7)
                .is_ok()
        );
    }
    for layout in [
        Layout::kratos(),
        Layout::go_zero(),
        Layout::etcd_naming(),
        Layout::new(KeyRule::Address, ValueRule::Kratos),
    ] {
        assert!(layout.encode(&Namespace::default(), &instance(), 7).is_ok());
    }
}

#[test]
fn a_layout_of_one_address_needs_one_of_grpc() {
    let http = Instance::found(
        greeter(),
        "1".parse().unwrap(),
        String::new(),
        Default::default(),
        vec!["http://h:1".parse().unwrap()],
    );
    let refused = Layout::go_zero().encode(&namespace("/shop"), &http, 7);
    assert_eq!(refused, Err(LayoutError::NoGrpc(greeter())));
    // The first of gRPC, whatever comes before.
    let both = http.with_origin("grpcs://h:2".parse().unwrap());
    assert_eq!(encode(Layout::go_zero(), &both).1, "h:2");
}

#[test]
fn every_layout_reads_what_every_layout_wrote() {
    let written = Instance::new("greeter", "[::1]:9000").unwrap();
    for (_, writer) in PRESETS {
        let record = writer.encode(&namespace("/shop"), &written, 7).unwrap();
        for (_, reader) in PRESETS {
            let found = reader.decode(&greeter(), record.key.as_bytes(), &record.value);
            match found {
                Ok(Some(found)) => assert_same(&found, &written),
                // Under one prefix for all services, a value must tell whose it is.
                Err(RecordError::NoName) => assert_eq!(reader, Layout::host_port()),
                other => panic!("{writer} read by {reader}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_value_keeps_what_its_rule_has_room_for() {
    let written = instance().with_metadata("zone", "b").with_version("2");
    let (_, value) = encode(Layout::kratos(), &written);
    assert_eq!(read(value).unwrap(), written);
    let (_, value) = encode(Layout::etcd_naming(), &written);
    assert_same(
        &read(value).unwrap(),
        &instance().with_metadata("zone", "b"),
    );
}

#[test]
fn ids_are_the_jsons_where_it_has_one_and_else_the_keys_last_part() {
    let id = |value: &str| read(value).unwrap().id().to_string();
    assert_eq!(id(r#"{"id":"a","name":"greeter"}"#), "a");
    for value in [
        r#"{"id":"","name":"greeter"}"#,
        r#"{"name":"greeter"}"#,
        "h:1",
        r#"{"Addr":"h:1"}"#,
        r#"{"host":"h","port":1}"#,
    ] {
        assert_eq!(id(value), "last", "{value}");
    }
}

#[test]
fn kratos_nulls_missing_fields_and_unknown_ones_are_read() {
    let value = br#"{"id":"a","name":"greeter","metadata":null,"endpoints":null,"nodes":[1]}"#;
    let instance = read(value).unwrap();
    assert!(instance.origins().is_empty() && instance.metadata().is_empty());
    let value = br#" {"id":"a","name":"greeter","endpoints":["tcp://h:1","grpc://h:2"],"host":7}"#;
    assert_eq!(read(value).unwrap().origins().len(), 1);
}

#[test]
fn an_address_that_is_there_twice_is_dialed_once() {
    let value = r#"{"name":"greeter","endpoints":["grpc://h:1","grpc://h:1","grpc://0.0.0.0:1"]}"#;
    let endpoint = read(value).unwrap().to_endpoints().next().unwrap();
    assert_eq!(endpoint.addresses().len(), 1);
}

#[test]
fn metadata_of_etcd_naming_may_be_anything() {
    for (metadata, expected) in [
        ("null", vec![]),
        ("{}", vec![]),
        (r#"{"zone":"b"}"#, vec![("zone", "b")]),
        (
            r#"{"zone":"b","weight":10,"tags":["x"],"no":null}"#,
            vec![
                ("no", "null"),
                ("tags", r#"["x"]"#),
                ("weight", "10"),
                ("zone", "b"),
            ],
        ),
        (r#""v1""#, vec![("Metadata", "v1")]),
        ("7", vec![("Metadata", "7")]),
        (r#"[1,"a"]"#, vec![("Metadata", r#"[1,"a"]"#)]),
    ] {
        let value = format!(r#"{{"Op":1,"Addr":"h:1","Metadata":{metadata}}}"#);
        let found = read(value).unwrap();
        let found: Vec<_> = found
            .metadata()
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(found, expected, "{metadata}");
    }
    assert!(read(r#"{"Addr":"h:1"}"#).unwrap().metadata().is_empty());
}

#[test]
fn a_port_is_a_number_or_a_string() {
    for (value, origin) in [
        (r#"{"name":"greeter","host":"h","port":1}"#, "grpc://h:1"),
        (r#"{"name":"greeter","host":"h","port":"1"}"#, "grpc://h:1"),
        (
            r#"{"port":1,"host":"::1","name":"greeter"}"#,
            "grpc://[::1]:1",
        ),
        (
            r#"{"name":"greeter","host":"[::1]","port":1}"#,
            "grpc://[::1]:1",
        ),
    ] {
        let origins: Vec<Origin> = vec![origin.parse().unwrap()];
        assert_eq!(read(value).unwrap().origins(), origins, "{value}");
    }
}

#[test]
fn what_is_no_record_is_refused_with_what_was_expected() {
    for (value, expected) in [
        (&b""[..], "host:port"),
        (b"garbage", "host:port"),
        (b"\xff\xfe", "2 bytes that are not UTF-8"),
        (b"h:0", "a port"),
        (b"h", "host:port"),
        (b"h:1\n", "a port"),
        (b"http://h:1", "without a scheme"),
        (b"0.0.0.0:1", "one that others can dial"),
        (b"[::]:1", "one that others can dial"),
        (b"[]", "host:port"),
        (b"{\"id\":\"a\",\"name\":\"gre", "EOF"),
        (b"{", "EOF"),
        (b"{}", "missing field `name`"),
        (b"{\"name\":\"gr\xff\"}", "invalid unicode"),
        (
            br#"{"name":"other"}"#,
            "of another service: \"other\" (expected: greeter)",
        ),
        (
            br#"{"name":"other","host":"h","port":1}"#,
            "(expected: greeter)",
        ),
        (br#"{"id":"a/b","name":"greeter"}"#, "no '/'"),
        (
            br#"{"id":"a","name":"greeter","metadata":{"weight":10}}"#,
            "expected a string",
        ),
        (
            br#"{"id":"a","name":"greeter","metadata":[]}"#,
            "expected a map",
        ),
        (br#"{"id":7,"name":"greeter"}"#, "expected a string"),
        (
            br#"{"name":"greeter","endpoints":"grpc://h:1"}"#,
            "expected a sequence",
        ),
        (br#"{"Addr":7}"#, "expected a string"),
        (br#"{"Addr":"0.0.0.0:1"}"#, "one that others can dial"),
        (br#"{"Addr":"h"}"#, "host:port"),
        (br#"{"host":"h"}"#, "missing field `port`"),
        (br#"{"host":"h","port":0}"#, "a port"),
        (br#"{"host":"h","port":70000}"#, "a port"),
        (br#"{"host":"h","port":-1}"#, "a number or a string"),
        (br#"{"host":"h","port":null}"#, "a number or a string"),
        (br#"{"host":"","port":1}"#, "host name"),
        (
            br#"{"host":"0.0.0.0","port":1}"#,
            "one that others can dial",
        ),
    ] {
        let text = String::from_utf8_lossy(value);
        let error = match read(value) {
            Err(error) => error,
            Ok(found) => panic!("{text}: {found:?}"),
        };
        let source = std::error::Error::source(&error).map(ToString::to_string);
        let told = format!("{error}: {}", source.unwrap_or_default());
        assert!(told.contains(expected), "{text}: {told}");
    }
}

#[test]
fn a_megabyte_is_read_or_refused_in_a_few_words() {
    let mega = "x".repeat(1 << 20);
    let good =
        format!(r#"{{"name":"greeter","metadata":{{"m":"{mega}"}},"endpoints":["grpc://h:1"]}}"#);
    assert_eq!(read(good).unwrap().metadata()["m"].len(), 1 << 20);
    for value in [
        mega.clone(),
        format!("{mega}:1"),
        format!(r#"{{"name":"{mega}"}}"#),
        format!(r#"{{"name":"greeter","id":"{mega}/"}}"#),
        format!(r#"{{"name":"greeter","metadata":"{mega}"}}"#),
        format!(r#"{{"Addr":"{mega}"}}"#),
        format!(r#"{{"host":"{mega}","port":1}}"#),
        format!(r#"{{"host":"h","port":"{mega}"}}"#),
        "{\"a\":".repeat(1 << 18),
        "[".repeat(1 << 20),
    ] {
        let error = read(&value).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string);
        let told = format!("{error}: {}", source.unwrap_or_default());
        assert!(told.len() < 400, "{} characters", told.len());
    }
}

#[test]
fn under_one_prefix_for_all_the_value_tells_whose_it_is() {
    let decode = |value: &str| Layout::host_port().decode(&greeter(), b"/shop/a", value.as_bytes());
    let ours = decode(r#"{"name":"greeter","host":"h","port":1}"#);
    assert!(matches!(ours, Ok(Some(_))));
    for other in [
        r#"{"name":"other","host":"h","port":1}"#,
        r#"{"name":"greeter2","endpoints":["grpc://h:1"]}"#,
        r#"{"name":"","host":"h","port":1}"#,
    ] {
        assert!(matches!(decode(other), Ok(None)), "{other}");
    }
    for nobodys in ["h:1", r#"{"Addr":"h:1"}"#, r#"{"host":"h","port":1}"#] {
        let refused = decode(nobodys);
        assert!(matches!(refused, Err(RecordError::NoName)), "{nobodys}");
    }
}

#[test]
fn the_prefix_of_a_service_is_no_other_services() {
    let shop = namespace("/shop");
    let prefix = |layout: Layout| layout.prefix(&shop, &greeter());
    assert_eq!(prefix(Layout::kratos()), "/shop/greeter/");
    assert_eq!(prefix(Layout::go_zero()), "greeter/");
    assert_eq!(prefix(Layout::etcd_naming()), "greeter/");
    assert_eq!(
        prefix(Layout::etcd_naming().in_namespace()),
        "/shop/greeter/"
    );
    // All services are under it, at the root too, where it would be all of etcd.
    assert_eq!(prefix(Layout::host_port()), "/shop/");
    assert_eq!(prefix(Layout::host_port().at_root()), "/shop/");
}

#[test]
fn the_key_or_the_value_tells_the_service() {
    let of = |layout: Layout, after: &str, value: &str| {
        let service = layout.service_of(after.as_bytes(), value.as_bytes());
        service.map(|service| service.to_string())
    };
    let greeter = Some("greeter".to_owned());
    assert_eq!(of(Layout::kratos(), "greeter/a", ""), greeter);
    assert_eq!(of(Layout::kratos(), "greeter/a/b", ""), greeter);
    for no_record in ["greeter", "", "/a", "gr\n/a"] {
        assert_eq!(of(Layout::kratos(), no_record, ""), None);
    }
    let value = r#"{"name":"greeter","host":"h","port":1}"#;
    assert_eq!(of(Layout::host_port(), "a", value), greeter);
    assert_eq!(of(Layout::host_port(), "greeter/a", "h:1"), None);
}

#[test]
fn a_layout_is_read_as_it_is_written() {
    for (name, layout) in PRESETS {
        assert_eq!(layout.to_string(), name);
        assert_eq!(name.parse(), Ok(layout));
    }
    for (_, key) in key::NAMES {
        for (_, value) in value::NAMES {
            let layout = Layout::new(key, value);
            for layout in [layout, layout.at_root()] {
                let json = serde_json::to_string(&layout).unwrap();
                assert_eq!(serde_json::from_str::<Layout>(&json).unwrap(), layout);
                assert_eq!(layout.to_string().parse(), Ok(layout));
            }
        }
    }
    for text in [
        "",
        "Kratos",
        "gozero",
        "address,address",
        "a,b,c",
        "address,address,root,x",
    ] {
        let error = text.parse::<Layout>().unwrap_err().to_string();
        assert!(
            error.contains("expected: kratos, go-zero, etcd-naming, host-port"),
            "{error}"
        );
    }
    assert_eq!(Layout::default(), Layout::kratos());
}
