//! Makes one document of many keys: a field a key, and fields of fields below them.

use std::sync::Arc;

use serde_json::{Map, Value, map::Entry};
use switchboard_registry::keys::KeyValue;

use super::{InvalidConfig, error::Unquoted, format::Format};

/// How many fields deep a key may lie. A document is read and dropped by recursion, so that a key of a
/// megabyte of segments would end the process for want of stack.
const DEEPEST: usize = 100;

/// Reads the keys below `prefix`, all of which start with it.
pub(super) fn read(prefix: &str, keys: &[Arc<KeyValue>]) -> Result<Value, InvalidConfig> {
    let mut document = Map::new();
    for kv in keys {
        add(&mut document, prefix, kv)?;
    }
    Ok(Value::Object(document))
}

fn add(
    document: &mut Map<String, Value>,
    prefix: &str,
    kv: &KeyValue,
) -> Result<(), InvalidConfig> {
    let key = String::from_utf8_lossy(&kv.key);
    let unreadable = |cause| InvalidConfig::Unreadable {
        key: key.to_string(),
        cause,
    };
    let clash = || InvalidConfig::Clash {
        key: key.to_string(),
    };
    let path = key.strip_prefix(prefix).unwrap_or(&key);
    let depth = path.split('/').count();
    if depth > DEEPEST {
        return Err(unreadable(Unquoted::cause(format!(
            "{depth} segments (expected: at most {DEEPEST})"
        ))));
    }
    let (folders, last) = path
        .rsplit_once('/')
        .map_or((None, path), |(a, b)| (Some(a), b));
    let (name, format) = Format::of(last).map_err(|expected| {
        unreadable(Unquoted::cause(format!(
            "its extension (expected: {expected})"
        )))
    })?;
    let value = match format {
        Some(format) => format.read(&kv.value).map_err(unreadable)?,
        None => plain(&kv.value).map_err(unreadable)?,
    };
    let mut within = document;
    for folder in folders.into_iter().flat_map(|it| it.split('/')) {
        let inner = within
            .entry(folder)
            .or_insert_with(|| Value::Object(Map::new()));
        within = inner.as_object_mut().ok_or_else(clash)?;
    }
    match within.entry(name) {
        Entry::Vacant(entry) => drop(entry.insert(value)),
        Entry::Occupied(_) => return Err(clash()),
    }
    Ok(())
}

/// A value without a format of its own: JSON, or, if it does not begin like it, text.
fn plain(value: &[u8]) -> Result<Value, switchboard_resolver::Cause> {
    let is_marked = matches!(value.trim_ascii_start().first(), Some(b'{' | b'[' | b'"'));
    match Format::Json.read(value) {
        Err(error) if is_marked => Err(error),
        Ok(read) => Ok(read),
        Err(_) => {
            let text = std::str::from_utf8(value).map_err(Unquoted::cause)?;
            Ok(Value::String(text.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(keys: &[(&str, &str)]) -> Result<Value, InvalidConfig> {
        let mut document = Map::new();
        for (key, value) in keys {
            let kv = KeyValue::new(key.as_bytes(), value.as_bytes());
            add(&mut document, "/shop/", &kv)?;
        }
        Ok(Value::Object(document))
    }

    #[test]
    fn each_key_is_a_field() {
        let read = document(&[
            ("/shop/limits/calls", "100"),
            ("/shop/limits/burst", "10"),
            ("/shop/name", "corner shop"),
            ("/shop/owner", "\"12\""),
            ("/shop/db.json", r#"{"host": "a"}"#),
        ]);
        let expected = json!({
            "limits": {"calls": 100, "burst": 10},
            "name": "corner shop",
            "owner": "12",
            "db": {"host": "a"},
        });
        assert_eq!(read.unwrap(), expected);
    }

    #[test]
    fn what_is_no_document_is_refused_with_the_key() {
        for (keys, at) in [
            (&[("/shop/a", "1"), ("/shop/a/b", "2")][..], "/shop/a/b"),
            (&[("/shop/a", "1"), ("/shop/a.json", "2")], "/shop/a.json"),
            (&[("/shop/a", "{\"b\": ")], "/shop/a"),
            (&[("/shop/a.ini", "b=1")], "/shop/a.ini"),
            (&[("/shop/a", "\u{fffd}\"")], ""),
        ] {
            match document(keys) {
                Err(invalid) => assert!(invalid.to_string().contains(at) && !at.is_empty()),
                Ok(_) => assert!(at.is_empty(), "{keys:?}"),
            }
        }
    }
}
