//! Which settings make no sense.

use super::{BuildError, ChannelBuilder};
use crate::Backoff;

impl ChannelBuilder {
    /// Refuses settings that make no sense.
    pub(super) fn validate(&self) -> Result<(), BuildError> {
        let (check, positive) = (BuildError::check, BuildError::check_positive);
        if let Some(name) = &self.name {
            let is_valid = !name.is_empty() && !name.contains(char::is_control);
            check(
                is_valid,
                "name",
                name,
                "some text without control characters",
            )?;
        }
        if let Some(timeout) = self.timeout {
            positive("timeout", timeout)?;
        }
        positive("connect timeout", self.connect_timeout)?;
        positive("idle timeout", self.idle_timeout)?;
        let window = self.settings.stream_window;
        check(window > 0, "stream window", &window, "more than zero")?;
        if let Some(calls) = self.settings.max_calls_in_flight {
            let setting = "max calls in flight per endpoint";
            check(calls > 0, setting, &calls, "1 or more")?;
        }
        let pings = self.settings.pings;
        positive("min ping interval", pings.min_interval)?;
        if let Some(keep_alive) = pings.keep_alive {
            positive("keep-alive interval", keep_alive.interval)?;
            positive("keep-alive timeout", keep_alive.timeout)?;
        }
        BuildError::check_share("reserve share", self.reserve.share)?;
        if let Some(ejection) = &self.ejection {
            ejection.check()?;
        }
        if let Some(slow_start) = &self.slow_start {
            slow_start.check()?;
        }
        self.config.check()?;
        if let Some(health) = &self.health {
            positive("health answer timeout", health.answer_timeout)?;
            let is_named = !health.is_of_channel() || self.name.is_some();
            let expected = "a channel with a name";
            check(is_named, "health check", health, expected)?;
        }
        let Backoff {
            base,
            factor,
            cap,
            jitter,
        } = self.backoff;
        positive("backoff base", base)?;
        let grows = factor.is_finite() && factor >= 1.0;
        check(grows, "backoff factor", &factor, "1 or more")?;
        check(cap >= base, "backoff cap", &cap, "the base or more")?;
        BuildError::check_share("backoff jitter", jitter)?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            tls.check()?;
        }
        Ok(())
    }
}
