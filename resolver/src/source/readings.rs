//! Decides what a reading of all endpoints says to the channel.
//!
//! ```text
//!               good: Snapshot                     bad: Stale
//!   nothing ─────────────────────> right ─────────────────────> out of date
//!     │ ^                          │  ^                             │
//!     └─┘ bad: Failed              └──┘ another set: Snapshot       │
//!                                     ^                             │
//!                                     └─────────────────────────────┘
//!                                       the same set: Fresh; another: Snapshot
//! ```
//!
//! - A bad reading never takes anything away: the last good set stays.
//! - The same reading again says nothing, be it good or bad.
//!
//! Reads no clock.

use std::time::Instant;

use crate::{Cause, Endpoint, Update, endpoint_set::EndpointSet, error::chain};

/// What came of the readings so far.
#[derive(Debug, Default)]
pub(super) struct Readings {
    /// `None` before the first good one.
    last_good: Option<Good>,
    /// What the last one was bad for, as it was told; `None` if it was good, or there was none.
    trouble: Option<String>,
}

#[derive(Debug)]
struct Good {
    endpoints: EndpointSet,
    /// When it was last read.
    at: Instant,
}

impl Readings {
    /// Returns whether the last reading was bad.
    pub(super) fn are_in_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    /// Takes in what a reading came to, and returns what there is to tell.
    pub(super) fn take_in(
        &mut self,
        reading: Result<Vec<Endpoint>, Cause>,
        now: Instant,
    ) -> Option<Update> {
        match reading {
            Ok(endpoints) => self.on_good(endpoints, now),
            Err(cause) => self.on_bad(cause),
        }
    }

    fn on_good(&mut self, endpoints: Vec<Endpoint>, now: Instant) -> Option<Update> {
        let was_in_trouble = self.trouble.take().is_some();
        let is_first = self.last_good.is_none();
        let last = self.last_good.get_or_insert_with(|| Good {
            endpoints: EndpointSet::default(),
            at: now,
        });
        last.at = now;
        let changes = last.endpoints.replace(endpoints.clone());
        if is_first || !changes.are_none() {
            Some(Update::Snapshot(endpoints))
        } else {
            was_in_trouble.then_some(Update::Fresh)
        }
    }

    fn on_bad(&mut self, cause: Cause) -> Option<Update> {
        let text = chain(&*cause);
        if self.trouble.as_ref() == Some(&text) {
            return None;
        }
        self.trouble = Some(text);
        Some(match &self.last_good {
            None => Update::Failed { cause },
            Some(last) => Update::Stale {
                since: last.at,
                cause,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Takes in readings, one a second, each ports by commas or `!` and a cause; returns what was
    /// told.
    fn told(readings: &[&str]) -> Vec<String> {
        let start = tokio::time::Instant::now().into_std();
        let mut decider = Readings::default();
        let mut told = Vec::new();
        for (second, text) in readings.iter().enumerate() {
            let reading = match text.strip_prefix('!') {
                Some(cause) => Err(Cause::from(
                    Box::<dyn std::error::Error + Send + Sync>::from(cause),
                )),
                None => Ok(text
                    .split_terminator(',')
                    .map(|port| Endpoint::new(format!("a:{port}").parse().unwrap()))
                    .collect()),
            };
            let is_bad = reading.is_err();
            let update = decider.take_in(reading, start + Duration::from_secs(second as u64));
            assert_eq!(decider.are_in_trouble(), is_bad);
            told.push(match update {
                None => String::new(),
                Some(Update::Snapshot(endpoints)) => endpoints
                    .iter()
                    .map(|it| format!("{it} "))
                    .collect::<String>(),
                Some(Update::Failed { cause }) => format!("failed: {cause}"),
                Some(Update::Stale { since, cause }) => {
                    format!("stale since {}: {cause}", (since - start).as_secs())
                }
                Some(Update::Fresh) => "fresh".to_owned(),
            });
        }
        told
    }

    #[test]
    fn what_fails_before_anything_good_has_failed_and_afterwards_is_stale() {
        assert_eq!(
            told(&["!away", "1", "!away", "1"]),
            ["failed: away", "a:1 ", "stale since 1: away", "fresh"]
        );
    }

    #[test]
    fn the_same_again_says_nothing_in_whatever_order() {
        assert_eq!(told(&["1,2", "2,1", "1,2,1"]), ["a:1 a:2 ", "", ""]);
        assert_eq!(
            told(&["!away", "!away", "!gone"]),
            ["failed: away", "", "failed: gone"]
        );
    }

    #[test]
    fn it_is_right_until_the_last_time_that_the_same_was_read() {
        assert_eq!(
            told(&["1", "1", "1", "!away", "!gone"]),
            ["a:1 ", "", "", "stale since 2: away", "stale since 2: gone"]
        );
    }

    #[test]
    fn another_set_after_trouble_is_told_whole() {
        assert_eq!(
            told(&["1", "!away", "1,2", "!away"]),
            [
                "a:1 ",
                "stale since 0: away",
                "a:1 a:2 ",
                "stale since 2: away"
            ]
        );
    }

    #[test]
    fn an_empty_set_is_a_set() {
        assert_eq!(
            told(&["", "", "!away", "", "1", ""]),
            ["", "", "stale since 1: away", "fresh", "a:1 ", ""]
        );
        let mut decider = Readings::default();
        let now = tokio::time::Instant::now().into_std();
        let told = decider.take_in(Ok(Vec::new()), now);
        assert!(matches!(told, Some(Update::Snapshot(all)) if all.is_empty()));
    }
}
