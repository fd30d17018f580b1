//! Whether a call that failed is made again, and when: gRPC's A6.
//!
//! What h2 did not take, and what a server says it did not process, is not decided here: that is sent again
//! whatever is configured, and counts for nothing of this (`call.rs`).

mod policy;
mod pushback;
mod tokens;

use std::time::Duration;

use tonic::Code;

pub use self::policy::RetryPolicy;
pub(crate) use self::{
    pushback::Pushback,
    tokens::{RetryThrottling, Tokens},
};

/// How often a call was made, each time in vain.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    made: u32,
    /// How many of the waits since the server last named one were by backoff.
    backoffs: u32,
}

/// How an attempt failed, and what may keep it from being the last but one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failed {
    pub(crate) code: Code,
    /// What the server says of another attempt, if it says something.
    pub(crate) pushback: Option<Pushback>,
    /// Whether few enough of the channel's calls fail.
    pub(crate) has_tokens: bool,
    /// How long the call has left, if it has a deadline.
    pub(crate) time_left: Option<Duration>,
    /// Uniform in 0..1, and chooses within the jitter.
    pub(crate) random: f64,
}

impl Attempts {
    /// Takes in that an attempt has failed, and returns how long to wait before the next; `None` if there is
    /// to be none.
    ///
    /// One that could only begin when the call is over is none: it would make its caller wait for an error
    /// that says less.
    pub(crate) fn next(&mut self, policy: &RetryPolicy, failed: Failed) -> Option<Duration> {
        self.made += 1;
        if !policy.retries(failed.code) || self.made >= policy.most() || !failed.has_tokens {
            return None;
        }
        let wait = match failed.pushback {
            Some(Pushback::Never) => return None,
            Some(Pushback::After(wait)) => {
                self.backoffs = 0;
                wait
            }
            None => {
                self.backoffs += 1;
                policy.backoff.delay(self.backoffs, failed.random)
            }
        };
        failed
            .time_left
            .is_none_or(|left| wait < left)
            .then_some(wait)
    }

    /// Returns how many attempts there were before the next one.
    pub(crate) fn made(&self) -> u32 {
        self.made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNAVAILABLE: Failed = Failed {
        code: Code::Unavailable,
        pushback: None,
        has_tokens: true,
        time_left: None,
        random: 0.5,
    };

    fn policy(attempts: u32) -> RetryPolicy {
        let [first, most] = [100, 300].map(Duration::from_millis);
        RetryPolicy::new(attempts, [14]).with_backoff(first, most, 2.0)
    }

    fn pushback(millis: u64) -> Option<Pushback> {
        Some(Pushback::After(Duration::from_millis(millis)))
    }

    fn waits(attempts: u32, failures: &[Failed]) -> Vec<Option<u128>> {
        let mut made = Attempts::default();
        let waits = failures.iter().map(|it| made.next(&policy(attempts), *it));
        waits.map(|it| it.map(|it| it.as_millis())).collect()
    }

    #[test]
    fn waits_grow_to_their_cap_until_no_attempt_is_left() {
        let waits = waits(5, &[UNAVAILABLE; 5]);
        assert_eq!(waits, [Some(100), Some(200), Some(300), Some(300), None]);
    }

    #[test]
    fn more_than_five_attempts_are_five() {
        let last = waits(100, &[UNAVAILABLE; 5]).pop();
        assert_eq!(last, Some(None));
    }

    #[test]
    fn a_wait_varies_by_a_fifth() {
        let wait = |random| {
            let failed = Failed {
                random,
                ..UNAVAILABLE
            };
            Attempts::default().next(&policy(2), failed)
        };
        let expected = [80, 100, 120].map(|it| Some(Duration::from_millis(it)));
        assert_eq!([wait(0.0), wait(0.5), wait(1.0)], expected);
    }

    #[test]
    fn a_wait_that_the_server_names_is_exact_and_the_backoff_begins_anew_after_it() {
        let told = Failed {
            pushback: pushback(7),
            random: 0.9,
            ..UNAVAILABLE
        };
        let waits = waits(5, &[UNAVAILABLE, UNAVAILABLE, told, UNAVAILABLE]);
        assert_eq!(waits, [Some(100), Some(200), Some(7), Some(100)]);
    }

    #[test]
    fn other_codes_no_tokens_no_time_and_a_server_that_wants_none_end_it() {
        let second = Some(Duration::from_secs(1));
        for (failed, is_again) in [
            (UNAVAILABLE, true),
            (
                Failed {
                    code: Code::Internal,
                    ..UNAVAILABLE
                },
                false,
            ),
            // A server that names a wait does not make another code worth it.
            (
                Failed {
                    code: Code::Internal,
                    pushback: pushback(1),
                    ..UNAVAILABLE
                },
                false,
            ),
            (
                Failed {
                    has_tokens: false,
                    ..UNAVAILABLE
                },
                false,
            ),
            (
                Failed {
                    pushback: Some(Pushback::Never),
                    ..UNAVAILABLE
                },
                false,
            ),
            (
                Failed {
                    time_left: second,
                    ..UNAVAILABLE
                },
                true,
            ),
            (
                Failed {
                    time_left: second,
                    pushback: pushback(1000),
                    ..UNAVAILABLE
                },
                false,
            ),
        ] {
            let next = Attempts::default().next(&policy(3), failed);
            assert_eq!(next.is_some(), is_again, "{failed:?}");
        }
    }
}
