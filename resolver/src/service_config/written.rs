//! The configuration as it is written: gRPC's JSON.

mod methods;
mod selecting;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{ServiceConfig, ServiceConfigError};
use crate::balance::named;

/// All that a configuration may say.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    /// Policies by name, each with its own settings: the first that is known counts.
    #[serde(default)]
    load_balancing_config: Vec<Map<String, Value>>,
    /// What holds for which methods.
    method_config: Option<Vec<methods::Method>>,
    retry_throttling: Option<methods::Throttling>,
    health_check_config: Option<Value>,
    filter: Option<selecting::Filter>,
    split: Option<selecting::Split>,
    zone: Option<selecting::Zone>,
    subset: Option<usize>,
}

/// Reads a configuration.
pub(super) fn read(text: &str) -> Result<ServiceConfig, ServiceConfigError> {
    let written: Written =
        serde_json::from_str(text).map_err(|error| ServiceConfigError::shape(&error))?;
    not_supported("healthCheckConfig", &written.health_check_config)?;
    let mut config = ServiceConfig {
        policy: named::first_known(&written.load_balancing_config)?,
        filter: written.filter.map(selecting::Filter::read).transpose()?,
        split: written.split.map(selecting::Split::read).transpose()?,
        zone: written.zone.map(selecting::Zone::read),
        subset: written.subset,
        ..ServiceConfig::default()
    };
    if let Some(written) = &written.method_config {
        // Also if there are none: it is said that there are none.
        config.methods = Some(Default::default());
        config = methods::with_methods(config, written)?;
    }
    if let Some(written) = &written.retry_throttling {
        config = methods::with_throttling(config, written)?;
    }
    config.check()?;
    Ok(config)
}

/// Refuses a field of gRPC's that is given and would be in force nowhere.
pub(super) fn not_supported(what: &str, given: &Option<Value>) -> Result<(), ServiceConfigError> {
    match given {
        None => Ok(()),
        Some(given) => {
            let expected = "nothing: it is not supported";
            Err(ServiceConfigError::value(what, given, expected))
        }
    }
}
