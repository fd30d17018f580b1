//! What of policies is set in configurations, by gRPC's names where it has them.
//!
//! What is not said is as usual; what is not known is refused, since a setting that is misspelt would be in
//! force nowhere.

use std::sync::Arc;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Policy, ServiceConfigError, balance};

/// The settings of one policy.
pub(super) trait Settings: DeserializeOwned {
    fn policy(self) -> Arc<dyn Policy>;
}

/// Makes a policy of its settings.
pub(super) fn read<S: Settings>(
    name: &str,
    settings: &Value,
) -> Result<Arc<dyn Policy>, ServiceConfigError> {
    let read: Result<S, _> = serde_json::from_value(settings.clone());
    read.map(S::policy).map_err(|error| {
        ServiceConfigError::value(format!("policy {name}"), settings, error.to_string())
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RoundRobin {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct WeightedRoundRobin {
    weight_key: Option<String>,
}

/// A48's; how long a slow start is, is the channel's to set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct LeastRequest {
    choice_count: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct P2cEwma {}

/// The most places of a ring that a configuration gets, whatever it asks for: A42's cap. Whoever writes one
/// is not the one whose memory it is: a ring is made for each group of each filter of each channel, at each
/// change, on the task that keeps the channel's connections.
const GREATEST_RING: usize = balance::RingHash::MAX_SIZE;

/// A42's and A76's, and ours.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RingHash {
    min_ring_size: Option<usize>,
    max_ring_size: Option<usize>,
    request_hash_header: Option<String>,
    #[serde(default)]
    or_random: bool,
    weight_key: Option<String>,
}

impl Settings for RoundRobin {
    fn policy(self) -> Arc<dyn Policy> {
        Arc::new(balance::RoundRobin)
    }
}

impl Settings for WeightedRoundRobin {
    fn policy(self) -> Arc<dyn Policy> {
        let usual = balance::WeightedRoundRobin::new();
        Arc::new(match self.weight_key {
            Some(key) => usual.weight_key(key),
            None => usual,
        })
    }
}

impl Settings for LeastRequest {
    fn policy(self) -> Arc<dyn Policy> {
        let usual = balance::LeastRequest::default();
        let choices = self.choice_count.unwrap_or(usual.choices);
        Arc::new(balance::LeastRequest { choices })
    }
}

impl Settings for P2cEwma {
    fn policy(self) -> Arc<dyn Policy> {
        Arc::new(balance::P2cEwma)
    }
}

impl Settings for RingHash {
    fn policy(self) -> Arc<dyn Policy> {
        let mut policy = match self.request_hash_header {
            Some(header) => balance::RingHash::by_header(header),
            None => balance::RingHash::new(),
        };
        let min = self.min_ring_size.unwrap_or(balance::RingHash::MIN_SIZE);
        let max = self.max_ring_size.unwrap_or(balance::RingHash::MAX_SIZE);
        // One that makes no sense is left to be refused.
        let makes_sense = min <= max && max <= balance::RingHash::GREATEST_SIZE;
        let capped = |size: usize| match makes_sense {
            true => size.min(GREATEST_RING),
            false => size,
        };
        policy = policy.sizes(capped(min), capped(max));
        if self.or_random {
            policy = policy.or_random();
        }
        Arc::new(match self.weight_key {
            Some(key) => policy.weight_key(key),
            None => policy,
        })
    }
}
