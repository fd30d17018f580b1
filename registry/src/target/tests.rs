use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Target {
    text.parse()
        .unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn refusal(text: &str) -> String {
    match text.parse::<Target>() {
        Err(error) => error.to_string(),
        Ok(target) => panic!("{text:?} is {target:?}"),
    }
}

#[test]
fn each_spelling_is_read_and_written_in_one_way() {
    for (text, written) in [
        ("h1:2379", "etcd://h1:2379"),
        ("h1:2379, h2:2379", "etcd://h1:2379,h2:2379"),
        ("h1:2379/greeter", "etcd://h1:2379/greeter"),
        ("h1:2379?namespace=/shop", "etcd://h1:2379?namespace=/shop"),
        ("etcd://h1:2379/", "etcd://h1:2379"),
        ("http://h1:2379", "etcd://h1:2379"),
        ("http://h1:2379/, http://h2:2379", "etcd://h1:2379,h2:2379"),
        ("http://h1:2379,h2:2379", "etcd://h1:2379,h2:2379"),
        (
            "https://h1:2379,https://h2:2379?namespace=/shop",
            "etcds://h1:2379,h2:2379?namespace=/shop",
        ),
        ("etcd://[::1]:2379/greeter", "etcd://[::1]:2379/greeter"),
        (
            "etcds://h1:2379,h2:2379/greeter",
            "etcds://h1:2379,h2:2379/greeter",
        ),
        (
            "etcd://h1:2379/greeter?namespace=%2Fshop&layout=kratos",
            "etcd://h1:2379/greeter?layout=kratos&namespace=/shop",
        ),
        ("etcd:///greeter", "etcd:///greeter"),
        ("etcd:///a%40b%23c%25", "etcd:///a%40b%23c%25"),
        ("etcd:///gr%C3%BC%C3%9Fe", "etcd:///gr%C3%BC%C3%9Fe"),
        ("etcd:///grüße", "etcd:///gr%C3%BC%C3%9Fe"),
        (
            "etcd:///greeter?namespace=/my+shop",
            "etcd:///greeter?namespace=/my%20shop",
        ),
        ("etcd:///a+b", "etcd:///a%2Bb"),
        ("discovery:///greeter", "etcd:///greeter?layout=kratos"),
        (
            "direct:///10.0.0.1:1,[::1]:2",
            "direct:///10.0.0.1:1,[::1]:2",
        ),
        (
            "dns:///greeter.example:50051",
            "dns:///greeter.example:50051",
        ),
        ("dns:///[0::1]:1", "dns:///[::1]:1"),
        ("unix:/run/x.sock", "unix:/run/x.sock"),
        ("unix:///run/x.sock", "unix:/run/x.sock"),
        ("unix:/run/a%20b%40c%3F", "unix:/run/a%20b%40c%3F"),
        (
            "etcd:///greeter?subset=010&policy=round_robin&namespace=/shop&version=v+2",
            "etcd:///greeter?namespace=/shop&policy=round_robin&version=v%202&subset=10",
        ),
        (
            "etcd://h1:2379/greeter?config=/switchboard/greeter&zone=a%26b",
            "etcd://h1:2379/greeter?zone=a%26b&config=/switchboard/greeter",
        ),
        (
            "discovery:///greeter?version=2",
            "etcd:///greeter?layout=kratos&version=2",
        ),
        (
            "direct:///h1:1,h2:1?policy=round_robin",
            "direct:///h1:1,h2:1?policy=round_robin",
        ),
        ("dns:///h1:1?subset=3", "dns:///h1:1?subset=3"),
        ("unix:/run/x?zone=a", "unix:/run/x?zone=a"),
    ] {
        let target = parse(text);
        assert_eq!(target.to_string(), written, "{text:?}");
        assert_eq!(parse(written), target, "{text:?}");
    }
}

#[test]
fn go_zeros_spelling_has_the_list_in_its_path() {
    for (text, written) in [
        (
            "etcd:///h1:2379,h2:2379?key=user.rpc",
            "etcd://h1:2379,h2:2379/user.rpc?layout=go-zero",
        ),
        (
            "etcd:///h1%3A2379?key=user+rpc",
            "etcd://h1:2379/user%20rpc?layout=go-zero",
        ),
        (
            "etcds:///h1:2379?key=a%2Bb",
            "etcds://h1:2379/a%2Bb?layout=go-zero",
        ),
    ] {
        let target = parse(text);
        assert_eq!(target.to_string(), written, "{text:?}");
        assert_eq!(parse(written), target, "{text:?}");
    }
}

#[test]
fn a_list_and_a_target_name_the_same_endpoints() {
    let endpoints = |text: &str| match parse(text) {
        Target::Etcd(target) => target.endpoints().to_vec(),
        target => panic!("{target:?}"),
    };
    assert_eq!(
        endpoints("etcd://h1:2379,h2:2379/greeter"),
        endpoints("h1:2379,h2:2379")
    );
    assert_eq!(endpoints("h1:2379,h2:2379").len(), 2);
}

#[test]
fn what_is_no_target_is_refused_with_what_was_expected() {
    const NO_ENDPOINT: &str =
        "invalid target: no endpoint (expected: at least one endpoint of etcd, or a service)";
    const SCHEMES: &str = "(expected: etcd://, etcds://, discovery:///, direct:///, dns:/// or unix:/, or host:port,... alone)";
    const FORM: &str = "invalid target: of another form (expected: ";
    const URLS: &str = "http://host:port,... or https://host:port,... without a path; etcd://host:port,.../service names a service)";
    const DNS: &str =
        "dns:///host:port, one, without parameters of etcd; the system knows its name servers)";
    const PATH: &str = "unix:/path or unix:///path, without parameters of etcd; '?', '#' and '@' in a path are %3F, %23 and %40)";
    const NOBODY: &str = "etcd://host:port,.../service; without a service nobody is called, and parameters choose nobody)";
    const UNIX: &str =
        "(expected: host:port; the address of a Unix socket is made with `Address::unix`)";
    for (text, expected) in [
        ("", NO_ENDPOINT),
        ("http://", NO_ENDPOINT),
        ("http://h1:2379/greeter", &format!("{FORM}{URLS}")),
        ("http:///greeter", &format!("{FORM}{URLS}")),
        ("http://h1:2379,https://h2:2379", &format!("{FORM}{URLS}")),
        ("/greeter", NO_ENDPOINT),
        ("etcd://", NO_ENDPOINT),
        ("etcd:///", NO_ENDPOINT),
        ("etcds:///?layout=kratos", NO_ENDPOINT),
        ("xds:///h:53", &format!("invalid scheme: \"xds\" {SCHEMES}")),
        ("dns://8.8.8.8/h:53", &format!("{FORM}{DNS}")),
        ("dns:/h:53", &format!("{FORM}{DNS}")),
        ("dns:///h:53,i:53", &format!("{FORM}{DNS}")),
        ("dns:///0.0.0.0:53", &format!("{FORM}{DNS}")),
        ("dns:///h:53?namespace=/x", &format!("{FORM}{DNS}")),
        ("dns:///h", "invalid address: \"h\" (expected: host:port)"),
        ("unix:/run/x?layout=kratos", &format!("{FORM}{PATH}")),
        ("unix://run/x", &format!("{FORM}{PATH}")),
        ("unix:////x", &format!("{FORM}{PATH}")),
        (
            "unix:/a%00",
            "invalid address: \"/a\\0\" (expected: a path of 1 to 107 bytes without control characters)",
        ),
        (
            "direct:///unix:/run/x",
            &format!("invalid address: \"unix:/run/x\" {UNIX}"),
        ),
        (
            "ETCD://h1:2379",
            &format!("invalid scheme: \"ETCD\" {SCHEMES}"),
        ),
        (
            "etcd:/h1:2379",
            &format!("{FORM}etcd://host:port,.../service or etcd:///service)"),
        ),
        (
            "etcds:///greeter",
            &format!(
                "{FORM}etcds://host:port,.../service; the default registry has its own setting)"
            ),
        ),
        (
            "discovery://h1:2379/greeter",
            &format!("{FORM}discovery:///service, without layout, namespace and key)"),
        ),
        (
            "discovery:///greeter?layout=kratos",
            &format!("{FORM}discovery:///service, without layout, namespace and key)"),
        ),
        (
            "discovery://greeter",
            &format!("{FORM}discovery:///service, without layout, namespace and key)"),
        ),
        (
            "direct://a:1",
            &format!("{FORM}direct:///host:port,..., without parameters of etcd)"),
        ),
        (
            "direct:///a:1?namespace=/x",
            &format!("{FORM}direct:///host:port,..., without parameters of etcd)"),
        ),
        ("direct:///", "invalid address: \"\" (expected: host:port)"),
        (
            "greeter",
            "invalid target: \"greeter\" (expected: host:port for an etcd; etcd:///greeter for a service of that name, which `Registry::dial` takes alone)",
        ),
        (
            "h1:0",
            "invalid address: \"h1:0\" (expected: a port from 1 to 65535)",
        ),
        (
            "h1:2379,,h2:2379",
            "invalid address: \"\" (expected: host:port)",
        ),
        (
            "h1:2379/a/b",
            "invalid service name: \"a/b\" (expected: no '/')",
        ),
        (
            "etcd:///a%2Fb",
            "invalid service name: \"a/b\" (expected: no '/')",
        ),
        (
            "etcd:///a%0A",
            "invalid service name: \"a\\n\" (expected: no control characters)",
        ),
        (
            "discovery:///",
            "invalid service name: \"\" (expected: at least one character)",
        ),
        (
            "etcd:///a%2",
            "invalid percent-encoding: \"%2\" (expected: two hex digits after '%')",
        ),
        (
            "etcd:///a%é",
            "invalid percent-encoding: \"%é\" (expected: two hex digits after '%')",
        ),
        (
            "etcd:///a%ff",
            "invalid percent-encoding: not text (expected: UTF-8)",
        ),
        (
            "etcd:///a#b",
            "invalid target: a part after '#' (expected: none; '#' in a name is %23)",
        ),
        (
            "etcd:///a?namespace=",
            "invalid namespace: \"\" (expected: at least one character)",
        ),
        (
            "etcd:///a?colour=red",
            "invalid parameter: \"colour\" (expected: layout, namespace, key, policy, version, zone, subset or config)",
        ),
        (
            "etcd:///a?",
            "invalid parameter: \"\" (expected: layout, namespace, key, policy, version, zone, subset or config)",
        ),
        (
            "etcd:///a?layout=kratos&layout=kratos",
            "invalid parameter: \"layout\" twice (expected: once)",
        ),
        (
            "etcd:///a?subset=0",
            "invalid subset: \"0\" (expected: a number, 1 or more)",
        ),
        (
            "etcd:///a?version=",
            "invalid version: \"\" (expected: at least one character)",
        ),
        (
            "etcd:///a?config=/microservices/x",
            "invalid key: \"/microservices/x\" (expected: one that is not in /microservices, where clients of kratos fail on what is not a server)",
        ),
        (
            "direct:///a:1?config=/x",
            &format!("{FORM}direct:///host:port,..., without parameters of etcd)"),
        ),
        (
            "etcd://h1:2379?policy=round_robin",
            &format!("{FORM}{NOBODY}"),
        ),
        (
            "etcd://h1:2379/?key=a",
            &format!("{FORM}etcd:///host:port,...?key=service, without layout and namespace)"),
        ),
        (
            "etcd:///h1:2379?key=a&namespace=/x",
            &format!("{FORM}etcd:///host:port,...?key=service, without layout and namespace)"),
        ),
        (
            "etcd:///h1:2379?key=a/b",
            "invalid service name: \"a/b\" (expected: no '/')",
        ),
    ] {
        assert_eq!(refusal(text), expected, "{text:?}");
    }
    let error = refusal("etcd:///a?policy=p2c");
    assert!(
        error.starts_with("invalid policy: p2c (expected: one of round_robin"),
        "{error}"
    );
    let error = refusal("etcd:///a?layout=tarot");
    assert!(
        error.starts_with("invalid layout: \"tarot\" (expected: kratos"),
        "{error}"
    );
}

#[test]
fn a_password_is_refused_and_not_repeated() {
    for text in [
        "etcd://root:hunter2@h1:2379/greeter",
        "root:hunter2@h1:2379",
        "root:hunter2%40h1:2379",
        "etcd:///root:hunter2%40h1:2379?key=a",
        "direct:///root:hunter2@h1:1",
        "dns:///root:hunter2%40h1:1",
        "unix:/run/root:hunter2@x",
        "etcd://root:hunt/er2@h1:2379",
        "http://root:hunter2@h1:2379",
        "http://h1:2379?password=hunter2",
        "etcd://h1:2379?password=hunter2",
        "h1:2379?password=hunter2",
    ] {
        let error = text.parse::<Target>().unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("er2"),
            "{text:?}: {shown}"
        );
        assert!(shown.contains("expected: "), "{shown}");
    }
}

