//! The settings of a registry, from the environment or from a file.

mod access;
mod error;
mod secret;
#[cfg(test)]
mod tests;
mod vars;
mod written;

use std::{ffi::OsStr, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

pub(crate) use self::access::Access;
pub use self::error::ConfigError;
use self::written::{Endpoints, Seconds, Written};
use crate::{
    Advertise, EtcdTarget, RegistryBuilder, Target, TargetError,
    builder::is_ttl,
    target::{Addresses, PartialPlace, scheme},
};

/// The settings of a registry, from the environment or from a file.
///
/// Whatever it is read from, it is checked as a whole: one that exists makes sense.
///
/// | in a file | in the environment | is |
/// |---|---|---|
/// | `endpoints` | `SWITCHBOARD_ETCD` | where etcd is: `h1:2379,h2:2379`, or `etcds://h1:2379,...` for TLS with the system's roots; in a file also a list |
/// | `namespace` | `SWITCHBOARD_NAMESPACE` | the part of etcd's key space to use |
/// | `layout` | `SWITCHBOARD_LAYOUT` | what records look like |
/// | `ttl` | `SWITCHBOARD_TTL` | how long a record outlives its server, in whole seconds |
/// | `username` | `SWITCHBOARD_USERNAME` | etcd's user |
/// | `password` | | its password |
/// | `password_file` | `SWITCHBOARD_PASSWORD_FILE` | the file that holds it |
/// | `ca_file` | `SWITCHBOARD_CA_FILE` | the certificates that etcd's is signed by |
/// | `cert_file`, `key_file` | `SWITCHBOARD_CERT_FILE`, `SWITCHBOARD_KEY_FILE` | who we are, for etcd |
/// | `server_name` | `SWITCHBOARD_SERVER_NAME` | the name in etcd's certificate, where that is not its host |
/// | `advertise` | `SWITCHBOARD_ADVERTISE` | the host, or `host:port`, that others dial; see [`Advertise`] |
/// | `zone` | `SWITCHBOARD_ZONE` | the zone that this process runs in |
///
/// Only the first is needed. Each of the certificates and the server's name turns TLS on.
///
/// A password shows neither in `Debug` nor in an error. A configuration that holds one is not
/// serialized, which would show it; with `password_file` it is.
///
/// ```
/// use switchboard_registry::{Registry, RegistryConfig};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config: RegistryConfig = serde_json::from_str(
///     r#"{"endpoints": ["10.0.0.1:2379", "10.0.0.2:2379"], "namespace": "/shop", "ttl": 15}"#,
/// )?;
/// let registry = Registry::from_config(config).connect_lazy()?;
/// # registry.close().await;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct RegistryConfig {
    etcd: Addresses,
    place: PartialPlace,
    ttl: Option<Duration>,
    access: Access,
    advertise: Option<Advertise>,
    zone: Option<String>,
    /// `$POD_IP`, where the configuration comes from the environment; empty if it is not set.
    pod_ip: Option<String>,
}

impl From<RegistryConfig> for RegistryBuilder {
    fn from(config: RegistryConfig) -> Self {
        let builder = Self::new(config.etcd).placed(&config.place);
        let mut builder = config.access.apply(builder);
        if let Some(ttl) = config.ttl {
            builder = builder.ttl(ttl);
        }
        if let Some(advertise) = config.advertise {
            builder = builder.advertise(advertise);
        }
        if let Some(zone) = config.zone {
            builder = builder.zone(zone);
        }
        match config.pod_ip {
            Some(pod_ip) => builder.pod_ip(pod_ip),
            None => builder,
        }
    }
}

impl TryFrom<Written> for RegistryConfig {
    type Error = ConfigError;

    fn try_from(mut written: Written) -> Result<Self, ConfigError> {
        let endpoints = written.endpoints.take().ok_or(ConfigError::NoEndpoints)?;
        let etcd = etcd(&endpoints.0)?;
        let seconds = written.ttl.take().map(|Seconds(ttl)| seconds(ttl));
        Ok(Self {
            etcd: etcd.addresses,
            place: PartialPlace {
                namespace: parsed(&written.namespace)?,
                layout: parsed(&written.layout)?,
            },
            ttl: seconds.transpose()?,
            advertise: parsed(&written.advertise)?,
            zone: filled("zone", written.zone.take())?,
            access: Access::read(etcd.security, written)?,
            pod_ip: None,
        })
    }
}

/// Reads the endpoints: a target of nothing but those.
fn etcd(text: &str) -> Result<EtcdTarget, TargetError> {
    match text.parse()? {
        Target::Etcd(EtcdTarget {
            service: Some(service),
            ..
        }) => Err(TargetError::Service(service)),
        Target::Etcd(target) if target.place == PartialPlace::default() => Ok(target),
        _ => Err(TargetError::Form(
            "host:port,... or etcds://host:port,..., and nothing else",
        )),
    }
}

fn seconds(ttl: u64) -> Result<Duration, ConfigError> {
    let duration = Duration::from_secs(ttl);
    let valid = is_ttl(duration).then_some(duration);
    valid.ok_or_else(|| ConfigError::Ttl(ttl.to_string()))
}

fn parsed<T>(text: &Option<String>) -> Result<Option<T>, ConfigError>
where
    T: FromStr,
    ConfigError: From<T::Err>,
{
    Ok(text.as_deref().map(str::parse).transpose()?)
}

fn filled<T: AsRef<OsStr>>(
    setting: &'static str,
    value: Option<T>,
) -> Result<Option<T>, ConfigError> {
    match value {
        Some(value) if value.as_ref().is_empty() => Err(ConfigError::Empty(setting)),
        value => Ok(value),
    }
}

impl From<RegistryConfig> for Written {
    fn from(config: RegistryConfig) -> Self {
        let mut written = Self {
            endpoints: Some(Endpoints(format!(
                "{}://{}",
                scheme(config.access.security()),
                config.etcd
            ))),
            namespace: config.place.namespace.map(|name| name.to_string()),
            layout: config.place.layout.map(|layout| layout.to_string()),
            ttl: config.ttl.map(|ttl| Seconds(ttl.as_secs())),
            advertise: config.advertise.map(|advertise| advertise.to_string()),
            zone: config.zone,
            ..Self::default()
        };
        config.access.write(&mut written);
        written
    }
}
