//! Settings as they are written, before anybody has asked whether they make sense.

use std::{fmt, path::PathBuf};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, SeqAccess, Visitor},
};

use super::secret::Secret;
use crate::builder::EXPECTED_TTL;

/// Settings as they are written.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Written {
    pub(super) endpoints: Option<Endpoints>,
    pub(super) namespace: Option<String>,
    pub(super) layout: Option<String>,
    pub(super) ttl: Option<Seconds>,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) server_name: Option<String>,
    pub(super) advertise: Option<String>,
    pub(super) zone: Option<String>,
}

/// etcd's endpoints, as one text, or as a list of such.
#[derive(Serialize)]
pub(super) struct Endpoints(pub(super) String);

impl<'de> Deserialize<'de> for Endpoints {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrList)
    }
}

struct TextOrList;

impl<'de> Visitor<'de> for TextOrList {
    type Value = Endpoints;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("host:port,... or a list of host:port")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Endpoints, E> {
        Ok(Endpoints(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Endpoints, A::Error> {
        let mut texts: Vec<String> = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        Ok(Endpoints(texts.join(",")))
    }
}

/// A time in whole seconds.
#[derive(Serialize)]
pub(super) struct Seconds(pub(super) u64);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Whole)
    }
}

struct Whole;

impl Visitor<'_> for Whole {
    type Value = Seconds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED_TTL)
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<Seconds, E> {
        Ok(Seconds(seconds))
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<Seconds, E> {
        let unsigned = u64::try_from(seconds);
        let unexpected = serde::de::Unexpected::Signed(seconds);
        unsigned.map_or_else(
            |_| Err(E::invalid_value(unexpected, &self)),
            |it| Ok(Seconds(it)),
        )
    }
}