fn names() -> impl Strategy<Value = ServiceName> {
    let kept = "[^/\\p{Cc}]{1,12}";
    kept.prop_filter_map("a name", |text| text.parse().ok())
}

fn addresses() -> impl Strategy<Value = Addresses> {
    let address = prop_oneof![
        "[a-z0-9_.-]{1,9}:[1-9][0-9]{0,3}",
        "\\[[0-9a-f]{1,4}::[0-9a-f]{1,4}\\]:[1-9][0-9]{0,3}",
    ];
    prop::collection::vec(address, 1..4).prop_map(|list| Addresses::parse(&list.join(",")).unwrap())
}

fn places() -> impl Strategy<Value = PartialPlace> {
    let namespace = "/?[^/\\p{Cc}]{1,6}(/[^/\\p{Cc}]{1,6}){0,2}"
        .prop_filter_map("a namespace", |text| text.parse().ok());
    (prop::option::of(namespace), any::<bool>()).prop_map(|(namespace, layout)| PartialPlace {
        namespace,
        layout: layout.then(Layout::default),
    })
}

/// Parameters that choose, as they are read.
fn choices(with_config: bool) -> impl Strategy<Value = Choice> {
    let policy = prop::option::of(Just("round_robin".to_owned()));
    let text = || prop::option::of("\\PC{1,9}");
    let subset = prop::option::of((1_usize..999).prop_map(|it| it.to_string()));
    let config = prop::option::of("(/[^/\\p{Cc}]{1,6}){1,3}");
    let all = (policy, text(), text(), subset, config);
    all.prop_filter_map(
        "a choice",
        move |(policy, version, zone, subset, config)| {
            let mut choice = Choice::default();
            let config = config.filter(|_| with_config);
            let all = [
                ("policy", policy),
                ("version", version),
                ("zone", zone),
                ("subset", subset),
                ("config", config),
            ];
            for (name, value) in all {
                if let Some(value) = value {
                    choice.take(name, &value).ok()?;
                }
            }
            Some(choice)
        },
    )
}

