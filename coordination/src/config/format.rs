//! How a value is written, told by its key's extension.

use serde::{Serialize, de::DeserializeOwned};
use switchboard_resolver::Cause;

use super::error::Unquoted;

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    #[cfg(feature = "yaml")]
    Yaml,
    #[cfg(feature = "toml")]
    Toml,
}

impl Format {
    /// Returns the name of a key's last segment without its extension, and what that stands for;
    /// `None` where it has none.
    ///
    /// # Errors
    ///
    /// What would be expected in place of an extension that is not known, or not built in.
    pub(super) fn of(segment: &str) -> Result<(&str, Option<Self>), &'static str> {
        let Some((name, extension)) = segment
            .rsplit_once('.')
            .filter(|(name, _)| !name.is_empty())
        else {
            return Ok((segment, None));
        };
        match extension {
            "json" => Ok((name, Some(Self::Json))),
            #[cfg(feature = "yaml")]
            "yaml" | "yml" => Ok((name, Some(Self::Yaml))),
            #[cfg(feature = "toml")]
            "toml" => Ok((name, Some(Self::Toml))),
            #[cfg(not(feature = "yaml"))]
            "yaml" | "yml" => Err("the feature `yaml`"),
            #[cfg(not(feature = "toml"))]
            "toml" => Err("the feature `toml`"),
            _ => Err("the extension .json, .yaml, .yml or .toml, or none"),
        }
    }

    pub(super) fn read<T: DeserializeOwned>(self, value: &[u8]) -> Result<T, Cause> {
        match self {
            Self::Json => serde_json::from_slice(value).map_err(Unquoted::cause),
            #[cfg(feature = "yaml")]
            Self::Yaml => super::yaml::read(value),
            #[cfg(feature = "toml")]
            Self::Toml => {
                let text = std::str::from_utf8(value).map_err(Unquoted::cause)?;
                toml::from_str(text).map_err(|error| Unquoted::cause(error.message()))
            }
        }
    }

    pub(super) fn write<T: Serialize>(self, value: &T) -> Result<Vec<u8>, Cause> {
        match self {
            Self::Json => serde_json::to_vec_pretty(value).map_err(Unquoted::cause),
            #[cfg(feature = "yaml")]
            Self::Yaml => serde_norway::to_string(value)
                .map(String::into_bytes)
                .map_err(Unquoted::cause),
            #[cfg(feature = "toml")]
            Self::Toml => toml::to_string_pretty(value)
                .map(String::into_bytes)
                .map_err(Unquoted::cause),
        }
    }
}
