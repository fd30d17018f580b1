//! What holds for the calls of a method.

mod published;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

pub(crate) use self::published::{Method, Methods};
use super::{ServiceConfig, ServiceConfigError};
use crate::{RetryPolicy, builder::NEVER, retry::RetryThrottling};

/// What holds for the calls of a method, unless their callers say otherwise; see
/// [`ServiceConfig::with_method`].
///
/// ```
/// use std::time::Duration;
/// use switchboard_resolver::{MethodConfig, ServiceConfig};
///
/// let quick = MethodConfig::default().with_timeout(Duration::from_millis(200));
/// let usual = MethodConfig::default().with_timeout(Duration::from_secs(2)).with_wait_for_ready(true);
/// let config = ServiceConfig::default()
///     .with_method("greeter.Greeter/SayHello", quick)?
///     .with_method("greeter.Greeter", usual)?;
///
/// let error = config.with_method("greeter.Greeter", quick).unwrap_err();
/// assert_eq!(error.to_string(), r#"methodConfig.name: "greeter.Greeter" (expected: each name once)"#);
/// # Ok::<(), switchboard_resolver::ServiceConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MethodConfig {
    timeout: Option<Duration>,
    wait_for_ready: bool,
    retry: Option<RetryPolicy>,
}

/// What holds for which methods, by their paths: `/service/method`, `/service/` for all of a service that
/// have no entry of their own, and nothing for all others.
pub(super) type ByPath = BTreeMap<String, MethodConfig>;

impl MethodConfig {
    /// Sets how long a call may take, to the end of its response, all its attempts included. It counts as
    /// the caller's own `grpc-timeout` does, and is sent on as that; the shorter one of both counts.
    ///
    /// Unlike [`ChannelBuilder::timeout`](crate::ChannelBuilder::timeout) it ends streams, too, which is
    /// what gRPC's service config has it for: give it to methods, not to services that have some which are
    /// meant to stay open.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout.min(NEVER));
        self
    }

    /// Sets whether a call waits for an endpoint while none can be reached, as one with
    /// [`WaitForReady`](crate::WaitForReady) does; it does not unless set. A caller can ask for it where this
    /// does not, and not the other way round.
    pub fn with_wait_for_ready(mut self, waits: bool) -> Self {
        self.wait_for_ready = waits;
        self
    }

    /// Sets which failures are worth another attempt; none unless set.
    pub fn with_retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = Some(policy);
        self
    }

    /// Returns it, unless it makes no sense.
    pub(super) fn checked(self) -> Result<Self, ServiceConfigError> {
        self.check().map(|()| self)
    }

    fn check(&self) -> Result<(), ServiceConfigError> {
        if let Some(timeout) = self.timeout
            && timeout.is_zero()
        {
            let given = format!("{timeout:?}");
            return Err(ServiceConfigError::value(
                "timeout",
                given,
                "more than zero",
            ));
        }
        self.retry.as_ref().map_or(Ok(()), RetryPolicy::check)
    }
}

impl ServiceConfig {
    /// Sets what holds for the calls of a method: `greeter.Greeter/SayHello`; of all methods of a service
    /// that are not named themselves: `greeter.Greeter`; or, with no name at all, of all others. The most
    /// specific one counts, and it alone.
    ///
    /// A configuration that is followed and has method configs replaces all of these
    /// ([`ChannelBuilder::service_configs`](crate::ChannelBuilder::service_configs)).
    ///
    /// # Errors
    ///
    /// The name was named before, or is none; or a value makes no sense.
    pub fn with_method(
        mut self,
        name: &str,
        config: MethodConfig,
    ) -> Result<Self, ServiceConfigError> {
        config.check()?;
        let refused = |expected| {
            let given = format!("{name:?}");
            ServiceConfigError::value("methodConfig.name", given, expected)
        };
        let path = path(name).ok_or_else(|| {
            refused("package.Service/Method, package.Service, or nothing for all methods")
        })?;
        let methods = Arc::make_mut(self.methods.get_or_insert_default());
        match methods.insert(path, config) {
            None => Ok(self),
            Some(_) => Err(refused("each name once")),
        }
    }

    /// Limits how many calls are made again, over all methods of a channel: each that fails with a code that
    /// its method retries takes a token, each that succeeds brings `token_ratio` of one, and none is made
    /// again unless more than half of `max_tokens` are there, with which it begins.
    ///
    /// Without it a server that is overrun gets up to five times its calls as soon as it fails. With 10 and
    /// 0.1 retries stop when more than about a tenth of all calls fail.
    ///
    /// # Errors
    ///
    /// `max_tokens` is not from 1 to 1000, or `token_ratio` less than 0.001.
    pub fn with_retry_throttling(
        mut self,
        max_tokens: u32,
        token_ratio: f64,
    ) -> Result<Self, ServiceConfigError> {
        self.retry_throttling = Some(RetryThrottling::new(max_tokens, token_ratio)?);
        Ok(self)
    }
}

/// Returns whether this may be a part of a path.
pub(super) fn is_name(text: &str) -> bool {
    !text.contains('/') && !text.contains(char::is_control)
}

/// Returns the path that calls of what is named have, or begin with; `None` if it cannot be a name.
fn path(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some(String::new());
    }
    let (service, method) = name.split_once('/').unwrap_or((name, ""));
    let is_valid = !service.is_empty() && is_name(service) && is_name(method);
    // Not both: `service/` might mean the service or a method that was left out.
    let is_whole = !name.ends_with('/');
    (is_valid && is_whole).then(|| format!("/{service}/{method}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_method_a_service_or_nothing() {
        assert_eq!(path("a.B/C").as_deref(), Some("/a.B/C"));
        assert_eq!(path("a.B").as_deref(), Some("/a.B/"));
        assert_eq!(path("").as_deref(), Some(""));
        for name in ["/", "/a.B/C", "a.B/", "a.B/C/D", "a\n.B", "a.B//C"] {
            assert_eq!(path(name), None, "{name:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let none = MethodConfig::default();
        let refused = |name, config| {
            let error = ServiceConfig::default().with_method(name, config);
            error.unwrap_err().to_string()
        };
        assert_eq!(
            refused("/a.B/C", none),
            "methodConfig.name: \"/a.B/C\" (expected: package.Service/Method, package.Service, or nothing for all methods)"
        );
        assert_eq!(
            refused("", none.with_timeout(Duration::ZERO)),
            "timeout: 0ns (expected: more than zero)"
        );
        assert_eq!(
            refused("", none.with_retry(RetryPolicy::new(1, [14]))),
            "retryPolicy.maxAttempts: 1 (expected: an integer, 2 or more)"
        );
    }
}