fn targets() -> impl Strategy<Value = Target> {
    let security = prop_oneof![Just(Security::Plaintext), Just(Security::Tls)];
    let service = prop::option::of((names(), choices(true)));
    let etcd = (addresses(), security, service, places());
    prop_oneof![
        etcd.prop_map(|(addresses, security, service, place)| {
            let (service, choice) = service.unzip();
            Target::Etcd(EtcdTarget {
                addresses,
                security,
                service,
                place,
                choice: choice.unwrap_or_default(),
            })
        }),
        (names(), places(), choices(true)).prop_map(|(service, place, choice)| {
            Target::Service(ServiceTarget {
                service,
                place,
                choice,
            })
        }),
        (addresses(), choices(false))
            .prop_map(|(addresses, choice)| Target::Direct(DirectTarget { addresses, choice })),
        (addresses(), choices(false)).prop_map(|(addresses, choice)| Target::Dns(DnsTarget {
            name: addresses.as_slice()[0].clone(),
            choice,
        })),
        ("/[^/\\p{Cc}][^\\p{Cc}]{0,20}", choices(false)).prop_map(|(path, choice)| {
            Target::Unix(UnixTarget {
                address: Address::unix(path).unwrap(),
                choice,
            })
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_written_is_read_as_the_same(target in targets()) {
        prop_assert_eq!(target.to_string().parse(), Ok(target));
    }

    #[test]
    fn whatever_is_read_is_read_the_same_when_written(text in any_text()) {
        if let Ok(target) = text.parse::<Target>() {
            prop_assert_eq!(target.to_string().parse(), Ok(target));
        }
    }

    #[test]
    fn whatever_is_refused_is_told_what_was_expected(text in any_text()) {
        if let Err(error) = text.parse::<Target>() {
            prop_assert!(error.to_string().contains("(expected: "), "{}", error);
        }
    }
}

/// Anything, and what looks like a target.
fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("etcd:".to_owned()),
        Just("etcds://".to_owned()),
        Just("direct:///".to_owned()),
        Just("dns:///".to_owned()),
        Just("unix:/".to_owned()),
        Just("discovery:///".to_owned()),
        Just("h1:2379".to_owned()),
        Just("[::1]:1".to_owned()),
        Just("namespace=/a".to_owned()),
        Just("layout=kratos".to_owned()),
        Just("key=".to_owned()),
        "[/?&=,%+.a-z0-9:]{1,2}",
        "%[0-9a-fA-F]{2}",
        "\\PC{1,3}",
    ];
    prop_oneof![
        any::<String>(),
        prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat()),
    ]
}
