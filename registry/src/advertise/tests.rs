use super::*;

/// All that counts; what is `None` or empty is not there.
#[derive(Default)]
struct Case<'a> {
    given: Option<&'a str>,
    pod_ip: Option<&'a str>,
    etcd: &'a str,
    routes: &'a [&'a str],
    interfaces: &'a [&'a str],
}

const REMOTE: Case = Case {
    given: None,
    pod_ip: None,
    etcd: "10.9.9.9:2379",
    routes: &["10.0.0.7"],
    interfaces: &[
        "127.0.0.1",
        "::1",
        "169.254.0.5",
        "fe80::5",
        "10.0.0.8",
        "2001:db8::8",
    ],
};

const LOCAL: Case = Case {
    etcd: "127.0.0.1:2379,localhost:2380",
    routes: &["127.0.0.1"],
    ..REMOTE
};

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Returns what is advertised, or why nothing is.
fn advertised(bound: &str, case: &Case) -> Result<String, String> {
    let crate::Target::Etcd(etcd) = case.etcd.parse().unwrap() else {
        panic!("{}", case.etcd)
    };
    let given = case.given.map(|text| text.parse().unwrap());
    let pod_ip = case.pod_ip.map(str::to_owned);
    let advertised = Advertised::new(given, pod_ip, etcd.addresses);
    let bound = bound.parse().unwrap();
    let machine = Machine {
        routes: ips(case.routes),
        interfaces: ips(case.interfaces),
    };
    let address = match advertised.by_setting(bound) {
        Ok(None) => advertised.by_machine(bound, &machine),
        Ok(Some(address)) => Ok(address),
        Err(error) => Err(error),
    };
    address
        .map(|address| address.to_string())
        .map_err(|error| error.to_string())
}

#[test]
fn what_counts_more_counts_first() {
    let all = Case {
        given: Some("greeter.example"),
        pod_ip: Some("10.0.0.6"),
        ..REMOTE
    };
    for (case, expected) in [
        (&all, "greeter.example:80"),
        (&Case { given: None, ..all }, "10.0.0.6:80"),
        (&REMOTE, "10.0.0.7:80"),
        (
            &Case {
                routes: &[],
                ..REMOTE
            },
            "10.0.0.8:80",
        ),
        (&LOCAL, "127.0.0.1:80"),
    ] {
        assert_eq!(advertised("0.0.0.0:80", case).unwrap(), expected);
        assert_eq!(advertised("[::]:80", case).unwrap(), expected);
        assert_eq!(advertised("[::ffff:0.0.0.0]:80", case).unwrap(), expected);
    }
}

#[test]
fn a_given_host_has_the_bound_port_unless_it_has_its_own() {
    for (given, expected) in [
        ("10.0.0.5", "10.0.0.5:80"),
        ("10.0.0.5:443", "10.0.0.5:443"),
        ("greeter.example:443", "greeter.example:443"),
        ("2001:db8::1", "[2001:db8::1]:80"),
        ("[2001:db8::1]", "[2001:db8::1]:80"),
        ("[2001:db8::1]:443", "[2001:db8::1]:443"),
        ("127.0.0.1", "127.0.0.1:80"),
    ] {
        let case = Case {
            given: Some(given),
            ..REMOTE
        };
        for bound in ["0.0.0.0:80", "10.0.0.1:80", "127.0.0.1:80"] {
            assert_eq!(advertised(bound, &case).unwrap(), expected);
        }
        let given: Advertise = given.parse().unwrap();
        assert_eq!(given.to_string().parse(), Ok(given));
    }
}

#[test]
fn a_specific_address_is_the_one() {
    for (bound, expected) in [
        ("10.0.0.1:80", "10.0.0.1:80"),
        ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        ("[::ffff:10.0.0.1]:80", "10.0.0.1:80"),
        ("169.254.0.1:80", "169.254.0.1:80"),
    ] {
        let in_a_pod = Case {
            pod_ip: Some("10.0.0.6"),
            ..REMOTE
        };
        assert_eq!(advertised(bound, &in_a_pod).unwrap(), expected);
    }
    assert_eq!(advertised("[::1]:80", &LOCAL).unwrap(), "[::1]:80");
}

