//! Settings from the environment.

use super::{
    ConfigError, RegistryConfig,
    written::{Endpoints, Seconds, Written},
};

impl RegistryConfig {
    /// Reads the settings from this process's environment; see [`from_vars`](Self::from_vars).
    ///
    /// # Errors
    ///
    /// As [`from_vars`](Self::from_vars).
    pub fn from_env() -> Result<Self, ConfigError> {
        // What is not UTF-8 becomes a text that no address and no file has.
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Self::from_vars(std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))))
    }

    /// Reads the settings from variables such as those of [`std::env::vars`]: `SWITCHBOARD_ETCD`
    /// and the others of the [table](Self), and `POD_IP`, for
    /// [`Registry::advertised`](crate::Registry::advertised). An empty one counts as unset.
    ///
    /// Other variables are left alone. One that begins with `SWITCHBOARD_` is logged, since it may
    /// be misspelt. It is no error: Kubernetes makes up such names for a service called
    /// `switchboard`.
    ///
    /// ```
    /// use switchboard_registry::RegistryConfig;
    ///
    /// let vars = [("SWITCHBOARD_ETCD", "10.0.0.1:2379"), ("SWITCHBOARD_ZONE", "b")];
    /// let vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
    /// let config = RegistryConfig::from_vars(vars)?;
    /// # Ok::<(), switchboard_registry::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `SWITCHBOARD_ETCD` is not there, or a setting is invalid.
    pub fn from_vars(
        vars: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut written = Written::default();
        let mut pod_ip = String::new();
        for (name, value) in vars {
            match name.strip_prefix("SWITCHBOARD_") {
                _ if value.is_empty() => {}
                None if name == "POD_IP" => pod_ip = value,
                None => {}
                Some(setting) => set(&mut written, setting, value)?,
            }
        }
        Ok(Self {
            pod_ip: Some(pod_ip),
            ..written.try_into()?
        })
    }
}

fn set(written: &mut Written, setting: &str, value: String) -> Result<(), ConfigError> {
    match setting {
        "ETCD" => written.endpoints = Some(Endpoints(value)),
        "NAMESPACE" => written.namespace = Some(value),
        "LAYOUT" => written.layout = Some(value),
        "TTL" => {
            let seconds = value.parse().map_err(|_| ConfigError::Ttl(value))?;
            written.ttl = Some(Seconds(seconds));
        }
        "USERNAME" => written.username = Some(value),
        "PASSWORD" => return Err(ConfigError::PasswordVariable),
        "PASSWORD_FILE" => written.password_file = Some(value.into()),
        "CA_FILE" => written.ca_file = Some(value.into()),
        "CERT_FILE" => written.cert_file = Some(value.into()),
        "KEY_FILE" => written.key_file = Some(value.into()),
        "SERVER_NAME" => written.server_name = Some(value),
        "ADVERTISE" => written.advertise = Some(value),
        "ZONE" => written.zone = Some(value),
        others if is_made_up(others) => {}
        // Never with its value, which may be a secret under a misspelt name.
        _ => {
            tracing::warn!(name: "unknown_variable", variable = format!("SWITCHBOARD_{setting}"), "not a setting")
        }
    }
    Ok(())
}

/// Returns whether it is one that Kubernetes makes up for a service whose name begins with
/// `switchboard` (`SWITCHBOARD_SERVICE_HOST`, `SWITCHBOARD_PORT_80_TCP`), or one for our tests.
fn is_made_up(setting: &str) -> bool {
    let made_up = ["PORT", "SERVICE", "TEST"];
    setting.split('_').any(|part| made_up.contains(&part))
}
