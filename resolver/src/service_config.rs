//! What of a channel may be changed while it runs: who is called, and what holds for the calls of which methods.

mod configuration;
mod error;
mod methods;
mod written;

use std::sync::Arc;

pub(crate) use self::configuration::{Adoption, Configuration};
pub(crate) use self::error::shortened;
pub(crate) use self::methods::{Method, Methods};
pub use self::{error::ServiceConfigError, methods::MethodConfig};
use crate::{Filter, Policy, RoundRobin, Split, ZonePreference, retry::RetryThrottling};

/// What of a channel may be changed while it runs: how it chooses who is called, and what holds for the calls
/// of which methods.
///
/// Most of it is gRPC's service config, in gRPC's own JSON:
///
/// ```
/// use switchboard_resolver::ServiceConfig;
///
/// let config = ServiceConfig::from_json(r#"{ "loadBalancingConfig": [{ "round_robin": {} }] }"#)?;
///
/// let error = ServiceConfig::from_json(r#"{ "loadBalancingConfig": [{ "fastest": {} }] }"#);
/// assert!(error.unwrap_err().to_string().starts_with("policy: fastest (expected: one of round_robin"));
/// # Ok::<(), switchboard_resolver::ServiceConfigError>(())
/// ```
///
/// Beside that it says which endpoints are connected, and how calls are shared between them. Each part may
/// be left out:
///
/// ```
/// # use switchboard_resolver::ServiceConfig;
/// let config = ServiceConfig::from_json(r#"{
///     "filter": { "match": { "region": "eu", "tier": ["gold", "silver"] }, "orAny": true },
///     "subset": 20,
///     "split": { "by": "version", "percent": { "v1": 95, "v2": 5 } },
///     "zone": { "prefer": "a", "overprovisioning": 1.4 }
/// }"#)?;
///
/// let error = ServiceConfig::from_json(r#"{ "split": { "by": "version", "percent": { "v1": 90 } } }"#);
/// assert_eq!(
///     error.unwrap_err().to_string(),
///     "split by version: v1=90, together 90 (expected: 100 together)",
/// );
/// # Ok::<(), switchboard_resolver::ServiceConfigError>(())
/// ```
///
/// `filter` is a [`Filter`](crate::Filter): all keys must match, each with one of its values; one without
/// keys lets all through, and so takes back the builder's. `split` is a [`Split`](crate::Split), `zone` a
/// [`ZonePreference`](crate::ZonePreference), and `subset` as
/// [`ChannelBuilder::subset`](crate::ChannelBuilder::subset) has it.
///
/// What it does not say is as the channel's [builder](crate::ChannelBuilder) has it.
#[derive(Debug, Clone, Default)]
pub struct ServiceConfig {
    pub(crate) policy: Option<Arc<dyn Policy>>,
    pub(crate) filter: Option<Filter>,
    pub(crate) split: Option<Split>,
    pub(crate) zone: Option<ZonePreference>,
    pub(crate) subset: Option<usize>,
    methods: Option<Arc<methods::ByPath>>,
    retry_throttling: Option<RetryThrottling>,
}

impl ServiceConfig {
    /// Reads gRPC's JSON: of its fields `loadBalancingConfig`, `methodConfig` with `timeout`, `waitForReady` and
    /// `retryPolicy`, and `retryThrottling`; and the [fields of our own](Self).
    ///
    /// ```
    /// use switchboard_resolver::ServiceConfig;
    ///
    /// ServiceConfig::from_json(
    ///     r#"{
    ///         "methodConfig": [{
    ///             "name": [{ "service": "greeter.Greeter", "method": "SayHello" }, { "service": "greeter.Other" }],
    ///             "timeout": "1.5s",
    ///             "retryPolicy": {
    ///                 "maxAttempts": 3, "initialBackoff": "0.1s", "maxBackoff": "1s",
    ///                 "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]
    ///             }
    ///         }],
    ///         "retryThrottling": { "maxTokens": 10, "tokenRatio": 0.1 }
    ///     }"#,
    /// )?;
    /// # Ok::<(), switchboard_resolver::ServiceConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// It is not JSON, or not of this shape; a field is not known; or a value makes no sense. Unknown
    /// fields are refused, since one that is misspelt would be in force nowhere.
    pub fn from_json(text: &str) -> Result<Self, ServiceConfigError> {
        written::read(text)
    }

    /// Sets the policy.
    pub fn with_policy(mut self, policy: impl Policy) -> Self {
        self.policy = Some(Arc::new(policy));
        self
    }

    /// Sets which endpoints are connected at all.
    pub fn with_filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Sets how calls are shared between groups of endpoints, such as versions.
    pub fn with_split(mut self, split: Split) -> Self {
        self.split = Some(split);
        self
    }

    /// Sets the zone that calls stay in while it has enough READY endpoints.
    pub fn with_zone(mut self, zone: impl Into<ZonePreference>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Sets how many endpoints are connected at most.
    pub fn with_subset(mut self, count: usize) -> Self {
        self.subset = Some(count);
        self
    }

    /// Refuses what makes no sense.
    pub(crate) fn check(&self) -> Result<(), ServiceConfigError> {
        if let Some(policy) = &self.policy {
            policy.check()?;
        }
        if let Some(filter) = &self.filter {
            filter.check()?;
        }
        if let Some(zone) = &self.zone {
            zone.check()?;
        }
        match self.subset {
            Some(0) => Err(ServiceConfigError::value("subset", 0, "1 or more")),
            _ => Ok(()),
        }
    }

    /// Returns what counts if this does, and where this says nothing the `other`.
    pub(crate) fn or(self, other: &Self) -> Self {
        Self {
            policy: self.policy.or_else(|| other.policy.clone()),
            filter: self.filter.or_else(|| other.filter.clone()),
            split: self.split.or_else(|| other.split.clone()),
            zone: self.zone.or_else(|| other.zone.clone()),
            subset: self.subset.or(other.subset),
            methods: self.methods.or_else(|| other.methods.clone()),
            retry_throttling: self.retry_throttling.or(other.retry_throttling),
        }
    }

    /// Returns the policy.
    pub(crate) fn policy(&self) -> Arc<dyn Policy> {
        self.policy.clone().unwrap_or_else(|| Arc::new(RoundRobin))
    }
}
