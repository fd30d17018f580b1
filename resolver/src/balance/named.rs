//! Policies by their names, as configurations have them.

mod settings;

use std::sync::Arc;

use serde_json::{Map, Value};

use super::Policy;
use crate::ServiceConfigError;

/// Makes a policy of its settings. The name is for errors.
type Make = fn(&str, &Value) -> Result<Arc<dyn Policy>, ServiceConfigError>;

/// All there are, each under the names it has.
const POLICIES: [(&[&str], Make); 5] = [
    (&["round_robin"], settings::read::<settings::RoundRobin>),
    (
        &["weighted_round_robin"],
        settings::read::<settings::WeightedRoundRobin>,
    ),
    (
        &["least_request", "least_request_experimental"],
        settings::read::<settings::LeastRequest>,
    ),
    (&["p2c_ewma"], settings::read::<settings::P2cEwma>),
    (
        &["ring_hash", "ring_hash_experimental"],
        settings::read::<settings::RingHash>,
    ),
];

impl dyn Policy {
    /// Returns the policy of this name, with its usual settings, for channels whose policy is configured.
    ///
    /// ```
    /// use switchboard_resolver::{Channel, Policy};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let policy = <dyn Policy>::named("round_robin")?;
    /// let channel = Channel::balance(["10.0.0.1:50051"])?.policy(policy).connect_lazy()?;
    /// # channel.close().await;
    ///
    /// let error = <dyn Policy>::named("fastest").unwrap_err();
    /// assert!(error.to_string().starts_with("policy: fastest (expected: one of round_robin"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// There is no such policy; the error lists those there are.
    pub fn named(name: &str) -> Result<Arc<dyn Policy>, ServiceConfigError> {
        match made(name, &Value::Object(Map::new())) {
            Some(policy) => policy,
            None => Err(unknown(name)),
        }
    }
}

/// For policies whose kind is known only when the program runs.
impl Policy for Arc<dyn Policy> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn check(&self) -> Result<(), ServiceConfigError> {
        (**self).check()
    }

    fn picker(&self, candidates: &[super::Candidate], seed: u64) -> Box<dyn super::Picker> {
        (**self).picker(candidates, seed)
    }

    fn reads_load(&self) -> bool {
        (**self).reads_load()
    }

    fn offers_all(&self) -> bool {
        (**self).offers_all()
    }
}

/// Returns the first policy that is known of a list of them, each with its settings under its name; `None`
/// if the list is empty. That lets a configuration name a policy that older clients do not know (gRPC's
/// rule).
pub(crate) fn first_known(
    list: &[Map<String, Value>],
) -> Result<Option<Arc<dyn Policy>>, ServiceConfigError> {
    let what = "loadBalancingConfig";
    let mut names = Vec::new();
    for entry in list {
        let mut entries = entry.iter();
        let (Some((name, settings)), None) = (entries.next(), entries.next()) else {
            let given = Value::Object(entry.clone());
            return Err(ServiceConfigError::value(
                what,
                given,
                "one policy an entry",
            ));
        };
        if let Some(policy) = made(name, settings) {
            return policy.map(Some);
        }
        names.push(name.as_str());
    }
    match names.is_empty() {
        true => Ok(None),
        false => Err(unknown(&names.join(", "))),
    }
}

fn made(name: &str, settings: &Value) -> Option<Result<Arc<dyn Policy>, ServiceConfigError>> {
    let (names, make) = POLICIES.iter().find(|(names, _)| names.contains(&name))?;
    let policy = make(names[0], settings);
    Some(policy.and_then(|policy| policy.check().map(|()| policy)))
}

fn unknown(name: &str) -> ServiceConfigError {
    let known: Vec<_> = POLICIES.iter().map(|(names, _)| names[0]).collect();
    let expected = format!("one of {}", known.join(", "));
    ServiceConfigError::value("policy", name, expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a configuration comes to that is a list of policies with their settings.
    fn chosen(list: &str) -> String {
        let list: Vec<_> = serde_json::from_str(list).expect("a list");
        match first_known(&list) {
            Ok(policy) => policy.map_or("none".to_owned(), |it| it.name().to_owned()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn each_is_made_by_each_of_its_names_and_no_others() {
        for (names, _) in POLICIES {
            for name in names {
                let policy = <dyn Policy>::named(name).expect("a policy");
                assert_eq!(policy.name(), names[0]);
                policy.check().expect("usual settings");
            }
        }
        let error = <dyn Policy>::named("pick_first").unwrap_err().to_string();
        let expected = "policy: pick_first (expected: one of round_robin, weighted_round_robin, \
                        least_request, p2c_ewma, ring_hash)";
        assert_eq!(error, expected);
    }

    #[test]
    fn the_first_that_is_known_counts() {
        let list = r#"[{ "newest": { "x": 1 } }, { "p2c_ewma": {} }, { "ring_hash": 7 }]"#;
        assert_eq!(chosen(list), "p2c_ewma");
        assert_eq!(chosen("[]"), "none");
        let unknown = chosen(r#"[{ "newest": {} }, { "oldest": {} }]"#);
        assert!(unknown.starts_with("policy: newest, oldest (expected: one of round_robin,"));
        let two = chosen(r#"[{ "p2c_ewma": {}, "ring_hash": {} }]"#);
        assert!(two.ends_with("(expected: one policy an entry)"), "{two}");
    }

    #[test]
    fn a_configuration_gets_no_larger_ring_than_4096_places() {
        let list = r#"[{ "ring_hash": { "minRingSize": 8388608, "maxRingSize": 8388608 } }]"#;
        let list: Vec<_> = serde_json::from_str(list).expect("a list");
        let policy = first_known(&list).expect("a policy that makes sense");
        let policy = format!("{policy:?}");
        assert!(
            policy.contains("Sizes { min: 4096, max: 4096 }"),
            "{policy}"
        );
        let larger = chosen(r#"[{ "ring_hash": { "maxRingSize": 8388609 } }]"#);
        assert_eq!(
            larger,
            "maxRingSize: 8388609 (expected: from minRingSize, 1024, to 8388608)"
        );
    }

    #[test]
    fn settings_are_those_there_are_of_their_kinds_and_within_their_bounds() {
        for (list, expected) in [
            (
                r#"[{ "least_request": { "choiceCount": 10 } }]"#,
                "least_request",
            ),
            (
                r#"[{ "ring_hash": { "minRingSize": 8192 } }]"#,
                "maxRingSize: 4096 (expected: from minRingSize, 8192, to 8388608)",
            ),
            (
                r#"[{ "ring_hash": { "requestHashHeader": "a b" } }]"#,
                "requestHashHeader: a b (expected: the name of a header)",
            ),
            (
                r#"[{ "least_request": { "choiceCount": 11 } }]"#,
                "choiceCount: 11 (expected: from 2 to 10)",
            ),
            (
                r#"[{ "least_request": { "choiceCount": "2" } }]"#,
                "policy least_request: {\"choiceCount\":\"2\"} (expected: invalid type: string \"2\", \
                 expected usize)",
            ),
            (
                r#"[{ "weighted_round_robin": { "weightkey": "power" } }]"#,
                "policy weighted_round_robin: {\"weightkey\":\"power\"} (expected: unknown field \
                 `weightkey`, expected `weightKey`)",
            ),
        ] {
            assert_eq!(chosen(list), expected);
        }
    }
}
