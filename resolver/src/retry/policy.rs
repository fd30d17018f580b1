//! Which failures of a method are worth another attempt, and how many of those.

use std::time::Duration;

use tonic::Code;

use crate::{Backoff, ServiceConfigError, builder::NEVER};

/// Which failures of a method are worth another attempt, and how many attempts there are: gRPC's retry
/// policy (A6), part of a [`MethodConfig`](crate::MethodConfig).
///
/// ```
/// use std::time::Duration;
/// use switchboard_resolver::{Channel, MethodConfig, RetryPolicy, ServiceConfig};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // 14 is UNAVAILABLE.
/// let retry = RetryPolicy::new(4, [14]).with_backoff(
///     Duration::from_millis(50),
///     Duration::from_millis(500),
///     2.0,
/// );
/// let config = ServiceConfig::default()
///     .with_method("greeter.Greeter/SayHello", MethodConfig::default().with_retry(retry))?
///     .with_retry_throttling(10, 0.1)?;
/// let channel = Channel::balance(["10.0.0.1:50051"])?.service_config(config).connect_lazy()?;
/// # channel.close().await;
/// # Ok(()) }
/// ```
///
/// A call is made again if
///
/// - its request was complete when it was sent, as that of unary calls is;
/// - no headers of a response came, other than a status that is all of it. So a stream that has begun is
///   never repeated;
/// - its code is one of these, whether the server said it or the connection broke; and so a server may see
///   it twice: name no code for methods where that does harm;
/// - attempts are left, and tokens
///   ([`with_retry_throttling`](crate::ServiceConfig::with_retry_throttling));
/// - the server does not forbid it (`grpc-retry-pushback-ms`); if it names a time, that is waited for
///   instead;
/// - it would begin before the call's deadline, which covers all attempts and the waits in between. Where
///   it would not, the call fails at once, with what it failed with last.
///
/// Another endpoint is preferred to those that were tried. The server is told which attempt it is
/// (`grpc-previous-rpc-attempts`), and the caller sees how the last one ended, with its metadata.
///
/// What did not leave, and what a server says it did not process, goes again in any case
/// ([`Channel`](crate::Channel)), and counts for none of this.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    max_attempts: u32,
    pub(super) backoff: Backoff,
    /// A bit for each code.
    codes: u32,
    /// What was given that is no code to retry.
    not_a_code: Option<i32>,
}

/// The most attempts there are, whatever is configured: A6's limit, since whoever writes a configuration is
/// not the one whose server is overrun by it.
const MOST_ATTEMPTS: u32 = 5;

/// A6's, and settable by nobody. Without it those that failed together would return together.
const JITTER: f64 = 0.2;

impl RetryPolicy {
    /// Makes a policy of so many attempts, the first one included: 2 or more, and above 5 they count as 5.
    /// `codes` are the numbers of gRPC's codes that are worth another attempt, one or more, and not 0.
    ///
    /// The waits in between are those of A6's example: 100 ms, twice as long each time, 1 s at most. Much
    /// shorter ones would meet the same overload again; much longer ones outlast most callers.
    ///
    /// What makes no sense is refused by [`ServiceConfig::with_method`](crate::ServiceConfig::with_method).
    pub fn new(max_attempts: u32, codes: impl IntoIterator<Item = i32>) -> Self {
        let (mut bits, mut not_a_code) = (0, None);
        for code in codes {
            match code {
                1..=16 => bits |= 1 << code,
                _ => not_a_code = Some(code),
            }
        }
        Self {
            max_attempts,
            backoff: Backoff {
                base: Duration::from_millis(100),
                factor: 2.0,
                cap: Duration::from_secs(1),
                jitter: JITTER,
            },
            codes: bits,
            not_a_code,
        }
    }

    /// Sets how long to wait: `initial` before the second attempt, `multiplier` times as long before each
    /// further one, `max` at most, and at random a fifth more or less of that.
    pub fn with_backoff(mut self, initial: Duration, max: Duration, multiplier: f64) -> Self {
        self.backoff = Backoff {
            base: initial.min(NEVER),
            cap: max.min(NEVER),
            factor: multiplier,
            jitter: JITTER,
        };
        self
    }

    /// Refuses what makes no sense.
    pub(crate) fn check(&self) -> Result<(), ServiceConfigError> {
        let refused = |field, given: String, expected| {
            let what = format!("retryPolicy.{field}");
            Err(ServiceConfigError::value(what, given, expected))
        };
        if self.max_attempts < 2 {
            let given = self.max_attempts.to_string();
            return refused("maxAttempts", given, "an integer, 2 or more");
        }
        let Backoff {
            base, cap, factor, ..
        } = self.backoff;
        for (field, time) in [("initialBackoff", base), ("maxBackoff", cap)] {
            if time.is_zero() {
                return refused(field, format!("{time:?}"), "more than zero");
            }
        }
        if !(factor.is_finite() && factor > 0.0) {
            let expected = "a number, more than zero";
            return refused("backoffMultiplier", factor.to_string(), expected);
        }
        match self.not_a_code {
            _ if self.codes == 0 && self.not_a_code.is_none() => {
                refused("retryableStatusCodes", "[]".to_owned(), "one or more codes")
            }
            None => Ok(()),
            Some(code) => {
                let expected = "numbers of gRPC's codes, from 1 to 16";
                refused("retryableStatusCodes", code.to_string(), expected)
            }
        }
    }

    /// Returns how many attempts there are at most.
    pub(super) fn most(&self) -> u32 {
        self.max_attempts.min(MOST_ATTEMPTS)
    }

    /// Returns whether a call that ended with this code is worth another attempt.
    pub(crate) fn retries(&self, code: Code) -> bool {
        self.codes & (1 << code as u32) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_with_what_was_given() {
        let second = Duration::from_secs(1);
        let usual = RetryPolicy::new(3, [14]);
        usual.check().unwrap();
        for (policy, expected) in [
            (
                RetryPolicy::new(1, [14]),
                "retryPolicy.maxAttempts: 1 (expected: an integer, 2 or more)",
            ),
            (
                RetryPolicy::new(3, []),
                "retryPolicy.retryableStatusCodes: [] (expected: one or more codes)",
            ),
            (
                RetryPolicy::new(3, [14, 0]),
                "retryPolicy.retryableStatusCodes: 0 (expected: numbers of gRPC's codes, from 1 to 16)",
            ),
            (
                RetryPolicy::new(3, [99]),
                "retryPolicy.retryableStatusCodes: 99 (expected: numbers of gRPC's codes, from 1 to 16)",
            ),
            (
                usual.with_backoff(Duration::ZERO, second, 2.0),
                "retryPolicy.initialBackoff: 0ns (expected: more than zero)",
            ),
            (
                usual.with_backoff(second, Duration::ZERO, 2.0),
                "retryPolicy.maxBackoff: 0ns (expected: more than zero)",
            ),
            (
                usual.with_backoff(second, second, 0.0),
                "retryPolicy.backoffMultiplier: 0 (expected: a number, more than zero)",
            ),
            (
                usual.with_backoff(second, second, f64::NAN),
                "retryPolicy.backoffMultiplier: NaN (expected: a number, more than zero)",
            ),
        ] {
            assert_eq!(policy.check().unwrap_err().to_string(), expected);
        }
    }
}
