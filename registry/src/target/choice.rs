//! Who is called of what a target names.

use std::num::NonZeroUsize;

use switchboard_resolver::{ChannelBuilder, Filter, Policy, ServiceConfigError};

use super::{
    TargetError,
    parameters::{Parameter, once},
};
use crate::keys::KeyPath;

/// Who is called of what a target names, as far as it says so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Choice {
    /// By its name.
    policy: Option<String>,
    /// The only one that is called.
    version: Option<String>,
    /// The one that is preferred.
    zone: Option<String>,
    /// How many are called at most.
    subset: Option<NonZeroUsize>,
    /// Where in etcd a configuration lies that may change.
    pub(crate) config: Option<KeyPath>,
}

impl Choice {
    /// Takes in a parameter; `false` if it is not one of these.
    pub(super) fn take(&mut self, name: &str, value: &str) -> Result<bool, TargetError> {
        match name {
            "policy" => {
                <dyn Policy>::named(value)?;
                once(name, &mut self.policy, value.to_owned())?;
            }
            "version" => once(name, &mut self.version, some(name, value)?)?,
            "zone" => once(name, &mut self.zone, some(name, value)?)?,
            "subset" => {
                let count = value.parse();
                let count = count.map_err(|_| refused(name, value, "a number, 1 or more"))?;
                once(name, &mut self.subset, count)?;
            }
            "config" => {
                let key = value.parse::<KeyPath>()?.outside_kratos()?;
                once(name, &mut self.config, key)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Sets a channel up so, but for the configuration.
    pub(crate) fn set_up(&self, mut channel: ChannelBuilder) -> ChannelBuilder {
        if let Some(policy) = &self.policy {
            let policy = <dyn Policy>::named(policy);
            channel = channel.policy(policy.expect("it was there when it was read"));
        }
        if let Some(version) = &self.version {
            channel = channel.filter(Filter::version(version));
        }
        if let Some(zone) = &self.zone {
            channel = channel.prefer_zone(zone.as_str());
        }
        if let Some(subset) = self.subset {
            channel = channel.subset(subset.get());
        }
        channel
    }

    /// Returns all parameters there are of these.
    pub(super) fn parameters(&self) -> [Parameter; 5] {
        let subset = self.subset.map(|it| it.to_string());
        let config = self.config.as_ref().map(ToString::to_string);
        [
            ("policy", self.policy.clone()),
            ("version", self.version.clone()),
            ("zone", self.zone.clone()),
            ("subset", subset),
            ("config", config),
        ]
    }
}

/// Refuses no text at all.
fn some(name: &str, value: &str) -> Result<String, ServiceConfigError> {
    match value {
        "" => Err(refused(name, value, "at least one character")),
        value => Ok(value.to_owned()),
    }
}

fn refused(name: &str, value: &str, expected: &str) -> ServiceConfigError {
    ServiceConfigError::value(name, format!("{value:?}"), expected)
}
