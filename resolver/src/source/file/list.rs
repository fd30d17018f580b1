//! Reads a list of endpoints in JSON.

use std::collections::BTreeMap;

use serde_json::Value;

use super::FileError;
use crate::{Address, Endpoint};

const LIST: &str = "a list of \"host:port\" and of \
    {\"addresses\": [\"host:port\", ...], \"metadata\": {\"zone\": \"a\"}}";

/// How much of a value an error repeats.
const EXCERPT: usize = 64;

/// Reads a whole list, or says what is wrong with it. No part of a list is one, so a file of which
/// the end is missing is told from a short one.
pub(super) fn endpoints(bytes: &[u8]) -> Result<Vec<Endpoint>, FileError> {
    let text = str::from_utf8(bytes).map_err(FileError::NotText)?;
    if text.trim().is_empty() {
        return Err(FileError::Empty);
    }
    match serde_json::from_str(text).map_err(FileError::NotJson)? {
        Value::Array(entries) => entries.into_iter().enumerate().map(endpoint).collect(),
        other => Err(invalid("the file", &other, LIST)),
    }
}

fn endpoint((index, entry): (usize, Value)) -> Result<Endpoint, FileError> {
    let place = format!("endpoint {}", index + 1);
    let mut fields = match entry {
        Value::String(text) => return Ok(Endpoint::new(address(&place, &text)?)),
        Value::Object(fields) => fields,
        other => return Err(invalid(&place, &other, LIST)),
    };
    let addresses = fields.remove("addresses").unwrap_or_default();
    let metadata = fields.remove("metadata");
    if let Some(name) = fields.keys().next() {
        let name = Value::from(name.as_str());
        return Err(invalid(
            &format!("{place}: field"),
            &name,
            "addresses or metadata",
        ));
    }
    let expected = "a list of at least one \"host:port\"";
    let place_of_addresses = format!("{place}: addresses");
    let refuse = || invalid(&place_of_addresses, &addresses, expected);
    let mut parsed = Vec::new();
    for text in addresses.as_array().ok_or_else(refuse)? {
        parsed.push(address(&place, text.as_str().ok_or_else(refuse)?)?);
    }
    let mut parsed = parsed.into_iter();
    let first = Endpoint::new(parsed.next().ok_or_else(refuse)?);
    let endpoint = parsed.fold(first, Endpoint::with_address);
    Ok(endpoint.with_all_metadata(texts(&place, metadata)?))
}

fn address(place: &str, text: &str) -> Result<Address, FileError> {
    let wrong = |source| FileError::Address {
        place: place.to_owned(),
        source,
    };
    let address: Address = text.parse().map_err(wrong)?;
    if address.is_unspecified() {
        let expected = "one that can be dialed";
        return Err(wrong(crate::AddressError::unfit(&address, expected)));
    }
    Ok(address)
}

fn texts(place: &str, metadata: Option<Value>) -> Result<BTreeMap<String, String>, FileError> {
    let place = format!("{place}: metadata");
    let expected = "an object of strings, such as {\"zone\": \"a\"}";
    match metadata {
        None => Ok(BTreeMap::new()),
        Some(Value::Object(fields)) => fields
            .into_iter()
            .map(|(name, value)| match value {
                Value::String(text) => Ok((name, text)),
                other => Err(invalid(&format!("{place} {name:?}"), &other, "a string")),
            })
            .collect(),
        Some(other) => Err(invalid(&place, &other, expected)),
    }
}

