//! Users and certificates, as settings name them.

use std::path::PathBuf;

use switchboard_resolver::Security;
#[cfg(feature = "tls")]
use switchboard_resolver::Tls;

use super::{ConfigError, filled, secret::Secret, written::Written};
use crate::{Credentials, RegistryBuilder};

/// What etcd and we know each other by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Access {
    user: Option<User>,
    tls: Option<TlsFiles>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct User {
    name: String,
    password: Password,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Password {
    Text(Secret),
    File(PathBuf),
}

/// TLS, with the system's roots where there is no `ca_file`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct TlsFiles {
    ca_file: Option<PathBuf>,
    identity: Option<IdentityFiles>,
    server_name: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct IdentityFiles {
    cert: PathBuf,
    key: PathBuf,
}

impl Access {
    /// Returns what follows from a target: no user, and perhaps TLS with the system's roots.
    pub(crate) fn of(security: Security) -> Self {
        Self {
            user: None,
            tls: (security == Security::Tls).then(TlsFiles::default),
        }
    }

    /// Hands it to a builder.
    pub(crate) fn apply(self, builder: RegistryBuilder) -> RegistryBuilder {
        let builder = match self.user {
            Some(user) => builder.credentials(user.into()),
            None => builder,
        };
        match self.tls {
            #[cfg(feature = "tls")]
            Some(tls) => builder.tls(tls.into()),
            #[cfg(not(feature = "tls"))]
            Some(_) => builder.needs_tls(),
            None => builder,
        }
    }

    pub(super) fn security(&self) -> Security {
        match self.tls {
            Some(_) => Security::Tls,
            None => Security::Plaintext,
        }
    }

    pub(super) fn read(security: Security, written: Written) -> Result<Self, ConfigError> {
        let name = filled("username", written.username)?;
        let password_file = filled("password_file", written.password_file)?;
        if written.password.as_ref().is_some_and(Secret::is_empty) {
            return Err(ConfigError::Empty("password"));
        }
        let password = match (written.password, password_file) {
            (Some(_), Some(_)) => return Err(both("password", "password_file")),
            (Some(text), None) => Some(Password::Text(text)),
            (None, file) => file.map(Password::File),
        };
        let user = match (name, password) {
            (Some(name), Some(password)) => Some(User { name, password }),
            (Some(_), None) => return Err(incomplete("username", "password or password_file")),
            (None, Some(Password::Text(_))) => return Err(incomplete("password", "username")),
            (None, Some(Password::File(_))) => return Err(incomplete("password_file", "username")),
            (None, None) => None,
        };

        let cert = filled("cert_file", written.cert_file)?;
        let key = filled("key_file", written.key_file)?;
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some(IdentityFiles { cert, key }),
            (Some(_), None) => return Err(incomplete("cert_file", "key_file")),
            (None, Some(_)) => return Err(incomplete("key_file", "cert_file")),
            (None, None) => None,
        };
        let tls = TlsFiles {
            ca_file: filled("ca_file", written.ca_file)?,
            identity,
            server_name: filled("server_name", written.server_name)?,
        };
        let is_tls = security == Security::Tls || tls != TlsFiles::default();
        Ok(Self {
            user,
            tls: is_tls.then_some(tls),
        })
    }

    pub(super) fn write(self, written: &mut Written) {
        if let Some(User { name, password }) = self.user {
            written.username = Some(name);
            match password {
                Password::Text(text) => written.password = Some(text),
                Password::File(file) => written.password_file = Some(file),
            }
        }
        let tls = self.tls.unwrap_or_default();
        written.ca_file = tls.ca_file;
        written.server_name = tls.server_name;
        if let Some(IdentityFiles { cert, key }) = tls.identity {
            written.cert_file = Some(cert);
            written.key_file = Some(key);
        }
    }
}

impl From<User> for Credentials {
    fn from(User { name, password }: User) -> Self {
        let credentials = match password {
            Password::Text(text) => Self::new(name, text.reveal()),
            Password::File(file) => Self::with_password_file(name, file),
        };
        credentials.expect("what is empty was refused when it was read")
    }
}

#[cfg(feature = "tls")]
impl From<TlsFiles> for Tls {
    fn from(files: TlsFiles) -> Self {
        let mut tls = Self::new();
        if let Some(ca_file) = files.ca_file {
            tls = tls.ca_file(ca_file);
        }
        if let Some(IdentityFiles { cert, key }) = files.identity {
            tls = tls.identity_files(cert, key);
        }
        match files.server_name {
            Some(name) => tls.server_name(name),
            None => tls,
        }
    }
}

fn both(one: &'static str, other: &'static str) -> ConfigError {
    ConfigError::Both { one, other }
}

fn incomplete(given: &'static str, missing: &'static str) -> ConfigError {
    ConfigError::Incomplete { given, missing }
}
