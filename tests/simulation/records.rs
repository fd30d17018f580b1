//! What lies in the store, as far as it is known what that is.

use std::{collections::BTreeMap, fmt};

use switchboard_embedded::KeyValue;

const PREFIX: &str = "/microservices/";

/// A record, as it lies in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Which publication it is of; its metadata says so.
    pub(crate) who: String,
    pub(crate) version: String,
    /// Where it can be dialed.
    pub(crate) address: String,
    pub(crate) lease: i64,
    /// A stranger wrote over it what is no record.
    pub(crate) is_spoiled: bool,
}

/// All records at one revision, by key.
pub(crate) type Records = BTreeMap<String, Record>;

/// A record as those who follow see it: the publication, its version and its address.
pub(crate) type Listed = (String, String, String);

/// Reads what keys hold; `known` is the last record that each of them ever held.
pub(crate) fn read(keys: &[KeyValue], known: &Records) -> Records {
    let records = keys.iter().filter_map(|it| {
        let key = String::from_utf8(it.key.clone()).expect("keys are text");
        let record = match record(it) {
            Some(record) => record,
            None => Record {
                lease: it.lease.unwrap_or(0),
                is_spoiled: true,
                // What was never a record is nobody's.
                ..known.get(&key)?.clone()
            },
        };
        Some((key, record))
    });
    records.collect()
}

fn record(kv: &KeyValue) -> Option<Record> {
    let value: serde_json::Value = serde_json::from_slice(&kv.value).ok()?;
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let origin = text(&value["endpoints"][0])?;
    Some(Record {
        who: text(&value["metadata"]["who"])?,
        version: text(&value["version"])?,
        address: origin.strip_prefix("grpc://")?.to_owned(),
        lease: kv.lease.unwrap_or(0),
        is_spoiled: false,
    })
}

/// Returns whether those are the records of a service, in the order of their keys. Who knew the
/// server before its record was spoiled still shows what it knew, who did not does not.
pub(crate) fn are_shown(service: &str, records: &Records, shown: &[Listed]) -> bool {
    let mut shown = shown.iter().peekable();
    for (_, record) in records
        .iter()
        .filter(|(key, _)| self::service(key) == service)
    {
        let Record {
            who,
            version,
            address,
            ..
        } = record;
        let is_next = |it: &&Listed| match record.is_spoiled {
            // What was there in between may have been missed, also that nothing was.
            true => &it.2 == address,
            false => (&it.0, &it.1, &it.2) == (who, version, address),
        };
        if shown.next_if(is_next).is_none() && !record.is_spoiled {
            return false;
        }
    }
    shown.next().is_none()
}

/// Returns the service that a key is of.
pub(crate) fn service(key: &str) -> &str {
    let rest = key.strip_prefix(PREFIX).unwrap_or(key);
    rest.split('/').next().unwrap_or(rest)
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            who,
            version,
            address,
            lease,
            is_spoiled,
        } = self;
        let spoiled = if *is_spoiled { ", spoiled" } else { "" };
        write!(f, "{who} v{version} at {address} under {lease:x}{spoiled}")
    }
}
