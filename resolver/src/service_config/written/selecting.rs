//! Which endpoints are connected, and how calls are shared between them, as it is written.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

use crate::{ServiceConfigError, ZonePreference};

/// `{ "match": { "version": "v2", "tier": ["gold", "silver"] }, "orAny": true }`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Filter {
    r#match: Pairs<Values>,
    #[serde(default)]
    or_any: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
enum Values {
    One(String),
    Several(Vec<String>),
}

impl Filter {
    pub(super) fn read(self) -> Result<crate::Filter, ServiceConfigError> {
        let terms = self
            .r#match
            .0
            .into_iter()
            .map(|(key, values)| match values {
                Values::One(value) => (key, vec![value]),
                Values::Several(values) => (key, values),
            });
        let mut terms: Vec<_> = terms.collect();
        terms.sort_unstable();
        if let Some(twice) = terms.windows(2).find(|it| it[0].0 == it[1].0) {
            let given = format!("{} twice", twice[0].0);
            return Err(ServiceConfigError::value("filter", given, "each key once"));
        }
        // At once: to add one after another costs as much as there are each time.
        let filter = crate::Filter::all_of(terms);
        Ok(match self.or_any {
            true => filter.or_any(),
            false => filter,
        })
    }
}

/// `{ "by": "version", "percent": { "v1": 95, "v2": 5 } }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Split {
    by: String,
    percent: Pairs<f64>,
}

impl Split {
    pub(super) fn read(self) -> Result<crate::Split, ServiceConfigError> {
        crate::Split::by(self.by, self.percent.0)
    }
}

/// `{ "prefer": "a", "overprovisioning": 1.4 }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Zone {
    prefer: String,
    overprovisioning: Option<f64>,
}

impl Zone {
    pub(super) fn read(self) -> ZonePreference {
        let zone = ZonePreference::new(self.prefer);
        match self.overprovisioning {
            Some(factor) => zone.with_overprovisioning(factor),
            None => zone,
        }
    }
}

/// All entries of an object: of a name that is there twice, a map would keep one, and hide the mistake.
#[derive(Debug)]
struct Pairs<V>(Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = Pairs<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<V>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Entries(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use crate::{ServiceConfig, ZonePreference};

    fn read(text: &str) -> ServiceConfig {
        ServiceConfig::from_json(text).unwrap()
    }

    fn refused(text: &str) -> String {
        ServiceConfig::from_json(text).unwrap_err().to_string()
    }

    #[test]
    fn all_four_are_read_as_they_are_built() {
        let config = read(
            r#"{
                "filter": { "match": { "version": "v2", "tier": ["gold", "silver"] }, "orAny": true },
                "split": { "by": "version", "percent": { "v1": 95, "v2": 5 } },
                "zone": { "prefer": "a", "overprovisioning": 2 },
                "subset": 20
            }"#,
        );
        let tiers = crate::Filter::one_of("tier", ["gold", "silver"]);
        let filter = tiers.and(crate::Filter::version("v2")).or_any();
        assert_eq!(config.filter, Some(filter));
        let split = crate::Split::by_version([("v1", 95.0), ("v2", 5.0)]).unwrap();
        assert_eq!(config.split, Some(split));
        let zone = ZonePreference::new("a").with_overprovisioning(2.0);
        assert_eq!(config.zone, Some(zone));
        assert_eq!(config.subset, Some(20));
        let none = read("{}");
        assert!(none.filter.is_none() && none.split.is_none());
        assert!(none.zone.is_none() && none.subset.is_none());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_was_given_and_what_is_expected() {
        for (given, expected) in [
            (
                r#"{ "split": { "by": "version", "percent": { "v1": 90 } } }"#,
                "split by version: v1=90, together 90 (expected: 100 together)",
            ),
            (
                r#"{ "split": { "by": "version", "percent": { "v1": 60, "v1": 40 } } }"#,
                "split by version: v1 twice (expected: each value once)",
            ),
            (
                r#"{ "zone": { "prefer": "a", "overprovisioning": 0.5 } }"#,
                "zone overprovisioning: 0.5 (expected: 1 or more)",
            ),
            (r#"{ "subset": 0 }"#, "subset: 0 (expected: 1 or more)"),
            (
                r#"{ "filter": { "match": { "tier": [] } } }"#,
                "filter: tier= (expected: keys, and at least one value for each)",
            ),
            (
                r#"{ "filter": { "match": { "tier": "gold", "tier": "silver" } } }"#,
                "filter: tier twice (expected: each key once)",
            ),
        ] {
            assert_eq!(refused(given), expected);
        }
    }

    #[test]
    fn what_is_of_another_shape_is_refused() {
        for (given, expected) in [
            (
                r#"{ "filter": { "version": "v2" } }"#,
                "unknown field `version`",
            ),
            (
                r#"{ "filter": { "match": { "tier": 1 } } }"#,
                "a text or a list of texts",
            ),
            (
                r#"{ "split": { "by": "version", "percent": [] } }"#,
                "expected an object",
            ),
            (
                r#"{ "split": { "by": "version", "percent": { "v1": "100" } } }"#,
                "expected f64",
            ),
            (r#"{ "zone": "a" }"#, "expected struct"),
            (r#"{ "subset": -1 }"#, "expected usize"),
            (r#"{ "subset": 1, "subnet": 1 }"#, "unknown field `subnet`"),
        ] {
            let error = refused(given);
            assert!(error.contains(expected), "{error}");
        }
    }

    /// It is read on the task that keeps all of a channel's connections. One key after another would take
    /// half a minute here, and a moment is enough.
    #[test]
    fn a_filter_of_very_many_keys_is_read_in_a_moment() {
        let keys: Vec<_> = (0..15_000).map(|it| format!(r#""key{it}": "a""#)).collect();
        let text = format!(
            r#"{{ "filter": {{ "match": {{ {} }} }} }}"#,
            keys.join(", ")
        );
        let start = tokio::time::Instant::now();
        assert!(read(&text).filter.is_some());
        let took = start.elapsed();
        assert!(took.as_secs() < 5, "{took:?}");
    }

    #[test]
    fn what_is_refused_is_told_in_short_however_long_it_is() {
        let long = "k".repeat(1_000_000);
        for text in [
            format!(r#"{{ "split": {{ "by": "{long}", "percent": {{ "v1": 1 }} }} }}"#),
            format!(r#"{{ "filter": {{ "match": {{ "{long}": [] }} }} }}"#),
            format!(r#"{{ "{long}": 1 }}"#),
        ] {
            let error = refused(&text);
            assert!(error.len() < 1_200, "{} bytes", error.len());
        }
    }
}
