//! Tells a channel, and the log, what a source has read.

use tokio::time::Instant;

use super::readings::Readings;
use crate::{Cause, Endpoint, Update, error::chain};

/// Tells what a source has read: one line at WARN when it begins to fail, one at INFO when it is
/// right again; what it fails with in between is for debugging.
#[derive(Debug)]
pub(super) struct Teller {
    /// What is read, as the log has it.
    source: String,
    readings: Readings,
}

impl Teller {
    pub(super) fn new(source: String) -> Self {
        Self {
            source,
            readings: Readings::default(),
        }
    }

    pub(super) fn tell(&mut self, reading: Result<Vec<Endpoint>, Cause>) -> Option<Update> {
        let was_in_trouble = self.readings.are_in_trouble();
        let update = self.readings.take_in(reading, Instant::now().into_std())?;
        let source = self.source.as_str();
        match (&update, was_in_trouble) {
            (Update::Stale { cause, .. } | Update::Failed { cause }, true) => {
                let cause = chain(&**cause);
                tracing::debug!(name: "source_still_stale", source, cause, "endpoints still cannot be found out");
            }
            (Update::Stale { cause, .. }, false) => {
                let cause = chain(&**cause);
                tracing::warn!(name: "source_stale", source, cause, "endpoints may be out of date");
            }
            (Update::Failed { cause }, false) => {
                let cause = chain(&**cause);
                tracing::warn!(name: "source_failed", source, cause, "endpoints cannot be found out");
            }
            (Update::Snapshot(_) | Update::Fresh, true) => {
                tracing::info!(name: "source_fresh", source, "endpoints are known again");
            }
            (Update::Snapshot(_) | Update::Fresh, false) => {}
        }
        Some(update)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logged::Logged;

    #[test]
    fn trouble_is_one_warning_and_its_end_one_information() {
        let logged = Logged::start();
        let bad = |text: &str| {
            Err(Cause::from(
                Box::<dyn std::error::Error + Send + Sync>::from(text),
            ))
        };
        let good = || Ok(vec![Endpoint::new("a:1".parse().unwrap())]);
        let mut teller = Teller::new("dns:///greeter:80".to_owned());
        for reading in [bad("away"), bad("away"), bad("gone"), good(), good()] {
            teller.tell(reading);
        }
        for reading in [
            bad("away"),
            bad("gone"),
            Ok(Vec::new()),
            bad("away"),
            Ok(Vec::new()),
        ] {
            teller.tell(reading);
        }
        let expected = [
            "WARN source_failed",
            "INFO source_fresh",
            "WARN source_stale",
            "INFO source_fresh",
            "WARN source_stale",
            "INFO source_fresh",
        ];
        assert_eq!(logged.names(), expected);
    }
}