#[test]
fn who_listens_on_ipv4_only_is_not_sought_at_an_ipv6_address() {
    let v6 = Case {
        pod_ip: Some("2001:db8::6"),
        routes: &["2001:db8::7"],
        ..REMOTE
    };
    assert_eq!(advertised("0.0.0.0:80", &v6).unwrap(), "10.0.0.8:80");
    assert_eq!(advertised("[::]:80", &v6).unwrap(), "[2001:db8::6]:80");
    let unset = Case { pod_ip: None, ..v6 };
    assert_eq!(advertised("[::]:80", &unset).unwrap(), "[2001:db8::7]:80");
}

#[test]
fn a_loopback_is_passed_over_unless_all_of_etcd_is_there() {
    let mixed = Case {
        etcd: "127.0.0.1:2379,10.9.9.9:2379",
        routes: &["127.0.0.1", "10.0.0.7"],
        ..REMOTE
    };
    assert_eq!(advertised("0.0.0.0:80", &mixed).unwrap(), "10.0.0.7:80");
}

#[test]
fn where_there_is_none_it_is_told_what_was_expected() {
    let other = "listen on another, or set `advertise`)";
    for (bound, case, expected) in [
        (
            "127.0.0.1:80",
            REMOTE,
            format!("invalid address to advertise: 127.0.0.1:80 with etcd at 10.9.9.9:2379 (expected: one that others can dial: {other}"),
        ),
        (
            "[::ffff:127.0.0.1]:80",
            REMOTE,
            format!("invalid address to advertise: 127.0.0.1:80 with etcd at 10.9.9.9:2379 (expected: one that others can dial: {other}"),
        ),
        (
            "0.0.0.0:80",
            Case { pod_ip: Some("127.0.0.1"), ..REMOTE },
            format!("invalid address to advertise: 127.0.0.1:80 with etcd at 10.9.9.9:2379 (expected: one that others can dial: {other}"),
        ),
        (
            "[fe80::1%1]:80",
            REMOTE,
            format!("invalid address to advertise: [fe80::1%1]:80 is link-local (expected: one that others can dial: {other}"),
        ),
        (
            "0.0.0.0:80",
            Case { routes: &["127.0.0.1"], interfaces: &["127.0.0.1", "169.254.0.5"], ..REMOTE },
            "no address to advertise for 0.0.0.0:80: no network but loopback (expected: one that others can dial: set `advertise`)".to_owned(),
        ),
        (
            "0.0.0.0:80",
            Case { pod_ip: Some("pod"), ..REMOTE },
            "invalid POD_IP: \"pod\" (expected: an IP address that others can dial, or none)".to_owned(),
        ),
        (
            "0.0.0.0:80",
            Case { pod_ip: Some("0.0.0.0"), ..REMOTE },
            "invalid POD_IP: \"0.0.0.0\" (expected: an IP address that others can dial, or none)".to_owned(),
        ),
        (
            "0.0.0.0:0",
            REMOTE,
            "invalid address: \"10.0.0.7:0\" (expected: a port from 1 to 65535)".to_owned(),
        ),
    ] {
        assert_eq!(advertised(bound, &case).unwrap_err(), expected);
    }
    let empty = Case {
        pod_ip: Some(""),
        ..REMOTE
    };
    assert_eq!(advertised("0.0.0.0:80", &empty).unwrap(), "10.0.0.7:80");
}

#[test]
fn a_host_that_nobody_can_dial_is_not_given() {
    for text in [
        "",
        "0.0.0.0",
        "0.0.0.0:80",
        "::",
        "[::]:80",
        "h:0",
        "h:65536",
        "a b",
        "http://h",
        "h/x",
        "u@h",
        "h:1:2",
        "[::1",
    ] {
        let error = text.parse::<Advertise>().unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "invalid address to advertise: {text:?} (expected: a host or host:port that others can dial)"
            )
        );
    }
}

#[tokio::test]
async fn this_machine_reaches_a_loopback_from_a_loopback() {
    let etcd = [
        "127.0.0.1:2379".parse().unwrap(),
        "[::1]:2379".parse().unwrap(),
    ];
    let machine = Machine::look(&etcd[..1]).await;
    assert_eq!(machine.routes, ips(&["127.0.0.1"]));
    assert!(
        machine.interfaces.contains(&ips(&["127.0.0.1"])[0]),
        "{machine:?}"
    );
    // Without IPv6 here there is no route, and no failure.
    let routes = Machine::look(&etcd[1..]).await.routes;
    assert!(routes.is_empty() || routes == ips(&["::1"]), "{routes:?}");
}
