//! Where a configuration lies, and how it is read there.

use std::{fmt, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use switchboard_registry::keys::{KeyPath, KeyRange, KeyValue};

use super::{ConfigError, InvalidConfig, document, error::Unquoted, format::Format};

/// Where a configuration lies.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// In one key.
    At(KeyPath, Format),
    /// In all keys below one: their prefix, which ends in `/`.
    Below(String),
}

impl Place {
    pub(super) fn at(key: KeyPath) -> Result<Self, ConfigError> {
        let key = key.outside_kratos()?;
        let last = key.as_str().rsplit('/').next().unwrap_or_default();
        match Format::of(last) {
            Ok((_, format)) => Ok(Self::At(key, format.unwrap_or(Format::Json))),
            Err(expected) => Err(ConfigError::Extension {
                key: key.to_string(),
                expected,
            }),
        }
    }

    pub(super) fn below(key: KeyPath) -> Result<Self, ConfigError> {
        Ok(Self::Below(format!("{}/", key.outside_kratos()?)))
    }

    pub(super) fn range(&self) -> KeyRange {
        match self {
            Self::At(key, _) => KeyRange::Key(key.to_string()),
            Self::Below(prefix) => KeyRange::Under(prefix.clone()),
        }
    }

    /// Makes a value of what the keys hold; `None` where there are none.
    pub(super) fn read<T: DeserializeOwned>(
        &self,
        keys: &[Arc<KeyValue>],
        limit: usize,
    ) -> Result<Option<T>, InvalidConfig> {
        self.measure(keys.iter().map(|kv| kv.value.len()).sum(), limit)?;
        let value = match (self, keys) {
            (_, []) => return Ok(None),
            (Self::At(_, format), [kv, ..]) => format.read(&kv.value),
            (Self::Below(prefix), keys) => {
                let document = document::read(prefix, keys)?;
                serde_json::from_value(document).map_err(Unquoted::cause)
            }
        };
        value.map(Some).map_err(|cause| InvalidConfig::Unreadable {
            key: self.to_string(),
            cause,
        })
    }

    /// Writes a value: to which key, and what.
    pub(super) fn write<T: Serialize>(
        &self,
        value: &T,
        limit: usize,
    ) -> Result<(&str, Vec<u8>), ConfigError> {
        let key = self.to_string();
        match self {
            Self::At(path, format) => {
                let written = format.write(value);
                let bytes = written.map_err(|cause| ConfigError::Unwritable { key, cause })?;
                self.measure(bytes.len(), limit)
                    .map_err(|invalid| ConfigError::Invalid(Arc::new(invalid)))?;
                Ok((path.as_str(), bytes))
            }
            Self::Below(_) => Err(ConfigError::SeveralKeys { key }),
        }
    }

    fn measure(&self, bytes: usize, limit: usize) -> Result<(), InvalidConfig> {
        match bytes <= limit {
            true => Ok(()),
            false => Err(InvalidConfig::TooLarge {
                key: self.to_string(),
                bytes,
                limit,
            }),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(key, _) => key.fmt(f),
            Self::Below(prefix) => f.write_str(prefix.trim_end_matches('/')),
        }
    }
}