fn invalid(place: &str, value: &Value, expected: &'static str) -> FileError {
    let mut excerpt: String = value.to_string();
    if excerpt.chars().count() > EXCERPT {
        excerpt = excerpt.chars().take(EXCERPT).collect::<String>() + "...";
    }
    FileError::Invalid {
        place: place.to_owned(),
        value: excerpt,
        expected,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(text: &str) -> String {
        crate::error::chain(&endpoints(text.as_bytes()).unwrap_err())
    }

    #[test]
    fn addresses_and_endpoints_with_metadata_are_read_in_one_list() {
        let text = r#"["a:1", {"addresses": ["b:1", "[0::1]:2"], "metadata": {"zone": "x"}}, {"addresses": ["c:1"]}]"#;
        let read = endpoints(text.as_bytes()).unwrap();
        let shown: Vec<_> = read.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["a:1", "b:1,[::1]:2", "c:1"]);
        assert_eq!(read[1].metadata()["zone"], "x");
        assert!(read[0].metadata().is_empty() && read[2].metadata().is_empty());
        assert!(endpoints(b" [ ]\n").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_list_of_endpoints_is_refused_with_where_and_what_was_expected() {
        for (text, expected) in [
            ("", "the file is empty (expected: a list; [] for none)"),
            (" \n", "the file is empty (expected: a list; [] for none)"),
            ("{}", "the file: {} (expected: a list of \"host:port\""),
            ("null", "the file: null (expected: a list"),
            (r#"["a:1", 7]"#, "endpoint 2: 7 (expected: a list of"),
            (
                r#"["a"]"#,
                "endpoint 1: invalid address: \"a\" (expected: host:port)",
            ),
            (
                r#"["0.0.0.0:1"]"#,
                "endpoint 1: invalid address: \"0.0.0.0:1\" (expected: one that can be dialed)",
            ),
            (
                r#"[{}]"#,
                "endpoint 1: addresses: null (expected: a list of at least one \"host:port\")",
            ),
            (
                r#"[{"addresses": []}]"#,
                "endpoint 1: addresses: [] (expected",
            ),
            (
                r#"[{"addresses": "a:1"}]"#,
                "endpoint 1: addresses: \"a:1\" (expected",
            ),
            (
                r#"[{"addresses": [1]}]"#,
                "endpoint 1: addresses: [1] (expected",
            ),
            (
                r#"[{"addresses": ["a:1"], "metadata": ["x"]}]"#,
                "endpoint 1: metadata: [\"x\"] (expected: an object of strings",
            ),
            (
                r#"[{"addresses": ["a:1"], "metadata": {"weight": 3}}]"#,
                "endpoint 1: metadata \"weight\": 3 (expected: a string)",
            ),
            (
                r#"[{"addresses": ["a:1"], "zone": "x"}]"#,
                "endpoint 1: field: \"zone\" (expected: addresses or metadata)",
            ),
            (
                r#"["a:1""#,
                "the file is not JSON: EOF while parsing a list",
            ),
            (r#"["a:1"]["#, "the file is not JSON: trailing characters"),
        ] {
            let error = error(text);
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        let error = crate::error::chain(&endpoints(b"[\"\xff\"]").unwrap_err());
        assert!(error.starts_with("the file is not UTF-8: "), "{error}");
    }

    #[test]
    fn a_long_value_is_not_repeated_as_a_whole() {
        let text = format!("[[{}]]", ["\"é\""; 1000].join(","));
        assert!(error(&text).chars().count() < 250, "{}", error(&text));
        let deep = "[".repeat(100_000);
        assert!(error(&deep).starts_with("the file is not JSON: recursion limit"));
    }

    proptest! {
        #[test]
        fn no_part_of_a_list_is_a_list(ports in prop::collection::vec(1u16.., 0..5), cut in 0.0f64..1.0) {
            let whole = serde_json::to_string(
                &ports.iter().map(|port| format!("a:{port}")).collect::<Vec<_>>(),
            )
            .unwrap();
            prop_assert_eq!(endpoints(whole.as_bytes()).unwrap().len(), ports.len());
            let part = &whole[..(whole.len() as f64 * cut) as usize];
            prop_assert!(endpoints(part.as_bytes()).is_err(), "{part}");
        }

        #[test]
        fn whatever_is_read_is_dialable_or_refused(bytes in any_bytes()) {
            if let Ok(endpoints) = endpoints(&bytes) {
                let mut addresses = endpoints.iter().flat_map(Endpoint::addresses);
                prop_assert!(addresses.all(|it| !it.is_unspecified() && it.port().is_some()));
            }
        }
    }

    fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just("[".to_owned()),
            Just("]".to_owned()),
            Just(",".to_owned()),
            Just("\"a:1\"".to_owned()),
            Just("\"0.0.0.0:1\"".to_owned()),
            Just("{\"addresses\":[\"b:2\"]}".to_owned()),
            Just("{\"addresses\":".to_owned()),
            Just("\"metadata\":{}".to_owned()),
            Just("}".to_owned()),
            "\\PC{1,2}",
        ];
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..20),
            prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat().into_bytes()),
        ]
    }
}
