//! How many calls stay in one's own zone.

use super::filter::ZONE;
use crate::{Endpoint, ServiceConfigError};

/// That calls stay in a zone for as long as it has enough READY endpoints: what leaves a zone takes longer,
/// and mostly costs money.
///
/// ```
/// use switchboard_resolver::{Channel, ZonePreference};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let channel = Channel::balance(["10.0.0.1:50051", "10.0.0.2:50051"])?
///     .prefer_zone(ZonePreference::new("a").with_overprovisioning(1.2))
///     .connect_lazy()?;
/// # channel.close().await;
/// # Ok(()) }
/// ```
///
/// Of the calls, `min(1, overprovisioning x READY / listed)` stay, counted over the endpoints of the zone,
/// which is the value of the metadata's key `zone`; the rest go to the other zones. That is Envoy's rule for
/// priorities. A call that finds no endpoint free where it was meant to go takes one elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct ZonePreference {
    zone: String,
    overprovisioning: f64,
}

/// As Envoy has it: a zone does its work alone while 5 of 7 of its servers do theirs. With less, one server
/// that restarts makes calls leave the zone; with more, the few that are left are overrun first.
const OVERPROVISIONING: f64 = 1.4;

impl ZonePreference {
    /// Prefers a zone.
    pub fn new(zone: impl Into<String>) -> Self {
        Self {
            zone: zone.into(),
            overprovisioning: OVERPROVISIONING,
        }
    }

    /// Sets how much more than its share of the calls each READY endpoint of the zone takes before calls
    /// leave the zone, 1 or more; 1.4 unless set.
    pub fn with_overprovisioning(mut self, factor: f64) -> Self {
        self.overprovisioning = factor;
        self
    }

    /// Returns whether an endpoint is in the zone.
    pub(super) fn is_in(&self, endpoint: &Endpoint) -> bool {
        endpoint.metadata().get(ZONE) == Some(&self.zone)
    }

    /// Returns how many of the calls stay in the zone, from 0 to 1, if so many of its endpoints are listed,
    /// and so many can be called.
    pub(super) fn staying(&self, callable: usize, listed: usize) -> f64 {
        // One that is in reserve and called may not be listed.
        let listed = listed.max(callable).max(1);
        (self.overprovisioning * callable as f64 / listed as f64).min(1.0)
    }

    /// Refuses what makes no sense.
    pub(crate) fn check(&self) -> Result<(), ServiceConfigError> {
        let factor = self.overprovisioning;
        if self.zone.is_empty() {
            let expected = "the name of a zone";
            return Err(ServiceConfigError::value(
                "zone to prefer",
                "none",
                expected,
            ));
        }
        match factor.is_finite() && factor >= 1.0 {
            true => Ok(()),
            false => Err(ServiceConfigError::value(
                "zone overprovisioning",
                factor,
                "1 or more",
            )),
        }
    }
}

impl From<&str> for ZonePreference {
    fn from(zone: &str) -> Self {
        Self::new(zone)
    }
}

impl From<String> for ZonePreference {
    fn from(zone: String) -> Self {
        Self::new(zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_stay_while_enough_are_ready_and_then_by_the_share_that_is() {
        let zone = ZonePreference::new("a");
        for (ready, listed, expected) in [
            (10, 10, 1.0),
            (8, 10, 1.0),
            (5, 10, 0.7),
            (1, 10, 0.14),
            (0, 10, 0.0),
            (0, 0, 0.0),
            (2, 1, 1.0),
        ] {
            let share = zone.staying(ready, listed);
            assert!(
                (share - expected).abs() < 1e-9,
                "{ready} of {listed}: {share}"
            );
        }
        let exact = zone.with_overprovisioning(1.0);
        assert_eq!(exact.staying(9, 10), 0.9);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for factor in [0.9, -1.0, f64::NAN, f64::INFINITY] {
            let error = ZonePreference::new("a")
                .with_overprovisioning(factor)
                .check();
            let expected = format!("zone overprovisioning: {factor} (expected: 1 or more)");
            assert_eq!(error.unwrap_err().to_string(), expected);
        }
        assert!(ZonePreference::new("").check().is_err());
        assert!(ZonePreference::new("a").check().is_ok());
    }
}
