//! Method configs and retry throttling as they are written: gRPC's JSON (`service_config.proto`, A6).

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::not_supported;
use crate::{
    MethodConfig, RetryPolicy, ServiceConfig, ServiceConfigError, codes,
    service_config::methods::is_name,
};

/// What holds for some methods.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Method {
    #[serde(default)]
    name: Vec<Name>,
    timeout: Option<Value>,
    wait_for_ready: Option<bool>,
    retry_policy: Option<Policy>,
    // These of gRPC's are known to be told apart from such as are misspelt.
    hedging_policy: Option<Value>,
    max_request_message_bytes: Option<Value>,
    max_response_message_bytes: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Name {
    #[serde(default)]
    service: Option<String>,
    #[serde(default)]
    method: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Policy {
    max_attempts: Option<Value>,
    initial_backoff: Option<Value>,
    max_backoff: Option<Value>,
    backoff_multiplier: Option<Value>,
    retryable_status_codes: Option<Value>,
    per_attempt_recv_timeout: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Throttling {
    max_tokens: Option<Value>,
    token_ratio: Option<Value>,
}

/// Adds what is written of methods to a configuration.
pub(super) fn with_methods(
    mut config: ServiceConfig,
    written: &[Method],
) -> Result<ServiceConfig, ServiceConfigError> {
    for (index, written) in written.iter().enumerate() {
        let method = written.read().and_then(MethodConfig::checked);
        let method = method.map_err(|error| error.within(&format!("methodConfig[{index}]")))?;
        if written.name.is_empty() {
            let expected = "at least one name, or {} for all methods";
            return Err(ServiceConfigError::value(
                "methodConfig.name",
                "[]",
                expected,
            ));
        }
        for name in &written.name {
            config = config.with_method(&name.read()?, method)?;
        }
    }
    Ok(config)
}

/// Adds what is written of retry throttling to a configuration.
pub(super) fn with_throttling(
    config: ServiceConfig,
    written: &Throttling,
) -> Result<ServiceConfig, ServiceConfigError> {
    let what = "retryThrottling.maxTokens";
    let expected = "an integer from 1 to 1000";
    let most = integer(what, &written.max_tokens, expected)?;
    let what = "retryThrottling.tokenRatio";
    let ratio = number(what, &written.token_ratio, "a number, 0.001 or more")?;
    config.with_retry_throttling(most, ratio)
}

impl Method {
    fn read(&self) -> Result<MethodConfig, ServiceConfigError> {
        not_supported("hedgingPolicy", &self.hedging_policy)?;
        not_supported("maxRequestMessageBytes", &self.max_request_message_bytes)?;
        not_supported("maxResponseMessageBytes", &self.max_response_message_bytes)?;
        let mut config = MethodConfig::default();
        if self.timeout.is_some() {
            config = config.with_timeout(duration("timeout", &self.timeout)?);
        }
        if let Some(waits) = self.wait_for_ready {
            config = config.with_wait_for_ready(waits);
        }
        if let Some(policy) = &self.retry_policy {
            config = config.with_retry(policy.read()?);
        }
        Ok(config)
    }
}

impl Name {
    fn read(&self) -> Result<String, ServiceConfigError> {
        let [service, method] = [&self.service, &self.method].map(|it| it.as_deref().unwrap_or(""));
        let refused = |what, given, expected| {
            let what = format!("methodConfig.name.{what}");
            Err(ServiceConfigError::value(
                what,
                format!("{given:?}"),
                expected,
            ))
        };
        match (service, method) {
            (_, method) if !is_name(method) => refused("method", method, "a name such as SayHello"),
            (service, _) if !is_name(service) => {
                refused("service", service, "a name such as greeter.Greeter")
            }
            ("", "") => Ok(String::new()),
            ("", _) => refused("service", "", "the service of the method"),
            (service, "") => Ok(service.to_owned()),
            (service, method) => Ok(format!("{service}/{method}")),
        }
    }
}

impl Policy {
    fn read(&self) -> Result<RetryPolicy, ServiceConfigError> {
        let unsupported = &self.per_attempt_recv_timeout;
        not_supported("retryPolicy.perAttemptRecvTimeout", unsupported)?;
        let what = "retryPolicy.maxAttempts";
        let attempts = integer(what, &self.max_attempts, "an integer, 2 or more")?;
        let initial = duration("retryPolicy.initialBackoff", &self.initial_backoff)?;
        let most = duration("retryPolicy.maxBackoff", &self.max_backoff)?;
        let what = "retryPolicy.backoffMultiplier";
        let multiplier = number(what, &self.backoff_multiplier, "a number, more than zero")?;
        let policy = RetryPolicy::new(attempts, self.codes()?);
        Ok(policy.with_backoff(initial, most, multiplier))
    }

    fn codes(&self) -> Result<Vec<i32>, ServiceConfigError> {
        let (what, expected) = (
            "retryPolicy.retryableStatusCodes",
            "names or numbers of gRPC's codes",
        );
        let codes = given(what, &self.retryable_status_codes, expected)?;
        let refused = |given: &Value| ServiceConfigError::value(what, given, expected);
        let all = codes.as_array().ok_or_else(|| refused(codes))?;
        let code = |code: &Value| match code {
            Value::String(name) => codes::number(name),
            code => code.as_i64().and_then(|it| i32::try_from(it).ok()),
        };
        let codes = all.iter().map(|it| code(it).ok_or_else(|| refused(it)));
        codes.collect()
    }
}

/// Returns what is given for a field that must be.
fn given<'a>(
    what: &str,
    given: &'a Option<Value>,
    expected: &str,
) -> Result<&'a Value, ServiceConfigError> {
    given
        .as_ref()
        .ok_or_else(|| ServiceConfigError::value(what, "nothing", expected))
}

