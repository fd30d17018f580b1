use super::*;

fn builder() -> ChannelBuilder {
    Channel::balance(["a:1"]).unwrap()
}

fn refusal(builder: ChannelBuilder) -> String {
    builder.connect_lazy().unwrap_err().to_string()
}

#[test]
fn settings_that_make_no_sense_are_refused_with_what_was_expected() {
    let zero = Duration::ZERO;
    let backoff = Backoff::default();
    for (builder, message) in [
        (
            builder().name(""),
            "name: \"\" (expected: some text without control characters)",
        ),
        (
            builder().timeout(zero),
            "timeout: 0ns (expected: more than zero)",
        ),
        (
            builder().connect_timeout(zero),
            "connect timeout: 0ns (expected: more than zero)",
        ),
        (
            builder().backoff(Backoff {
                base: zero,
                ..backoff
            }),
            "backoff base: 0ns (expected: more than zero)",
        ),
        (
            builder().backoff(Backoff {
                factor: f64::NAN,
                ..backoff
            }),
            "backoff factor: NaN (expected: 1 or more)",
        ),
        (
            builder().backoff(Backoff {
                cap: backoff.base / 2,
                ..backoff
            }),
            "backoff cap: 500ms (expected: the base or more)",
        ),
        (
            builder().backoff(Backoff {
                jitter: 1.5,
                ..backoff
            }),
            "backoff jitter: 1.5 (expected: from 0 to 1)",
        ),
        (
            builder().keep_alive(KeepAlive {
                interval: zero,
                timeout: zero,
                while_idle: true,
            }),
            "keep-alive interval: 0ns (expected: more than zero)",
        ),
        (
            builder().idle_timeout(zero),
            "idle timeout: 0ns (expected: more than zero)",
        ),
        (
            builder().min_ping_interval(zero),
            "min ping interval: 0ns (expected: more than zero)",
        ),
        (
            builder().stream_window(0),
            "stream window: 0 (expected: more than zero)",
        ),
        (
            builder().max_calls_in_flight_per_endpoint(0),
            "max calls in flight per endpoint: 0 (expected: 1 or more)",
        ),
    ] {
        assert_eq!(refusal(builder), message);
    }
}

#[test]
fn outside_of_a_runtime_it_is_an_error_and_no_panic() {
    let error = builder().connect_lazy().unwrap_err();
    assert!(matches!(error, BuildError::NoRuntime), "{error:?}");
}

#[test]
fn a_name_is_the_authority_if_it_can_be_one() {
    assert_eq!(authority("greeter").unwrap(), "greeter");
    assert_eq!(authority("user.rpc").unwrap(), "user.rpc");
    for name in ["a/b", "two words", "user@host"] {
        assert_eq!(authority(name), None, "{name}");
    }
}
