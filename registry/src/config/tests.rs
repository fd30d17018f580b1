use serde_json::json;
use switchboard_resolver::Security;

use super::*;

fn from_vars(vars: &[(&str, &str)]) -> Result<RegistryConfig, ConfigError> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    RegistryConfig::from_vars(vars.iter().map(owned))
}

fn from_json(value: serde_json::Value) -> Result<RegistryConfig, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

#[test]
fn the_environment_and_a_file_say_the_same() {
    let vars = from_vars(&[
        ("SWITCHBOARD_ETCD", "h1:2379,h2:2379"),
        ("SWITCHBOARD_NAMESPACE", "/shop"),
        ("SWITCHBOARD_LAYOUT", "kratos"),
        ("SWITCHBOARD_TTL", "15"),
        ("SWITCHBOARD_USERNAME", "ada"),
        ("SWITCHBOARD_PASSWORD_FILE", "/run/password"),
        ("SWITCHBOARD_CA_FILE", "/run/ca"),
        ("SWITCHBOARD_CERT_FILE", "/run/cert"),
        ("SWITCHBOARD_KEY_FILE", "/run/key"),
        ("SWITCHBOARD_SERVER_NAME", "etcd.example"),
        ("SWITCHBOARD_ADVERTISE", "10.0.0.7"),
        ("SWITCHBOARD_ZONE", "b"),
    ])
    .unwrap();
    let file = from_json(json!({
        "endpoints": ["h1:2379", "h2:2379"],
        "namespace": "/shop",
        "layout": "kratos",
        "ttl": 15,
        "username": "ada",
        "password_file": "/run/password",
        "ca_file": "/run/ca",
        "cert_file": "/run/cert",
        "key_file": "/run/key",
        "server_name": "etcd.example",
        "advertise": "10.0.0.7",
        "zone": "b",
    }))
    .unwrap();
    let of_a_file = RegistryConfig {
        pod_ip: None,
        ..vars
    };
    assert_eq!(of_a_file, file);
}

#[test]
fn what_is_written_is_read_as_the_same() {
    for value in [
        json!({"endpoints": "h1:2379"}),
        json!({"endpoints": "etcds://h1:2379,h2:2379"}),
        json!({"endpoints": ["h1:2379"], "ca_file": "/ca"}),
        json!({"endpoints": ["h1:2379"], "cert_file": "/cert", "key_file": "/key"}),
        json!({"endpoints": "h1:2379", "username": "ada", "password_file": "/password"}),
        json!({"endpoints": "h1:2379", "namespace": "/a/b", "layout": "kratos", "ttl": 2}),
        json!({"endpoints": "h1:2379", "advertise": "[::1]:80", "zone": "b"}),
    ] {
        let config = from_json(value).unwrap();
        let written = serde_json::to_value(&config).unwrap();
        assert_eq!(from_json(written), Ok(config));
    }
}

#[test]
fn tls_is_on_where_anything_of_it_is_set() {
    for (value, expected) in [
        (json!({"endpoints": "h:1"}), Security::Plaintext),
        (json!({"endpoints": "etcd://h:1"}), Security::Plaintext),
        (json!({"endpoints": "etcds://h:1"}), Security::Tls),
        (json!({"endpoints": "h:1", "ca_file": "/ca"}), Security::Tls),
        (
            json!({"endpoints": "h:1", "server_name": "etcd"}),
            Security::Tls,
        ),
    ] {
        let config = from_json(value.clone()).unwrap();
        assert_eq!(config.access.security(), expected, "{value}");
    }
}