/// Reads an integer. One that is greater than can be counted stands for the greatest that can.
fn integer(what: &str, value: &Option<Value>, expected: &str) -> Result<u32, ServiceConfigError> {
    let value = given(what, value, expected)?;
    let integer = value
        .as_u64()
        .map(|it| u32::try_from(it).unwrap_or(u32::MAX));
    integer.ok_or_else(|| ServiceConfigError::value(what, value, expected))
}

fn number(what: &str, value: &Option<Value>, expected: &str) -> Result<f64, ServiceConfigError> {
    let value = given(what, value, expected)?;
    let number = value.as_f64();
    number.ok_or_else(|| ServiceConfigError::value(what, value, expected))
}

/// Reads a duration as protobuf writes it in JSON: seconds, with nine decimals at most, and an `s`.
fn duration(what: &str, value: &Option<Value>) -> Result<Duration, ServiceConfigError> {
    let expected = "seconds such as 1.5s, more than zero";
    let value = given(what, value, expected)?;
    let duration = value.as_str().and_then(seconds);
    duration
        .filter(|it| !it.is_zero())
        .ok_or_else(|| ServiceConfigError::value(what, value, expected))
}

/// The longest time that protobuf can say, some 10,000 years.
const LONGEST: Duration = Duration::from_secs(315_576_000_000);

fn seconds(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s')?;
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let are_digits = |it: &str| it.bytes().all(|it| it.is_ascii_digit());
    let has_digits = !whole.is_empty() || !decimals.is_empty();
    if !(has_digits && are_digits(whole) && are_digits(decimals) && decimals.len() <= 9) {
        return None;
    }
    // As grpc-go has it, either part may be left out.
    let seconds = format!("0{whole}").parse().ok()?;
    let nanos = format!("{decimals:0<9}").parse().ok()?;
    Some(Duration::new(seconds, nanos)).filter(|it| *it <= LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_protobuf_writes_them() {
        for (text, nanos) in [
            ("1s", 1_000_000_000),
            ("1.5s", 1_500_000_000),
            ("0.000000001s", 1),
            (".01s", 10_000_000),
            ("2.s", 2_000_000_000),
            ("007s", 7_000_000_000),
        ] {
            assert_eq!(seconds(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
        assert_eq!(seconds("315576000000s"), Some(LONGEST));
        for text in [
            "",
            "s",
            ".s",
            "1",
            "1.5",
            "-1s",
            "+1s",
            "1e3s",
            "1.5.5s",
            " 1s",
            "1ms",
            "0.0000000001s",
            "315576000001s",
            "99999999999999999999s",
        ] {
            assert_eq!(seconds(text), None, "{text:?}");
        }
    }
}
