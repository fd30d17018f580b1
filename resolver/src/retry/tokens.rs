//! How many retries a channel can afford.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::ServiceConfigError;

/// How many retries a channel affords, as it is configured. In thousandths of a token, beyond which A6 does
/// not look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RetryThrottling {
    most: u32,
    per_success: u32,
}

const TOKEN: u32 = 1000;

impl RetryThrottling {
    pub(crate) fn new(max_tokens: u32, token_ratio: f64) -> Result<Self, ServiceConfigError> {
        let refused = |field, given: String, expected| {
            let what = format!("retryThrottling.{field}");
            Err(ServiceConfigError::value(what, given, expected))
        };
        if !(1..=1000).contains(&max_tokens) {
            let given = max_tokens.to_string();
            return refused("maxTokens", given, "an integer from 1 to 1000");
        }
        // That of 0.29 is 289.99999999999994.
        let per_success = (token_ratio * f64::from(TOKEN) + 1e-6).floor();
        if !(per_success >= 1.0 && per_success.is_finite()) {
            let given = token_ratio.to_string();
            return refused("tokenRatio", given, "a number, 0.001 or more");
        }
        let most = max_tokens * TOKEN;
        Ok(Self {
            most,
            per_success: per_success.min(f64::from(most)) as u32,
        })
    }
}

/// The tokens of a channel: calls that fail take one each, calls that succeed bring a part of one, and none
/// is made again unless more than half are there. So retries end where a server is down, instead of
/// multiplying what it cannot bear.
#[derive(Debug)]
pub(crate) struct Tokens {
    throttling: RetryThrottling,
    left: AtomicU32,
}

impl Tokens {
    pub(crate) fn new(throttling: RetryThrottling) -> Self {
        Self {
            throttling,
            left: AtomicU32::new(throttling.most),
        }
    }

    /// Returns how they are configured.
    pub(crate) fn throttling(&self) -> RetryThrottling {
        self.throttling
    }

    /// Takes in that a call has failed.
    pub(crate) fn failed(&self) {
        let take = |left: u32| Some(left.saturating_sub(TOKEN));
        let _ = self.left.fetch_update(Relaxed, Relaxed, take);
    }

    /// Takes in that a call has succeeded.
    pub(crate) fn succeeded(&self) {
        let RetryThrottling { most, per_success } = self.throttling;
        // Nothing is written where nothing changes, as mostly: all calls share it.
        let bring = |left: u32| (left < most).then(|| (left + per_success).min(most));
        let _ = self.left.fetch_update(Relaxed, Relaxed, bring);
    }

    /// Returns whether a call may be made again.
    pub(crate) fn are_enough(&self) -> bool {
        self.left.load(Relaxed) > self.throttling.most / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_end_at_half_and_begin_again_above_it() {
        let tokens = Tokens::new(RetryThrottling::new(4, 0.5).unwrap());
        tokens.failed();
        assert!(tokens.are_enough());
        tokens.failed();
        assert!(!tokens.are_enough(), "exactly half is too few");
        tokens.succeeded();
        assert!(tokens.are_enough());
    }

    #[test]
    fn there_are_never_more_than_the_most_nor_less_than_none() {
        let tokens = Tokens::new(RetryThrottling::new(4, 0.7).unwrap());
        for _ in 0..100 {
            tokens.succeeded();
        }
        assert_eq!(tokens.left.load(Relaxed), 4000);
        for _ in 0..100 {
            tokens.failed();
        }
        assert_eq!(tokens.left.load(Relaxed), 0);
        for _ in 0..3 {
            tokens.succeeded();
        }
        assert!(tokens.are_enough(), "3 x 0.7 are more than 2");
    }

    #[test]
    fn thousandths_count_and_less_does_not() {
        let per_success = |ratio| RetryThrottling::new(10, ratio).map(|it| it.per_success);
        assert_eq!(per_success(0.29).unwrap(), 290);
        assert_eq!(per_success(0.5466).unwrap(), 546);
        assert_eq!(per_success(1e9).unwrap(), 10_000);
        for ratio in [0.0, 0.0009, -1.0, f64::NAN, f64::INFINITY] {
            let error = per_success(ratio).unwrap_err().to_string();
            assert!(error.starts_with("retryThrottling.tokenRatio: "), "{error}");
        }
        for most in [0, 1001] {
            assert!(RetryThrottling::new(most, 0.1).is_err());
        }
    }
}