#[test]
fn an_empty_variable_counts_as_unset_and_others_are_left_alone() {
    let config = from_vars(&[
        ("SWITCHBOARD_ETCD", "h1:2379"),
        ("SWITCHBOARD_NAMESPACE", ""),
        ("SWITCHBOARD_PASSWORD", ""),
        ("SWITCHBOARD_TEST_ETCD", "/usr/bin/etcd"),
        ("SWITCHBOARD_SERVICE_HOST", "10.0.0.1"),
        ("SWITCHBOARD_PORT", "tcp://10.0.0.1:80"),
        ("SWITCHBOARD_NAMESPCE", "/shop"),
        ("PATH", "/bin"),
    ]);
    assert_eq!(config, from_vars(&[("SWITCHBOARD_ETCD", "h1:2379")]));
    assert_eq!(
        from_vars(&[("SWITCHBOARD_ETCD", "")]),
        Err(ConfigError::NoEndpoints)
    );
}

#[test]
fn what_makes_no_sense_is_refused_with_what_was_expected() {
    let h = "h:1";
    for (value, expected) in [
        (
            json!({}),
            "no etcd: nothing set (expected: `endpoints`, or the variable SWITCHBOARD_ETCD)",
        ),
        (
            json!({"endpoints": []}),
            "invalid target: no endpoint (expected: at least one endpoint of etcd, or a service)",
        ),
        (
            json!({"endpoints": "h"}),
            "invalid target: \"h\" (expected: host:port for an etcd; etcd:///h for a service of that name, which `Registry::dial` takes alone)",
        ),
        (
            json!({"endpoints": "h:1/greeter"}),
            "invalid target: greeter after the endpoints (expected: no service; dial it by name)",
        ),
        (
            json!({"endpoints": "etcd:///greeter"}),
            "invalid target: of another form (expected: host:port,... or etcds://host:port,..., and nothing else)",
        ),
        (
            json!({"endpoints": "h:1?namespace=/a"}),
            "invalid target: of another form (expected: host:port,... or etcds://host:port,..., and nothing else)",
        ),
        (
            json!({"endpoints": 1}),
            "invalid type: integer `1`, expected host:port,... or a list of host:port",
        ),
        (
            json!({"endpoints": h, "namespace": "//"}),
            "invalid namespace: \"//\" (expected: at least one character)",
        ),
        (
            json!({"endpoints": h, "ttl": 1}),
            "invalid TTL: 1 (expected: whole seconds, from 2 to 9000000000)",
        ),
        (
            json!({"endpoints": h, "ttl": 9_000_000_001_u64}),
            "invalid TTL: 9000000001 (expected: whole seconds, from 2 to 9000000000)",
        ),
        (
            json!({"endpoints": h, "ttl": 2.5}),
            "invalid type: floating point `2.5`, expected whole seconds, from 2 to 9000000000",
        ),
        (
            json!({"endpoints": h, "ttl": -3}),
            "invalid value: integer `-3`, expected whole seconds, from 2 to 9000000000",
        ),
        (
            json!({"endpoints": h, "ttl": "10s"}),
            "invalid type: string \"10s\", expected whole seconds, from 2 to 9000000000",
        ),
        (
            json!({"endpoints": h, "username": "ada"}),
            "username: set without password or password_file (expected: both or neither)",
        ),
        (
            json!({"endpoints": h, "password": "x"}),
            "password: set without username (expected: both or neither)",
        ),
        (
            json!({"endpoints": h, "password_file": "x"}),
            "password_file: set without username (expected: both or neither)",
        ),
        (
            json!({"endpoints": h, "username": "a", "password": "x", "password_file": "y"}),
            "password and password_file: both set (expected: one of them)",
        ),
        (
            json!({"endpoints": h, "username": "", "password": "x"}),
            "username: empty (expected: at least one character, or to be left out)",
        ),
        (
            json!({"endpoints": h, "username": "a", "password": ""}),
            "password: empty (expected: at least one character, or to be left out)",
        ),
        (
            json!({"endpoints": h, "cert_file": "x"}),
            "cert_file: set without key_file (expected: both or neither)",
        ),
        (
            json!({"endpoints": h, "key_file": "x"}),
            "key_file: set without cert_file (expected: both or neither)",
        ),
        (
            json!({"endpoints": h, "ca_file": ""}),
            "ca_file: empty (expected: at least one character, or to be left out)",
        ),
        (
            json!({"endpoints": h, "zone": ""}),
            "zone: empty (expected: at least one character, or to be left out)",
        ),
        (
            json!({"endpoints": h, "advertise": "0.0.0.0"}),
            "invalid address to advertise: \"0.0.0.0\" (expected: a host or host:port that others can dial)",
        ),
    ] {
        assert_eq!(from_json(value.clone()).unwrap_err(), expected, "{value}");
    }
    for (value, expected) in [
        (
            json!({"endpoints": h, "endpoint": h}),
            "unknown field `endpoint`, expected one of ",
        ),
        (
            json!({"endpoints": h, "layout": "tarot"}),
            "invalid layout: \"tarot\" (expected: kratos",
        ),
    ] {
        let error = from_json(value).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn a_variable_that_makes_no_sense_is_refused_with_what_was_expected() {
    for (name, value, expected) in [
        (
            "SWITCHBOARD_TTL",
            "2.5",
            "invalid TTL: 2.5 (expected: whole seconds, from 2 to 9000000000)",
        ),
        (
            "SWITCHBOARD_TTL",
            "10s",
            "invalid TTL: 10s (expected: whole seconds, from 2 to 9000000000)",
        ),
        (
            "SWITCHBOARD_TTL",
            "1",
            "invalid TTL: 1 (expected: whole seconds, from 2 to 9000000000)",
        ),
        (
            "SWITCHBOARD_PASSWORD",
            "hunter2",
            "SWITCHBOARD_PASSWORD: not read (expected: SWITCHBOARD_PASSWORD_FILE)",
        ),
        (
            "SWITCHBOARD_USERNAME",
            "ada",
            "username: set without password or password_file (expected: both or neither)",
        ),
    ] {
        let error = from_vars(&[("SWITCHBOARD_ETCD", "h:1"), (name, value)]).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_password_is_shown_nowhere() {
    let config = from_json(json!({"endpoints": "h:1", "username": "ada", "password": "hunter2"}));
    let config = config.unwrap();
    let refusal = serde_json::to_string(&config).unwrap_err();
    let builder = RegistryBuilder::from(config.clone());
    let shown = format!("{config:?} {builder:?} {refusal} {refusal:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(
        refusal.to_string().contains("(expected: password_file)"),
        "{refusal}"
    );

    // A password that is no text, or in a configuration that is refused for another reason.
    for value in [
        json!({"endpoints": "h:1", "username": "ada", "password": 271828}),
        json!({"endpoints": "h:1", "username": "ada", "password": -271828}),
        json!({"endpoints": "h:1", "username": "ada", "password": 271828.5}),
        json!({"endpoints": "h:1", "username": "ada", "password": ["271828"]}),
        json!({"endpoints": "h:1", "username": "ada", "password": {"271828": 1}}),
        json!({"endpoints": "h:1", "username": "ada", "password": "271828", "ttl": 0}),
        json!({"endpoints": "h:1", "username": "ada", "pasword": "271828"}),
        json!({"endpoints": "ada:271828@h:1"}),
    ] {
        let error = from_json(value.clone()).unwrap_err();
        assert!(!error.contains("271828"), "{error}");
        assert!(error.contains("expected"), "{value}: {error}");
    }
}

#[tokio::test]
async fn users_and_certificates_reach_the_connection() {
    let value = json!({"endpoints": "h:1", "username": "ada", "password": "hunter2"});
    let shown = format!("{:?}", RegistryBuilder::from(from_json(value).unwrap()));
    assert!(
        shown.contains("ada") && !shown.contains("hunter2"),
        "{shown}"
    );
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn a_file_that_is_missing_is_named_before_anything_connects() {
    let value = json!({"endpoints": "h:1", "ca_file": "/no/such/ca"});
    let builder = RegistryBuilder::from(from_json(value).unwrap());
    let error = builder.connect_lazy().unwrap_err().to_string();
    assert!(error.contains("/no/such/ca"), "{error}");
}
